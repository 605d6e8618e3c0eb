"""Whether a statement only reads. Decided by a real SQL parser once per statement text; in doubt it writes.

Called by `database` for every statement. A wrong "reads" is harmless: a replica refuses to write (SQLSTATE 25006),
which teaches the classifier. A wrong "writes" costs the primary a read.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

REMEMBERED = 4096
"""Statements whose kind is kept; the one that was classified first is forgotten first."""

HARMLESS = frozenset(
    ("random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7", "clock_timestamp", "timeofday", "pg_sleep")
)
"""PostgreSQL calls them volatile, and yet they change nothing and need no primary."""

FUNCTIONS = """
select array_agg(proname) from (
    select proname::text from pg_catalog.pg_proc where prokind <> 'p'
     group by proname having bool_and(provolatile <> 'v')) as reading
"""
"""The functions that the database itself calls stable or immutable; the service's own are among them."""


class Kind(Enum):
    """What a statement is to the router."""

    READS = "reads"
    WRITES = "writes"
    """It writes, or nobody knows: it goes to the primary, in a transaction with a token."""
    ALONE = "alone"
    """It cannot run inside a transaction of ours (VACUUM, CALL, BEGIN, SET): to the primary, as it is."""


class Classifier:
    """Remembers the kind of each statement. One per `Database`, for one event loop."""

    def __init__(self, functions: Iterable[str] = ()) -> None:
        self.functions = HARMLESS | frozenset(functions)
        """Names of functions that only read."""
        self.has_met_unknown = True
        """Whether a function was met that is not in `functions`: then it is worth asking the database again."""
        self._kinds: OrderedDict[str, Kind] = OrderedDict()
        self._guessed: set[str] = set()
        self._learnt: OrderedDict[str, None] = OrderedDict()

    def kind(self, query: str) -> Kind:
        """What this statement is. The first time 0.2-1 ms, later a look into a dict."""
        known = self._kinds.get(query)
        return known if known is not None else self._classify(query)

    def knows(self, query: str) -> bool:
        """Whether it has been looked at before."""
        return query in self._kinds

    def reads(self, query: str) -> bool:
        """Whether it only reads; the quick form of `kind` for the read path."""
        return self._kinds.get(query) is Kind.READS or self.kind(query) is Kind.READS

    def learn(self, query: str) -> None:
        """A replica refused this statement because it writes."""
        self._learnt[query] = None
        _forget_oldest(self._learnt)
        self._remember(query, Kind.WRITES)

    def learn_functions(self, functions: Iterable[str]) -> None:
        """The database's own word on which functions only read; what was guessed without it is forgotten."""
        self.functions = HARMLESS | frozenset(functions)
        self.has_met_unknown = False
        for query in self._guessed:
            self._kinds.pop(query, None)
        self._guessed.clear()

    def _classify(self, query: str) -> Kind:
        kind, unknown = _kind(query, self.functions)
        if query in self._learnt:
            kind = Kind.WRITES
        elif unknown:
            self.has_met_unknown = True
            self._guessed.add(query)
        self._remember(query, kind)
        return kind

    def _remember(self, query: str, kind: Kind) -> None:
        self._kinds[query] = kind
        _forget_oldest(self._kinds)
        if len(self._guessed) > REMEMBERED:
            self._guessed.intersection_update(self._kinds)


def load_parser() -> None:
    """Import the parser, which takes 150 ms, before the first statement would have to wait for it."""
    import sqlglot  # noqa: F401 - see above


_LEADING_NOISE = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/|\(|;)*", re.DOTALL)
_WORD = re.compile(r"[a-z]+", re.IGNORECASE)

_MAY_READ = frozenset(("select", "with", "values", "table"))

_ALONE = frozenset([
    "begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare", "execute", "deallocate",
    "declare", "fetch", "move", "close", "lock", "set", "reset", "show", "discard", "load", "listen", "unlisten",
    "vacuum", "cluster", "checkpoint", "call", "do", "explain",
])  # fmt: skip
"""First words of statements that end, begin or need no transaction of ours. (EXPLAIN ANALYZE runs what it explains.)"""

_ALONE_SHAPE = re.compile(
    r"(?:create|drop)\s+(?:database|tablespace|subscription)|alter\s+system|alter\s+type\s.*\badd\s+value\b"
    r"|(?:create\s+(?:unique\s+)?index|drop\s+index|reindex\b.*?|refresh\s+materialized\s+view)\s+concurrently"
    r"|alter\s+table\b.*\bdetach\s+partition\b.*\bconcurrently|reindex\s+(?:\(.*?\)\s*)?(?:database|system|schema)",
    re.IGNORECASE | re.DOTALL,
)
_PARAMETER = re.compile(r"\$(\d+)")
"""sqlglot takes `$1, $2` for the beginning of a dollar-quoted text; a name stands wherever a parameter does."""
_TRANSACTION_WORDS = re.compile(r";\s*(?:begin|start|commit|end|rollback|abort|vacuum|call|set)\b", re.IGNORECASE)


def _kind(query: str, functions: frozenset[str]) -> tuple[Kind, bool]:
    """The kind, and whether "writes" is only a guess because of a function nobody knows."""
    start = _LEADING_NOISE.match(query)
    rest = query[start.end() :] if start else query
    word = _WORD.match(rest)
    first = word[0].lower() if word else ""
    if first in _MAY_READ:
        return _parsed(query, functions)
    if first in _ALONE or _ALONE_SHAPE.match(rest) or _TRANSACTION_WORDS.search(rest):
        return Kind.ALONE, False
    return Kind.WRITES, False


def _parsed(query: str, functions: frozenset[str]) -> tuple[Kind, bool]:
    # Importing the parser takes 150 ms: not when the SDK is imported, and see `load_parser`.
    import sqlglot
    from sqlglot import errors as parser_errors
    from sqlglot import exp

    try:
        parsed = sqlglot.parse(_PARAMETER.sub(r"p\1", query), read="postgres")
        statements = [one for one in parsed if one is not None]
    except (parser_errors.SqlglotError, RecursionError, ValueError):
        return Kind.WRITES, False
    if len(statements) != 1 or not isinstance(statements[0], exp.Query | exp.Values | exp.Table):
        return (Kind.ALONE if _TRANSACTION_WORDS.search(query) else Kind.WRITES), False
    writing = (exp.Lock, exp.Into, exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Command, exp.DDL)
    if any(isinstance(node, writing) and not isinstance(node, exp.Query) for node in statements[0].walk()):
        return Kind.WRITES, False
    if any(_is_local(table) for table in statements[0].find_all(exp.Table)):
        return Kind.WRITES, False
    is_unknown = any(name not in functions for name in _called(statements[0]))
    return (Kind.WRITES, True) if is_unknown else (Kind.READS, False)


def _called(statement: Any) -> Iterator[str]:
    """Names of the functions that the parser does not know itself."""
    from sqlglot import exp

    for call in statement.find_all(exp.Anonymous, exp.AnonymousAggFunc):
        is_quoted = isinstance(call.this, exp.Identifier) and call.this.quoted
        yield call.name if is_quoted else call.name.lower()


def _is_local(table: Any) -> bool:
    """PostgreSQL's own views of one server (`pg_stat_activity`, `pg_locks`): asked of the primary unless said."""
    return bool(table.name.lower().startswith("pg_"))


def _forget_oldest(kept: "OrderedDict[str, Any]") -> None:
    while len(kept) > REMEMBERED:
        kept.popitem(last=False)
