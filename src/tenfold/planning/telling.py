"""What the app should be told now: database nodes, edges, cache, places of sessions and messages, handlers. Pure.

Called by `publish` in `database`. The app never hears of servers that cannot answer yet, and forgets servers before
they stop. What still may hold sessions or messages is told as `former` until the steps of `carrying` have emptied it.
What is told is itself what is remembered: a change that is cut short goes on from the bindings that the app has.
"""

from dataclasses import replace

from tenfold.observation import snapshot
from tenfold.planning import homing, regions, steps
from tenfold.planning.situation import Situation

Told = snapshot.Told


def can_be_told(now: Situation) -> bool:
    """Whether there is an app to be told, and something to tell it: away from home what is known at home."""
    if now.is_home:
        return now.primary is not None
    return bool(now.wanted.apps and now.at_home.there.published)


def databases(now: Situation) -> tuple[str, ...]:
    """Every server that the primary is or may be on: known before it can move there, be it by its death.

    Away from home exactly what the app at home is told now: it is never told the next thing before all know the last.
    """
    if not now.is_home:
        return now.at_home.there.published
    names = (*now.homes, *homing.followers(now))
    return names if now.primary is None or now.primary.server in names else (*names, now.primary.server)


def told(now: Situation) -> Told:
    """Everything else. An app that was never told anything is told all at once: it starts when all of it is there."""
    if not now.is_home:
        return _as_at_home(now)
    if not now.there.published and not any(server.app for server in now.there.servers):
        return _at_first(now)
    return _handlers(now, _queue(now, _cache(now, _edges(now, witnessed(now, now.there.told)))))


def witnessed(now: Situation, last: Told) -> Told:
    """Commits wait for another region from when one follows until the topology says otherwise, also while it is out of
    sight. Only a promotion by proof of the home's death strikes the dead one off: see `without`."""
    if now.topology.database.synchronous != "regions":
        return replace(last, witnesses=())
    others = (one for one in now.everywhere.values() if any(one.is_streaming(name) for name in one.homes))
    following = {now.region, *(one.region for one in others)}
    found = tuple(name for name in now.topology.regions if name in following or name in last.witnesses)
    return replace(last, witnesses=found if len(found) > 1 else ())


def without(last: Told, region: str) -> Told:
    """A region was lost and replaced: until another one follows commits count where they are made."""
    found = tuple(name for name in last.witnesses if name != region)
    return replace(last, witnesses=found if len(found) > 1 else ())


def after_loss(found: regions.Views, region: str) -> regions.Views:
    """The app of every region was told so before the survivor was promoted."""
    return {
        name: replace(one, there=replace(one.there, told=without(one.there.told, region)))
        for name, one in found.items()
    }


def before_departure(found: regions.Views) -> tuple[str, steps.Step] | None:
    """Before a region goes, no commit waits for it."""
    home = regions.seen(found, regions.staying(found)[0])
    told = witnessed(home, home.there.told)
    gone = set(home.there.told.witnesses) - set(home.topology.regions)
    if not gone or home.primary is None:
        return None
    reason = f"{' and '.join(sorted(gone))} goes, and no commit must wait for it"
    return home.region, steps.PublishBindings(databases=home.there.published, told=told, reason=reason)


def _at_first(now: Situation) -> Told:
    return Told(
        edges=now.edges,
        caches=now.caches,
        store=now.topology.sessions.store,
        queues=now.queues,
        transport="nats" if now.queues else "postgres",
        handled_by="workers" if now.workers else "web",
    )


def _as_at_home(now: Situation) -> Told:
    """Where sessions and messages go is the same in all regions; cache servers and edges are each region's own."""
    is_first = not now.there.published and not any(server.app for server in now.there.servers)
    last = replace(now.at_home.there.told, caches=now.there.told.caches, edges=now.there.told.edges)
    own = _at_first(now) if is_first else _cache(now, _edges(now, last))
    return replace(last, caches=own.caches, edges=own.edges)


def _edges(now: Situation, last: Told) -> Told:
    """An edge is told of purges before a balancer gives it a request, and as long as one does."""
    used = now.edges_used()
    leaving = (one for one in last.edges if one not in now.edges and one in used)
    wanted = (one for one in now.edges if one in last.edges or now.runs(one, "varnish"))
    return replace(last, edges=(*wanted, *leaving))


def _cache(now: Situation, last: Told) -> Told:
    """The cache that is wanted, once it is one; none while its servers have to change and still hold sessions."""
    can_stay = last.caches == now.caches
    if not can_stay and last.caches:
        last = _stored(now, last, may_use_cache=False)
        return last if last.keeps_sessions_in_cache else replace(last, caches=())
    is_there = now.is_formed(now.caches) and not now.stale_caches and not now.missing("valkey", now.caches)
    caches = now.caches if can_stay or is_there else ()
    return _stored(now, replace(last, caches=caches), may_use_cache=bool(caches))


def _stored(now: Situation, last: Told, *, may_use_cache: bool) -> Told:
    store = now.topology.sessions.store
    if store == "cache" and not may_use_cache:
        store = "database" if last.store == "cache" else last.store
    if store == last.store:
        return last
    if store not in last.former_stores:  # first every process looks there as well, then the first one writes there
        return replace(last, former_stores=(*last.former_stores, store))
    former = [one for one in (last.store, *last.former_stores) if one != store]
    if "cache" in former and store != "database":
        former.append("database")  # where they are moved to: nobody can move them into clients' cookies
    return replace(last, store=store, former_stores=tuple(dict.fromkeys(former)))


def _queue(now: Situation, last: Told) -> Told:
    """The queue that is wanted, once it is there; the database's while the queue servers have to change.

    Of queue servers that were lost with their region nothing can be moved: the copy here takes their place.
    """
    if now.has_lost_queue(last.queues) and now.has_queue_quorum(now.queues):
        former = "" if last.transport == "nats" else last.transport
        return replace(last, queues=now.queues, transport="nats", former_transport=former)
    if not now.queues or last.queues not in ((), now.queues):
        if last.transport == "nats":
            return replace(last, transport="postgres", former_transport="nats")
        return last
    if last.transport == "nats" or now.stale_queues or not now.has_queue_quorum(now.queues):
        return last
    return replace(last, queues=now.queues, transport="nats", former_transport="postgres")


def _handlers(now: Situation, last: Told) -> Told:
    """Workers, once one of them is ready: until then, and without them, web servers do it."""
    if not now.workers:
        return replace(last, handled_by="web")
    return replace(last, handled_by="workers") if now.ready_workers else last
