"""Is the network there? Called by the runtime about once a second; changes nothing."""

from tenfold import engines, errors
from tenfold.engines.wan import admin


async def probe(seat: engines.Seat) -> engines.Health:
    """Ready when it says what it carries, and listens everywhere. Never raises because of it."""
    try:
        found = await admin.figures(seat)
    except errors.EngineFailed as error:
        return engines.Health(False, detail=str(error))
    cut = [link.name for link in found.links if link.is_cut]
    detail = "; ".join((*found.troubles[:3], *((f"cut: {', '.join(cut)}",) if cut else ())))
    return engines.Health(not found.troubles, detail=detail)
