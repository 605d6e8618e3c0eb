"""A process of a service that puts, or that loads a cold key: a real one, to be killed at any moment.

    async with cache_process.started(folder, bound, "put", "0", "500") as other: await other.line()

As a program (`TENFOLD_BINDINGS=FILE python cache_process.py ROLE ...`):

`put FIRST COUNT DURABLE DEATH` puts that many numbers from the first on, says `N` as soon as N is durable, and `done`;
it flushes what anybody has put into the table `bought`, and goes on until it is killed: by itself too, right after it
has committed a flush of its own, with that chance.
`load KEY TASKS SECONDS [fail]` says `ready`, waits for a line, and lets that many tasks ask for the key at once; its
loader takes so long and says `loading`; then what the tasks got and how long the last one took, as `DISTINCT SECONDS`.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from tenfold import Tenfold, bindings
from tenfold.kit import clock

TABLE = "create table bought (number integer not null, by_process integer not null);"


@dataclass(slots=True)
class Other:
    """The process as its parent sees it."""

    process: asyncio.subprocess.Process

    async def line(self, seconds: float = 60.0) -> str:
        """The next thing that it says; nothing when it has ended."""
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            return (await self.process.stdout.readline()).decode().strip()

    def say(self, what: str) -> None:
        """A line for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n".encode())

    def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


@asynccontextmanager
async def started(folder: Path, bound: bindings.Bindings, *role: str) -> AsyncIterator[Other]:
    """One that runs; killed afterwards."""
    path = folder / "bindings.json"
    path.write_bytes(bindings.dump(bound))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, *role, stdin=pipe, stdout=pipe,
        env={**os.environ, bindings.VARIABLE: str(path)}, start_new_session=True,
    )  # fmt: skip
    made = Other(process)
    try:
        yield made
    finally:
        made.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined] - else its pipes outlive the loop


async def flush(tx: Any, puts: Any) -> None:
    """Into the table, one row a put."""
    await tx.executemany("insert into bought values ($1, $2)", [(int(one.key), one.value) for one in puts])


async def _put(first: int, count: int, durable: Any, death: float) -> None:
    async def die(_: Any) -> None:
        if random.random() < death:
            os.kill(os.getpid(), signal.SIGKILL)

    async def flush_and_die(tx: Any, puts: Any) -> None:
        await flush(tx, puts)
        tx.after_commit(die)

    tf = Tenfold()
    bought = tf.cache.write_back("bought", flush=flush_and_die, most=100, seconds=0.2, durable=durable)
    numbers = iter(range(first, first + count))

    async def work() -> None:
        for number in numbers:
            await bought.put(str(number), os.getpid())
            print(number, flush=True)

    async with tf:
        await asyncio.gather(*(work() for _ in range(25)))
        print("done", flush=True)
        await asyncio.Event().wait()


async def _load(key: str, tasks: int, seconds: float, is_failing: bool) -> None:
    tf = Tenfold()

    async def loader() -> str:
        print("loading", flush=True)
        await asyncio.sleep(seconds)
        if is_failing:
            raise ValueError("the loader failed")
        return f"loaded by {os.getpid()}"

    async def ask() -> str:
        try:
            return str(await tf.cache.get_or_load(key, loader, ttl=60, timeout=30))
        except ValueError:
            return "failed"

    async def is_whole() -> bool:
        return tf.valkey.is_whole or not tf.valkey.is_there

    async with tf:
        assert await clock.until(is_whole, seconds=20)
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        began = time.monotonic()
        answers = await asyncio.gather(*(ask() for _ in range(tasks)))
        print(f"{'|'.join(sorted(set(answers)))} {time.monotonic() - began:.3f}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    role, *more = sys.argv[1:]
    if role == "put":
        uvloop.run(_put(int(more[0]), int(more[1]), more[2], float(more[3])))
    else:
        uvloop.run(_load(more[0], int(more[1]), float(more[2]), more[3:] == ["fail"]))
