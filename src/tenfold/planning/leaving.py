"""The rules for what is no longer wanted: it stops after its replacement serves, and never the last of its kind.

Called by `planning/plan` after everything that starts. Front doors leave first, then web servers that no balancer
routes to, workers, databases, coordination, old copies of the data, and empty servers.
"""

from tenfold.planning import steps
from tenfold.planning.situation import Situation, is_alive


def close_front_doors(now: Situation) -> steps.Step | None:
    """An unwanted balancer leaves once a wanted one serves."""
    targets = now.unwanted("haproxy")
    if not targets or not now.is_served:
        return None
    reason = f"{', '.join(now.front_doors)} {'hold' if len(now.front_doors) > 1 else 'holds'} the public address now"
    return steps.StopProcesses(targets=targets, reason=reason)


def stop_web(now: Situation) -> steps.Step | None:
    """An unwanted web server stops once no balancer routes to it."""
    routed = now.routed()
    targets = tuple(target for target in now.unwanted("granian") if target[0] not in routed)
    if not targets:
        return None
    return steps.StopProcesses(targets=targets, reason="no balancer routes to them any more")


def stop_edges(now: Situation) -> steps.Step | None:
    """An unwanted edge stops once no balancer goes by it and the app has forgotten it."""
    used = {*now.edges_used(), *now.there.told.edges}
    targets = tuple(target for target in now.unwanted("varnish") if target[0] not in used)
    if not targets:
        return None
    return steps.StopProcesses(targets=targets, reason="no balancer goes by them any more")


def stop_workers(now: Situation) -> steps.Step | None:
    """An unwanted worker stops once others do its work."""
    targets = now.unwanted("worker")
    if not targets or (now.there.told.handled_by == "workers" and not now.ready_workers):
        return None
    others = "other workers" if now.ready_workers else "web servers"
    return steps.StopProcesses(targets=targets, reason=f"{others} handle messages now; what they have begun they end")


def stop_databases(now: Situation) -> steps.Step | None:
    """An unwanted copy stops once the primary is in its place and the app has been told.

    Replicas of Patroni's are not stopped here while it runs the primary: commits may wait for them. A Patroni that
    has no copy yet is nobody's replica.
    """
    if not now.has_settled:
        return None
    patronis = now.unwanted("patroni")
    if now.uses_patroni:
        patronis = tuple(target for target in patronis if now.there.database(target[0]) is None)
    running = now.unwanted("postgres") + patronis
    targets = tuple(target for target in running if target[0] not in now.homes)
    if not targets:
        return None
    return steps.StopProcesses(targets=targets, reason=f"the database is on {', '.join(now.homes)}")


def stop_coordination(now: Situation) -> steps.Step | None:
    """etcd stops last, when Patroni has let go of the data."""
    targets = now.unwanted("etcd")
    if not targets or now.uses_patroni or not now.has_settled:
        return None
    return steps.StopProcesses(targets=targets, reason="without Patroni nobody asks it")


def discard_data(now: Situation) -> steps.Step | None:
    """A server that stays keeps no old copy of the data: one that came back by itself would be a second primary."""
    if not now.has_settled:
        return None
    staying = {server.name for server in now.wanted.servers} - set(now.homes)
    names = tuple(node.server for node in now.there.databases if node.server in staying and now.has_power(node.server))
    if not names:
        return None
    reason = "the primary has moved on; a copy left behind could be mistaken for it"
    return steps.DiscardData(servers=names, reason=reason)


def remove_servers(now: Situation) -> steps.Step | None:
    """An unwanted server on which nothing runs goes, with what it holds; a killed one, too."""
    wanted = {server.name for server in now.wanted.servers}
    names = tuple(
        server.name
        for server in now.there.servers
        if server.name not in wanted
        and not any(is_alive(server, process) for process in server.processes)
        and _may_be_lost(now, server.name)
    )
    if not names:
        return None
    return steps.RemoveServers(servers=names, reason="nothing runs on them any more")


def _may_be_lost(now: Situation, server: str) -> bool:
    holds_data = now.there.database(server) is not None
    coordinates = now.uses_patroni and server in now.coordinators
    holds_more = server in (*now.needed_caches, *now.needed_queues, *now.edges_used(), *now.there.told.edges)
    return (now.has_settled or not holds_data) and not coordinates and not holds_more


RULES = (
    close_front_doors,
    stop_edges,
    stop_web,
    stop_workers,
    stop_databases,
    stop_coordination,
    discard_data,
    remove_servers,
)
