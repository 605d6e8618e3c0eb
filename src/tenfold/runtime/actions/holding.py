"""A primary whose writes wait: the first half of every planned switch and of every restart of a primary.

Called by the actions of the database, under either manager. Writes that come meanwhile find a primary that is
read-only, before they have done anything: the SDK waits with them until there is one that is not.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tenfold import engines, errors
from tenfold.engines.postgres import admin
from tenfold.kit import clock
from tenfold.runtime.actions.stage import Stage

DRAIN_SECONDS = 5.0
"""How long a write transaction that is open when the hold begins may take to end."""

RETURN_SECONDS = 60.0
"""How long a primary that was restarted, or is a replica now, may take to answer again."""


async def hold_writes(stage: Stage, source: engines.Seat) -> None:
    """New writes wait, those in flight have ended. On any failure they go on as before."""
    await admin.checkpoint(source)
    try:
        await admin.fence(source)
        ended = await admin.drain(source, DRAIN_SECONDS)
    except BaseException:
        await asyncio.shield(admin.unfence(source))
        raise
    if ended:
        text = f"{ended} transactions were open for more than {DRAIN_SECONDS:g} s and were ended"
        stage.journal.say("transactions_ended", text, subject=source.server.name, level="warning")


@asynccontextmanager
async def held(stage: Stage, source: engines.Seat) -> AsyncIterator[None]:
    """Writes wait while the block runs, and go on after it, whatever became of it and of this server's role.

    A server that does not answer afterwards keeps the hold in its files: the next plan takes it away.
    """
    await hold_writes(stage, source)
    try:
        yield
    except BaseException:
        await asyncio.shield(_let_go(source, 0.0))
        raise
    await _let_go(source, RETURN_SECONDS)


async def _let_go(source: engines.Seat, seconds: float) -> None:
    async def is_open() -> bool:
        try:
            await admin.unfence(source)
        except errors.EngineFailed:
            return False
        return True

    await clock.until(is_open, seconds=seconds, pause_seconds=0.02)
