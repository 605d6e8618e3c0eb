"""Does a name server answer for the domain, and does the program beside it know of every region?

Called by the runtime, again and again. Never raises because of the server.
"""

from tenfold import engines, errors
from tenfold.engines.powerdns import admin, questions
from tenfold.topology import layout


async def probe(seat: engines.Seat) -> engines.Health:
    """Ready when a query for the domain is answered on the private address: PowerDNS and the program together."""
    domain = seat.topology.service.domain
    try:
        answer = await questions.ask(seat.address, layout.PORTS["powerdns"], domain, seconds=0.5)
    except errors.EngineFailed as error:
        return engines.Health(False, detail=f"powerdns on {seat.server.name}: {error}")
    if not answer.addresses:
        return engines.Health(False, detail=f"powerdns on {seat.server.name}: says {answer.code} for {domain}")
    return engines.Health(True, role="name server")


async def probe_georoute(seat: engines.Seat) -> engines.Health:
    """Ready when every region was checked often enough for a verdict; what it says of a bad file is passed on."""
    try:
        status = await admin.status(seat.address)
    except errors.EngineFailed as error:
        return engines.Health(False, detail=str(error))
    if not status.is_judged:
        return engines.Health(False, detail=f"georoute on {seat.server.name}: still looks which regions are up")
    down = [region.name for region in status.regions if not region.is_up]
    detail = status.trouble or (f"down: {', '.join(down)}" if down else "")
    return engines.Health(True, role="georoute", detail=detail)
