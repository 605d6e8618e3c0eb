"""`tenfold down`: everything stops politely, in the order in which nothing is asked of what is gone already."""

from tenfold.runtime import observe, seats, supervise


async def stop_everything(
    supervisor: supervise.Supervisor, observer: observe.Observer, places: seats.Seats
) -> list[str]:
    """Stop all processes: front doors, web servers, replicas, the primary, coordination. Then cut the power.

    Replicas before the primary, so that none of them is promoted by its death. The data stays.
    """
    snapshot = await observer.snapshot(places)
    primary = snapshot.primary.server if snapshot.primary else ""
    running = [
        (server.spec.name, name) for server in supervisor.store.records.servers.values() for name in server.processes
    ]
    for server, name in sorted(running, key=lambda one: _order(one, primary)):
        await supervisor.stop_process(server, name)
    names = [name for name, one in supervisor.store.records.servers.items() if one.power != "killed"]
    for name in names:
        await supervisor.cut_server(name, "off")
    return names


def _order(target: tuple[str, str], primary: str) -> tuple[int, str]:
    server, name = target
    order = ("haproxy", "granian", "patroni", "postgres", "etcd")
    rank = order.index(name) * 2 if name in order else 2
    return (rank + (1 if server == primary else 0), server)
