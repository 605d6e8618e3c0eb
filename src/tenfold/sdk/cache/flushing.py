"""Flushing what was put: batch by batch, in one transaction with the app's function and the ids of the inbox.

Run by `write_back`, in every process. One process at a time takes from the servers' streams, held to it by a lease
that ends soon after it died; that saves work and guarantees nothing: that each put is flushed once is the inbox's.
A put whose flush fails again and again is laid aside in tenfold.dead_letter, so that it holds up no other.
"""

import asyncio
import contextlib
import contextvars
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from tenfold import errors
from tenfold.kit import backoff
from tenfold.sdk import counters, db, valkey
from tenfold.sdk.cache import journal, values
from tenfold.sdk.db import connect, transaction

log = logging.getLogger("tenfold.cache")

LEASE_SECONDS = 5.0
"""How long the streams are a flusher's; it takes them again each time."""

LEAVE_SECONDS = 0.5
"""How long a process that stops waits to have given its lease back."""

FLUSH_SECONDS = 30.0
"""How long one batch's transaction may take, failovers of the database included."""

TABLE_SECONDS = 5.0
"""How often the table is looked into while there are servers that keep the puts."""

TRIES = 10
"""How often a put's flush may fail by itself until it is laid aside: minutes, with the pauses between."""

SUSPECTS = 3
"""So many failures before anything succeeds say that the fault is the function's or the database's: all wait then."""

PAUSE = backoff.Backoff(first_seconds=1.0, most_seconds=60.0)

FOR_NOW = (errors.TryAgain, errors.OutcomeUnknown, OSError, asyncpg.PostgresConnectionError, valkey.ValkeyError)
"""What is wrong with the database or the servers, not with a put."""

_LEASE = valkey.Script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")

_LEAVE = valkey.Script("if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end")

_INBOX = """
insert into tenfold.inbox (group_name, id) select $1, unnest($2::uuid[]) on conflict do nothing returning id
"""

_LAY_ASIDE = """
insert into tenfold.dead_letter (group_name, id, subject, key, payload, attempts, reason)
values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing
"""


@dataclass(frozen=True, slots=True)
class Put:
    """One put, as the app's function gets it."""

    key: str
    value: Any
    id: UUID


@dataclass(frozen=True, slots=True)
class Plan:
    """How an app wants its puts flushed."""

    flush: Callable[..., Awaitable[None]]
    most: int
    seconds: float


class _AllFailError(Exception):
    """Whatever is flushed fails."""


@dataclass(slots=True)
class _Failure:
    """A put whose flush has failed by itself: so often, and not again before then."""

    tries: int = 0
    again_at: float = 0.0


class Flusher:
    """One process's share of one write-back's flushing."""

    def __init__(
        self, name: str, plan: Plan, codec: values.Codec, database: db.Database, servers: valkey.Client
    ) -> None:
        self._name = name
        self._group = f"write_back:{name}"
        self._lease = f"tf:wl:{{{name}}}"
        self._plan = plan
        self._codec = codec
        self._database = database
        self._servers = servers
        self._holder = secrets.token_hex(8)
        self._noticed = 0
        self._enough, self._never = asyncio.Event(), asyncio.Event()
        self._failures: dict[UUID, _Failure] = {}
        self._in_vain, self._is_in_vain = 0, True
        self._rounds_in_vain = 0
        self._looked_at = -TABLE_SECONDS
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Flush from now on."""
        self._task = asyncio.get_running_loop().create_task(
            self._run(), name=f"tenfold-write-back-{self._name}", context=contextvars.Context()
        )
        self._task.add_done_callback(_report)

    async def stop(self) -> None:
        """Break off: a batch under way is committed or not, and is then somebody else's. Twice is once."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            await self._leave()

    def noticed(self) -> None:
        """One more put: when a batch has come together, it does not wait."""
        self._noticed += 1
        if self._noticed >= self._plan.most:
            self._enough.set()

    async def drain(self, seconds: float) -> bool:
        """Flush until nothing is left, by whichever process. False when that took longer."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until:
            if not await self._waits(is_forced=True):
                return True
            await self._round(is_forced=True)
            await asyncio.sleep(0.02)
        return not await self._waits(is_forced=True)

    async def _run(self) -> None:
        while True:
            pause = PAUSE.seconds(self._rounds_in_vain) if self._rounds_in_vain else 0.0
            try:
                async with asyncio.timeout(pause + self._plan.seconds * random.uniform(0.8, 1.0)):  # noqa: S311
                    await (self._never if pause else self._enough).wait()
            except TimeoutError:
                pass
            self._enough.clear()
            self._noticed = 0
            await self._round(is_forced=False)

    async def _round(self, *, is_forced: bool) -> None:
        """Flush what there is. What cannot be flushed now is tried again with the next round."""
        self._in_vain, self._is_in_vain = 0, True
        try:
            if await self._waits(is_forced=is_forced):
                await self._flush_streams()
                await self._flush_table()
        except FOR_NOW as error:
            log.warning("write_back %r: what waits is flushed later: %s", self._name, error)
        except _AllFailError:
            self._rounds_in_vain += 1
            log.error("write_back %r: nothing can be flushed; everything is kept, and tried again", self._name)
        except connect.ANSWERS as error:  # of our own statements: not migrated, say, or a disk that is full
            self._rounds_in_vain += 1
            log.error("write_back %r: what waits cannot be looked at, everything is kept: %s", self._name, error)
        else:
            self._rounds_in_vain = 0

    async def _waits(self, *, is_forced: bool) -> bool:
        """Whether there is anything to flush. The table is looked into now and then while there are servers."""
        if self._servers.is_there and any(await journal.lengths(self._servers, self._name)):
            return True
        now = asyncio.get_running_loop().time()
        if not is_forced and self._servers.is_there and now < self._looked_at + TABLE_SECONDS:
            return False
        self._looked_at = now
        way = self._database.reading("primary") if is_forced else self._database.reading("eventual")
        return bool(await way.fetchval(journal.WAITS, self._name))

    async def _flush_streams(self) -> None:
        for lane in range(journal.LANES):
            is_full = self._servers.is_there
            while is_full and await self._is_mine():
                found = await journal.oldest(self._servers, self._name, lane, self._most())
                done = await self._flush_some(found) if found else []
                await journal.remove(self._servers, self._name, lane, done)
                is_full = len(found) >= self._plan.most and bool(done)

    async def _is_mine(self) -> bool:
        """Whether this process may take from the streams; for `LEASE_SECONDS` more then."""
        life = int(LEASE_SECONDS * 1000)
        return bool(await self._servers.run(_LEASE, self._holder, life, keys=(self._lease,), repeat=True))

    async def _leave(self) -> None:
        """Let another process have the streams at once. Without an answer it has them when the lease ends."""
        if self._servers.is_there and self._servers.is_well(self._lease):
            with contextlib.suppress(valkey.ValkeyError):
                await self._servers.run(_LEAVE, self._holder, keys=(self._lease,), timeout=LEAVE_SECONDS)

    async def _flush_table(self) -> None:
        """What is in the table: rows that another process has in hand are left to it."""
        while True:
            found: list[journal.Written] = await self._way().run(self._peek)
            done = await self._flush_some(found) if found else []
            if len(found) < self._plan.most or not done:
                return

    async def _peek(self, tx: transaction.Transaction) -> list[journal.Written]:
        return await journal.take(tx, self._name, self._most(), None)

    def _most(self) -> int:
        """How many to look at: those that fail stay in front, and must not hold up what is behind them."""
        return self._plan.most + len(self._failures)

    async def _flush_some(self, puts: Sequence[journal.Written]) -> list[journal.Written]:
        """Flush these; returns those that are done with. One that fails is found by halving, and tried later."""
        now = asyncio.get_running_loop().time()
        fresh = [one for one in puts if one.id not in self._failures][: self._plan.most]
        again = [one for one in puts if one.id in self._failures and self._failures[one.id].again_at <= now]
        done = await self._halve(fresh)
        for one in again:
            done += await self._halve([one])
        return done

    async def _halve(self, puts: list[journal.Written]) -> list[journal.Written]:
        if not puts:
            return []
        try:
            await self._way().run(self._flush, puts)
        except FOR_NOW:
            raise
        except Exception as error:  # noqa: BLE001 - the app's function raised it, and it is logged
            if len(puts) == 1:
                return await self._failed(puts[0], error)
            half = len(puts) // 2
            return [*await self._halve(puts[:half]), *await self._halve(puts[half:])]
        self._is_in_vain = False
        for one in puts:
            self._failures.pop(one.id, None)
        return puts

    async def _flush(self, tx: transaction.Transaction, puts: list[journal.Written]) -> None:
        """The app's function gets those of them that nobody has flushed before, nor has in hand."""
        in_table = [one.id for one in puts if not one.place]
        if in_table:
            puts = await journal.take(tx, self._name, len(in_table), in_table)
            await journal.forget(tx, puts)
        fresh = {row["id"] for row in await tx.fetch(_INBOX, self._group, [one.id for one in puts])}
        given = [Put(one.key, self._codec.decode(one.value), one.id) for one in puts if one.id in fresh]
        if given:
            await self._plan.flush(tx, given)

        async def count(_: object) -> None:
            counters.add("cache.write_back_flushed", len(given))

        tx.after_commit(count)

    async def _failed(self, one: journal.Written, error: Exception) -> list[journal.Written]:
        """The put whose flush fails: again later, or aside when that has happened too often."""
        failure = self._failures.setdefault(one.id, _Failure())
        failure.tries += 1
        failure.again_at = asyncio.get_running_loop().time() + PAUSE.seconds(failure.tries)
        counters.add("cache.write_back_failed")
        log.error("write_back %r: the flush of %r failed, try %d", self._name, one.key, failure.tries, exc_info=error)
        if failure.tries >= TRIES:
            await self._way().run(self._lay_aside, one, f"{type(error).__name__}: {error}"[:1000])
            log.error("write_back %r: %r is in tenfold.dead_letter now, as %s", self._name, one.key, one.id)
            self._failures.pop(one.id, None)  # `drain` may have been at it too
            return [one]
        self._in_vain += 1
        if self._is_in_vain and self._in_vain >= SUSPECTS:
            raise _AllFailError
        return []

    async def _lay_aside(self, tx: transaction.Transaction, one: journal.Written, reason: str) -> None:
        await tx.fetch(_INBOX, self._group, [one.id])
        await tx.execute(_LAY_ASIDE, self._group, one.id, f"write_back.{self._name}", one.key, one.value, TRIES, reason)
        await journal.forget(tx, [one])

    def _way(self) -> Any:
        return self._database.options(timeout=FLUSH_SECONDS)


def _report(task: "asyncio.Task[None]") -> None:
    """A flusher that ends by itself is a flaw of ours: say so, loudly, with its traceback."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("%s ended: this process flushes no more", task.get_name(), exc_info=error)
