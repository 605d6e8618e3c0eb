"""What is merged, measured and declared from a snapshot and from what processes say."""

import dataclasses
from typing import Any

import pytest

from support import simulated_steps
from support.topologies import TOPOLOGIES
from tenfold.observation import conditions, lag, load
from tenfold.observation import snapshot as snapshots

PLENTY = 100 * 1024**3


def worker(pid: int, **changes: Any) -> load.Worker:
    told = {
        "version": 1,
        "pid": pid,
        "window_seconds": 10.0,
        "in_flight": 2,
        "waiting_for_primary": 0,
        "streams": 1,
        "max_requests": 100,
        "requests": 50,
        "answers_4xx": 0,
        "answers_5xx": 0,
        "shed": 0,
        "busy_seconds": 5.0,
        "queued_seconds": 0.5,
        "latencies": [[0.01, 50]],
        **changes,
    }
    return load.Worker.of(told)


# merging


def test_workers_of_different_windows_are_added_by_their_rates() -> None:
    both = load.web([worker(1), worker(2, window_seconds=2.0, requests=50, answers_5xx=1, shed=1)], expected=3)

    assert (30.0, 0.5, 0.5) == (both.requests_per_second, both.answers_5xx_per_second, both.shed_per_second)
    assert (3.0, 4, 2, 200) == (both.concurrency, both.in_flight, both.streams, both.max_requests)
    assert (10.0, 3, 2) == (both.queue_milliseconds, both.workers, both.workers_heard)


def test_a_percentile_is_of_all_requests_not_of_the_workers_percentiles() -> None:
    quick = worker(1, latencies=[[0.001, 980]])
    slow = worker(2, latencies=[[0.001, 5], [0.5, 15]])

    both = load.web([quick, slow], expected=2)

    assert (1.0, 1.0, 500.0) == (both.p50_milliseconds, both.p95_milliseconds, both.p99_milliseconds)


def test_without_requests_there_are_no_percentiles() -> None:
    idle = load.web([worker(1, requests=0, busy_seconds=0.0, queued_seconds=0.0, latencies=[])], expected=1)

    assert (None, 0.0, 0.0) == (idle.p95_milliseconds, idle.queue_milliseconds, idle.requests_per_second)


def test_a_word_of_another_form_is_refused() -> None:
    with pytest.raises(KeyError):
        load.Worker.of({"version": 2})


def test_a_rate_that_one_balancer_does_not_know_is_the_others() -> None:
    first = load.DoorLoad(10.0, 0.5, None, 0.0, 3, 1, 0)
    second = load.DoorLoad(5.0, None, None, 1.0, 2, 0, 4)

    assert load.DoorLoad(15.0, 0.5, None, 1.0, 5, 1, 4) == load.doors([first, second])


# lag


def node(server: str, role: Any, lsn: int, **changes: Any) -> snapshots.DatabaseNode:
    is_streaming = role == "standby"
    made = snapshots.DatabaseNode(server, 0, "patroni", role, True, timeline=3, lsn=lsn, is_streaming=is_streaming)
    return dataclasses.replace(made, **changes)


PRIMARY = node("database-1", "primary", 1000)


def behind(standby: snapshots.DatabaseNode, marks: Any = (), told: Any = None) -> tuple[int | None, float | None]:
    _, found = lag.measured([PRIMARY, standby], PRIMARY, told or {}, marks, now=100.0)
    return found.lag_bytes, found.lag_milliseconds


def test_a_replica_of_an_idle_primary_is_not_late_however_long_nothing_was_written() -> None:
    marks = lag.marked((), PRIMARY, now=10.0)

    assert (0, 0.0) == behind(node("database-2", "standby", 1000), marks)


def test_a_replica_that_stands_still_gets_later_though_nobody_measures() -> None:
    marks = lag.marked(lag.marked((), node("database-1", "primary", 400), now=88.0), PRIMARY, now=95.0)

    assert (500, 5000.0) == behind(node("database-2", "standby", 500, is_streaming=False), marks)


def test_what_postgresql_has_measured_counts_when_it_is_more() -> None:
    standby = node("database-2", "standby", 999)

    assert (1, 250.0) == behind(standby, lag.marked((), PRIMARY, now=100.0), {"database-2": 0.25})
    assert (1, 0.0) == behind(standby, lag.marked((), PRIMARY, now=100.0), {"database-2": None})


@pytest.mark.parametrize("changes", [{"timeline": 2}, {"is_reachable": False}])
def test_of_another_timeline_or_a_silent_copy_nothing_is_known(changes: dict[str, Any]) -> None:
    assert (None, None) == behind(node("database-2", "standby", 10, **changes))


def test_without_a_primary_no_lag_is_claimed() -> None:
    (found,) = lag.measured([node("database-2", "standby", 10)], None, {}, (), now=1.0)

    assert (None, None) == (found.lag_bytes, found.lag_milliseconds)


def test_marks_of_an_older_timeline_and_of_long_ago_are_dropped() -> None:
    old = lag.marked((), node("database-1", "primary", 900, timeline=2), now=1.0)
    early = lag.marked(old, node("database-1", "primary", 950), now=2.0)

    assert (lag.Mark(500.0, 3, 1000),) == lag.marked(early, PRIMARY, now=500.0)


# conditions


def look(name: str = "replicated") -> snapshots.Snapshot:
    """A healthy service, its replicas in step and taking part in commits."""
    topology = TOPOLOGIES[name]
    seen = simulated_steps.serving(topology).look(topology)
    nodes = tuple(
        dataclasses.replace(one, is_reachable=True, is_streaming=one.role == "standby", synchronous_standbys=2)
        for one in seen.databases
    )
    return dataclasses.replace(seen, databases=nodes)


def codes(snapshot: snapshots.Snapshot, free_bytes: int = PLENTY) -> list[tuple[str, str]]:
    topology = TOPOLOGIES["replicated"]
    topology = topology.model_copy(update={"database": topology.database.model_copy(update={"synchronous": True})})
    found = conditions.conditions(snapshot, topology, free_bytes)
    assert all(one.text for one in found)
    return [(one.code, one.subject) for one in found]


def with_server(snapshot: snapshots.Snapshot, name: str, **changes: Any) -> snapshots.Snapshot:
    servers = tuple(dataclasses.replace(one, **changes) if one.name == name else one for one in snapshot.servers)
    return dataclasses.replace(snapshot, servers=servers)


def with_node(snapshot: snapshots.Snapshot, name: str, **changes: Any) -> snapshots.Snapshot:
    nodes = tuple(dataclasses.replace(one, **changes) if one.server == name else one for one in snapshot.databases)
    return dataclasses.replace(snapshot, databases=nodes)


def test_a_healthy_service_has_no_conditions() -> None:
    assert [] == codes(look())


def test_what_is_worst_comes_first_also_of_what_the_snapshot_cannot_show() -> None:
    expired = conditions.Condition("certificate_expired", "error", "it has expired")
    killed = with_server(look(), "database-3", state=snapshots.ServerState.KILLED)
    found = conditions.conditions(killed, TOPOLOGIES["replicated"], PLENTY, [expired])

    assert ["certificate_expired", "server_killed"] == [one.code for one in found]


def test_a_killed_server_and_one_that_died_are_told_apart() -> None:
    killed = with_server(look(), "database-3", state=snapshots.ServerState.KILLED)

    assert [("server_killed", "database-3")] == codes(killed)
    assert [("server_stopped", "web-1")] == codes(with_server(look(), "web-1", state=snapshots.ServerState.STOPPED))


def test_replicas_that_do_not_stream_or_lag_are_named() -> None:
    assert [("replica_not_streaming", "database-2")] == codes(with_node(look(), "database-2", is_streaming=False))
    assert [("replica_lags", "database-2")] == codes(
        with_node(look(), "database-2", lag_bytes=conditions.LAG_BYTES + 1)
    )
    assert [("replica_lags", "database-2")] == codes(with_node(look(), "database-2", lag_milliseconds=5001.0))


def test_what_is_worst_stands_first() -> None:
    one = with_server(look(), "database-3", state=snapshots.ServerState.KILLED)

    assert [("no_synchronous_standby", "database-1"), ("server_killed", "database-3")] == codes(
        with_node(one, "database-1", synchronous_standbys=0)
    )


def test_no_primary_no_front_door_and_no_web_server_are_errors() -> None:
    nobody = dataclasses.replace(
        look(), servers=tuple(one for one in look().servers if one.tier == "coordination"), databases=()
    )

    assert ["front_door_closed", "no_web_server", "no_primary"] == [code for code, _ in codes(nobody)]


@pytest.mark.parametrize(("free", "code"), [(1024**3, "disk_low"), (1024**2, "disk_full")])
def test_a_disk_that_gets_full_is_said_before_databases_stop(free: int, code: str) -> None:
    assert [(code, "")] == codes(look(), free)


def test_a_service_that_is_stopped_has_no_troubles() -> None:
    off = tuple(dataclasses.replace(one, state=snapshots.ServerState.STOPPED) for one in look().servers)

    assert [] == codes(dataclasses.replace(look(), servers=off))


# what the app is told to use, and cannot


def stores(**changes: Any) -> set[str]:
    topology = TOPOLOGIES["queued"]
    there = dataclasses.replace(simulated_steps.serving(topology).look(topology), **changes)
    return {one.code for one in conditions.conditions(there, topology, PLENTY)} - {"no_synchronous_standby"}


def test_a_cache_that_is_not_whole_a_queue_without_quorum_and_missing_workers_are_declared() -> None:
    topology = TOPOLOGIES["queued"]
    there = simulated_steps.serving(topology).look(topology)
    whole = [snapshots.QueueNode(name, has_quorum=True) for name in there.told.queues]
    torn = [dataclasses.replace(one, is_complete=False) for one in there.caches]
    workers = [dataclasses.replace(one, processes=()) if one.tier == "worker" else one for one in there.servers]

    assert set() == stores(queues=whole)
    assert {"queue_without_quorum"} == stores(queues=[])
    assert {"cache_incomplete"} == stores(queues=whole, caches=torn)
    assert {"no_worker"} == stores(queues=whole, servers=workers)


def test_a_region_that_keeps_no_copy_of_messages_is_named() -> None:
    topology = TOPOLOGIES["queued"]
    there = simulated_steps.serving(topology).look(topology)
    here = [snapshots.QueueNode(name, has_quorum=True) for name in there.told.queues]
    away = snapshots.Server("far-queue-1", "far", "queue", "127.1.2.30", snapshots.ServerState.RUNNING)

    assert {"queue_copy_without_quorum"} == stores(queues=here, servers=(*there.servers, away))
    keeping = snapshots.QueueNode("far-queue-1", has_quorum=True)
    assert set() == stores(queues=[*here, keeping], servers=(*there.servers, away))


def test_an_app_that_is_told_of_no_cache_queue_and_workers_misses_none() -> None:
    assert set() == stores(told=snapshots.NOTHING_TOLD, caches=(), queues=())
