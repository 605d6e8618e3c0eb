"""What a database of the simulated world is started with, and the steps that restart it with something else.

Called by `simulated_steps`, whose `Stage` they get.
"""

from collections.abc import Iterator
from typing import Protocol

from support import simulated_patroni
from support.simulated_world import READY, STOPPED, Copy, ProcessState, Size, World
from tenfold.planning import steps


class Stage(Protocol):
    world: World
    size: Size

    def set(self, server: str, process: str, state: ProcessState) -> None: ...


def started(stage: Stage, copy: Copy) -> None:
    """A copy that starts has what it is told: by its files, or by what Patroni's members share."""
    if not copy.is_patronis:
        assert not copy.is_standby or stage.size[1] >= copy.logged, f"{copy.server} has too few connections to start"
        start_plain(copy, stage.size)
        return
    if copy.is_restarting or not stage.world.is_up(copy):
        simulated_patroni.start(stage.world, copy)
    share(stage, copy.server)


def start_plain(copy: Copy, size: Size) -> None:
    copy.size = size
    copy.logged = copy.logged if copy.is_standby else size[1]
    copy.is_paused = copy.is_clean = False


def share(stage: Stage, server: str) -> None:
    """A Patroni that starts tells its members of other memory; of other connections only a resize does."""
    known = stage.world.shared_size(server)[1]
    stage.world.shared_sizes[stage.world.region_of(server)] = (stage.size[0], known or stage.size[1])


def restart_replica(stage: Stage, step: steps.RestartReplica) -> Iterator[None]:
    world, copy = stage.world, stage.world.copies[step.server]
    away = [one.server for one in world.members(world.region_of(step.server)) if not world.is_up(one)]
    assert copy.is_standby, f"{step.server} is the primary"
    assert not away, f"{step.server} goes while {away} are away"
    world.shared_sizes[world.region_of(step.server)] = (step.memory_bytes, step.max_connections)
    yield
    copy.is_restarting = True
    yield
    started(stage, copy)
    yield


def restart_primary(stage: Stage, step: steps.RestartPrimary) -> Iterator[None]:
    copy = stage.world.copies[step.server]
    assert copy is stage.world.primary, f"{step.server} is not the primary"
    stage.world.shared_sizes[stage.world.region_of(step.server)] = (step.memory_bytes, step.max_connections)
    yield
    copy.is_fenced = True
    yield
    if copy.is_patronis:
        copy.is_restarting = True
    else:
        stage.world.stop_copy(step.server)
        stage.set(step.server, "postgres", STOPPED)
    yield
    started(stage, copy)
    if not copy.is_patronis:
        stage.set(step.server, "postgres", READY)
    yield
    copy.is_fenced = False
    yield
