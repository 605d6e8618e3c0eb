"""A worker is started as a web server is, with another role, as many processes as it shall have, and time to finish."""

import dataclasses
from pathlib import Path

from support import seats
from tenfold import bindings, engines
from tenfold.engines import granian
from tenfold.engines.granian import command as processes
from tenfold.topology import tiers


def seat(engine: str, folder: Path) -> engines.Seat:
    wanted: tiers.Topology = seats.topology(
        sections={"workers": {"servers": 1, "processes": 3}, "web": {"servers": 1, "workers_per_server": 2}}
    )
    (found,) = seats.of_engine(engine, folder, wanted, network=1, subnet=1)
    return found


def test_a_worker_has_its_role_its_processes_and_longer_to_stop(tmp_path: Path) -> None:
    worker, web = seat("worker", tmp_path), seat("granian", tmp_path)
    command, other = granian.WORKER.command(worker), granian.ENGINE.command(web)
    assert "worker" == command.env[bindings.ROLE_VARIABLE]
    assert bindings.ROLE_VARIABLE not in other.env
    assert [3, 2] == [processes.processes(one.argv) for one in (command, other)]
    kill_seconds = float(command.argv[command.argv.index("--workers-kill-timeout") + 1])
    assert 30 < kill_seconds < command.grace_seconds
    assert command.grace_seconds > other.grace_seconds


def test_one_that_leaves_is_started_as_one_process(tmp_path: Path) -> None:
    """The topology says nothing of it any more, and it is stopped as it was started."""
    worker = seat("worker", tmp_path)
    without = worker.topology.model_copy(update={"workers": None})
    command = granian.WORKER.command(dataclasses.replace(worker, topology=without))
    assert 1 == processes.processes(command.argv)
