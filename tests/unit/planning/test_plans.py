"""Plans as data: `plans/*.toml` hold what was there, what happened, what is wanted, and the steps that must follow."""

import dataclasses
import itertools
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import simulated_steps, simulated_world
from support.topologies import topology
from tenfold import errors
from tenfold.observation import snapshot
from tenfold.planning import plan

FOLDER = Path(__file__).parent / "plans"


def cases() -> Iterator[Any]:
    for path in sorted(FOLDER.glob("*.toml")):
        for name, case in tomllib.loads(path.read_text()).items():
            yield pytest.param(case, id=f"{path.stem}: {name}")


@pytest.mark.parametrize("case", list(cases()))
def test_the_plan_has_these_steps(case: dict[str, Any]) -> None:
    before, after = case.get("before"), topology(**case["after"])
    world = simulated_world.World() if before is None else simulated_steps.serving(topology(**before))
    for event in case.get("happened", []):
        happen(world, event, after)

    made = plan.make(after, world.look(after), simulated_steps.asked(after, revisions(case.get("changed", []))))

    assert case["steps"] == [step.title for step in made.steps]
    assert case.get("notes", []) == list(made.notes)


def happen(world: simulated_world.World, event: str, after: Any) -> None:
    """Let one thing happen, as the first words of each case below say it.

    `stop after 2 moments of KIND` goes towards the new topology and stops within the first step of that kind;
    `return of server-1` starts an old primary again.
    """
    match event.split():
        case ["kill", server]:
            world.kill(server)
        case ["start", server]:
            world.start(server)
        case ["pause", server]:
            world.copies[server].is_paused = True
        case ["down"]:
            world.down()
        case ["fail", "over", "to", server]:
            for name, copy in world.copies.items():
                copy.is_standby, copy.timeline = name != server, 2
        case ["fence", server]:
            world.copies[server].is_fenced = True
        case ["return", "of", server]:
            world.servers[server].processes["postgres"] = simulated_world.READY
        case ["stop", "after", count, "moments", "of", kind]:
            moments = simulated_steps.change(world, after)
            within = itertools.dropwhile(lambda moment: moment[0].kind != kind, moments)
            assert len(list(itertools.islice(within, int(count)))) == int(count)
        case _:
            raise AssertionError(f"unknown event: {event}")


def revisions(changed: list[str]) -> dict[tuple[str, str], str]:
    """`granian on web-1`: it should run with settings of another revision."""
    return {(server, name): "new" for name, _, server in (one.partition(" on ") for one in changed)}


def test_every_step_says_why_and_how_to_go_back() -> None:
    wanted = topology(balancer={}, web={"servers": 2}, database={"replicas": 2, "synchronous": True})

    made = plan.make(wanted, simulated_world.World().look(wanted))

    assert all(step.reason and step.undo and step.risk for step in made.steps)
    assert 4 * len(made.steps) == len(made.lines())
    assert [step.kind for step in made.steps] == [step["kind"] for step in made.as_json()["steps"]]


def test_a_database_whose_patroni_died_gets_it_back() -> None:
    wanted = topology(balancer={}, web={"servers": 2}, database={"replicas": 2})
    there = simulated_steps.serving(wanted).look(wanted)
    servers = tuple(
        dataclasses.replace(server, processes=(snapshot.Process("patroni", "patroni", snapshot.ProcessState.FAILED),))
        if server.name == "database-2"
        else server
        for server in there.servers
    )

    made = plan.make(wanted, dataclasses.replace(there, servers=servers))

    assert ["start patroni on database-2"] == [step.title for step in made.steps]


def test_a_server_that_would_have_to_move_is_refused() -> None:
    regions = {"near": {"primary": True}, "far": {}}
    world = simulated_steps.serving(topology(regions={**regions, "farther": {}}))
    moved = topology(regions={"near": {"primary": True}, "farther": {}})

    with pytest.raises(errors.BadInput, match=r"farther-server-1: address 127.66.3.1 found, 127.66.2.1 wanted"):
        plan.make(moved, world.look(moved))


def test_an_empty_database_never_takes_the_place_of_the_data_of_another_region() -> None:
    world = simulated_steps.serving(topology())
    moved = topology(regions={"far": {"primary": False}, "home": {"primary": True}})

    with pytest.raises(errors.BadInput, match=r"the data is in far; .* tenfold region move home"):
        plan.make(moved, world.look(moved))
