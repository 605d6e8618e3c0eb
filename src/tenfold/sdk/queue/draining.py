"""Moving what is left on the NATS servers into the database, when the service goes back to PostgreSQL's queue.

Called by the runtime, from its own process, before it stops the servers and after every process of the service has been
told `transport = "postgres", former = "nats"`: they publish to the database then, and workers still handle what the
servers hold. May be called again after any failure.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tenfold import bindings, errors
from tenfold.sdk.db import connect, primary
from tenfold.sdk.queue import messages, relayed, store
from tenfold.sdk.queue.nats import consuming, link, naming, streams

MOST = 256
"""Messages that are moved in one transaction."""

LOOK_SECONDS = 0.25

MOVE = """
insert into tenfold.delivery (group_name, id, subject, key, payload, headers, attempt)
select $1, moved.id, moved.subject, moved.key, moved.payload, moved.headers::jsonb, moved.attempt
  from unnest($2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::integer[])
       with ordinality as moved (id, subject, key, payload, headers, attempt, turn)
 where not exists (select from tenfold.inbox i where i.group_name = $1 and i.id = moved.id)
 order by moved.turn
on conflict do nothing
"""


@dataclass(frozen=True, slots=True)
class Drained:
    """What became of the messages on the servers."""

    moved: int
    """Now in tenfold.delivery."""
    left: int
    """Still on the servers when the time was over: workers have them in their hands. Call again."""


async def drain(database: bindings.Database, queue: bindings.Queue, service: str, seconds: float = 60.0) -> Drained:
    """Move everything that waits on the servers into tenfold.delivery, each message of each group once.

    From now on the servers take no more messages of this service. What workers have in hand is waited for, and moved if
    they give it back. Raises `StoreUnavailable` when the servers or the database do not answer within `seconds`.
    """
    until = asyncio.get_running_loop().time() + seconds
    shards = primary.Shards(connect.Connector())
    names = naming.of(service)
    servers = [link.Server(node.host, node.port) for node in queue.nodes]
    connection = link.Link(servers, link.Login(queue.user, queue.password, f"{names.stream}-drain"))
    await shards.start(database)
    connection.start()
    try:
        await connection.up(seconds)
        return await _Drain(shards, connection, names).run(until)
    except (*streams.TROUBLE, *connect.ANSWERS) as error:
        raise errors.StoreUnavailable(
            f"queue: the servers do not let their messages be moved ({error or type(error).__name__}); "
            "what was moved is in the database, the rest is where it was"
        ) from error
    finally:
        await connection.stop()
        await shards.stop()


class _Drain:
    """One call of `drain`."""

    def __init__(self, shards: primary.Shards, connection: link.Link, names: naming.Names) -> None:
        self._shards = shards
        self._link = connection
        self._streams = streams.Streams(connection, names)
        self._names = names
        self._moving: dict[str, _Moving] = {}

    async def run(self, until: float) -> Drained:
        """Shut the stream, move what its consumers give, until they have no more."""
        if not await self._streams.shut():
            return Drained(0, 0)
        stream = await self._streams.info() or {"created": "", "state": {"last_seq": 0}}
        patience = (until - _now()) / 2
        try:
            while True:
                consumers = await self._streams.consumers()
                left = sum(one["num_pending"] + one["num_ack_pending"] for one in consumers)
                if not left:
                    await relayed.settle(self._shards, stream["created"], stream["state"]["last_seq"])
                if not left or _now() >= until:
                    return Drained(sum(one.moved for one in self._moving.values()), left)
                self._follow(consumers)
                if _now() >= until - patience:
                    await self._restart(consumers)
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await asyncio.gather(*(one.stop() for one in self._moving.values()), return_exceptions=True)

    def _follow(self, consumers: Sequence[dict[str, Any]]) -> None:
        """Somebody moves the messages of each. Raises what ended one of them."""
        for one in consumers:
            name = one["name"]
            if name not in self._moving:
                group = one["config"]["metadata"]["group"]
                pulling = consuming.Consuming(self._link, self._names.stream, [name], MOST, _nothing)
                self._moving[name] = _Moving(self._shards, group, pulling)
        for moving in self._moving.values():
            moving.ensure_alive()

    async def _restart(self, consumers: Sequence[dict[str, Any]]) -> None:
        """A lane whose message waits long for its next try gives it now."""
        for one in consumers:
            if one["config"]["max_ack_pending"] == 1 and one["num_ack_pending"]:
                if one["name"] in self._moving:
                    await self._moving[one["name"]].stop()
                await self._streams.restart(one)


class _Moving:
    """The messages of one consumer on their way into the database."""

    def __init__(self, shards: primary.Shards, group: str, pulling: consuming.Consuming) -> None:
        self._shards = shards
        self._group = group
        self._pulling = pulling
        self._task = asyncio.create_task(self._move(), name=f"tenfold-queue-drain-{group}")
        self._busy = asyncio.Lock()
        self.moved = 0

    def ensure_alive(self) -> None:
        """Raise what has ended it."""
        if self._task.done() and not self._task.cancelled():
            self._task.result()

    async def stop(self) -> None:
        """Let what is under way arrive, and give back the rest."""
        async with self._busy:
            self._task.cancel()
        await asyncio.wait([self._task])
        await self._pulling.close()

    async def _move(self) -> None:
        """In one transaction as many as there are, then let the servers know. What was handled already is not moved."""
        while True:
            taken = await self._pulling.take(MOST)
            async with self._busy:
                await self._move_batch(taken)

    async def _move_batch(self, taken: Sequence[messages.Taken]) -> None:
        try:
            status = await store.execute(self._shards, MOVE, self._group, *_columns(taken))
        except BaseException:
            for one in taken:
                self._pulling.give_back(one, 0.0)
            raise
        self.moved += int(status.rpartition(" ")[2])
        for one in taken:
            self._pulling.acknowledge(one)
        await self._pulling.settled()


def _columns(taken: Sequence[messages.Taken]) -> tuple[list[Any], ...]:
    """The arguments of `MOVE`. That we took it was no try."""
    found = [one.envelope for one in taken]
    return (
        [one.id for one in found],
        [one.subject for one in found],
        [one.key for one in found],
        [one.payload for one in found],
        [msgspec.json.encode(one.headers).decode() for one in found],
        [one.attempt - 1 for one in taken],
    )


async def _nothing() -> None:
    """What is not there is not made."""


def _now() -> float:
    return asyncio.get_running_loop().time()
