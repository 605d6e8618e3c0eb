"""What the status says beyond states: traffic, lag, conditions, and what is being changed. docs/control-api.md has it.

Called by the runtime for `tenfold status`; adds to what `report` makes. Pure but for one look at the disk.
"""

import dataclasses
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tenfold.observation import conditions, load
from tenfold.observation import snapshot as snapshots
from tenfold.runtime import events, traffic
from tenfold.topology import tiers

Json = dict[str, Any]


def added(
    body: Json,
    snapshot: snapshots.Snapshot,
    topology: tiers.Topology,
    carried: traffic.Traffic,
    state: Path,
    others: Iterable[conditions.Condition] = (),
) -> Json:
    """The status with its figures. `state`: the folder whose disk must not be full. `others`: further conditions."""
    troubles = conditions.conditions(snapshot, topology, free_bytes(state), others)
    return {
        **body,
        "traffic": totals(carried),
        "servers": [{**one, "load": _load(one["name"], carried)} for one in body["servers"]],
        "balancers": [{**one, "load": _door(one["server"], carried)} for one in body["balancers"]],
        "conditions": [dataclasses.asdict(one) for one in troubles],
    }


def totals(carried: traffic.Traffic) -> Json:
    """What the whole service carries. Rates are those that clients see, where a balancer counts them."""
    web, door = carried.web, carried.doors
    return {
        "window_seconds": traffic.WINDOW_SECONDS,
        **dataclasses.asdict(web),
        **(_seen_by_clients(door, web) if door else {"open_connections": 0, "queued": 0, "held": 0}),
    }


def change(journal: events.Journal, now: float | None = None) -> Json:
    """The step that is being carried out, by the journal; None for its text between two steps."""
    now = time.time() if now is None else now
    last = next((one for one in reversed(journal.recent) if one.kind in ("step_started", "step_done")), None)
    if last is None or last.kind == "step_done":
        return {"step": None, "kind": None, "seconds": None}
    return {"step": last.text, "kind": last.subject, "seconds": round(max(0.0, now - last.at), 1)}


def free_bytes(folder: Path) -> int:
    """What is left of the disk below the folder."""
    return shutil.disk_usage(folder).free


def _seen_by_clients(door: load.DoorLoad, web: load.WebLoad) -> Json:
    told = dataclasses.asdict(door)
    if door.answers_5xx_per_second is None:
        told["answers_5xx_per_second"] = web.answers_5xx_per_second
    return told


def _load(server: str, carried: traffic.Traffic) -> Json | None:
    found = carried.by_web_server.get(server)
    return dataclasses.asdict(found) if found else None


def _door(server: str, carried: traffic.Traffic) -> Json | None:
    found = carried.by_balancer.get(server)
    return dataclasses.asdict(found) if found else None
