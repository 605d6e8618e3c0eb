"""The runtime's own rules: one change at a time, nothing before the first `up`; the guard leaves a canary its share."""

import errno
import os
from pathlib import Path

import pytest

from support.topologies import TOPOLOGIES, topology
from tenfold import engines, errors
from tenfold.kit import enclosure, files, process
from tenfold.planning import steps
from tenfold.planning.releases import Wanted
from tenfold.runtime import actions, deploy, events, guard, observe, paths, records, seats, service, supervise
from tenfold.runtime.actions import process as process_actions
from tenfold.topology import layout

pytestmark = pytest.mark.anyio

TEXT = '[service]\nname = "shop"\napp = "shop.web:app"\n'

SECRETS = engines.Secrets(*["secret"] * 11)


@pytest.fixture
def runtime(tmp_path: Path) -> service.Runtime:
    where = paths.Paths(tmp_path / "tenfold.toml")
    where.make()
    return service.Runtime(where, records.Store.open(where.records), events.Journal(None))


async def test_a_second_deploy_is_refused_while_one_runs_and_makes_nothing(runtime: service.Runtime) -> None:
    runtime.store.records.applied = TEXT
    async with runtime.changing:
        with pytest.raises(errors.RuntimeFailure, match="another change is being applied"):
            await runtime.deploy(deploy.Request(topology=TEXT))

    assert not runtime.where.releases.exists()


async def test_a_deploy_before_the_first_start_says_what_to_type(runtime: service.Runtime) -> None:
    with pytest.raises(errors.NotRunning, match="start it with: tenfold up -d"):
        await runtime.deploy(deploy.Request(topology=TEXT))


async def test_the_way_back_does_not_depend_on_what_the_file_has_become(runtime: service.Runtime) -> None:
    known = runtime.store.records
    known.applied = known.topology = TEXT
    known.releases["1"] = records.ReleaseRecord("1", "", "", "shop.web:app", "", {}, "", {})
    runtime.shelf.want(Wanted("1"))
    (runtime.where.releases / "1").mkdir(parents=True)

    with pytest.raises(errors.BadInput, match="release 1: none found before it"):
        await runtime.deploy(deploy.Request(topology="[service", rolls_back=True))


async def test_a_plan_that_leaves_a_canary_alone_is_refused_before_it_is_shown(runtime: service.Runtime) -> None:
    runtime.shelf.want(Wanted("1", "2", 10.0))

    with pytest.raises(errors.BadInput, match="release 2 is a canary, and 1 web server found"):
        await runtime.plan(TEXT)


async def test_a_server_that_could_not_be_cut_for_a_full_disk_still_counts_as_running(
    runtime: service.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = layout.layout(topology()).servers[0]
    record = runtime.store.records.servers[spec.name] = records.ServerRecord(spec, power="on")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_twice", full)
    with pytest.raises(OSError, match="No space left"):
        await runtime.kill_server(spec.name)

    assert record.power == "on"


@pytest.mark.parametrize("canary", ["2", ""])
async def test_measured_latencies_leave_a_canary_its_share(tmp_path: Path, canary: str) -> None:
    wanted = topology(balancer={"servers": 1, "policy": "fastest"}, web={"servers": 2})
    spec = layout.layout(wanted).balancers[0]
    door = records.ServerRecord(
        spec, power="on", enclosure=enclosure.Enclosure("marker", process.identify(os.getpid()))
    )
    known = records.Records(network=77, servers={spec.name: door}, wanted_releases=Wanted("1", canary, 10.0))
    store = records.Store(tmp_path / "state.json", known)
    places = seats.Seats(paths.Paths(tmp_path / "tenfold.toml"), store, SECRETS, wanted)

    if canary:
        await guard.balance(places)
        return
    with pytest.raises(errors.EngineFailed, match="haproxy"):
        await guard.balance(places)  # it asks the balancer, and there is none


async def test_a_release_is_rehearsed_for_every_group_before_the_first_web_server_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsed: list[str] = []

    async def rehearse(_: actions.Stage, seat: engines.Seat) -> None:
        rehearsed.append(seat.server.name)
        if seat.process.group == "api":
            raise errors.EngineFailed("the group's own app does not start")

    monkeypatch.setattr(process_actions, "rehearse", rehearse)
    where = paths.Paths(tmp_path / "tenfold.toml")
    store = records.Store(where.records, records.Records(network=77))
    supervisor = supervise.Supervisor(where, store, events.Journal(None))
    places = seats.Seats(where, store, SECRETS, TOPOLOGIES["a group"])
    stage = actions.Stage(supervisor, observe.Observer(supervisor), places, events.Journal(None))
    targets = tuple((name, "granian") for name in ("web-1", "web-2", "web-api-1", "web-api-2"))
    step = steps.ReplaceProcesses(targets=targets, reason="new")

    with pytest.raises(errors.EngineFailed, match="own app does not start"):
        await actions.find(step, stage)(step)

    assert ["web-1", "web-api-1"] == rehearsed
