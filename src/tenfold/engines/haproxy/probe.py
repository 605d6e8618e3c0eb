"""Is the front door open?

Called by `runtime/observe` about once a second. It asks the running worker and changes nothing.
"""

from tenfold import engines, errors
from tenfold.engines.haproxy import console, settings


async def probe(seat: engines.Seat) -> engines.Health:
    """Ready when the worker accepts connections on the public address and the master answers, both within 2 seconds.

    The master counts because it ignores signals, a stop among them, until it has finished starting its worker.
    Web servers that are down do not count: the door is open, and requests wait behind it.
    """
    try:
        rows = await console.statistics(settings.runtime_socket(seat), "public", seconds=2)
        await console.ask(settings.master_socket(seat), "show version", seconds=2)
    except errors.EngineFailed as error:
        return engines.Health(is_ready=False, detail=str(error))
    state = next((row.status for row in rows if row.server == "FRONTEND"), "missing")
    if state != "OPEN":
        return engines.Health(is_ready=False, detail=f"haproxy: the front door is {state}, OPEN expected")
    return engines.Health(is_ready=True, role="front door")
