"""Whether a NATS server can take messages. Called by the runtime, again and again."""

from tenfold import engines, errors
from tenfold.engines.nats import monitor


async def probe(seat: engines.Seat) -> engines.Health:
    """Ready when JetStream runs, its servers have a leader, and this one keeps up with it. Never raises.

    While too few servers run none of them is ready, however well it feels.
    """
    try:
        status, said = await monitor.ask(seat, "/healthz", **{"js-server-only": "true"})
        if status != 200:
            return engines.Health(False, detail=f"NATS on {seat.server.name}: {said.get('error', status)}")
        _, jetstream = await monitor.ask(seat, "/jsz")
    except errors.EngineFailed as error:
        return engines.Health(False, detail=str(error))
    group = jetstream.get("meta_cluster")
    if group is None:
        return engines.Health(True, role="single")
    if not group.get("leader"):
        return engines.Health(
            False, detail=f"NATS on {seat.server.name}: has no leader; a majority of servers must run"
        )
    return engines.Health(True, role="leader" if group["leader"] == seat.server.name else "follower")
