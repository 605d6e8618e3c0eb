"""Which web server runs which release, and how one takes the place of another without a gap."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import simulated_steps, simulated_world
from support.topologies import TOPOLOGIES, topology
from tenfold.planning import plan, releases
from tenfold.planning.releases import Wanted
from tenfold.topology import layout

WEB = {number: topology(balancer={"servers": 2}, web={"servers": number}) for number in range(1, 11)}

GROUPS = TOPOLOGIES["a group"]


def place(servers: int) -> layout.Layout:
    return layout.layout(WEB[servers])


def test_without_a_canary_every_web_server_of_every_group_runs_the_current_release() -> None:
    assigned = releases.assign(Wanted("2"), layout.layout(GROUPS), {"web-1": "1"})

    assert dict.fromkeys(["web-1", "web-2", "web-api-1", "web-api-2"], "2") == assigned


def test_a_canary_is_put_on_the_last_server_of_the_default_group() -> None:
    assigned = releases.assign(Wanted("1", "2", 10), layout.layout(GROUPS), {})

    assert {"web-1": "1", "web-2": "2", "web-api-1": "1", "web-api-2": "1"} == assigned


@pytest.mark.parametrize(
    ("percent", "servers", "expected"),
    [(10, 2, 1), (10, 3, 1), (10, 10, 1), (11, 10, 2), (50, 3, 2), (99, 3, 2), (99, 2, 1), (1, 1, 0), (30, 10, 3)],
)
def test_a_canary_gets_as_few_servers_as_carry_its_share_and_never_all(
    percent: float, servers: int, expected: int
) -> None:
    assert expected == releases.count(percent, servers)


def test_a_server_that_runs_the_canary_keeps_it_when_others_join_or_it_dies() -> None:
    now = Wanted("1", "2", 10)
    running = {"web-1": "1", "web-2": "2", "web-3": "1"}

    assert ("web-2",) == releases.canaries(now, place(3), running)
    assert ("web-2",) == releases.canaries(now, place(9), running)
    assert ("web-2", "web-10") == releases.canaries(Wanted("1", "2", 20), place(10), running)
    assert ("web-2",) == releases.canaries(now, place(2), running)


def test_when_the_server_of_a_canary_is_removed_another_one_takes_it() -> None:
    assert ("web-2",) == releases.canaries(Wanted("1", "2", 10), place(2), {"web-3": "2"})


@settings(max_examples=50)
@given(percent=st.integers(1, 99), usual=st.lists(st.sampled_from([50, 100, 200]), min_size=2, max_size=10))
def test_weights_give_a_canary_its_share_as_exactly_as_whole_numbers_can(percent: int, usual: list[int]) -> None:
    names = [f"web-{number}" for number in range(len(usual))]
    chosen = tuple(names[: releases.count(percent, len(names))])

    weights = releases.weights(percent, dict(zip(names, usual, strict=True)), chosen)

    share = 100 * sum(weights[name] for name in chosen) / sum(weights.values())
    assert all(1 <= weight <= 256 for weight in weights.values())
    assert abs(share - percent) <= 1


def test_nobody_to_share_with_is_no_weights() -> None:
    assert {} == releases.weights(10, {"web-1": 100}, ("web-1",))
    assert {} == releases.weights(10, {"web-1": 100}, ())


# plans


def world(wanted: Wanted, servers: int = 3) -> simulated_world.World:
    """A service that runs these releases, under load from now on."""
    made = simulated_world.World()
    simulated_steps.reach(made, WEB[servers], revisions(wanted), wanted)
    made.is_serving = True
    return made


def revisions(wanted: Wanted) -> dict[tuple[str, str], str]:
    """A balancer's settings depend on the share of a canary."""
    return {(f"balancer-{number}", "haproxy"): f"{wanted.canary} {wanted.percent}" for number in (1, 2)}


def titles(made: simulated_world.World, wanted: Wanted, servers: int = 3) -> list[str]:
    there = made.look(WEB[servers])
    return [step.title for step in plan.make(WEB[servers], there, revisions(wanted), wanted).steps]


def running(made: simulated_world.World) -> dict[str, str]:
    return {name: one.release for name, one in made.servers.items() if one.release}


ROLL = "put release 2, one at a time, on web-1, web-2, web-3"
WEIGH = [f"let balancer-{number} route to web-1, web-2, web-3" for number in (1, 2)]


def test_a_deploy_replaces_the_web_servers_and_nothing_else() -> None:
    assert [ROLL] == titles(world(Wanted("1")), Wanted("2"))


def test_balancers_know_the_share_of_a_canary_before_it_runs() -> None:
    assert [*WEIGH, "put release 2, one at a time, on web-3"] == titles(world(Wanted("1")), Wanted("1", "2", 10))


def test_a_canary_that_goes_has_its_small_share_until_it_is_gone() -> None:
    canary = world(Wanted("1", "2", 10))

    assert ["put release 1, one at a time, on web-3", *WEIGH] == titles(canary, Wanted("1"))
    assert ["put release 2, one at a time, on web-1, web-2", *WEIGH] == titles(canary, Wanted("2"))


def test_web_servers_that_join_while_a_canary_holds_run_the_current_release() -> None:
    canary, now = world(Wanted("1", "2", 10)), Wanted("1", "2", 10)

    simulated_steps.reach(canary, WEB[5], revisions(now), now)

    assert {"web-1": "1", "web-2": "1", "web-3": "2", "web-4": "1", "web-5": "1"} == running(canary)


def test_the_server_of_a_canary_that_was_killed_comes_back_with_it() -> None:
    canary, now = world(Wanted("1", "2", 10)), Wanted("1", "2", 10)
    canary.kill("web-3")
    assert [] == titles(canary, now)

    canary.start("web-3")
    simulated_steps.reach(canary, WEB[3], revisions(now), now)

    assert {"web-1": "1", "web-2": "1", "web-3": "2"} == running(canary)


def test_settings_that_change_while_a_canary_holds_leave_every_server_its_release() -> None:
    canary, now = world(Wanted("1", "2", 10)), Wanted("1", "2", 10)
    changed = {**revisions(now), **{(f"web-{number}", "granian"): "new" for number in (1, 2, 3)}}

    simulated_steps.reach(canary, WEB[3], changed, now)

    assert {"web-1": "1", "web-2": "1", "web-3": "2"} == running(canary)


def test_the_reason_says_which_release_takes_the_place_of_which() -> None:
    made = plan.make(WEB[3], world(Wanted("1")).look(WEB[3]), {}, Wanted("1", "2", 10))

    assert "release 2 takes the place of 1, for 10% of the requests" == made.steps[-1].reason
    assert "2" == made.as_json()["steps"][-1]["release"]


GOALS = {
    "one": Wanted("1"),
    "other": Wanted("2"),
    "canary": Wanted("1", "2", 10),
    "great canary": Wanted("1", "2", 60),
}


CHANGES = [
    ("one", "other"),
    ("one", "canary"),
    ("canary", "one"),
    ("canary", "other"),
    ("great canary", "other"),
    ("canary", "great canary"),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_a_deploy_cut_short_at_any_moment_is_finished_or_undone(before: str, after: str) -> None:
    made = world(GOALS[before])
    expected = {name: running(world(GOALS[name])) for name in (before, after)}
    count = 0

    for _ in simulated_steps.change(made, WEB[3], revisions(GOALS[after]), GOALS[after]):
        count += 1
        for name in (before, after):
            other = made.clone()
            simulated_steps.reach(other, WEB[3], revisions(GOALS[name]), GOALS[name])
            assert sorted(expected[name].values()) == sorted(running(other).values())
            simulated_steps.assert_arrived(other, WEB[3])
    assert count > 0
