"""The rules for requests: web servers and balancers that are wanted start, and balancers route to them.

Called by `planning/plan` after the rules of `database`. Nothing stops here: that is `leaving`'s, and comes last.
"""

from tenfold.planning import steps
from tenfold.planning.situation import Situation


def start_web(now: Situation) -> steps.Step | None:
    """Every wanted web server answers; none starts before its schema and its bindings are there."""
    targets = now.missing("granian", now.web)
    if not targets or not _code_may_start(now):
        return None
    return steps.StartProcesses(targets=targets, reason="the topology asks for them, and no request waits for them yet")


def replace_web(now: Situation) -> steps.Step | None:
    """Every web server runs the wanted code with the wanted settings."""
    targets = now.outdated("granian", now.web)
    if not targets or not _code_may_start(now):
        return None
    return steps.ReplaceProcesses(targets=targets, reason="their code or settings have changed")


def _code_may_start(now: Situation) -> bool:
    return now.there.is_migrated and now.there.is_published


def open_front_doors(now: Situation) -> steps.Step | None:
    """Every wanted balancer listens, beside an old front door if there is one, and has a web server to route to."""
    targets = now.missing("haproxy", now.front_doors)
    if not targets or not now.ready_web:
        return None
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
            return steps.ConfigureBalancer(server=name, web_servers=routes, reason=reason)
    return None


def _reason_to_configure(now: Situation, name: str, routes: frozenset[str]) -> str:
    door = now.there.balancer(name)
    assert door is not None
    added, removed = sorted(routes - door.routes_to()), sorted(door.routes_to() - routes)
    reasons = [f"{', '.join(added)} can take requests"] if added else []
    reasons += [f"{', '.join(removed)} will stop"] if removed else []
    if door.revision != now.revisions.get((name, "haproxy"), door.revision):
        reasons.append("its settings have changed")
    return "; ".join(reasons)


RULES = (start_web, replace_web, open_front_doors, route)
