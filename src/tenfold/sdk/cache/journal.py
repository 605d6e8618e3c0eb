"""Where what was put waits until it is flushed: streams in the cache's servers, and a table in the database.

Called by `write_back` (puts), `flushing` (takes) and `moving`. A stream has no time to live, so no server forgets it;
each put has an id of its own, and may be in both places: whoever flushes asks tenfold.inbox.
"""

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tenfold.sdk import db, valkey
from tenfold.sdk.db import transaction

LANES = 4
"""Streams of one write-back: in a cluster its puts are spread over servers."""

PREFIX = "tf:w:"

_KEEP = """
insert into tenfold.journal (id, name, key, value)
select id, $1, key, value from unnest($2::uuid[], $3::text[], $4::bytea[]) as put (id, key, value)
on conflict do nothing
"""

_TAKE = """
select id, key, value from tenfold.journal
 where name = $1 and ($2::uuid[] is null or id = any ($2)) order by created_at limit $3 for update skip locked
"""

WAITS = "select exists (select from tenfold.journal where name = $1)"
"""Whether anything of a write-back waits in the table."""


@dataclass(frozen=True, slots=True)
class Written:
    """One put: as bytes, under its own id. `place` is where in its stream it is; empty: in the table."""

    id: UUID
    key: str
    value: bytes
    place: bytes = b""


def lane_of(key: str) -> int:
    """Which lane the puts of a key are in: always the same one, so that they stay in their order."""
    return binascii.crc32(key.encode()) % LANES


def stream(name: str, lane: int) -> str:
    """What a lane is called in the servers."""
    return f"{PREFIX}{{{name}/{lane}}}"


def add(name: str, one: Written) -> tuple[str | bytes, ...]:
    """The command that puts it into its stream."""
    return "XADD", stream(name, lane_of(one.key)), "*", "i", one.id.bytes, "k", one.key, "v", one.value


async def oldest(servers: valkey.Client, name: str, lane: int, most: int) -> list[Written]:
    """The first of a lane. What is not ours in the stream is thrown away. Raises `valkey.ValkeyError`."""
    found = await servers.call("XRANGE", stream(name, lane), "-", "+", "COUNT", most, repeat=True)
    read = [_read(place, fields) for place, fields in found]
    strange = [place for (place, _), one in zip(found, read, strict=True) if one is None]
    if strange:
        await servers.call("XDEL", stream(name, lane), *strange)
    return [one for one in read if one is not None]


async def remove(servers: valkey.Client, name: str, lane: int, flushed: Sequence[Written]) -> None:
    """Take these out of their stream. Raises `valkey.ValkeyError`."""
    if flushed:
        await servers.call("XDEL", stream(name, lane), *(one.place for one in flushed), repeat=True)


async def lengths(servers: valkey.Client, name: str) -> list[int]:
    """How many puts wait in each lane; 0 where the server does not answer."""
    said = await servers.many([("XLEN", stream(name, lane)) for lane in range(LANES)], repeat=True)
    return [one if isinstance(one, int) else 0 for one in said]


async def keep(way: db.Database | transaction.Transaction, name: str, puts: Sequence[Written]) -> None:
    """Write these into the table; one that is there already is there once. Raises what the database raises."""
    columns: tuple[list[Any], ...] = ([one.id for one in puts], [one.key for one in puts], [one.value for one in puts])
    await way.execute(_KEEP, name, *columns)


async def take(tx: transaction.Transaction, name: str, most: int, ids: Sequence[UUID] | None) -> list[Written]:
    """Rows of the table, the oldest first, locked until the transaction ends; those of these ids, if any are named."""
    rows = await tx.fetch(_TAKE, name, None if ids is None else list(ids), most)
    return [Written(row["id"], row["key"], row["value"]) for row in rows]


async def forget(tx: transaction.Transaction, puts: Sequence[Written]) -> None:
    """Take these out of the table."""
    await tx.execute("delete from tenfold.journal where id = any ($1)", [one.id for one in puts])


def _read(place: bytes, fields: Any) -> Written | None:
    """What `add` wrote. RESP3 gives the fields as pairs or as one flat list, as the server's version has it."""
    flat = [part for one in fields for part in (one if isinstance(one, list) else [one])]
    try:
        named = dict(zip(flat[::2], flat[1::2], strict=True))
        return Written(UUID(bytes=named[b"i"]), named[b"k"].decode(), named[b"v"], place)
    except (KeyError, ValueError, TypeError):
        return None
