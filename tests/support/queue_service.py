"""Publishers and consumers of one queue as processes of their own, which tests kill, stop and start again.

    publisher   inserts numbers into `sent` and publishes each in the same transaction, until it has done its share
    consumer    inserts a row into `effect` for each message, in the handler's transaction
    relay       does neither, and passes on what others have left
    dying       is a publisher that kills itself between its commit and the sending

What they do is decided by what is in the database: one that was killed goes on where it was.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import msgspec

from tenfold import Message, Transaction, bindings, errors
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.queue import queue, transport
from tenfold.sdk.queue.nats import succession
from tenfold.sdk.queue.postgres import consuming

TABLES = """
drop table if exists sent, done;
create table sent (number integer primary key);
create table done (id bigint generated always as identity, number integer not null, pid integer not null);
alter table sent owner to {user}; alter table done owner to {user};
"""

GROUP = "effects"
SUBJECT = "number.drawn"

LEASE_SECONDS = 2.0
"""Short, so that a process that was stopped for a while comes too late."""


class Task(msgspec.Struct):
    """What one process is to do."""

    role: str
    database: bindings.Database
    queue: bindings.Queue
    first: int = 0
    last: int = 0
    at_once: int = 8
    name: str = "app"


async def serve(task: Task) -> None:
    """Do it until SIGTERM, or until all numbers are published."""
    consuming.LEASE_SECONDS = succession.ACK_SECONDS = LEASE_SECONDS
    transport.KEEP_SECONDS = LEASE_SECONDS / 4
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    database = db.Database()
    made = queue.Queue(database)
    made.declare(SUBJECT)
    if task.role == "consumer":
        made.subscriber(SUBJECT, group=GROUP, transaction=True, backoff=0.02, most_backoff=0.2, retries=50)(_count)
    if task.role == "dying":
        made._publishing._passed_on = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    await database.start(task.database)
    await made.start(task.queue, task.name)
    print("ready", flush=True)
    try:
        if task.role in ("publisher", "dying"):
            await _publish(database, task)
        else:
            await ended.wait()
    finally:
        await made.stop()
        await database.stop()


async def _count(message: Message[int], tx: Transaction) -> None:
    if message.payload % 13 == 0 and message.attempt == 1:
        raise ValueError("an unlucky number: again, please")
    await tx.execute("insert into done (number, pid) values ($1, $2)", message.payload, os.getpid())
    await asyncio.sleep(random.random() * 0.004)


async def _publish(database: db.Database, task: Task) -> None:
    have = {row[0] for row in await database.reading("primary").fetch("select number from sent")}
    left = iter([number for number in range(task.first, task.last) if number not in have])

    async def work() -> None:
        for number in left:
            try:
                await database.run(_draw, number)
            except errors.Overloaded as error:
                await asyncio.sleep(error.after_seconds)

    await asyncio.gather(*(work() for _ in range(task.at_once)))


async def _draw(tx: Transaction, number: int) -> None:
    await tx.execute("insert into sent (number) values ($1)", number)
    await tx.publish(SUBJECT, number)
    await asyncio.sleep(random.random() * 0.002)


@dataclass
class Process:
    """One of them, as the test has it. `start` again after `kill`."""

    task: Task
    log: Path
    running: asyncio.subprocess.Process | None = None
    starts: int = 0

    async def start(self) -> None:
        self.starts += 1
        with self.log.open("ab") as log:
            self.running = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "support.queue_service", msgspec.json.encode(self.task).decode(),
                stdout=log, stderr=log, cwd=Path(__file__).parents[1],
            )  # fmt: skip

    @property
    def has_ended(self) -> bool:
        return self.running is None or self.running.returncode is not None

    def send(self, number: signal.Signals) -> None:
        if self.running is not None and self.running.returncode is None:
            self.running.send_signal(number)

    async def ready(self, seconds: float = 60.0) -> None:
        """Returns when it does what it is for, or has done it."""

        async def is_ready() -> bool:
            return self.has_ended or self.log.read_text().count("ready\n") == self.starts

        assert await clock.until(is_ready, seconds=seconds), self.log.read_text()

    async def kill(self) -> None:
        self.send(signal.SIGKILL)
        if self.running is not None:
            await self.running.wait()

    async def end(self, seconds: float = 20.0) -> int:
        """As a deploy would: SIGTERM once it is ready, and wait."""
        assert self.running is not None
        await self.ready(seconds)
        self.send(signal.SIGTERM)
        return await asyncio.wait_for(self.running.wait(), seconds)


@dataclass
class Trouble:
    """Kills and stops processes at random, and starts them again, until it is told that it is enough."""

    processes: Sequence[Process]
    chance: random.Random
    kills: int = 0
    stops: int = 0
    _stopped: set[int] = field(default_factory=set)
    _waking: list[asyncio.Task[None]] = field(default_factory=list)

    async def once(self) -> None:
        """One kill, or one stop that lasts longer than a lease."""
        one = self.chance.choice(self._candidates() or [None])
        if one is None:
            return
        await one.ready()
        await asyncio.sleep(self.chance.uniform(0.05, 0.3))
        if self.chance.random() < 0.3:
            self.stops += 1
            self._stopped.add(id(one))
            one.send(signal.SIGSTOP)
            self._waking.append(asyncio.create_task(self._wake(one)))
        else:
            self.kills += 1
            await one.kill()
            await one.start()

    def _candidates(self) -> list[Process]:
        return [one for one in self.processes if not one.has_ended and id(one) not in self._stopped]

    async def calm(self) -> None:
        """Everybody goes on."""
        await asyncio.gather(*self._waking)
        for one in self.processes:
            one.send(signal.SIGCONT)

    async def _wake(self, one: Process) -> None:
        await asyncio.sleep(LEASE_SECONDS * self.chance.uniform(1.2, 1.8))
        one.send(signal.SIGCONT)
        self._stopped.discard(id(one))


@asynccontextmanager
async def staff(tasks: Sequence[Task], folder: Path) -> AsyncIterator[list[Process]]:
    """A process for each task; all are gone at the end."""
    made = [Process(task, folder / f"{number}-{task.role}.log") for number, task in enumerate(tasks)]
    try:
        for one in made:
            await one.start()
        yield made
    finally:
        for one in made:
            one.send(signal.SIGCONT)
            await one.kill()


async def settled(connection: "asyncpg.Connection", count: int, seconds: float) -> None:
    """Returns when every number was sent and nothing waits anywhere; after so long in any case."""

    async def look() -> bool:
        return bool(
            await connection.fetchval(
                "select (select count(*) from sent) = $1 and (select count(distinct number) from done) = $1 "
                "and not exists (select from tenfold.outbox) and not exists (select from tenfold.delivery)",
                count,
            )
        )

    await clock.until(look, seconds=seconds, pause_seconds=0.1)


if __name__ == "__main__":
    asyncio.run(serve(msgspec.json.decode(sys.argv[1], type=Task)))
