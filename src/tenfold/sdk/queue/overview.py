"""What waits for each group on all transports together, for people: `tenfold queue` shows it.

Reads the database, and the queue's own servers where there are any; needs no runtime and starts nothing.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tenfold import bindings, errors
from tenfold.sdk import db
from tenfold.sdk.db import primary
from tenfold.sdk.queue import dead_letters, store, subscriptions, transport
from tenfold.sdk.queue.postgres import transport as postgres

_OUTBOX = "select count(*), count(*) filter (where available_at > now()) from tenfold.outbox"


@dataclass(frozen=True, slots=True)
class Group:
    """One group's messages of one subject; the dead letters are those of the whole group."""

    group: str
    subject: str
    waiting: int
    in_flight: int
    oldest_seconds: float
    dead: int
    seen_seconds: float
    """How long ago a process that has this subscriber last said so."""


@dataclass(frozen=True, slots=True)
class Overview:
    """All groups, and what has not been passed on to them yet: `outbox` in all, of which `delayed` is held back."""

    transport: str
    outbox: int
    delayed: int
    groups: tuple[Group, ...]
    missing: str = ""
    """Why the queue servers do not say what they hold: then only what the database knows is counted; empty: they do."""


@asynccontextmanager
async def connected(bound: bindings.Database) -> AsyncIterator[primary.Shards]:
    """The database, for commands outside any app."""
    database = db.Database()
    await database.start(bound)
    try:
        yield database.shards
    finally:
        await database.stop()


async def look(shards: primary.Shards, bound: bindings.Queue, name: str) -> Overview:
    """How it is now. Raises `StoreUnavailable` when the database does not answer; queue servers may be away."""
    total, delayed = (await store.fetch(shards, _OUTBOX))[0]
    figures = list(await postgres.Postgres(shards, lambda _: None).figures())
    missing = ""
    if "nats" in (bound.transport, bound.former):
        try:
            figures += await _of_nats(shards, bound, name)
        except errors.StoreUnavailable as error:
            missing = str(error)
    dead, seen = await dead_letters.counted(shards), await subscriptions.seen(shards)
    known = seen.keys() if missing else {(one.group, one.subject) for one in figures} & seen.keys()
    groups = tuple(_group(key, figures, dead, seen) for key in sorted(known))
    return Overview(bound.transport, total, delayed, groups, missing)


async def _of_nats(shards: primary.Shards, bound: bindings.Queue, name: str) -> list[transport.Figures]:
    from tenfold.sdk.queue.nats import transport as nats  # late: other services never need it

    carrier = nats.Nats(shards, name)
    await carrier.start(bound)
    try:
        return list(await carrier.figures())
    finally:
        await carrier.stop()


def _group(
    key: tuple[str, str], figures: list[transport.Figures], dead: dict[str, int], seen: dict[tuple[str, str], float]
) -> Group:
    """What all transports say of one subscription."""
    mine = [one for one in figures if (one.group, one.subject) == key]
    return Group(
        *key,
        sum(one.waiting for one in mine),
        sum(one.in_flight for one in mine),
        max((one.oldest_seconds for one in mine), default=0.0),
        dead.get(key[0], 0),
        seen[key],
    )
