"""Subscribers as they are written down in an app, and what becomes of a message whose handler fails."""

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest

from tenfold import Discard, Message, Retry, Transaction, errors
from tenfold.sdk import db
from tenfold.sdk.queue import dead_letters, handling, messages, queue, relayed, running, subscribers

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


def fresh() -> queue.Queue:
    return queue.Queue(db.Database())


async def plain(message: Message[int]) -> None: ...
async def with_tx(message: Message[int], tx: Transaction) -> None: ...
async def two(message: Message[int], more: int) -> None: ...
async def none() -> None: ...
def sync(message: Message[int]) -> None: ...


@pytest.mark.parametrize(
    ("function", "said", "text"),
    [
        (sync, {}, "write `async def`"),
        (with_tx, {}, "transaction=True beside the parameter tx"),
        (plain, {"transaction": True}, "a parameter tx: Transaction"),
        (two, {}, r"\(message, more\) found; write \(message: Message"),
        (none, {}, r"\(\) found"),
        (plain, {"group": "a b"}, "the group 'a b'"),
        (plain, {"retries": -1}, "retries=0"),
        (plain, {"timeout": 0}, "timeout=0"),
    ],
)
def test_what_cannot_be_a_subscriber_is_refused_where_it_is_written(
    function: "Callable[..., Any]", said: dict[str, Any], text: str
) -> None:
    with pytest.raises(errors.MisuseError, match=text):
        fresh().subscriber("a.b", **said)(function)


def test_two_functions_of_a_group_cannot_have_the_same_messages() -> None:
    made = fresh()
    made.subscriber("a.*", group="g")(plain)
    made.subscriber("b.c", group="g")(plain)
    made.subscriber("a.b", group="other")(plain)
    with pytest.raises(errors.MisuseError, match=r"the group 'g' gets 'a\.\*' already"):
        made.subscriber("*.b", group="g")(plain)


def test_a_subscriber_stays_the_function_that_it_was_and_names_its_group() -> None:
    made = fresh()
    assert plain is made.subscriber("a.b")(plain)

    async def inner(message: Message[int]) -> None: ...

    made.subscriber("a.b")(inner)
    here = __name__
    name = "test_a_subscriber_stays_the_function_that_it_was_and_names_its_group"
    assert [f"{here}.plain", f"{here}.{name}.inner"] == [one.group for one in made._subscribers]


async def untyped(message) -> None: ...  # type: ignore[no-untyped-def]
async def anything(message: Message) -> None: ...  # type: ignore[type-arg]
async def bare(message: int) -> None: ...
async def forward(message: "Message[Later]") -> None: ...
async def unreadable(message: "Message[Never]") -> None: ...  # type: ignore[name-defined] # noqa: F821


class Later:
    """Defined below what names it, and no type that JSON could be read into without more."""

    name: str


def test_annotations_are_read_when_the_service_starts() -> None:
    assert {"a": 1} == subscribers.Subscriber(untyped, "g", "a").decode(b'{"a": 1}', "")
    assert [1] == subscribers.Subscriber(anything, "g", "a").decode(b"[1]", "")
    assert 7 == subscribers.Subscriber(plain, "g", "a").decode(b"7", "")
    for function, text in ((bare, "Message"), (unreadable, "Never"), (forward, "Later")):
        with pytest.raises(errors.MisuseError, match=text):
            subscribers.Subscriber(function, "g", "a").decode  # noqa: B018


def outcome(error: BaseException, attempt: int = 1, *, is_late: bool = False, **policy: Any) -> handling.Outcome:
    one = subscribers.Subscriber(plain, "g", "a", policy=subscribers.Policy(**policy))
    work = handling.Handling(one, None, None)  # type: ignore[arg-type]
    taken = messages.Taken(messages.Envelope(UUID(int=1), "a", b"7"), attempt)
    return work._after(taken, error, is_late=is_late)


def test_a_failure_means_again_until_the_tries_are_used_up() -> None:
    again = outcome(ValueError("no"), 10, retries=10)
    assert isinstance(again, handling.Again)
    assert 150 <= again.after_seconds <= 300
    assert "ValueError: no" == outcome(ValueError("no"), 11, retries=10).reason  # type: ignore[union-attr]
    assert "no end after 60 s" == outcome(TimeoutError(), 11, is_late=True).reason  # type: ignore[union-attr]
    assert isinstance(outcome(errors.DeadlineExceeded("late"), 11, is_late=True), handling.Dead)


def test_what_a_handler_says_counts() -> None:
    assert isinstance(outcome(Discard()), handling.Done)
    assert 7.0 == outcome(Retry(after=7.0)).after_seconds  # type: ignore[union-attr]
    assert 0 < outcome(Retry(after=0)).after_seconds < 0.1  # type: ignore[union-attr]
    assert isinstance(outcome(Retry(), 11), handling.Dead)


def test_trouble_of_the_world_is_none_of_the_messages() -> None:
    for error in (errors.NoPrimary("away"), errors.StoreUnavailable("away"), errors.OutcomeUnknown("?", "token")):
        assert isinstance(outcome(error, 40, retries=0), handling.Again)


@pytest.mark.parametrize(("pace", "expected"), [(0.0, 512), (0.0001, 512), (0.01, 80), (0.1, 8), (1.0, 0)])
def test_a_slow_handler_holds_no_messages_that_others_could_handle(pace: float, expected: int) -> None:
    assert expected == running.ahead(8, pace)


async def test_a_busy_process_handles_a_message_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "MOST_BUSY_SECONDS", 0.0)
    room = running.Room(1, lambda: True)
    await asyncio.wait_for(room.enter(), 5)
    room.leave()


async def test_a_busy_process_waits_until_it_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "BUSY_SECONDS", 0.0)
    looks = iter([True, True, True, False])
    await asyncio.wait_for(running.Room(1, lambda: next(looks)).enter(), 5)
    assert [] == list(looks)


class Noted:
    """A consumer, and what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def acknowledge(self, taken: messages.Taken) -> None:
        self.said.append("handled")

    def give_back(self, taken: messages.Taken, after_seconds: float) -> None:
        self.said.append("again later" if after_seconds else "again")


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        (None, "handled"),
        (asyncio.CancelledError(), "again"),
        (errors.StoreUnavailable("away"), "again later"),
        (asyncpg.UntranslatableCharacterError("a NUL"), "again later"),
    ],
)
async def test_a_dead_letter_that_cannot_be_kept_goes_back(
    monkeypatch: pytest.MonkeyPatch, trouble: BaseException | None, expected: str
) -> None:
    async def keep(*_: object) -> None:
        if trouble is not None:
            raise trouble

    monkeypatch.setattr(dead_letters, "keep", keep)
    consumer = Noted()
    work = handling.Handling(subscribers.Subscriber(plain, "g", "a"), consumer, None)  # type: ignore[arg-type]
    poison = messages.Taken(messages.Envelope(UUID(int=1), "a", b"no JSON"), 1)

    ended = await asyncio.gather(work.handle(poison), return_exceptions=True)

    assert [expected] == consumer.said
    assert isinstance(trouble, asyncio.CancelledError) == isinstance(ended[0], asyncio.CancelledError)


class SlowCrew:
    """One whose change takes until it is told to end."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.may_end = asyncio.Event()

    async def follow(self, *_: object) -> None:
        await self.may_end.wait()
        self.said.append("begun")

    async def drain(self) -> None:
        self.said.append("drained")


async def test_a_drain_misses_nobody_who_begins_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing_waits(*_: object) -> int:
        return 0

    monkeypatch.setattr(relayed, "give_back", nothing_waits)
    made, crew = fresh(), SlowCrew()
    made._crew = crew  # type: ignore[assignment]
    made._carriers["postgres"] = None  # type: ignore[assignment]
    made._started.add("postgres")
    following = asyncio.create_task(made._follow())
    await asyncio.sleep(0)
    draining = asyncio.create_task(made.drain())
    await asyncio.sleep(0)
    crew.may_end.set()
    await asyncio.gather(following, draining)
    assert ["begun", "drained"] == crew.said
