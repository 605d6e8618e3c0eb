"""Another process of a service, a real one, to be killed or timed: it listens for floors, or dies behind a COMMIT.

    async with other_process.started(folder, bound, cache, "listen") as other: await other.line()

As a program (`python other_process.py BINDINGS listen|die`): `listen` says `ready`, and then for each floor that it
hears its LSN and the moment, in nanoseconds of the machine's own clock; `die` commits a transaction that invalidates
the tag `left behind`, says `committed`, and delivers nothing while it waits to be killed.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tenfold import bindings, position
from tenfold.kit import clock
from tenfold.sdk import db
from tenfold.sdk.cache import floors
from tenfold.sdk.valkey import client

TAG = "left behind"


@dataclass(slots=True)
class Other:
    """The process as its parent sees it."""

    process: asyncio.subprocess.Process

    async def line(self, seconds: float = 30.0) -> str:
        """The next thing that it says."""
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            return (await self.process.stdout.readline()).decode().strip()

    def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


@asynccontextmanager
async def started(folder: Path, database: bindings.Database, cache: bindings.Cache, role: str) -> AsyncIterator[Other]:
    """One that runs; killed afterwards."""
    path = folder / f"bindings-{role}.json"
    bound = bindings.Bindings(service=bindings.Service(name="shop"), database=database, cache=cache)
    path.write_bytes(bindings.dump(bound))
    argv = (sys.executable, __file__, str(path), role)
    made = Other(await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, start_new_session=True))
    try:
        yield made
    finally:
        made.kill()
        await made.process.wait()
        made.process._transport.close()  # type: ignore[attr-defined] - else its pipe outlives the loop


async def _main(path: Path, role: str) -> None:
    bound = bindings.load(path)
    assert bound.database is not None
    database, servers = db.Database(), client.Client()
    await database.start(bound.database)
    await servers.start(bound.cache)
    if role == "listen":
        listening = _Listening(database, servers)
        await listening.start()
        assert await clock.until(listening.is_ready, seconds=20, pause_seconds=0.001)
        _say("ready")
    else:
        await _commit(database, floors.Floors(database, servers))
    await asyncio.Event().wait()


class _Listening(floors.Floors):
    """Floors that say what they hear."""

    def hear(self, floor: position.Position, slots: Sequence[int]) -> None:
        super().hear(floor, slots)
        _say(f"{floor.lsn} {time.monotonic_ns()}")

    async def is_ready(self) -> bool:
        """Whether they are trusted."""
        return self.is_sure


async def _commit(database: db.Database, own: floors.Floors) -> None:
    async def hang(_: position.Position | None) -> None:
        _say("committed")
        time.sleep(60)  # noqa: ASYNC251 - nothing of this process goes on

    async with database.transaction() as tx:
        tx.after_commit(hang)
        await tx.invalidate(tags=[TAG])
    assert own


def _say(what: str) -> None:
    print(what, flush=True)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2]))
