"""What can be asked of the network while it runs: what it carries, and to cut and heal links.

Called by the runtime. What is cut is a file of its own: it survives the program and the runtime.
"""

import asyncio
from collections.abc import Iterable

import msgspec

from tenfold import engines, errors
from tenfold.engines.wan import render
from tenfold.kit import clock, files
from tenfold.wan import network

ANSWER_SECONDS = 1.0

FOLLOW_SECONDS = 5.0


async def figures(seat: engines.Seat) -> network.Figures:
    """What it carries. Raises EngineFailed when it does not say so in time."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(seat.address, seat.process.port)
            try:
                return msgspec.json.decode(await reader.read(-1), type=network.Figures)
            finally:
                writer.close()
    except (OSError, msgspec.DecodeError) as error:
        raise errors.EngineFailed(f"wan on {seat.server.name}: {error or type(error).__name__}") from error


def cuts(seat: engines.Seat) -> frozenset[str]:
    """The links that are cut, whether the program runs or not."""
    try:
        return network.read_cuts(seat.config / network.CUTS)
    except network.BadNetworkError as error:
        raise errors.EngineFailed(f"wan on {seat.server.name}: {error}; remove that file") from error


async def cut(seat: engines.Seat, links: Iterable[str]) -> None:
    """Exactly these links are cut. Raises EngineFailed when the program does not follow in time."""
    names = frozenset(links)
    seat.config.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write_if_changed(seat.config / network.CUTS, msgspec.json.encode(sorted(names)).decode())

    async def follows() -> bool:
        return {one.name for one in (await figures(seat)).links if one.is_cut} == names

    if not await clock.until(follows, seconds=FOLLOW_SECONDS, pause_seconds=0.05):
        raise errors.EngineFailed(f"wan on {seat.server.name}: does not follow {seat.config / network.CUTS}")


async def take_over(seat: engines.Seat) -> None:
    """It goes by the file that was written before. Raises EngineFailed when it does not in time."""
    wanted = network.digest(render.render(seat)[network.FILE].encode())

    async def follows() -> bool:
        return (await figures(seat)).digest == wanted

    if not await clock.until(follows, seconds=FOLLOW_SECONDS, pause_seconds=0.05):
        raise errors.EngineFailed(f"wan on {seat.server.name}: does not follow {seat.config / network.FILE}")
