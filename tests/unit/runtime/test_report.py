"""What `--json` prints: a stable form that programs rely on."""

import json
from typing import Any

from support import simulated_steps, simulated_world
from support.topologies import TOPOLOGIES
from tenfold.engines.haproxy import admin
from tenfold.planning import plan as plans
from tenfold.planning import releases
from tenfold.runtime import events, report


def status(name: str) -> report.Json:
    topology = TOPOLOGIES[name]
    snapshot = simulated_steps.serving(topology).look(topology)
    return report.status(snapshot, topology, events.Journal(None), is_changing=False)


def test_status_has_for_every_server_what_programs_were_promised() -> None:
    body = status("replicated")

    assert 1 == body["version"]
    assert "replicated" == body["rung"]
    assert 10 == len(body["servers"])
    for server in body["servers"]:
        known = {"name", "region", "tier", "address", "state", "processes", "database", "cache", "queue"}
        assert known == set(server)
        assert server["address"].startswith(body["network"].removesuffix("0.0/16"))
        for process in server["processes"]:
            assert {"name", "engine", "pid", "role", "state", "is_wanted", "detail", "restarts", "release"} == set(
                process
            )


def test_status_tells_where_the_data_is() -> None:
    roles = {one["name"]: one["database"]["role"] for one in status("replicated")["servers"] if one["database"]}

    assert {"database-1": "primary", "database-2": "standby", "database-3": "standby"} == roles


def test_status_tells_what_the_app_is_told_and_what_the_cache_servers_say() -> None:
    body = status("queued")
    caches = {one["name"]: one["cache"]["role"] for one in body["servers"] if one["cache"]}

    assert "queued" == body["rung"]
    assert ("cache", "nats", "workers") == tuple(body["told"][key] for key in ("store", "transport", "handled_by"))
    assert {"cache-1": "primary", "cache-4": "replica"}.items() <= caches.items()


def test_status_names_servers_that_are_wanted_and_not_there_and_processes_that_are_not_wanted() -> None:
    before = TOPOLOGIES["single"]
    snapshot = simulated_steps.serving(before).look(before)

    body = report.status(snapshot, TOPOLOGIES["database"], events.Journal(None), is_changing=True)

    wanted = {one["name"]: one["is_wanted"] for one in body["servers"][0]["processes"]}
    assert ["database-1"] == body["missing"]
    assert {"haproxy": True, "granian": True, "postgres": False} == wanted
    assert body["is_changing"]


def test_status_shows_the_last_events_only() -> None:
    topology = TOPOLOGIES["single"]
    journal = events.Journal(None)
    for number in range(50):
        journal.say("tick", str(number))

    body = report.status(simulated_steps.serving(topology).look(topology), topology, journal, is_changing=False)

    assert [str(number) for number in range(30, 50)] == [event["text"] for event in body["events"]]


def test_every_step_of_a_plan_has_its_title_reason_risk_and_undo_and_is_plain_json() -> None:
    before = TOPOLOGIES["single"]
    made = plans.make(TOPOLOGIES["replicated"], simulated_steps.serving(before).look(before))

    body = json.loads(json.dumps(report.plan(made, has_new_settings=True)))

    assert {"version", "steps", "notes", "has_new_settings"} == set(body)
    assert body["has_new_settings"]
    assert len(made.steps) == len(body["steps"]) > 5
    assert all(step[name] for step in body["steps"] for name in ("kind", "title", "reason", "risk", "undo"))


def test_each_release_has_its_servers_and_what_all_balancers_counted_of_them() -> None:
    wanted = releases.Wanted("1", "2", 10)
    world = simulated_world.World()
    simulated_steps.reach(world, TOPOLOGIES["one balancer"], released=wanted)
    servers = {
        ("web", "web-1"): load(requests=80, response_milliseconds=5),
        ("web", "web-3"): load(requests=10, response_milliseconds=20, errors=1, answers_5xx=2),
    }
    carried = admin.Traffic(load(requests=90), servers=servers)

    body = report.release_status(world.look(TOPOLOGIES["one balancer"]), {}, [carried, carried])

    assert [
        {"release": "1", "servers": ["web-1", "web-2"], "requests": 160, "errors": 0, "response_milliseconds": 5.0},
        {"release": "2", "servers": ["web-3"], "requests": 20, "errors": 6, "response_milliseconds": 20.0},
    ] == body["serving"]
    assert json.loads(json.dumps(body)) == {**body, "kept": []}


def load(**counted: Any) -> admin.Load:
    """A load with these counts, and otherwise none."""
    return admin.Load(**{**dict.fromkeys(admin.Load.__slots__, 0), **counted})
