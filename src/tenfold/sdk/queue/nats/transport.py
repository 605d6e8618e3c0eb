"""NATS JetStream as a transport of the queue: what the core sees of this package.

Made by `queue`. It owns the link, and prepares the servers whenever a connection has been made: the stream, and the
consumers of every group that the database knows. Nothing is sent before: a message without a group waiting for it would
be dropped. What it cannot carry (messages over the servers' limit, retries far in the future) goes by the database.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from tenfold import bindings, errors
from tenfold.sdk import counters
from tenfold.sdk.db import connect, deadline, primary
from tenfold.sdk.queue import messages, outbox, relayed, store, subjects, tasks, transport
from tenfold.sdk.queue.nats import consuming, copies, keeping, link, naming, publishing, streams

log = logging.getLogger("tenfold.queue")

SUBSCRIBE_SECONDS = 30.0
"""How long making a group's consumers may take: a group that keeps order has sixteen."""

UPKEEP_SECONDS = 60.0

KNOWN = "select group_name, subject, is_ordered from tenfold.subscription"

POSTPONE = """
insert into tenfold.delivery (group_name, id, subject, key, payload, headers, attempt, available_at)
values ($1, $2, $3, $4, $5, $6::text::jsonb, $7, now() + $8 * interval '1 second')
on conflict do nothing
"""

BESIDE = "select tenfold.pass_on($1, $2, interval '0', $3)"


class Nats:
    """`transport.Transport` on a service's NATS servers."""

    def __init__(self, shards: primary.Shards, service: str) -> None:
        self._shards = shards
        self._names = naming.of(service)
        self._bound = bindings.Queue()
        self._told_at = datetime.now(UTC)
        """When we were told to use these servers, or not to."""
        self._link = link.Link((), link.Login("", "", self._names.stream))
        self._streams = streams.Streams(self._link, self._names)
        self._publishing = publishing.Publishing(self._link, self._names)
        self._own: dict[tuple[str, str], naming.Group] = {}
        """The groups of this process."""
        self._patterns: set[str] = set()
        """What the groups whose consumers are there wait for."""
        self._heard: set[str] = set()
        """Subjects that some of them match: messages of others would be dropped."""
        self._preparing: asyncio.Task[None] | None = None
        self._is_prepared = False
        self._made_at = ""
        """When the stream was made: tells it from others in other regions, and before it; empty: it is the only one."""
        self._keeping = keeping.Keeping(shards, self._link, self._publishing, self._names)
        self._keeper: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, bound: bindings.Queue) -> None:
        self._follow(bound)
        self._link.on_up.append(self._came_up)
        self._publishing.start()
        self._link.start()
        self._keeper = tasks.begin("keep-stream", self._keeping.run())
        self._timer = asyncio.get_running_loop().call_later(UPKEEP_SECONDS, self._keep_up)

    def update(self, bound: bindings.Queue) -> None:
        self._follow(bound)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._preparing is not None:
            self._preparing.cancel()
        if self._keeper is not None:
            await tasks.end([self._keeper])
        if self._came_up in self._link.on_up:
            self._link.on_up.remove(self._came_up)
            self._publishing.stop()
        await self._link.stop()

    async def subscribe(self, subscriptions: Sequence[transport.Subscription]) -> None:
        for one in subscriptions:
            self._own[one.group, one.subject] = naming.Group(one.group, one.subject, one.is_ordered)
        self._is_prepared = False
        await self._until_prepared("tf.queue.subscriber", SUBSCRIBE_SECONDS)

    def consume(self, subscription: transport.Subscription) -> transport.Consumer:
        group = naming.Group(subscription.group, subscription.subject, subscription.is_ordered)
        self._own[group.name, group.subject] = group

        async def postpone(taken: messages.Taken, after_seconds: float) -> bool:
            return await self._postpone(group, taken, after_seconds)

        return consuming.Consuming(
            self._link,
            self._names.stream,
            [one.name for one in self._names.consumers(group)],
            subscription.prefetch,
            self._repair,
            None if group.is_ordered else postpone,
        )

    async def send(self, batch: Sequence[messages.Envelope]) -> None:
        await self._until_heard("tf.queue.publish", batch)
        outcomes = await self._publishing.send(batch)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                self._noted(outcome)
                raise streams.error_for("tf.queue.publish", outcome) from outcome

    async def pass_on(self, ids: Sequence[UUID], most: int) -> int:
        if not self._is_prepared:
            await self._until_prepared("queue")
        async with outbox.in_hand(self._shards, ids, most) as hand:
            await self._until_heard("queue", hand.envelopes)
            fitting = [one for one in hand.envelopes if self._publishing.fits(one)]
            hand.stream = self._made_at
            outcomes = await self._publishing.send(fitting)
            taken = zip(fitting, outcomes, strict=True)
            hand.durable |= {one.id: outcome for one, outcome in taken if isinstance(outcome, int)}
        beside = [one.id for one in hand.envelopes if not self._publishing.fits(one)]
        if beside:
            await self._pass_on_beside(beside)
        failed = next((one for one in outcomes if isinstance(one, Exception)), None)
        if failed is not None:
            self._noted(failed)
            raise streams.error_for("queue", failed) from failed
        return len(hand.envelopes)

    async def figures(self) -> Sequence[transport.Figures]:
        await self._until_prepared("queue")
        try:
            return _by_group([await self._figures(one) for one in await self._streams.consumers()])
        except streams.TROUBLE as error:
            raise streams.error_for("queue", error) from error

    def _follow(self, bound: bindings.Queue) -> None:
        servers = tuple(link.Server(node.host, node.port) for node in bound.nodes)
        if bound != self._bound:
            self._is_prepared = False
        if bound.transport != self._bound.transport:
            self._told_at = datetime.now(UTC)
        self._bound = bound
        self._publishing.domain = copies.answers_as(bound)
        self._publishing.is_numbering = bool(bound.mirrors)
        self._link.update(servers, link.Login(bound.user, bound.password, self._names.stream))

    def _came_up(self) -> None:
        """The servers may have lost everything since, or be others."""
        self._is_prepared = False
        if self._bound.transport == "nats":
            self._prepare_soon()

    def _keep_up(self) -> None:
        """Now and then: groups may have been forgotten since."""
        self._timer = asyncio.get_running_loop().call_later(UPKEEP_SECONDS, self._keep_up)
        if self._link.is_up and self._bound.transport == "nats":
            self._prepare_soon()

    def _prepare_soon(self) -> asyncio.Task[None]:
        if self._preparing is None or self._preparing.done():
            self._preparing = asyncio.create_task(self._prepare(), name="tenfold-queue-prepare")
            self._preparing.add_done_callback(_heard)
        return self._preparing

    async def _prepare(self) -> None:
        """The stream and the consumers of all groups, as they must be. While we move away what is there must do."""
        await self._link.up(publishing.SEND_SECONDS)
        if self._bound.transport == "nats":
            groups = {(one.name, one.subject): one for one in await self._known()} | self._own
            most_bytes = copies.most_bytes(self._bound)
            made = await self._streams.ensure(self._bound.replicas, most_bytes, groups.values(), self._told_at)
            await self._take_over(made)
            self._patterns = {one.subject for one in groups.values()}
            self._heard.clear()
        self._is_prepared = True

    async def _take_over(self, made: str) -> None:
        """What a stream had that is lost, or left behind in another region, is passed on again: to this one."""
        self._made_at = made if self._bound.mirrors else ""
        self._keeping.follow(self._bound, self._made_at)
        count = await relayed.give_back(self._shards, made)
        if count:
            counters.add("queue.given_back", count)
            log.warning("queue: %d messages of a stream that is not here are passed on again", count)
        if not self._made_at:
            await relayed.forget(self._shards, made)

    async def _known(self) -> list[naming.Group]:
        return [naming.Group(*row) for row in await store.fetch(self._shards, KNOWN)]

    async def _repair(self) -> None:
        """For consumers that are not answered: see that all is there. Without the database what is there must do."""
        try:
            await asyncio.shield(self._prepare_soon())
        except errors.StoreUnavailable as error:
            log.info("queue: the groups are not known just now: %s", error)

    async def _until_heard(self, where: str, batch: Sequence[messages.Envelope]) -> None:
        """Until the servers are prepared and a group waits for each subject, if the database knows one."""
        if not self._is_prepared:
            await self._until_prepared(where)
        unheard = {one.subject for one in batch} - self._heard
        if not unheard:
            return
        if not all(self._is_heard(subject) for subject in unheard):
            self._is_prepared = False
            await self._until_prepared(where)
        self._heard |= {subject for subject in unheard if self._is_heard(subject)}

    def _is_heard(self, subject: str) -> bool:
        return any(subjects.matches(pattern, subject) for pattern in self._patterns)

    async def _until_prepared(self, where: str, seconds: float = publishing.SEND_SECONDS) -> None:
        """Raises `StoreUnavailable` when the deadline comes first; the preparing goes on."""
        until = deadline.limits(seconds).wait
        while not self._is_prepared:
            try:
                async with asyncio.timeout_at(until):
                    await asyncio.shield(self._prepare_soon())
                    return
            except streams.TROUBLE as error:
                seen: Exception = error
            pause = consuming.PAUSE.first_seconds
            if asyncio.get_running_loop().time() + pause >= until:
                raise streams.error_for(where, seen) from seen
            await asyncio.sleep(pause)

    def _noted(self, outcome: Exception) -> None:
        counters.add("queue.nats_unacknowledged")
        if isinstance(outcome, streams.RefusedError) and outcome.code == streams.NO_STREAM:
            self._is_prepared = False

    async def _postpone(self, group: naming.Group, taken: messages.Taken, after_seconds: float) -> bool:
        """Into the database, whose own consumer hands it out when it is due."""
        one = taken.envelope
        headers = msgspec.json.encode(one.headers).decode()
        arguments = (group.name, one.id, one.subject, one.key, one.payload, headers, taken.attempt, after_seconds)
        try:
            await store.execute(self._shards, POSTPONE, *arguments)
        except (errors.TenfoldError, *connect.ANSWERS) as error:
            log.info("queue: %s waits on the servers for its next try, not in the database: %s", one.id, error)
            return False
        return True

    async def _pass_on_beside(self, ids: Sequence[UUID]) -> None:
        """What the servers would refuse goes to the groups by the database."""
        log.warning("queue: %d messages are larger than the NATS servers take; they go by the database", len(ids))
        counters.add("queue.passed_beside_nats", len(ids))

        async def pass_on(lease: primary.Lease) -> None:
            await lease.connection.execute(BESIDE, ids, len(ids), store.origin(lease))

        await store.run(self._shards, pass_on)

    async def _figures(self, consumer: dict[str, Any]) -> transport.Figures:
        metadata = consumer["config"].get("metadata", {})
        waiting = int(consumer["num_pending"])
        oldest = 0.0
        if waiting:
            since = await self._streams.published_at(
                consumer["delivered"]["stream_seq"] + 1, consumer["config"]["filter_subject"]
            )
            oldest = max(0.0, (datetime.now(UTC) - since).total_seconds()) if since else 0.0
        group, subject = metadata.get("group", consumer["name"]), metadata.get("subject", "")
        return transport.Figures(group, subject, waiting, int(consumer["num_ack_pending"]), oldest)


def _by_group(figures: Iterable[transport.Figures]) -> list[transport.Figures]:
    """The lanes of an ordered group together."""
    found: dict[tuple[str, str], list[transport.Figures]] = {}
    for one in figures:
        found.setdefault((one.group, one.subject), []).append(one)
    return [
        transport.Figures(
            group,
            subject,
            sum(one.waiting for one in lanes),
            sum(one.in_flight for one in lanes),
            max(one.oldest_seconds for one in lanes),
        )
        for (group, subject), lanes in sorted(found.items())
    ]


def _heard(task: asyncio.Task[None]) -> None:
    """Whoever waits for it hears of its trouble; nobody may."""
    if not task.cancelled():
        task.exception()
