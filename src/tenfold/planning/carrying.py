"""The rules for what is neither database nor app: the cache and the queue start, and are emptied before they go.

Called by `planning/plan` after the rules of `database`, before those for requests. A change of the number of servers is
a going and a coming: sessions and messages wait in the database meanwhile, so that nothing depends on servers of two
clusters agreeing.
"""

from tenfold.observation import snapshot
from tenfold.planning import steps
from tenfold.planning.situation import Situation

MOVABLE = ("database", "cache")
"""Stores whose sessions can be moved without their owners: those of `token` and `memory` are not in our hands."""


def stop_caches(now: Situation) -> steps.Step | None:
    """An unwanted cache server stops once the app has left it."""
    targets = tuple(target for target in now.unwanted("valkey") if target[0] not in now.there.told.caches)
    if not targets:
        return None
    return steps.StopProcesses(targets=targets, reason="the app does not use them any more")


def stop_queues(now: Situation) -> steps.Step | None:
    """An unwanted queue server stops once the app has left it."""
    targets = tuple(target for target in now.unwanted("nats") if target[0] not in now.there.told.queues)
    if not targets:
        return None
    return steps.StopProcesses(targets=targets, reason="the app does not use them any more; no message is left on them")


def renew(now: Situation) -> steps.Step | None:
    """Cache and queue servers that were started as one of another number begin anew, once the app has left them."""
    names = (*now.stale_caches, *now.stale_queues)
    if not names:
        return None
    reason = "they begin anew as one of another number of servers; what they held is in the database"
    return steps.RemoveServers(servers=names, reason=reason)


def start_caches(now: Situation) -> steps.Step | None:
    """Every cache server runs that is wanted, or that the app still uses."""
    targets = now.missing("valkey", now.needed_caches)
    if not targets:
        return None
    return steps.StartProcesses(targets=targets, reason=_reason_to_start(now, targets))


def form_cache(now: Situation) -> steps.Step | None:
    """The cache servers that are wanted, or that the app still uses, are one cluster."""
    names = now.needed_caches
    if not names or now.is_formed(names) or not all(now.runs(name, "valkey") for name in names):
        return None
    is_used = bool(now.there.told.caches)
    reason = "they do not know each other (any more)" if is_used else "together they are the cache; nobody uses it yet"
    return steps.FormCache(servers=names, begins_anew=not is_used, reason=reason)


def start_queues(now: Situation) -> steps.Step | None:
    """Every queue server runs that is wanted, or that the app still uses."""
    targets = now.missing("nats", now.needed_queues)
    if not targets:
        return None
    return steps.StartProcesses(targets=targets, reason=_reason_to_start(now, targets))


def _reason_to_start(now: Situation, targets: tuple[steps.Target, ...]) -> str:
    is_wanted = all(now.wanted.server(server) for server, _ in targets)
    return "the topology asks for them, before the app is told" if is_wanted else "they still hold what has to move"


def replace_settings(now: Situation) -> steps.Step | None:
    """Cache and queue servers run with the wanted settings."""
    targets = now.outdated("valkey", now.caches) + now.outdated("nats", now.queues)
    targets = tuple(target for target in targets if not now.is_leaving(target[0]))
    if not targets:
        return None
    return steps.ReplaceProcesses(targets=targets, reason="their settings have changed")


def move_sessions(now: Situation) -> steps.Step | None:
    """No session is left behind in a store that the app only reads from."""
    told = now.there.told
    target: snapshot.Store = "cache" if told.store == "cache" else "database"
    source = next((one for one in told.former_stores if one in MOVABLE and one != target), None)
    if source is None or now.primary is None or not now.is_formed(told.caches):
        return None
    reason = f"the app writes sessions to the {told.store} now; of those that nobody visits it would know nothing"
    return steps.MoveSessions(source=source, target=target, reason=reason)


def drain_queue(now: Situation) -> steps.Step | None:
    """No message is left behind in a transport that the app only listens to."""
    source = now.there.told.former_transport
    if not source or now.primary is None or not now.has_queue_quorum(now.there.told.queues):
        return None
    reason = f"the app publishes to {'the queue servers' if source == 'postgres' else 'the database'} now"
    return steps.DrainQueue(source=source, reason=reason)


RULES = (stop_caches, stop_queues, renew, start_caches, form_cache, start_queues, replace_settings)
"""Before the app is told of them; the rule that tells it comes before these, and looks again after each."""

EMPTYING = (move_sessions, drain_queue)
"""After everything that serves has been looked after: the app has been told, and writes elsewhere by now."""
