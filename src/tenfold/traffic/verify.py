"""Compares a ledger with the database: was every acknowledged write kept exactly once, and seen by its session?

Called by the command line, tests and drills. Only reads, and only from primaries.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from tenfold import bindings, errors
from tenfold.traffic import ledger

AT_A_TIME = 5000
"""References asked for in one query."""

PRIMARY_SECONDS = 15.0
"""How long to look for a primary: a failover may be on its way."""

MOST_LISTED = 20
"""References that a verdict lists of each violation."""

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection  # not a generic class while it runs


@dataclass(slots=True)
class Evidence:
    """What a ledger says about writes and the reads that looked for them."""

    acknowledged: dict[str, set[str]] = field(default_factory=dict)
    """By kind, the references of writes that the service said it had done."""
    unanswered: dict[str, set[str]] = field(default_factory=dict)
    """By kind, those that were sent and not acknowledged: they may be there once, or not."""
    consumed: set[str] = field(default_factory=set)
    """References that a later write may have taken away."""
    stale: list[ledger.OwnRead] = field(default_factory=list)
    own_reads: int = 0
    requests: int = 0
    failed: int = 0
    is_complete: bool = False
    is_torn: bool = False

    @property
    def kinds(self) -> list[str]:
        """All kinds of writes."""
        return sorted(self.acknowledged.keys() | self.unanswered.keys())

    def sent(self, kind: str) -> set[str]:
        """The references of all writes of a kind."""
        return self.acknowledged.get(kind, set()) | self.unanswered.get(kind, set())


@dataclass(frozen=True, slots=True)
class KindVerdict:
    """The verdict over one kind of write. `found` counts references that are in the database at all."""

    kind: str
    acknowledged: int
    unanswered: int
    consumed: int
    found: int
    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    has_check: bool = True
    """False: `CHECKS` has no query for it, so nothing was compared."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the comparison found."""

    kinds: tuple[KindVerdict, ...]
    own_reads: int
    stale: tuple[ledger.OwnRead, ...]
    requests: int
    failed: int
    is_complete: bool
    """Whether the ledger was closed; a killed run's may lack the last moment's requests."""
    is_torn: bool

    @property
    def lost(self) -> int:
        """Acknowledged writes that are not there."""
        return sum(len(one.lost) for one in self.kinds)

    @property
    def doubled(self) -> int:
        """Writes that are there more than once."""
        return sum(len(one.doubled) for one in self.kinds)

    @property
    def is_clean(self) -> bool:
        """Nothing lost, nothing doubled, every session saw its own writes, and every kind was compared."""
        return not self.lost and not self.doubled and not self.stale and all(one.has_check for one in self.kinds)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON-able values; the names are stable."""
        return {
            "is_clean": self.is_clean,
            "lost": self.lost,
            "doubled": self.doubled,
            "stale_reads": len(self.stale),
            "own_reads": self.own_reads,
            "requests": self.requests,
            "failed": self.failed,
            "is_complete": self.is_complete,
            "is_torn": self.is_torn,
            "kinds": [
                {
                    "kind": one.kind,
                    "acknowledged": one.acknowledged,
                    "unanswered": one.unanswered,
                    "consumed": one.consumed,
                    "found": one.found,
                    "lost": list(one.lost[:MOST_LISTED]),
                    "doubled": list(one.doubled[:MOST_LISTED]),
                    "has_check": one.has_check,
                }
                for one in self.kinds
            ],
            "stale": [
                {"kind": one.kind, "reference": one.reference, "session": one.session, "at_seconds": one.at}
                | {"written_at": one.written_at, "read_at": one.read_at, "trace": one.trace}
                for one in self.stale[:MOST_LISTED]
            ],
        }


async def verify(path: Path, connection: Connection, checks: Mapping[str, str]) -> Verdict:
    """Compare the ledger with one database, whose primary `connection` must be.

    `checks`: by kind of write, a query whose $1 is a uuid[] of references and which returns rows of
    `(reference, count)`. Raises `BadLedger`, or `BadInput` when a check's query cannot be used.
    """
    evidence = gather(path)
    return judge(evidence, await count(evidence, connection, checks), checks)


async def verify_service(path: Path, bound: bindings.Bindings, checks: Mapping[str, str]) -> Verdict:
    """Compare the ledger with the service's database, all its shards together."""
    evidence = gather(path)
    if bound.database is None:
        raise errors.BadInput("bindings: no database found, one expected; is this the service the ledger is about?")
    counts: Counter[str] = Counter()
    for shard in bound.database.shards:
        async with primary(bound.database, shard) as connection:
            counts += await count(evidence, connection, checks)
    return judge(evidence, counts, checks)


def gather(path: Path) -> Evidence:
    """What the ledger says. Raises `BadLedger`."""
    evidence = Evidence()
    reader = ledger.Reader(path)
    for record in reader.records():
        match record:
            case ledger.Request():
                _gather_request(evidence, record)
            case ledger.OwnRead():
                evidence.own_reads += 1
                if not record.is_seen:
                    evidence.stale.append(record)
            case ledger.Trouble() if record.reason != "interrupted":
                evidence.failed += record.count
            case _:
                pass
    evidence.is_complete = reader.end is not None
    evidence.is_torn = reader.is_torn
    return evidence


def _gather_request(evidence: Evidence, record: ledger.Request) -> None:
    evidence.requests += 1
    evidence.failed += record.is_failed
    if record.kind:
        side = evidence.acknowledged if record.is_acknowledged else evidence.unanswered
        side.setdefault(record.kind, set()).add(record.reference)
        evidence.consumed.update(record.consumes)


async def count(evidence: Evidence, connection: Connection, checks: Mapping[str, str]) -> Counter[str]:
    """How often each reference of the ledger is in this database."""
    counts: Counter[str] = Counter()
    for kind in evidence.kinds:
        if kind not in checks:
            continue
        references = sorted(evidence.sent(kind))
        for start in range(0, len(references), AT_A_TIME):
            counts.update(await _ask(connection, kind, checks[kind], references[start : start + AT_A_TIME]))
    return counts


async def _ask(connection: Connection, kind: str, query: str, references: Sequence[str]) -> dict[str, int]:
    try:
        rows = await connection.fetch(query, references)
        return {str(reference): int(number) for reference, number in rows}
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, TypeError) as error:
        raise errors.BadInput(
            f"CHECKS[{kind!r}]: {type(error).__name__}: {error}; a query expected that takes a uuid[] of references as "
            "$1 and returns rows of (reference, count)"
        ) from error


def judge(evidence: Evidence, counts: Mapping[str, int], checks: Iterable[str]) -> Verdict:
    """The verdict over what the ledger says and what was counted. Pure."""
    known = frozenset(checks)
    return Verdict(
        kinds=tuple(_judge_kind(kind, evidence, counts, kind in known) for kind in evidence.kinds),
        own_reads=evidence.own_reads,
        stale=tuple(evidence.stale),
        requests=evidence.requests,
        failed=evidence.failed,
        is_complete=evidence.is_complete,
        is_torn=evidence.is_torn,
    )


def _judge_kind(kind: str, evidence: Evidence, counts: Mapping[str, int], has_check: bool) -> KindVerdict:
    acknowledged = evidence.acknowledged.get(kind, set())
    sent = evidence.sent(kind)
    must_be_there = acknowledged - evidence.consumed
    return KindVerdict(
        kind=kind,
        acknowledged=len(acknowledged),
        unanswered=len(sent - acknowledged),
        consumed=len(sent & evidence.consumed),
        found=sum(counts.get(one, 0) > 0 for one in sent),
        lost=tuple(sorted(one for one in must_be_there if not counts.get(one, 0))) if has_check else (),
        doubled=tuple(sorted(one for one in sent if counts.get(one, 0) > 1)),
        has_check=has_check,
    )


@asynccontextmanager
async def primary(database: bindings.Database, shard: bindings.Shard) -> AsyncIterator[Connection]:
    """A connection to the shard's primary, closed afterwards. Raises `NoPrimary` when none is found in time."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + PRIMARY_SECONDS
    while True:
        connection = await _find_primary(database, shard)
        if connection is not None:
            break
        if loop.time() > ends_at:
            names = ", ".join(f"{node.name} ({node.host}:{node.port})" for node in shard.nodes) or "none"
            raise errors.NoPrimary(f"shard {shard.number}: no primary among {names}; is the service up?")
        await asyncio.sleep(0.2)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


async def _find_primary(database: bindings.Database, shard: bindings.Shard) -> Connection | None:
    """Of two that say so, the one on the newer timeline: the other is a former one that was not told yet."""
    newest: Connection | None = None
    newest_timeline = 0
    for node in shard.nodes:
        connection = await _connected(database, node)
        timeline = await _timeline_as_primary(connection) if connection is not None else 0
        if timeline > newest_timeline:
            connection, newest, newest_timeline = newest, connection, timeline
        if connection is not None:
            await connection.close(timeout=5)
    return newest


async def _connected(database: bindings.Database, node: bindings.DatabaseNode) -> Connection | None:
    try:
        connection: Connection = await asyncpg.connect(
            host=node.host,
            port=node.port,
            user=database.user,
            password=database.password,
            database=database.name,
            timeout=3,
            server_settings={"application_name": "tenfold verify", "default_transaction_read_only": "on"},
        )
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        return None  # dead, or not ready: another may be the primary
    return connection


async def _timeline_as_primary(connection: Connection) -> int:
    """0: it is none."""
    try:
        if await connection.fetchval("select pg_is_in_recovery()"):
            return 0
        name = await connection.fetchval("select pg_walfile_name(pg_current_wal_flush_lsn())")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        return 0  # it died just now
    return int(name[:8], 16)
