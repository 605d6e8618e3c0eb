"""What can be asked of a name server while it runs: how the regions are as seen from it, where a network is sent, what
it has counted. Called by the runtime."""

import asyncio
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from tenfold import engines, errors, zone
from tenfold.engines.powerdns import settings
from tenfold.kit import clock
from tenfold.topology import layout

SECONDS = 2.0

MOST_BYTES = 1024 * 1024


class RegionSeen(msgspec.Struct, frozen=True):
    """A region as one name server sees it."""

    name: str
    is_up: bool
    is_judged: bool
    seconds: float | None
    """How long it is so; None: since the program began."""
    trouble: str


class Status(msgspec.Struct, frozen=True):
    """What the program beside PowerDNS says of itself."""

    zone: str
    """The digest of the zone that it goes by."""
    is_judged: bool
    trouble: str
    regions: tuple[RegionSeen, ...]
    counts: dict[str, int]


class Order(msgspec.Struct, frozen=True):
    """Where a client of a network is sent."""

    regions: tuple[str, ...]
    addresses: tuple[str, ...]
    reason: str


Form = TypeVar("Form")


class _Answer(msgspec.Struct, Generic[Form]):
    result: Form


async def status(host: str) -> Status:
    """How the program beside PowerDNS is, on the server of this address. Raises EngineFailed when it is silent."""
    return await _ask(host, {"method": "status"}, Status)


async def order(host: str, subnet: str) -> Order:
    """Where this name server sends clients of a network; empty: those who tell none. Raises EngineFailed."""
    return await _ask(host, {"method": "order", "subnet": subnet}, Order)


async def take_over(seat: engines.Seat, seconds: float = 5.0) -> None:
    """The program answers by the zone that was written for this seat. Raises EngineFailed when it does not in time."""
    wanted = zone.digest(settings.zone_of(seat))

    said = await status(seat.address)

    async def look() -> bool:
        nonlocal said
        said = await status(seat.address)
        return said.zone == wanted

    if not await clock.until(look, seconds=seconds):
        raise errors.EngineFailed(f"georoute on {seat.server.name}: {said.trouble or 'does not take its new zone'}")


async def counts(socket: Path) -> dict[str, int]:
    """PowerDNS's own counters, by its own names, asked at its control socket. Raises EngineFailed without an answer."""
    text = await control(socket, "SHOW *")
    pairs = (one.partition("=") for one in text.strip().strip(",").split(","))
    return {name: int(value) for name, _, value in pairs if value.isdigit()}


async def control(socket: Path, order: str) -> str:
    """The answer to an order at PowerDNS's control socket. Raises EngineFailed when there is none."""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(f"{order}\n".encode())
                return (await reader.read(MOST_BYTES)).decode(errors="replace")
            finally:
                writer.transport.abort()
    except OSError as error:
        raise errors.EngineFailed(f"{socket}: PowerDNS does not answer ({error or type(error).__name__})") from error


async def _ask(host: str, question: dict[str, str], form: type[Form]) -> Form:
    port = layout.PORTS["georoute"]
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(host, port, limit=MOST_BYTES)
            try:
                writer.write(msgspec.json.encode(question) + b"\n")
                line = await reader.readline()
            finally:
                writer.transport.abort()
        return msgspec.json.decode(line, type=_Answer[form]).result  # type: ignore[valid-type]  # known when it runs
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise errors.EngineFailed(f"georoute at {host}:{port}: {error or type(error).__name__}") from error
