"""Copying every live session from one store to another, for a store that is about to stop.

Called by the runtime's step MoveSessions, in the runtime's process, on connections of its own. `move` changes nothing
in the store that it copies from; `clear` forgets what it held.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager

from tenfold import bindings, errors
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.sessions import cached, database, records
from tenfold.sdk.valkey import client, trouble

log = logging.getLogger("tenfold.sessions")

BATCH = 500
WHOLE_SECONDS = 15.0
"""How long the cache's servers may take to be all there: a failover may be under way."""

CALL_SECONDS = 5.0

Batch = Sequence[tuple[bytes, records.Record]]
"""Sessions with their ids' digests."""


async def move(bound: bindings.Bindings, source: str, target: str) -> int:
    """Copy all sessions that live in `source` (`cache` or `database`) to `target` (`database` or `cache`).

    Returns how many it has copied. May be called again at any time: a session that is newer in the target, or was ended
    there, stays as it is there. Call it after `bound.sessions` was published with `store = target` and
    `former = (source,)`, and has been taken in by every process: from then on visits move their own sessions, logouts
    end both copies, and nothing new is written to the source. (Publish `store = source, former = (target,)` before
    that, so that no process is ever without one of the two.)

    Raises `StoreUnavailable`, or what `tf.db` raises, when one of them does not answer; some may be copied then.
    """
    if {source, target} != {"cache", "database"}:
        raise errors.MisuseError(
            f"move: from {source!r} to {target!r} found; from cache to database, or back, expected"
        )
    async with AsyncExitStack() as opened:
        reading, servers = db.Database(), client.Client()
        opened.push_async_callback(reading.stop)
        opened.push_async_callback(servers.stop)
        assert bound.database is not None
        await reading.start(bound.database)
        await servers.start(bound.cache)
        await _ensure_whole(servers)
        moved = 0
        if source == "cache":
            async for batch in _in_cache(servers):
                moved += await _into_database(reading, batch)
        else:
            async for batch in _in_database(reading):
                moved += await _into_cache(servers, batch)
    return moved


async def clear(bound: bindings.Bindings, store: str) -> None:
    """Forget all sessions in `store`, from which they were all moved, while it is still told as `former`.

    What stays there would be old one day: a session that is ended in its new store must not come back when the service
    moves back. May be called again; raises what `move` raises.
    """
    async with AsyncExitStack() as opened:
        if store == "database":
            rows = db.Database()
            opened.push_async_callback(rows.stop)
            assert bound.database is not None
            await rows.start(bound.database)
            while (await rows.execute(FORGET, BATCH)) != "DELETE 0":
                pass
        else:
            servers = client.Client()
            opened.push_async_callback(servers.stop)
            await servers.start(bound.cache)
            await _ensure_whole(servers)
            async for keys in _keys(servers):
                with _mapped():
                    sent = [servers.call("UNLINK", key, timeout=CALL_SECONDS, repeat=True) for key in keys]
                    await asyncio.gather(*sent)


async def _ensure_whole(servers: client.Client) -> None:
    async def look() -> bool:
        return servers.is_whole

    if not await clock.until(look, seconds=WHOLE_SECONDS, pause_seconds=0.02):
        raise errors.StoreUnavailable("sessions: not every server of the cache answers, so not all can be moved")


async def _in_cache(servers: client.Client) -> AsyncIterator[Batch]:
    """What lives on each primary. A session that comes while this runs may be missed: it is the target's already."""
    async for keys in _keys(servers):
        with _mapped():
            answers = await servers.many([("HGETALL", key) for key in keys], timeout=CALL_SECONDS, repeat=True)
        yield [*_living(keys, answers)]


async def _keys(servers: client.Client) -> AsyncIterator[Sequence[bytes]]:
    """The keys of all sessions, those that are over included."""
    for one in servers.primaries():
        cursor = b"0"
        while True:
            with _mapped():
                asked = ("SCAN", cursor, "MATCH", f"{cached.PREFIX}*", "COUNT", BATCH)
                cursor, keys = await servers.call_on(one, *asked, timeout=CALL_SECONDS)
            yield keys
            if cursor == b"0":
                break


def _living(keys: Sequence[bytes], answers: Sequence[object]) -> Batch:
    now, found = time.time(), []
    for key, answer in zip(keys, answers, strict=True):
        if isinstance(answer, trouble.Unavailable):
            raise errors.StoreUnavailable(f"sessions: the cache's servers do not answer: {answer}") from answer
        record = None if isinstance(answer, BaseException) else cached.parse(answer)  # type: ignore[arg-type]
        if record is not None and not record.is_over and record.expires_at > now:
            found.append((bytes.fromhex(key.decode().removeprefix(cached.PREFIX)), record))
    return found


async def _into_database(target: db.Database, batch: Batch) -> int:
    if not batch:
        return 0
    columns = zip(*((digest, *database.values_of(record)) for digest, record in batch), strict=True)
    return int(await target.fetchval(ADOPT_ALL, *map(list, columns)))


async def _in_database(source: db.Database) -> AsyncIterator[Batch]:
    last = b""
    while True:
        rows = await source.reading("primary").fetch(NEXT, last, BATCH)
        found = [(bytes(row[0]), database.record_of(row[1:])) for row in rows]
        yield [(digest, record) for digest, record in found if record is not None]
        if len(rows) < BATCH:
            break
        last = bytes(rows[-1][0])


async def _into_cache(target: client.Client, batch: Batch) -> int:
    commands = []
    for digest, record in batch:
        life, *fields = cached.whole(record)
        commands.append(("EVAL", cached.ADOPT.source, 1, cached.key(digest), life, repr(record.changed_at), *fields))
    # EVAL's key is its fourth word, so each is sent by itself; the client gathers what a turn of the loop sends.
    sent = [target.call(*parts, key=parts[3], timeout=CALL_SECONDS, repeat=True) for parts in commands]
    with _mapped():
        return sum(map(int, await asyncio.gather(*sent)))


@contextmanager
def _mapped() -> Iterator[None]:
    """The cache's troubles in the words of `errors`."""
    try:
        yield
    except trouble.ValkeyError as error:
        raise errors.StoreUnavailable(f"sessions: the cache's servers do not do what is asked: {error}") from error


NEXT = f"""
select id, {database.COLUMNS_READ} from tenfold.session
 where id > $1 and not is_over and expires_at > now() order by id limit $2
"""

FORGET = "delete from tenfold.session where id = any (array(select id from tenfold.session limit $1))"

ADOPT_ALL = """
with taken as (
    insert into tenfold.session as mine (id, fields, principal, created_at, changed_at, expires_at)
    select id, fields::jsonb, principal, to_timestamp(created), to_timestamp(changed), to_timestamp(expires)
      from unnest($1::bytea[], $2::text[], $3::text[], $4::float8[], $5::float8[], $6::float8[])
        as given (id, fields, principal, created, changed, expires)
    on conflict (id) do update set
        fields = excluded.fields, principal = excluded.principal, created_at = excluded.created_at,
        changed_at = excluded.changed_at, expires_at = excluded.expires_at
    where not mine.is_over and mine.changed_at < excluded.changed_at
    returning 1)
select count(*) from taken
"""
