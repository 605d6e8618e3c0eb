"""What can be asked of queue servers while they run. Called by the runtime. Changes nothing.

Leaders are given away by the server itself when it is stopped, see `command`.
"""

import asyncio
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tenfold import engines, errors
from tenfold.engines.nats import monitor
from tenfold.observation import snapshot

COPYING = "JS_MIRROR_"
"""How NATS names the consumer through which another region copies a stream: no group waits for what it has not got."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """One group of subscribers, as its leader counts."""

    name: str
    leader: str
    waiting: int
    """Messages that were not given to it yet."""
    unacknowledged: int
    """Messages that it was given and has not finished."""
    redelivered: int


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream."""

    name: str
    leader: str
    """The server that leads it; empty: nobody does just now."""
    messages: int
    oldest_at: float
    """When the first message came that is still in it, as `time.time()` has it; 0: there is none."""
    stored_bytes: int
    followers: tuple[str, ...]
    """The other servers that hold it and keep up."""
    consumers: tuple[Consumer, ...]


async def facts(seat: engines.Seat) -> snapshot.QueueNode | None:
    """What the server says of itself; None when it does not answer."""
    try:
        _, said = await monitor.ask(seat, "/jsz")
    except errors.EngineFailed:
        return None
    group = said.get("meta_cluster")
    leader = group.get("leader", "") if group is not None else seat.server.name
    return snapshot.QueueNode(
        server=seat.server.name,
        is_leader=leader == seat.server.name,
        has_quorum=bool(leader) and not said.get("disabled", False),
        stored_bytes=int(said.get("storage", 0)),
        messages=int(said.get("messages", 0)),
    )


async def streams(seats: Sequence[engines.Seat]) -> tuple[Stream, ...]:
    """All streams that these servers hold, by name; each, and each consumer, as the server that leads it counts.

    A server that does not answer is left out, and what it alone leads is told as another knows it.
    """
    said = await asyncio.gather(*(_held(seat) for seat in seats))
    found: dict[str, Stream] = {}
    consumers: dict[tuple[str, str], Consumer] = {}
    for seat, held in zip(seats, said, strict=True):
        for stream in held:
            if stream.leader == seat.server.name or stream.name not in found:
                found[stream.name] = stream
            for one in stream.consumers:
                if one.leader == seat.server.name or (stream.name, one.name) not in consumers:
                    consumers[stream.name, one.name] = one
    return tuple(
        dataclasses.replace(found[name], consumers=tuple(consumers[key] for key in sorted(consumers) if key[0] == name))
        for name in sorted(found)
    )


async def _held(seat: engines.Seat) -> tuple[Stream, ...]:
    try:
        _, said = await monitor.ask(seat, "/jsz", streams="true", consumers="true")
    except errors.EngineFailed:
        return ()
    return tuple(_stream(one, seat) for one in _details(said))


def _details(said: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for account in said.get("account_details") or ():
        yield from account.get("stream_detail") or ()


def _stream(told: Mapping[str, Any], seat: engines.Seat) -> Stream:
    group = told.get("cluster") or {"leader": seat.server.name}
    replicas = group.get("replicas") or ()
    return Stream(
        name=told["name"],
        leader=group.get("leader", ""),
        messages=told["state"]["messages"],
        oldest_at=_time(told["state"].get("first_ts", "")) if told["state"]["messages"] else 0.0,
        stored_bytes=told["state"]["bytes"],
        followers=tuple(one["name"] for one in replicas if one.get("current") and not one.get("offline")),
        consumers=tuple(
            _consumer(one, seat) for one in told.get("consumer_detail") or () if not one["name"].startswith(COPYING)
        ),
    )


def _time(text: str) -> float:
    """A time as NATS writes it; 0 when it says none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _consumer(told: Mapping[str, Any], seat: engines.Seat) -> Consumer:
    return Consumer(
        name=told["name"],
        leader=(told.get("cluster") or {"leader": seat.server.name}).get("leader", ""),
        waiting=told.get("num_pending", 0),
        unacknowledged=told.get("num_ack_pending", 0),
        redelivered=told.get("num_redelivered", 0),
    )
