"""The processes that reloads have replaced: they serve clients that were connected, until these have been idle or go.

Called by `admin`. Only the master reaches them, and they know nothing of what has changed since.
"""

from pathlib import Path

from tenfold.engines.haproxy import console, settings
from tenfold.kit import clock


async def leave_edges(master: Path, seconds: float) -> None:
    """None of their requests goes by an edge from now on: waits, for so long, until those that do have ended.

    Where an edge fetched they listen no more, so without the edges they would have nobody to ask.
    """
    pids = await _pids(master)
    for pid in pids:
        await console.ask(master, f"experimental-mode on; @!{pid} set var proc.edges bool(false)")

    async def are_idle() -> bool:
        return not any([await _is_inside(master, pid) for pid in pids])

    await clock.until(are_idle, seconds=seconds, pause_seconds=0.05)


async def _pids(master: Path) -> list[str]:
    """Those that live still."""
    said = await console.ask(master, "show proc")
    old = said.partition("# old workers")[2].partition("# programs")[0]
    return [line.split()[0] for line in old.splitlines() if line.strip()]


async def _is_inside(master: Path, pid: str) -> bool:
    """Whether one of its requests is in an edge. A process that has ended has none."""
    answer = await console.ask(master, f"@!{pid} show stat {settings.backend(settings.EDGES)} -1 -1")
    is_table = answer.startswith("# pxname")
    return is_table and any(row.sessions or row.queued for row in console.rows(answer))
