"""Spans: what one request did, hop by hop and statement by statement, as a tree.

Recorded by the SDK while it serves a request that asked for it, carried in a response header, read by `tenfold trace`.
Pure: the clock is passed in. A span knows nothing of what it describes: a kind, a name, where it went, the decision in
words, start and duration in milliseconds, and what happened inside it. A tier that joins later adds its own kinds.
No values of the user's are ever kept: statements lose their literals, errors are kept by the names of their types.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar, Token
from typing import Any

import msgspec

from tenfold import errors

MOST_STATEMENTS = 2000
"""So many statements of one request are kept; further ones are counted. Of other spans, twice as many."""

MOST_CHARACTERS = 76
"""The longest text of a statement."""


class Span(msgspec.Struct, array_like=True):
    """One thing that took time. Times are milliseconds, `start_ms` from the beginning of the tree's root."""

    kind: str
    """What it is: `balancer`, `web`, `statement`, `transaction`, `commit`, `wait`, ..."""
    name: str
    where: str = ""
    """The server it went to, where there is one."""
    decision: str = ""
    """Why it went as it went, in words."""
    start_ms: float = 0.0
    duration_ms: float = 0.0
    children: list["Span"] = []
    omitted: int = 0
    """How many statements inside it are only counted."""
    omitted_ms: float = 0.0
    """How long those took together."""

    @property
    def end_ms(self) -> float:
        """When it ended."""
        return self.start_ms + self.duration_ms

    def walk(self) -> Iterator["Span"]:
        """It and everything inside it, in order."""
        yield self
        for child in self.children:
            yield from child.walk()

    def moved(self, by_ms: float) -> "Span":
        """It and everything inside it, so much later."""
        children = [child.moved(by_ms) for child in self.children]
        return msgspec.structs.replace(self, start_ms=self.start_ms + by_ms, children=children)

    def as_json(self) -> dict[str, Any]:
        """The documented form, for programs."""
        return {
            "kind": self.kind,
            "name": self.name,
            "where": self.where,
            "decision": self.decision,
            "start_ms": round(self.start_ms, 3),
            "duration_ms": round(self.duration_ms, 3),
            "children": [child.as_json() for child in self.children],
            **({"omitted": self.omitted, "omitted_ms": round(self.omitted_ms, 3)} if self.omitted else {}),
        }


class Recording:
    """One span while it lasts. As a context manager it is what the task is inside of, and ends with the block."""

    __slots__ = ("_parent", "_recorder", "_token", "span_")

    is_recorded = True

    def __init__(self, recorder: "Recorder", span: Span, parent: "Recording | None") -> None:
        self._recorder = recorder
        self.span_ = span
        self._parent = parent
        self._token: Token[Recording | None] | None = None

    def span(self, kind: str, name: str, where: str = "") -> "Recording":
        """Begin a span inside this one. Whoever began it ends it."""
        return self._recorder.begin(self, kind, name, where)

    def statement(self, query: str) -> "Recording":
        """Begin a span for a statement, whose text is shortened and loses its literals."""
        return self.span("statement", shown(query))

    def note(self, kind: str, name: str, decision: str = "") -> None:
        """Something that happened at this moment, inside this span."""
        noted = self.span(kind, name)
        noted.decide(decision)
        noted.end()

    def decide(self, decision: str, where: str = "") -> None:
        """Say why, and where it went. The last word counts."""
        self.span_.decision = decision
        self.span_.where = where or self.span_.where

    def fail(self, error: BaseException) -> None:
        """Say that it failed. An error's message may hold a user's values, so only its type's name is kept."""
        said = f"{self.span_.decision}; " if self.span_.decision else ""
        self.span_.decision = f"{said}failed: {type(error).__name__}"

    def end(self) -> None:
        """It is over now. Twice is once."""
        self._recorder.end(self.span_, self._parent)

    def __enter__(self) -> "Recording":
        self._token = _inside.set(self)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._token is not None:
            _inside.reset(self._token)
            self._token = None
        if error is not None:
            self.fail(error)
        self.end()


class _Nowhere(Recording):
    """What is recorded when nobody asked for it: nothing."""

    __slots__ = ()

    is_recorded = False

    def __init__(self) -> None:
        """There is nothing to keep."""

    def span(self, kind: str, name: str, where: str = "") -> Recording:
        return self

    def statement(self, query: str) -> Recording:
        return self

    def note(self, kind: str, name: str, decision: str = "") -> None:
        pass

    def decide(self, decision: str, where: str = "") -> None:
        pass

    def fail(self, error: BaseException) -> None:
        pass

    def end(self) -> None:
        pass

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        pass


NOWHERE: Recording = _Nowhere()

_inside: ContextVar[Recording | None] = ContextVar("tenfold_span", default=None)


class Recorder:
    """The spans of one request. `clock` gives seconds; `began` is the clock's reading at the request's start."""

    def __init__(self, clock: Callable[[], float], began: float, kind: str, name: str) -> None:
        self._clock = clock
        self._began = began
        self._count = 0
        self._running: set[int] = set()
        self.root = Recording(self, Span(kind, name, children=[]), None)
        self._running.add(id(self.root.span_))

    def inside(self) -> Recording:
        """What the running task is inside of: the innermost span of this request that it has entered."""
        found = _inside.get()
        return found if found is not None and found._recorder is self else self.root

    def begin(self, parent: Recording, kind: str, name: str, where: str) -> Recording:
        """Begin a span inside another one. Of too many, all but the first are counted only."""
        span = Span(kind, name, where, start_ms=self._now_ms(), children=[])
        self._count += 1
        self._running.add(id(span))
        if self._count <= (MOST_STATEMENTS if kind == "statement" else 2 * MOST_STATEMENTS):
            parent.span_.children.append(span)
            return Recording(self, span, None)
        return Recording(self, span, parent)

    def end(self, span: Span, counted_in: Recording | None) -> None:
        """A span is over; one that is not kept is counted where it would be."""
        if id(span) not in self._running:
            return
        self._running.discard(id(span))
        span.duration_ms = self._now_ms() - span.start_ms
        if counted_in is not None:
            counted_in.span_.omitted += 1
            counted_in.span_.omitted_ms += span.duration_ms

    def finish(self) -> Span:
        """The whole tree as it is now; what still runs has lasted until now."""
        for span in self.root.span_.walk():
            if id(span) in self._running:
                span.duration_ms = self._now_ms() - span.start_ms
        return self.root.span_

    def _now_ms(self) -> float:
        return (self._clock() - self._began) * 1000


def encode(root: Span, most_bytes: int) -> str:
    """The tree as one line of printable ASCII, no longer than `most_bytes`.

    What does not fit is counted instead: the quickest statements first, and only then other spans without children.
    """
    text = _line(root)
    for is_welcome in (_is_statement, _is_any):
        if len(text) > most_bytes:
            _omit(root, len(text) - most_bytes, is_welcome)
            text = _line(root)
    return text if len(text) <= most_bytes else _line(msgspec.structs.replace(root, children=[]))


def decode(text: str) -> Span:
    """The tree that `encode` wrote. Raises `BadInput` for anything else."""
    try:
        return msgspec.json.decode(text, type=Span)
    except (msgspec.DecodeError, RecursionError) as error:
        raise errors.BadInput(f"trace: {text[:60]!r} found ({error}), spans as tenfold writes them expected") from error


def covered_ms(spans: Iterable[Span]) -> float:
    """How long at least one of them lasted: what ran at the same time counts once."""
    total, reached = 0.0, float("-inf")
    for span in sorted(spans, key=lambda one: one.start_ms):
        total += max(0.0, span.end_ms - max(span.start_ms, reached))
        reached = max(reached, span.end_ms)
    return total


def shown(query: str) -> str:
    """A statement as it may be shown: without comments, literals and line breaks, and not long."""
    bare = _LITERALS.sub(_masked, query)
    plain = " ".join(bare.split())
    return plain if len(plain) <= MOST_CHARACTERS else plain[: MOST_CHARACTERS - 1] + "…"


_LITERALS = re.compile(
    r"(?P<comment>--[^\n]*|/\*.*?(?:\*/|$))"
    r"|(?P<text>(?<!\w)[ebxn]'(?:[^'\\]|''|\\.)*(?:'|$)|'(?:[^']|'')*(?:'|$)|(?P<tag>\$\w*\$).*?(?:(?P=tag)|$))"
    r'|(?P<name>"(?:[^"]|"")*"|\$\d+|[^\W\d][\w$]*)'
    r"|(?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)",
    re.DOTALL | re.IGNORECASE,
)
"""One pass from left to right, so that a quote inside a comment or a name begins nothing."""


def _masked(found: "re.Match[str]") -> str:
    if found["comment"] is not None:
        return " "
    return found[0] if found["name"] is not None else "?"


def _line(span: Span) -> str:
    return json.dumps(_row(span), separators=(",", ":"))


def _row(span: Span) -> list[Any]:
    """The fields in their order, those at the end left out that say nothing."""
    row = [span.kind, span.name, span.where, span.decision, round(span.start_ms, 2), round(span.duration_ms, 2)]
    tail: list[Any] = [[_row(child) for child in span.children], span.omitted, round(span.omitted_ms, 2)]
    while tail and not tail[-1]:
        tail.pop()
    return [*row, *tail]


def _omit(root: Span, too_many: int, is_welcome: Callable[[Span], bool]) -> None:
    """Take leaves out until so many bytes are gone, counted in their parents."""
    leaves = [(parent, child) for parent in root.walk() for child in parent.children if not child.children]
    leaves.sort(key=lambda pair: pair[1].duration_ms)
    counting: set[int] = set()
    gone: set[int] = set()
    for parent, child in leaves:
        if too_many <= 0:
            break
        if is_welcome(child):
            too_many -= len(_line(child)) + 1
            too_many += 0 if id(parent) in counting else 32  # what the count itself takes
            counting.add(id(parent))
            gone.add(id(child))
            parent.omitted += 1 + child.omitted
            parent.omitted_ms += child.duration_ms
    for span in list(root.walk()):
        span.children = [child for child in span.children if id(child) not in gone]


def _is_statement(span: Span) -> bool:
    return span.kind == "statement"


def _is_any(_: Span) -> bool:
    return True
