"""`tf.queue` as an app sees it, and what runs behind it in each process. Made by `sdk/service`, one a `Tenfold`.

    publishing, outbox       with the transaction, or not at all
    relay                    from the outbox to the transport of now
    crew, running, handling  from a transport to the subscribers' functions
    postgres, nats           the transports

It never decides what becomes of a message: `handling` does.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from tenfold import bindings, errors
from tenfold.kit import backoff
from tenfold.sdk import db
from tenfold.sdk.queue import (
    by_hand,
    crew,
    known,
    messages,
    outbox,
    publishing,
    relay,
    relayed,
    subscribers,
    subscriptions,
    tasks,
    transport,
)
from tenfold.sdk.queue.postgres import transport as postgres

log = logging.getLogger("tenfold.queue")

FunctionT = TypeVar("FunctionT", bound=subscribers.Function)

BY_TESTS = "tests"
"""The value of `handled_by` under which nothing runs by itself: `drain` in tests does it all."""

WEB_CONCURRENCY = 8
"""Messages that a process which serves requests handles at once, at most: it has time to spare, not more."""

START_SECONDS = 3.0
"""How long a start waits until the groups are known; a database that is down does not keep an app from starting."""

FINISH_SECONDS = 2.0
"""How long a process that ends still passes on what it has published; then others do."""

UPKEEP_SECONDS = 600.0

PAUSE = backoff.Backoff(first_seconds=0.2, most_seconds=10.0)


class Queue:
    """The queue of a service: `publish`, `subscriber`, and `tx.publish` of every transaction."""

    Message = messages.Message
    Discard = messages.Discard
    Retry = messages.Retry

    def __init__(self, database: db.Database, is_busy: Callable[[], bool] = lambda: False) -> None:
        self._shards = database.shards
        self._subscribers = subscribers.Subscribers()
        self._subjects = known.Subjects()
        self._relay = relay.Relay(self._shards, self._carrier, self._looked, self._is_used)
        self._publishing = publishing.Publishing(self._shards, self._subjects, self._relay.take)
        self._crew = crew.Crew(self._shards, lambda: is_busy() and not bindings.is_worker())
        self._carriers: dict[str, transport.Transport] = {}
        self._started: set[str] = set()
        """Those of them that were started: one may be asked for a moment before the bindings are followed."""
        self._bound = bindings.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._is_draining = False
        self._changing = asyncio.Lock()
        """Held while the crew changes: a drain in the middle of that would miss whoever begins at its end."""
        self._name = "app"
        database.shards.takers.publisher = self._publishing

    def subscriber(  # noqa: PLR0913 - each is said by name, and has a default that is safe
        self,
        subject: str,
        *,
        group: str = "",
        concurrency: int = 8,
        retries: int = 10,
        backoff: float = 1.0,
        most_backoff: float = 300.0,
        timeout: float = 60.0,
        ordered: bool = False,
        transaction: bool = False,
        dead_letter: bool = True,
    ) -> Callable[[FunctionT], FunctionT]:
        """Let a function handle the messages of a subject (`user.signed_up`) or a pattern (`user.*`, `user.>`).

        Each group gets every message, and one of its processes handles it; without a name the group is the function's.
        `async def welcome(message: Message[SignedUp])` gets `message.payload` as a `SignedUp`. A function that raises
        is tried again after `backoff` seconds, doubled each time up to `most_backoff`, so often as `retries` says; then
        the message is a dead letter (or dropped, without `dead_letter`). After `timeout` seconds it is cancelled.

        A message may come twice, unless `transaction=True`: then the function has a parameter `tx: Transaction` too,
        and what it writes with that happens exactly once; it may run several times. `ordered=True`: messages of one
        key one at a time, in their order. Raises `MisuseError` for a function that cannot be a subscriber.
        """
        policy = _policy(subject, retries, backoff, most_backoff, timeout, keeps_dead=dead_letter)

        def register(function: FunctionT) -> FunctionT:
            name = group or subscribers.group_of(function)
            one = subscribers.Subscriber(
                function, name, subject, max(1, concurrency), policy, is_ordered=ordered, is_transactional=transaction
            )
            self._subscribers.add(one)
            self._subjects.declare(subject)
            return function

        return register

    def declare(self, *subjects: str) -> None:
        """Say that these subjects (or patterns) exist, though no subscriber has been started yet."""
        self._subjects.declare(*subjects)

    async def publish(
        self,
        subject: str,
        payload: Any = None,
        *,
        key: str | None = None,
        at: datetime | None = None,
        delay: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> UUID:
        """Publish without a transaction: on return the message is durable. Returns its id.

        What a transaction has to do with it belongs into that: `tx.publish`. Raises `BadSubject`, `NotEncodable`,
        `TooLarge`, `Overloaded`; `StoreUnavailable` when the message may not have been taken.
        """
        return await self._publishing.publish_alone(
            self._carrier(), subject, payload, key=key, at=at, delay=delay, headers=headers
        )

    async def start(self, bound: bindings.Queue, name: str = "app") -> None:
        """Begin to pass messages on, and to handle them where this process is one that does."""
        self._name = name
        self._subscribers.ensure_readable()
        self._subscribers.is_closed = True
        self._is_draining = False
        self._take_in(bound)
        self._news = asyncio.Event()
        self._changing = asyncio.Lock()
        self._relay.open()
        if bound.handled_by == BY_TESTS:
            return
        first = asyncio.Event()
        for what, work in (
            ("lead", self._lead(first)),
            ("send", self._relay.send()),
            ("sweep", self._relay.sweep()),
            ("keep-up", self._keep_up()),
        ):
            self._tasks.append(tasks.begin(what, work))
        try:
            await asyncio.wait_for(first.wait(), START_SECONDS)
        except TimeoutError:
            log.warning("the queue waits for the database; messages are handled when it is there")

    def update(self, bound: bindings.Queue) -> None:
        """Follow changed bindings."""
        self._take_in(bound)
        wanted = _ways(bound)
        for name, one in self._carriers.items():
            if name in wanted:
                one.update(bound)
        self._news.set()

    def reading(self) -> dict[str, Any]:
        """What this process does for the queue, for `/-/load`."""
        return self._crew.reading()

    async def drain(self) -> None:
        """Take no more messages; returns when those under way are handled, or given back."""
        self._is_draining = True
        async with self._changing:
            await self._crew.drain()

    async def stop(self) -> None:
        """Close everything. Twice is once."""
        if self._tasks:
            await self.drain()
            await self._relay.finish(FINISH_SECONDS)
        found, self._tasks = self._tasks, []
        await tasks.end(found)
        self._started.clear()
        carriers, self._carriers = self._carriers, {}
        await asyncio.gather(*(one.stop() for one in carriers.values()))

    def by_hand(self, watcher: Callable[[messages.Envelope, Any], None]) -> by_hand.ByHand:
        """For tests, in whose processes nothing runs by itself. `watcher` is told of each message from now on."""
        self._publishing.watcher = watcher
        return by_hand.ByHand(self._shards, list(self._subscribers), lambda: self._carrier_of("postgres"))

    def _take_in(self, bound: bindings.Queue) -> None:
        self._bound = bound
        self._publishing.most_bytes = bound.most_bytes
        self._publishing.source = f"/{self._name}"

    def _carrier(self) -> transport.Transport:
        """The transport of new messages."""
        return self._carrier_of(_way(self._bound.transport, self._bound))

    def _carrier_of(self, name: str) -> transport.Transport:
        found = self._carriers.get(name)
        if found is None:
            self._shards.shard(0)  # NotStarted, WrongLoop
            found = self._carriers[name] = self._made(name)
        return found

    def _made(self, name: str) -> transport.Transport:
        if name == "postgres":
            return postgres.Postgres(self._shards, self._relay.take)
        if name.partition("@")[0] == "nats":
            from tenfold.sdk.queue.nats import transport as nats  # late: other services never need it

            return nats.Nats(self._shards, self._name)
        raise errors.BadBindings(f"queue.transport: {name!r} found, postgres or nats expected")

    def _is_used(self) -> bool:
        return len(self._subscribers) > 0 or self._subjects.has_any

    def _looked(self, seen: outbox.Look) -> None:
        self._publishing.is_full = seen.is_full

    async def _lead(self, first: asyncio.Event) -> None:
        """Make what runs in this process what the bindings say, whenever they change."""
        tries = 0
        while True:
            self._news.clear()
            try:
                await self._follow()
                tries = 0
                first.set()
                await self._news.wait()
            except relay.TROUBLE as error:
                tries += 1
                log.warning("the queue cannot follow its bindings yet: %s", error)
                await asyncio.sleep(PAUSE.seconds(tries))

    async def _follow(self) -> None:
        """The groups, then whoever handles their messages; transports that nobody needs any more last."""
        bound = self._bound
        names = _ways(bound)
        for name in names - self._started:
            await self._carrier_of(name).start(bound)
            self._started.add(name)
        if names == {"postgres"}:  # what any queue servers had, and nobody has carried over, is to be passed on again
            await relayed.give_back(self._shards, "")
        wanted = [one.subscription for one in self._subscribers]
        if wanted:
            await subscriptions.write(self._shards, wanted)
        is_mine = bound.handled_by == ("workers" if bindings.is_worker() else "web")
        size = bound.concurrency if bindings.is_worker() else min(bound.concurrency, WEB_CONCURRENCY)
        async with self._changing:
            if not self._is_draining:
                mine = list(self._subscribers) if is_mine else []
                await self._crew.follow(mine, {name: self._carriers[name] for name in names}, size)
        for name in names if wanted else ():  # after all else: one whose servers are away holds up nothing
            await self._carriers[name].subscribe(wanted)
        for name in self._carriers.keys() - names:
            self._started.discard(name)
            await self._carriers.pop(name).stop()

    async def _keep_up(self) -> None:
        """Say now and then that our groups are still there, and forget what was handled long ago."""
        while True:
            await asyncio.sleep(UPKEEP_SECONDS * (0.5 + random.random()))  # noqa: S311 - spreads work
            try:
                await subscriptions.prune(self._shards)
                wanted = [one.subscription for one in self._subscribers]
                if wanted:
                    await subscriptions.write(self._shards, wanted)
            except relay.TROUBLE as error:
                log.info("the queue's tables were not looked after: %s", error)


def _ways(bound: bindings.Queue) -> set[str]:
    """The transports that messages may be on."""
    return {"postgres", _way(bound.transport, bound), *([_way(bound.former, bound)] if bound.former else [])}


def _way(name: str, bound: bindings.Queue) -> str:
    """The servers of another home are another transport: what is held of one is never settled with the other."""
    return f"nats@{bound.nodes[0].region}" if name == "nats" and bound.nodes and bound.nodes[0].region else name


def _policy(
    subject: str, retries: int, pause: float, most_pause: float, timeout: float, *, keeps_dead: bool
) -> subscribers.Policy:
    for name, value in (
        ("retries", retries + 1),
        ("backoff", pause),
        ("most_backoff", most_pause),
        ("timeout", timeout),
    ):
        if value <= 0:
            raise errors.MisuseError(f"subscriber {subject}: {name}={value:g} found, a positive number expected")
    return subscribers.Policy(retries, backoff.Backoff(pause, max(pause, most_pause)), timeout, keeps_dead)
