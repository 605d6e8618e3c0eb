"""The virtual user that a journey is given: a browser with cookies, which waits its turn before each request.

Called by journeys. It records everything it does; a journey only says what to ask for and what to expect.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import msgspec

from tenfold import errors
from tenfold.traffic import client, connection, ledger, resolving
from tenfold.traffic.connection import Answer, Failure, Reason


@dataclass(slots=True)
class Write:
    """One thing that a session writes. Put `reference` into the request, so that it can be found in the database."""

    kind: str
    """What is written; the name of its check in `CHECKS`."""
    reference: str = field(default_factory=lambda: str(uuid.uuid4()))
    is_keyed: bool = True
    """Whether the request carries the reference as its `Idempotency-Key`."""
    consumes: Sequence[str] = ()
    """References of earlier writes that this one takes away (a cart's items, when ordered): they may be gone then."""
    is_acknowledged: bool = False
    """Set by the request: whether the service said it was done."""
    position: str = ""
    """Set by the request: the position that the write was answered with."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a user needs from the load it belongs to."""

    origin: connection.Origin
    timeout_seconds: float
    take_slot: Callable[[], Awaitable[float]]
    record: Callable[[ledger.Record], None]
    started: float
    """`time.monotonic()` of the start of the run."""
    resolver: resolving.Resolver | None = None
    """Who says what the origin's name stands for; None: this machine."""


class User:
    """One virtual user. `random` is its own seeded source, `memory` is for the journeys; both outlive a journey."""

    def __init__(self, number: int, surroundings: Surroundings, source: random.Random) -> None:
        self.number = number
        self.random = source
        self.memory: dict[str, Any] = {}
        self.requests = 0
        self.last_trace = ""
        self._around = surroundings
        self._client = client.Client(surroundings.origin, surroundings.timeout_seconds, surroundings.resolver)
        self._lives = 0
        self._last_position = ""

    @property
    def session(self) -> str:
        """The name of this browser session in the ledger; a new one after `forget`."""
        return f"{self.number}.{self._lives}"

    async def get(self, path: str, **options: Any) -> Answer:
        """`request("GET", ...)`."""
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Answer:
        """`request("POST", ...)`."""
        return await self.request("POST", path, **options)

    async def put(self, path: str, **options: Any) -> Answer:
        """`request("PUT", ...)`."""
        return await self.request("PUT", path, **options)

    async def delete(self, path: str, **options: Any) -> Answer:
        """`request("DELETE", ...)`."""
        return await self.request("DELETE", path, **options)

    async def request(  # noqa: PLR0913 (what a request may have; all but two are named by the caller)
        self,
        method: str,
        path: str,
        *,
        name: str = "",
        json: Any = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        write: Write | None = None,
        expect: Collection[int] | None = None,
        redirects: bool = True,
    ) -> Answer:
        """Wait for the next slot, send, and return the answer.

        `name` groups requests in the report (give one to paths with ids). `write` makes it a write that is checked
        later. A write, and a request with the header `Idempotency-Key`, is sent again when its connection dies.
        `expect`: the statuses that are right; without it any below 400. Redirects are followed as a browser
        does, within the same request, unless `redirects` is False. Raises `RequestFailed`, recorded already, for
        everything else.
        """
        trace = uuid.uuid4().hex
        headers = {"traceparent": f"00-{trace}-{trace[:16]}-01", **(headers or {})}
        body, content_type = _body(json, form)
        if content_type:
            headers["Content-Type"] = content_type
        key = write.reference if write is not None and write.is_keyed else headers.pop("Idempotency-Key", "")
        request = client.Request(method, path, tuple(headers.items()), body, key)
        return await self._run(
            _Errand(request, trace, name or f"{method} {request.plain_path}", write, expect, redirects)
        )

    def sees(self, write: Write, references: Container[str]) -> bool:
        """Record whether the answer just read holds this session's own write. Nothing is recorded for a write that
        was not acknowledged: it may be there or not.
        """
        is_seen = write.reference in references
        if write.is_acknowledged:
            now = time.monotonic() - self._around.started
            self._around.record(
                ledger.OwnRead(
                    session=self.session,
                    kind=write.kind,
                    reference=write.reference,
                    at=round(now, 6),
                    is_seen=is_seen,
                    trace=self.last_trace,
                    written_at=write.position,
                    read_at=self._last_position,
                )
            )
        return is_seen

    def wrong(self, what: str) -> None:
        """The answer just read is wrong: counts as failed and ends the journey."""
        raise errors.WrongAnswer(what)

    def forget(self) -> None:
        """Become somebody else: a browser without cookies, connections or memory."""
        self._lives += 1
        self.memory.clear()
        self._client.jar.clear()
        self._client.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    async def _run(self, errand: "_Errand") -> Answer:
        intended = await self._around.take_slot()
        sent, outcome = time.monotonic(), client.Outcome()
        self.requests += 1
        try:
            await self._client.send(errand.request, outcome, errand.redirects)
            outcome.failure = outcome.failure or _judge(outcome, errand.expect)
        except asyncio.CancelledError:
            outcome.failure = Failure(Reason.INTERRUPTED, "the load was stopped")
            raise
        finally:
            self._record(errand, outcome, (intended, sent, time.monotonic()))
        if outcome.failure is not None or outcome.answer is None:
            raise errors.RequestFailed(f"{errand.name}: {outcome.failure}")
        return outcome.answer

    def _record(self, errand: "_Errand", outcome: client.Outcome, times: tuple[float, float, float]) -> None:
        intended, sent, ended = times
        self.last_trace, self._last_position = errand.trace, outcome.position
        write = errand.write or NOTHING
        if errand.write is not None:
            write.is_acknowledged, write.position = outcome.is_acknowledged, outcome.position
        self._around.record(
            ledger.Request(
                session=self.session,
                name=errand.name,
                method=errand.request.method,
                path=errand.request.path,
                trace=errand.trace,
                intended=round(intended - self._around.started, 6),
                sent=round(sent - self._around.started, 6),
                latency=round(ended - min(intended, sent), 6),  # a timer may wake a little early
                status=outcome.answer.status if outcome.answer else 0,
                repeats=outcome.repeats,
                reason=outcome.failure.reason if outcome.failure else "",
                detail=outcome.failure.detail if outcome.failure else "",
                kind=write.kind,
                reference=write.reference,
                consumes=tuple(write.consumes),
                is_acknowledged=write.is_acknowledged,
                position=outcome.position,
                region=outcome.region,
            )
        )


@dataclass(frozen=True, slots=True)
class _Errand:
    """One request of a journey and how its answer is judged."""

    request: client.Request
    trace: str
    name: str
    write: Write | None
    expect: Collection[int] | None
    redirects: bool


NOTHING = Write(kind="", reference="")
"""What a read writes."""


def _body(json: Any, form: Mapping[str, str] | None) -> tuple[bytes, str]:
    if json is not None:
        return msgspec.json.encode(json), "application/json"
    if form is not None:
        return urlencode(form).encode(), "application/x-www-form-urlencoded"
    return b"", ""


def _judge(outcome: client.Outcome, expect: Collection[int] | None) -> Failure | None:
    """A 5xx is never right; other statuses are when they were expected."""
    assert outcome.answer is not None
    status = outcome.answer.status
    if status == 503 and outcome.answer.header("tenfold-refused") and outcome.answer.header("retry-after"):
        return Failure(Reason.OVERLOADED, outcome.answer.text[:160])
    is_right = status < 400 if expect is None else status in expect
    if is_right and status < 500:
        return None
    wanted = "below 400" if expect is None else " or ".join(str(one) for one in expect)
    return Failure(Reason.STATUS, f"{status} found, {wanted} expected: {outcome.answer.text[:160]!r}")
