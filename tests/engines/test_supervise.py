"""The life of servers and processes: started once, adopted, restarted with backoff, stopped, cut, with nothing left."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import fake_engine
from tenfold import engines, errors
from tenfold.kit import clock, enclosure, process
from tenfold.runtime import events, guard, passwords, paths, records, registry, seats, supervise
from tenfold.topology import load

pytestmark = pytest.mark.anyio

TOPOLOGY = """
[service]
name = "shop"
app = "shop:app"
"""


class Stage:
    """A supervisor and its seats, as a runtime has them; `again` is the same service under a new runtime."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.where = paths.Paths(folder / "tenfold.toml")
        self.where.make()
        store = records.Store.open(self.where.records)
        store.records.network = 69
        self.supervisor = supervise.Supervisor(self.where, store, events.Journal(None))
        self.places = seats.Seats(self.where, store, passwords.load_or_make(self.where.secrets), load.parse(TOPOLOGY))

    def again(self) -> "Stage":
        return Stage(self.folder)

    def seat(self, name: str = "granian") -> engines.Seat:
        return self.places.seat("server-1", name)

    async def power(self) -> None:
        spec = self.places.wanted.server("server-1")
        assert spec is not None
        await self.supervisor.start_server(spec)

    def record(self, name: str = "granian") -> records.ProcessRecord:
        return self.supervisor.store.server("server-1").processes[name]

    def pid(self, name: str = "granian") -> int:
        identity = self.record(name).identity
        assert identity is not None
        return identity.pid


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    for name in registry.ALL:
        monkeypatch.setitem(registry.ALL, name, fake_engine.engine(name))
    made = Stage(tmp_path)
    yield made
    asyncio.run(_cut(made.again()))


async def _cut(stage: Stage) -> None:
    for name in stage.supervisor.store.records.servers:
        await stage.supervisor.cut_server(name, "off")


def _parent(pid: int) -> int:
    return int(_status(pid)["PPid"])


async def _is_stopped(pid: int) -> bool:
    return _status(pid)["State"].startswith("T")


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def _is_without_power(made: enclosure.Enclosure) -> bool:
    return not made.is_alive


async def _gone(pid: int) -> bool:
    async def look() -> bool:
        process.Detached.reap()
        return process.identify(pid) is None

    return bool(await clock.until(look, seconds=5))


async def test_a_process_that_runs_is_not_started_twice(stage: Stage) -> None:
    await stage.power()
    await stage.supervisor.start_process(stage.seat())
    first = stage.pid()
    await stage.power()
    await stage.supervisor.start_process(stage.seat())
    assert first == stage.pid()


async def test_a_new_runtime_adopts_what_runs(stage: Stage) -> None:
    await stage.power()
    await stage.supervisor.start_process(stage.seat())
    later = stage.again()
    assert () == await guard.once(later.supervisor, later.places)
    assert later.record().is_alive
    assert stage.pid() == later.pid()


async def test_a_process_that_was_spawned_but_not_recorded_is_found_again(stage: Stage) -> None:
    await stage.power()
    await stage.supervisor.start_process(stage.seat())
    pid = stage.pid()
    stage.record().identity = None  # as if the runtime had died between the two
    stage.supervisor.store.save()
    later = stage.again()
    assert ("server-1/granian",) == await guard.once(later.supervisor, later.places)
    assert pid == later.pid()


@pytest.mark.parametrize("next_act", ["start", "cut"])
async def test_an_enclosure_that_was_made_but_not_recorded_is_cleared(stage: Stage, next_act: str) -> None:
    await stage.power()
    server = stage.supervisor.store.server("server-1")
    made = server.enclosure
    assert made is not None
    assert made.init is not None
    server.enclosure = None  # as if the runtime had died between making and recording it
    server.power = "off"
    stage.supervisor.store.save()
    later = stage.again()
    if next_act == "start":
        await later.power()
    else:
        await later.supervisor.cut_server("server-1", "off")
    assert not made.init.is_alive


async def test_a_dead_process_is_started_again_and_the_backoff_grows(stage: Stage) -> None:
    await stage.power()
    await stage.supervisor.start_process(stage.seat())
    waits = []
    for _ in range(3):
        pid = stage.pid()
        os.kill(pid, signal.SIGKILL)
        assert await _gone(pid)
        stage.record().next_start_at = 0.0
        assert ("server-1/granian",) == await guard.once(stage.supervisor, stage.places)
        assert pid != stage.pid()
        waits.append(supervise.RESTARTS.ceiling(stage.record().restarts))
    assert sorted(waits) == waits
    assert waits[0] < waits[-1]


async def test_a_process_in_its_backoff_is_left_alone(stage: Stage) -> None:
    await stage.power()
    await stage.supervisor.start_process(stage.seat())
    pid = stage.pid()
    os.kill(pid, signal.SIGKILL)
    assert await _gone(pid)
    stage.record().next_start_at = time.time() + 60
    assert () == await guard.once(stage.supervisor, stage.places)


async def test_the_guard_leaves_a_process_alone_that_is_being_started(stage: Stage) -> None:
    await stage.power()
    stage.seat().data.mkdir(parents=True)
    (stage.seat().data / "dies").touch()
    start = asyncio.create_task(stage.supervisor.start_process(stage.seat()))
    while not start.done():
        assert () == await guard.once(stage.supervisor, stage.places)
        await asyncio.sleep(0)
    with pytest.raises(errors.EngineFailed, match="told to die"):
        await start


@pytest.mark.parametrize(("file", "message"), [("dies", "told to die"), ("never-ready", "it says 'unready'")])
async def test_a_start_that_fails_says_why_and_leaves_nothing(stage: Stage, file: str, message: str) -> None:
    await stage.power()
    stage.seat().data.mkdir(parents=True)
    (stage.seat().data / file).touch()
    with pytest.raises(errors.EngineFailed, match=message):
        await stage.supervisor.start_process(stage.seat())
    assert not stage.record().is_alive
    assert not stage.record().is_expected
    assert () == await guard.once(stage.supervisor, stage.places)


async def test_a_stopped_process_stays_stopped(stage: Stage) -> None:
    await stage.power()
    await stage.supervisor.start_process(stage.seat())
    pid = stage.pid()
    await stage.supervisor.stop_process("server-1", "granian")
    assert await _gone(pid)
    assert () == await guard.once(stage.supervisor, stage.places)


async def test_one_that_does_not_listen_is_killed_when_the_patience_of_whoever_stops_it_ends(stage: Stage) -> None:
    await stage.power()
    seat = stage.seat()
    seat.data.mkdir(parents=True)
    (seat.data / "deaf").touch()
    await stage.supervisor.start_process(seat)
    stage.record().grace_seconds = 3600.0
    pid = stage.pid()
    async with asyncio.timeout(60):
        await stage.supervisor.stop_process("server-1", "granian", most_seconds=0.1)
    assert process.identify(pid) is None
    assert not stage.record().is_expected


async def test_a_power_cut_ends_everything_on_the_server_at_once(stage: Stage) -> None:
    await stage.power()
    for name in ("granian", "haproxy", "postgres"):
        await stage.supervisor.start_process(stage.seat(name))
    pids = [stage.pid(name) for name in ("granian", "haproxy", "postgres")]
    await stage.supervisor.cut_server("server-1", "killed")
    assert [None, None, None] == [process.identify(pid) for pid in pids]
    assert () == await guard.once(stage.supervisor, stage.places), "a server that a person killed stays off"


async def test_a_power_cut_leaves_no_shared_memory_behind(tmp_path: Path) -> None:
    """PostgreSQL holds a segment of System V's until it ends in order; the machine has 4,096 of them."""
    if not await enclosure.namespaces_work():
        pytest.skip("without namespaces a segment stays until the database starts again on its data")
    machine = await enclosure.make(enclosure.new_marker(), tmp_path / "log")
    made = await machine.run(["ipcmk", "--shmem", "4321"], env={}, directory=tmp_path, timeout_seconds=10)
    seen = await machine.run(["cat", "/proc/sysvipc/shm"], env={}, directory=tmp_path, timeout_seconds=10)
    assert made.code == 0, made.output
    assert " 4321 " in seen.output
    assert await machine.cut()
    left = await process.run(["cat", "/proc/sysvipc/shm"], timeout_seconds=10)
    assert " 4321 " not in left.output


async def test_a_server_that_dies_by_itself_comes_back_with_its_processes(stage: Stage) -> None:
    await stage.power()
    await stage.supervisor.start_process(stage.seat())
    made = stage.supervisor.store.server("server-1").enclosure
    assert made is not None
    await made.cut()
    assert ("server-1",) == await guard.once(stage.supervisor, stage.places)
    assert stage.record().is_alive


async def test_a_server_dies_and_comes_back_although_a_process_on_it_was_stopped_and_went_on(stage: Stage) -> None:
    await stage.power()
    await stage.supervisor.start_process(stage.seat())
    made = stage.supervisor.store.server("server-1").enclosure
    assert made is not None
    assert made.init is not None
    entered_by = _parent(stage.pid())
    os.kill(stage.pid(), signal.SIGSTOP)
    assert await clock.until(lambda: _is_stopped(entered_by), seconds=5), "whoever waits for it stops with it"
    os.kill(stage.pid(), signal.SIGCONT)
    os.kill(made.init.pid, signal.SIGKILL)
    assert await clock.until(lambda: _is_without_power(made), seconds=5)
    assert ("server-1",) == await guard.once(stage.supervisor, stage.places)
    assert stage.record().is_alive


async def test_what_engines_clear_after_a_power_cut_is_cleared_before_they_start(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared: list[str] = []
    one = fake_engine.engine("granian")
    monkeypatch.setitem(
        registry.ALL,
        "granian",
        engines.Engine(
            one.name, one.install, one.locate, one.render, one.command, one.probe,
            on_power=lambda seat: cleared.append(seat.server.name),
        ),
    )  # fmt: skip
    await stage.power()
    await stage.supervisor.start_process(stage.seat())
    assert [] == cleared
    made = stage.supervisor.store.server("server-1").enclosure
    assert made is not None
    await made.cut()
    await guard.once(stage.supervisor, stage.places)
    assert ["server-1"] == cleared


async def test_a_removed_server_leaves_neither_process_nor_file(stage: Stage) -> None:
    await stage.power()
    await stage.supervisor.start_process(stage.seat())
    pid = stage.pid()
    await stage.supervisor.remove_server("server-1")
    assert await _gone(pid)
    assert not stage.where.server("server-1").exists()
    await stage.supervisor.remove_server("server-1")


async def test_a_missing_program_is_named_with_its_install_command(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = fake_engine.engine("granian")
    missing = engines.Engine("granian", "pip install it", lambda: None, one.render, one.command, one.probe)
    monkeypatch.setitem(registry.ALL, "granian", missing)
    await stage.power()
    with pytest.raises(errors.EngineMissing, match="pip install it"):
        await stage.supervisor.start_process(stage.seat())


async def test_without_namespaces_a_cut_still_ends_what_hides_in_sessions_of_its_own(tmp_path: Path) -> None:
    marked = enclosure.Enclosure(enclosure.new_marker(), None)
    log = tmp_path / "log"
    started = await marked.spawn(
        "hider", ["sh", "-c", "setsid sleep 77 & setsid sleep 77"], env={}, log=log, directory=tmp_path
    )

    async def look() -> bool:
        return len(enclosure._marked(marked.marker)) >= 3

    assert await clock.until(look, seconds=5)
    assert await marked.cut()
    assert not started.is_alive
    assert not marked.is_alive


@pytest.mark.parametrize("has_namespaces", [True, False])
async def test_what_a_dead_process_left_running_is_not_taken_for_it(tmp_path: Path, has_namespaces: bool) -> None:
    marker = enclosure.new_marker()
    log = tmp_path / "log"
    made = await enclosure.make(marker, log) if has_namespaces else enclosure.Enclosure(marker, None)
    try:
        argv = ("sh", "-c", "sleep 300 & wait")
        spawned = await made.spawn("patroni", argv, env={}, log=log, directory=tmp_path)
        assert spawned == made.find("patroni", argv)
        assert await clock.until(lambda: _has_children(spawned.pid), seconds=5)
        orphan = process.children(spawned.pid)[0]
        process.send(spawned, signal.SIGKILL)
        assert await process.gone(spawned, 5.0)
        assert process.identify(orphan) is not None
        assert None is made.find("patroni", argv)
    finally:
        assert await made.cut()


async def _has_children(pid: int) -> bool:
    return bool(process.children(pid))


async def test_a_reused_pid_is_not_taken_for_the_process(tmp_path: Path) -> None:
    own = process.identify(os.getpid())
    assert own is not None
    other = process.Identity(own.pid, own.started + 1)
    assert not other.is_alive
    assert not process.send(other, signal.SIGTERM), "we would have killed ourselves"
