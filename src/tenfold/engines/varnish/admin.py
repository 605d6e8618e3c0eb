"""What can be asked of an edge while it runs: to serve by other settings, and what it has done. Called by the runtime.

Raises EngineFailed when Varnish does not answer or refuses. Every call may be repeated: the second finds its work done.
"""

import json
from dataclasses import dataclass

from tenfold import engines
from tenfold.engines.varnish import console, counters, render, settings

COMPILE_SECONDS = 30.0
"""How long the C compiler may take; it is a second on a quiet machine."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one edge has done since its serving process began (with nothing kept), and what it holds.

    `requests` are the clients' alone: neither health checks nor purges.
    """

    hits: int
    """Requests that were answered with what was kept, stale answers included."""
    misses: int
    """Requests that an origin was asked for, whether the answer could be kept or not."""
    bytes_to_clients: int
    """Bodies alone, as they were sent: compressed or not."""
    bytes_from_origins: int
    """Bodies alone. Begins anew when settings change."""
    fetches: int
    """Times that an origin was asked, renewing in the background included."""
    objects: int
    evicted: int
    """Objects that were driven out by others before their time."""
    used_bytes: int
    most_bytes: int

    @property
    def requests(self) -> int:
        """All of them."""
        return self.hits + self.misses


async def revision(seat: engines.Seat) -> str:
    """The name of the VCL that it serves by, as `render.revision` gave it; empty: none yet."""
    async with console.opened(seat) as opened:
        return await _active(opened)


async def configure(seat: engines.Seat) -> bool:
    """Serve by the seat's files (written before), from the next request on; True when that changed something.

    No request fails and nothing that is kept is lost; requests that are on their way end as they began. Files that do
    not compile change nothing: EngineFailed holds the compiler's complaint. How much memory there is, is the command's
    matter: another amount needs a restart.
    """
    wanted = render.revision(seat)
    async with console.opened(seat) as opened:
        is_changed = await _active(opened) != wanted
        if is_changed:
            if wanted not in [name for name, _ in await _list(opened)]:
                await opened.ask(f"vcl.load {wanted} {settings.quoted(seat.config / render.VCL)}", COMPILE_SECONDS)
            await opened.ask(f"vcl.use {wanted}")
        for name, _ in await _list(opened):
            if name != wanted:
                await opened.ask(f"vcl.discard {name}")
    return is_changed


def figures(seat: engines.Seat) -> Figures | None:
    """What it has counted; None when it does not run. Reads a few small files."""
    found = counters.read(settings.work_folder(seat), ("MAIN", "SMA.s0", "VBE."))
    if "MAIN" not in found or "SMA.s0" not in found:
        return None
    main, memory = found["MAIN"], found["SMA.s0"]
    return Figures(
        hits=main["cache_hit"],
        misses=main["cache_miss"] + main["s_pass"],
        bytes_to_clients=main["s_resp_bodybytes"],
        bytes_from_origins=sum(one["beresp_bodybytes"] for name, one in found.items() if name.startswith("VBE.")),
        fetches=main["s_fetch"] + main["s_bgfetch"],
        objects=main["n_object"],
        evicted=main["n_lru_nuked"],
        used_bytes=memory["g_bytes"],
        most_bytes=memory["g_bytes"] + memory["g_space"],
    )


async def _active(opened: console.Console) -> str:
    return next((name for name, status in await _list(opened) if status == "active"), "")


async def _list(opened: console.Console) -> list[tuple[str, str]]:
    """Name and status of every VCL that is loaded; those that were discarded and only end their requests left out."""
    rows = json.loads(await opened.ask("vcl.list -j"))
    return [(row["name"], row["status"]) for row in rows if isinstance(row, dict) and row["status"] != "discarded"]
