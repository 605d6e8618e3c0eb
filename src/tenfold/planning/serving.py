"""The rules for requests: edges, web servers and balancers that are wanted start, and balancers route to them.

Called by `planning/plan` after the rules of `database`. Nothing stops here: that is `leaving`'s, and comes last.
"""

from tenfold.planning import steps
from tenfold.planning.situation import Situation


def start_edges(now: Situation) -> steps.Step | None:
    """Every wanted edge answers: before the app is told of it, and before a balancer gives it a request."""
    targets = now.missing("varnish", now.edges)
    if not targets:
        return None
    return steps.StartProcesses(targets=targets, reason="the topology asks for them; no balancer goes by them yet")


def start_app(now: Situation) -> steps.Step | None:
    """Every wanted web server answers and every wanted worker handles messages; none starts before its schema and its
    bindings are there."""
    targets = now.missing("granian", now.web) + now.missing("worker", now.workers)
    if not targets or not _code_may_start(now):
        return None
    return steps.StartProcesses(targets=targets, reason="the topology asks for them, and nobody waits for them yet")


def weigh_canary(now: Situation) -> steps.Step | None:
    """Every balancer gives a canary no more than its share: before its web server runs it."""
    return route(now) if now.released.canary else None


def replace_web(now: Situation) -> steps.Step | None:
    """Every web server runs the wanted release with the wanted settings."""
    return _replace(now, now.outdated("granian", now.web))


def replace_edges(now: Situation) -> steps.Step | None:
    """Every edge runs with the wanted settings, and knows the balancers that there are."""
    targets = now.outdated("varnish", now.edges)
    if not targets:
        return None
    return steps.ReplaceProcesses(targets=targets, reason="their settings or their balancers have changed")


def replace_workers(now: Situation) -> steps.Step | None:
    """Every worker runs the wanted release with the wanted settings."""
    return _replace(now, now.outdated("worker", now.workers))


def _replace(now: Situation, targets: tuple[steps.Target, ...]) -> steps.Step | None:
    if not targets or not _code_may_start(now):
        return None
    release = _next_release(now, targets[0][0])
    alike = tuple(target for target in targets if _next_release(now, target[0]) == release)
    return steps.ReplaceProcesses(targets=alike, release=release, reason=_reason_to_replace(now, alike, release))


def _next_release(now: Situation, server: str) -> str:
    """The release that takes the place of another one there, if one does."""
    return now.assigned[server] if now.runs_other_release(server) else ""


def _reason_to_replace(now: Situation, targets: tuple[steps.Target, ...], release: str) -> str:
    if not release:
        return "their settings have changed"
    former = sorted({now.there.releases()[server] or "none" for server, _ in targets})
    share = f", for {now.released.percent:g}% of the requests" if release == now.released.canary else ""
    return f"release {release} takes the place of {', '.join(former)}{share}"


def _code_may_start(now: Situation) -> bool:
    return now.at_home.there.is_migrated and now.there.is_published


def open_front_doors(now: Situation) -> steps.Step | None:
    """Every wanted balancer listens, beside an old front door if there is one, and has a web server to route to."""
    targets = now.missing("haproxy", now.front_doors)
    if not targets or not now.ready_web:
        return None
    if not now.is_home and route(now.at_home):
        return None  # what may write is sent home, and there is nobody there yet to take it
    reason = "web servers are ready; they share the public address with whoever holds it now"
    return steps.StartProcesses(targets=targets, reason=reason)


def route(now: Situation) -> steps.Step | None:
    """Every balancer routes to the web servers that are wanted and ready, by the wanted policy.

    A wanted web server that does not answer just now stays in the list: the balancer itself sees that it is down.
    """
    for name in now.front_doors:
        door = now.there.balancer(name)
        if door is None or not now.runs(name, "haproxy"):
            continue
        routes = tuple(server for server in now.web if server in now.ready_web or server in door.routes_to())
        if not set(routes) & set(now.ready_web):
            continue
        if reason := _reason_to_configure(now, name, frozenset(routes)):
            edges = now.edges_of(name)
            return steps.ConfigureBalancer(server=name, web_servers=routes, edges=edges, reason=reason)
    return None


def _reason_to_configure(now: Situation, name: str, routes: frozenset[str]) -> str:
    door = now.there.balancer(name)
    assert door is not None
    wanted, used = routes | set(now.edges_of(name)), door.routes_to() | door.edges_used()
    added, removed = sorted(wanted - used), sorted(used - wanted)
    reasons = [f"{', '.join(added)} can take requests"] if added else []
    reasons += [f"{', '.join(removed)} will stop"] if removed else []
    if door.revision != now.revisions.get((name, "haproxy"), door.revision):
        canary = now.released
        share = f"release {canary.canary} gets {canary.percent:g}% of the requests"
        reasons.append(share if canary.canary else "its settings have changed")
    return "; ".join(reasons)


RULES = (start_edges, replace_edges, weigh_canary, start_app, replace_web, replace_workers, open_front_doors, route)
