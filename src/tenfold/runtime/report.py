"""What status and plans look like as JSON: stable, documented in docs/control-api.md. Pure."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from tenfold.engines.haproxy import admin as haproxy
from tenfold.observation import snapshot as snapshots
from tenfold.planning import plan as plans
from tenfold.planning import releases as planned
from tenfold.runtime import events, records
from tenfold.topology import layout, rungs, tiers

Json = dict[str, Any]

MOST_EVENTS = 20
"""How many of the last events a status has."""


def status(
    snapshot: snapshots.Snapshot, topology: tiers.Topology, journal: events.Journal, *, is_changing: bool
) -> Json:
    """What `tenfold status --json` prints."""
    rung = rungs.rung_of(topology)
    return {
        "version": 1,
        "service": snapshot.service,
        "rung": rung.name,
        "listen": topology.service.listen,
        "url": topology.service.url,
        "network": f"127.{snapshot.network}.0.0/16",
        "is_changing": is_changing,
        "is_synchronous": snapshot.is_synchronous,
        "told": dataclasses.asdict(snapshot.told),
        "releases": dataclasses.asdict(snapshot.released),
        "regions": [_region(name, snapshot, topology) for name in topology.regions],
        "servers": [_server(one, snapshot, layout.layout(topology)) for one in snapshot.servers],
        "missing": [one.name for one in layout.layout(topology).servers if snapshot.server(one.name) is None],
        "balancers": [dataclasses.asdict(one) for one in snapshot.balancers],
        "events": [_event(one) for one in list(journal.recent)[-MOST_EVENTS:]],
    }


def _region(name: str, snapshot: snapshots.Snapshot, topology: tiers.Topology) -> Json:
    service = layout.as_in(topology, name, snapshot.network).service
    told = snapshot.of(name, is_home=name == topology.home).told
    return {
        "name": name,
        "is_home": name == topology.home,
        "listen": service.listen,
        "url": service.url,
        "told": dataclasses.asdict(told),
    }


def plan(made: plans.Plan, *, has_new_settings: bool) -> Json:
    """What `tenfold plan --json` prints. Settings may be new that need no step: the runtime alone goes by them."""
    return {"version": 1, **made.as_json(), "has_new_settings": has_new_settings}


def releases(wanted: planned.Wanted) -> Json:
    """What a deploy ends with: which releases serve."""
    return {"release": wanted.current, "canary": wanted.canary, "percent": wanted.percent}


def release_status(
    snapshot: snapshots.Snapshot, kept: Mapping[str, records.ReleaseRecord], traffic: Iterable[haproxy.Traffic]
) -> Json:
    """What `tenfold deploy --status --json` prints."""
    loads = [(name, load) for one in traffic for (_, name), load in one.servers.items()]
    running = snapshot.releases()
    return {
        "version": 1,
        **dataclasses.asdict(snapshot.released),
        "made_at": {version: one.made_at for version, one in kept.items()},
        "serving": [
            _serving(version, [name for name in running if running[name] == version], loads)
            for version in dict.fromkeys(running.values())
        ],
    }


def _serving(version: str, servers: list[str], loads: list[tuple[str, haproxy.Load]]) -> Json:
    """How one release does, since its balancers were started or took new settings over."""
    own = [load for name, load in loads if name in servers]
    requests = sum(load.requests for load in own)
    weighed = sum(load.response_milliseconds * load.requests for load in own)
    return {
        "release": version,
        "servers": servers,
        "requests": requests,
        "errors": sum(load.errors + load.answers_5xx for load in own),
        "response_milliseconds": round(weighed / requests, 1) if requests else None,
    }


def _server(server: snapshots.Server, snapshot: snapshots.Snapshot, wanted: layout.Layout) -> Json:
    node = snapshot.database(server.name)
    spec = wanted.server(server.name)
    return {
        "name": server.name,
        "region": server.region,
        "tier": server.tier,
        "address": server.address,
        "state": server.state,
        "processes": [
            {
                "name": one.name,
                "engine": one.engine,
                "pid": one.pid,
                "role": one.role,
                "state": one.state,
                "is_wanted": spec is not None and spec.process(one.engine) is not None,
                "detail": one.detail,
                "restarts": one.restarts,
                "release": one.release,
            }
            for one in server.processes
        ],
        "database": None if node is None else dataclasses.asdict(node),
        "cache": _facts(one for one in snapshot.caches if one.server == server.name),
        "queue": _facts(one for one in snapshot.queues if one.server == server.name),
    }


def _facts(found: Iterable[snapshots.CacheNode | snapshots.QueueNode]) -> Json | None:
    return next((dataclasses.asdict(one) for one in found), None)


def _event(event: events.Event) -> Json:
    return {"at": event.at, "kind": event.kind, "text": event.text, "level": event.level}
