"""What can be asked of cache servers while they run. Called by the runtime. Twice is once."""

import asyncio
import time
from collections.abc import Sequence

from tenfold import engines, errors
from tenfold.engines.valkey import connection, forming, render, settings
from tenfold.observation import snapshot

FORM_SECONDS = 30.0
"""How long servers that all answer may take to become a cluster; it is two seconds on a quiet machine."""

PAUSE_SECONDS = 0.05

LIVE = ("maxmemory ", "maxmemory-policy ")
"""The lines of the file that can be changed while it runs."""


async def form(seats: Sequence[engines.Seat], *, begins_anew: bool, within_seconds: float = FORM_SECONDS) -> None:
    """On return these servers are one whole cache: every slot has a primary, and every primary a replica elsewhere.

    `begins_anew`: nobody uses them yet, and what an earlier life left on them goes; nothing happens to a cluster that
    is whole already. Without it nothing that is held is given up: what is missing is added. May be interrupted and
    repeated at any point. Raises EngineFailed when a server does not answer, or they do not agree, in time.
    """
    if len(seats) == 1:
        return
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            begins_anew = begins_anew and not await _begin_anew(seats)
            if await _advance(seats):
                return
            trouble = "they do not agree"
        except errors.EngineFailed as error:
            trouble = str(error)  # one that is busy, or just starting, answers the next time
        if time.monotonic() >= deadline:
            names = ", ".join(seat.server.name for seat in seats)
            raise errors.EngineFailed(
                f"cache servers {names}: no whole cluster after {within_seconds:g} s ({trouble}); "
                "look at the logs of valkey on these servers, and run it again"
            )
        await asyncio.sleep(PAUSE_SECONDS)


async def _begin_anew(seats: Sequence[engines.Seat]) -> bool:
    """True when they hold nothing any more, or are a whole cluster already."""
    views = await look(seats)
    if not forming.is_whole(views):
        await _carry_out(seats, forming.begin_anew(views))
    return True


async def _advance(seats: Sequence[engines.Seat]) -> bool:
    """Give the orders that are due now. True when nothing is left to do."""
    views = await look(seats)
    await _carry_out(seats, forming.orders(views, seats[0].process.port))
    return forming.is_whole(views)


async def take_over(seat: engines.Seat, former: str) -> bool:
    """Give a server that runs by the file `former` the settings of its seat, without a restart.

    False, and nothing is changed, when they differ in more than can be changed while it runs.
    """
    texts = (former, render.render(seat)[render.FILE])
    last, wanted_lines = ([line for line in text.splitlines() if not line.startswith(LIVE)] for text in texts)
    if last != wanted_lines:
        return False
    wanted = settings.settings(seat)
    async with connection.of(seat) as server:
        await server.ask("CONFIG", "SET", "maxmemory", wanted.memory_bytes, "maxmemory-policy", wanted.policy)
    return True


async def look(seats: Sequence[engines.Seat]) -> list[forming.View]:
    """What each of the servers sees. Raises EngineFailed when one does not answer."""
    return list(await asyncio.gather(*(_view(seat) for seat in seats)))


async def facts(seat: engines.Seat) -> snapshot.CacheNode | None:
    """What the server says of itself and its cluster; None when it does not answer."""
    try:
        async with connection.of(seat) as server:
            info = _fields(await server.ask("INFO"))
            is_cluster = info["cluster_enabled"] == "1"  # as it was started: the topology may want another number
            text = str(await server.ask("CLUSTER", "NODES")) if is_cluster else ""
            state = _fields(await server.ask("CLUSTER", "INFO")) if text else {}
    except errors.EngineFailed:
        return None
    view = forming.read(seat.address, text, is_settled=_is_settled(info, state)) if text else None
    names = settings.addresses(seat)
    members = [view.me, *view.others] if view else []
    return snapshot.CacheNode(
        server=seat.server.name,
        role="primary" if info["role"] == "master" else "replica",
        primary=names.get(info.get("master_host", ""), ""),
        slots=len(view.me.slots) if view else forming.SLOTS,
        is_complete=_serves_every_slot(state) if view else True,
        members=tuple(sorted(names.get(one.address, one.address) for one in members)) or (seat.server.name,),
        used_bytes=int(info["used_memory"]),
        most_bytes=int(info["maxmemory"]),
    )


async def _view(seat: engines.Seat) -> forming.View:
    async with connection.of(seat) as server:
        state = _fields(await server.ask("CLUSTER", "INFO"))
        info = _fields(await server.ask("INFO", "replication"))
        text = await server.ask("CLUSTER", "NODES")
    return forming.read(seat.address, text, is_settled=_is_settled(info, state))


def _is_settled(info: dict[str, str], state: dict[str, str]) -> bool:
    return _serves_every_slot(state) and info.get("master_link_status", "up") == "up"


def _serves_every_slot(state: dict[str, str]) -> bool:
    return state.get("cluster_state") == "ok" and state.get("cluster_slots_ok") == str(forming.SLOTS)


async def _carry_out(seats: Sequence[engines.Seat], orders: Sequence[forming.Order]) -> None:
    """One after the other. A refusal is an order that came too early or too late: the next look tells."""
    by_address = {seat.address: seat for seat in seats}
    for order in orders:
        async with connection.of(by_address[order.address]) as server:
            try:
                await server.ask(*order.words, timeout_seconds=10.0)
            except connection.Refused:
                continue


def _fields(text: str) -> dict[str, str]:
    """The lines `name:value` of an INFO."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
