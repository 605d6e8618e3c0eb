"""Name servers: the program beside PowerDNS takes a new zone over while it runs."""

import asyncio

from tenfold import engines, errors, zone
from tenfold.engines.powerdns import admin, render
from tenfold.runtime.actions.stage import Stage

MOST_WAIT_SECONDS = 30.0
"""The longest wait for resolvers to forget: with a longer time to live some of them call an address that is gone."""


async def renew(stage: Stage, seat: engines.Seat) -> None:
    """The program answers by its new zone; a zone that it cannot take over is EngineFailed; the old one holds."""
    former = _zone(seat)
    stage.supervisor.render(seat)
    await admin.take_over(seat)
    stage.supervisor.renewed(seat)
    if former and (gone := _addresses(former) - _addresses(_zone(seat))):
        seconds = min(former.life_seconds, MOST_WAIT_SECONDS)
        text = f"{', '.join(sorted(gone))}: not answered any more; resolvers may know it for {seconds:g} s"
        stage.journal.say("resolvers_forget", text, subject=seat.server.name, seconds=seconds)
        await asyncio.sleep(seconds)


def _zone(seat: engines.Seat) -> zone.Zone | None:
    try:
        return zone.load(seat.config / render.ZONE)
    except errors.BadBindings:
        return None


def _addresses(known: zone.Zone | None) -> set[str]:
    return {address for region in known.regions for address in region.addresses} if known else set()
