"""What status and plans look like as JSON: stable, documented in docs/control-api.md. Pure."""

import dataclasses
from typing import Any

from tenfold.observation import snapshot as snapshots
from tenfold.planning import plan as plans
from tenfold.runtime import events
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
        "servers": [_server(one, snapshot, layout.layout(topology)) for one in snapshot.servers],
        "missing": [one.name for one in layout.layout(topology).servers if snapshot.server(one.name) is None],
        "balancers": [dataclasses.asdict(one) for one in snapshot.balancers],
        "events": [_event(one) for one in list(journal.recent)[-MOST_EVENTS:]],
    }


def plan(made: plans.Plan) -> Json:
    """What `tenfold plan --json` prints."""
    return {"version": 1, **made.as_json()}


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
            }
            for one in server.processes
        ],
        "database": None if node is None else dataclasses.asdict(node),
    }


def _event(event: events.Event) -> Json:
    return {"at": event.at, "kind": event.kind, "text": event.text, "level": event.level}
