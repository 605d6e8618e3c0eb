"""The life of servers and processes, written once for all engines: start, adopt, restart, stop, cut.

Called by `runtime/actions` and the control loop. Everything it starts is detached and recorded before it returns, so
that a runtime killed at any moment finds it again. It does not decide what should run: records say so.
"""

import asyncio
import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from signal import Signals

from tenfold import engines, errors
from tenfold.kit import backoff, clock, enclosure, files, process
from tenfold.runtime import events, paths, records, registry
from tenfold.topology import layout

RESTARTS = backoff.Backoff(first_seconds=0.2, most_seconds=15.0)

PROBE_SECONDS = 5.0
"""The longest that one probe may take, whatever the engine's own deadline is."""

SAY_SECONDS = 5.0
"""How often a start that takes long says what it waits for."""

REHEARSAL = "rehearsal"
"""The name of a process that is started only to see whether it starts."""

FOLDERS = ("data", "config", "log", "run")

STOP_ORDER = (
    *("powerdns", "georoute", "haproxy", "varnish", "granian", "worker"),
    *("valkey", "nats", "patroni", "postgres", "etcd"),
)
"""In which order engines stop, so that nothing is asked of what is gone already."""


class Supervisor:
    """All servers of one service."""

    def __init__(self, where: paths.Paths, store: records.Store, journal: events.Journal) -> None:
        self.where = where
        self.store = store
        self.journal = journal
        self._starting: set[tuple[str, str]] = set()
        self._spawning: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        """By process: a plan and the control loop may both want to start it, and only one may."""
        self._log_begins: dict[Path, int] = {}
        """By log, its size when its process was started: an error shows only what came after."""

    # Servers

    async def start_server(self, spec: layout.Server, placed: Iterable[engines.Seat] = ()) -> None:
        """Give a server power. On return its enclosure lives and is recorded. Twice is once.

        `placed`: seats of the processes that ran on it before; what a power cut left in their way is cleared.
        """
        record = self.store.records.servers.get(spec.name)
        if record is None:
            record = self.store.records.servers[spec.name] = records.ServerRecord(spec)
        record.spec = spec
        if record.is_alive:
            return
        root = self.where.server(spec.name)
        for folder in FOLDERS:
            (root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        record.marker = record.marker or enclosure.new_marker()
        record.enclosure = None
        self.store.save()
        try:
            record.enclosure = await enclosure.make(record.marker, root / "log" / "server.log")
        except enclosure.EnclosureError as error:
            raise errors.EngineFailed(f"server {spec.name}: {error}; see {root / 'log'}") from error
        for seat in placed:
            registry.engine(seat.process.engine).on_power(seat)
        record.power = "on"
        self.store.save()
        self.journal.say("server_started", f"server {spec.name} has power", subject=spec.name)

    async def cut_server(self, name: str, power: records.Power) -> None:
        """A power cut: everything on the server dies at once. On return it is proven dead."""
        record = self.store.server(name)
        former, record.power = record.power, power
        try:
            self.store.save()
        except OSError:  # a full disk: nothing was cut, so nobody may take what runs for dead and start it twice
            record.power = former
            raise
        # Without an enclosure an earlier runtime may have died while it made one: the marker finds what is left.
        if not await (record.enclosure or enclosure.Enclosure(record.marker, None)).cut():
            raise errors.RuntimeFailure(f"server {name}: processes survived SIGKILL for 5 s; look at them with ps")
        if former == "on":
            self.journal.say("server_cut", f"server {name} has no power", subject=name)

    def expect_no_more(self, servers: Iterable[str], process_name: str) -> None:
        """Nobody starts this process on these servers again by himself: only a step of a plan does.

        A former primary of a lost home must be told first whom to follow, or it elects itself.
        """
        for name in servers:
            record = self.store.server(name).processes.get(process_name)
            if record is not None:
                record.is_expected = False
        self.store.save()

    async def remove_server(self, name: str) -> None:
        """Stop a server for good and delete what it holds. Twice is once."""
        if name not in self.store.records.servers:
            return
        await self.stop_all(name)
        await self.cut_server(name, "off")
        await asyncio.to_thread(files.remove_tree, self.where.server(name))
        for socket in (*self.where.run.glob(f"{name}.*"), *self.where.run.glob(f"pdns-{name}.*")):
            socket.unlink(missing_ok=True)
        del self.store.records.servers[name]
        self.store.save()
        self.journal.say("server_removed", f"server {name} is gone", subject=name)

    async def stop_all(self, name: str) -> None:
        """Stop a server's processes politely, the front door first, data last."""
        record = self.store.server(name)
        for process_name in sorted(record.processes, key=_stop_order):
            await self.stop_process(name, process_name)

    # Processes

    async def start_process(
        self,
        seat: engines.Seat,
        *,
        is_stopped_on_failure: bool = True,
        within_seconds: float | None = None,
        as_before: bool = False,
    ) -> None:
        """Render, start and record a process, and wait until it is ready. Twice is once.

        Raises EngineFailed, with the last lines of its log, when it dies or is not ready in time: it is stopped then,
        unless the caller has a gentler way. Meanwhile the control loop leaves it alone. `within_seconds`: less patience
        than the engine's own `start_seconds`. `as_before`: with the files and the command of its last start, if any.
        """
        target = (seat.server.name, seat.process.name)
        self._starting.add(target)
        try:
            async with self._spawning[target]:
                if not self._is_running(seat):
                    await self._launch(seat, as_before=as_before)
            await self._await_ready(seat, within_seconds)
        except (errors.EngineFailed, asyncio.CancelledError):
            if is_stopped_on_failure:
                await self.stop_process(*target)
                await self.end_rehearsals()
            raise
        finally:
            self._starting.discard(target)

    async def end_rehearsals(self) -> None:
        """Stop and forget every rehearsal, one that an earlier runtime left included."""
        for name, server in self.store.records.servers.items():
            if REHEARSAL in server.processes:
                await self.stop_process(name, REHEARSAL)
                self.forget(name, REHEARSAL)

    def render(self, seat: engines.Seat) -> str:
        """Write a process's files as the seat says, and return the revision they and its command have."""
        engine = registry.engine(seat.process.engine)
        rendered = engine.render(seat)
        for path, text in rendered.items():
            files.write_if_changed(seat.config / path, text)
        return revision(seat)

    def renewed(self, seat: engines.Seat) -> None:
        """A process has taken the settings of its seat over while it runs: its next start has them as well."""
        revision_now = self.render(seat)
        self.store.server(seat.server.name).processes[seat.process.name].revision = revision_now
        self.store.save()

    async def stop_process(self, server: str, name: str, most_seconds: float = math.inf) -> None:
        """Ask, wait, kill. On return it does not run and is not expected to. Twice is once.

        `most_seconds`: less patience than the engine's own grace.
        """
        record = self.store.server(server).processes.get(name)
        if record is None:
            return
        record.is_expected = False
        record.was_ready = False
        self.store.save()
        if record.identity is not None and record.identity.is_alive:
            started = time.monotonic()
            await process.stop(record.identity, Signals(record.stop_signal), min(record.grace_seconds, most_seconds))
            seconds = time.monotonic() - started
            self.journal.say("process_stopped", f"{name} on {server} stopped", subject=server, seconds=seconds)
        record.identity = None
        self.store.save()

    async def kill_process(self, server: str, name: str) -> None:
        """SIGKILL to one process alone; what it started runs on. It is not expected to run any more."""
        record = self.store.server(server).processes.get(name)
        if record is None:
            return
        record.is_expected = False
        self.store.save()
        if record.identity is not None:
            process.send(record.identity, Signals.SIGKILL)
            await process.gone(record.identity, 5.0)
        record.identity = None
        self.store.save()

    async def kill_tree(self, server: str, name: str) -> None:
        """SIGKILL to a process and everything it started. It is still expected to run: the control loop starts it."""
        record = self.store.server(server).processes.get(name)
        if record is None or record.identity is None:
            return
        family = [one for pid in process.descendants(record.identity.pid) if (one := process.identify(pid))]
        entrance = process.identify(process.parent(record.identity.pid))
        for identity in (record.identity, *family):
            process.send(identity, Signals.SIGKILL)
        if entrance is not None and process.is_stopped(entrance):
            process.send(entrance, Signals.SIGCONT)  # nsenter stops itself with its child, and would never collect it
        await process.gone(record.identity, 5.0)

    async def restart(self, server: str, name: str, argv: tuple[str, ...] = ()) -> bool:
        """Start a recorded process again as it was started before. False when it runs, or is started by a plan.

        `argv`: in the place of the recorded command line, for one that depends on who lives now.
        """
        target = (server, name)
        async with self._spawning[target]:
            record = self.store.server(server).processes.get(name)
            if record is None or not record.is_expected or record.is_alive or target in self._starting:
                return False
            record.restarts += 1
            record.next_start_at = time.time() + RESTARTS.seconds(record.restarts)
            record.identity = None
            record.argv = argv or record.argv
            await self._spawn(self.store.server(server), record)
        text = f"{name} on {server} was down and is started again (restart {record.restarts})"
        self.journal.say("process_restarted", text, subject=server, level="warning")
        return True

    def adopt(self, seat: engines.Seat) -> bool:
        """Take a process that somebody else started (Patroni's PostgreSQL) for ours, by its pid file."""
        server = self.store.server(seat.server.name)
        record = _record(seat)
        identity = _by_pid_file(server, record)
        if identity is None:
            return False
        record.identity = identity
        record.was_ready = True
        server.processes[record.name] = record
        self.store.save()
        return True

    def forget(self, server: str, name: str) -> None:
        """Stop minding a process that somebody else minds from now on; it keeps running."""
        if self.store.server(server).processes.pop(name, None) is not None:
            self.store.save()

    async def run_inside(self, seat: engines.Seat, command: engines.Command) -> str:
        """Run a one-shot program on the seat's server. Returns its output; raises EngineFailed when it fails."""
        server = self.store.server(seat.server.name)
        if server.enclosure is None:
            raise errors.EngineFailed(f"server {seat.server.name}: has no power")
        finished = await server.enclosure.run(
            command.argv,
            env=command.env,
            directory=command.directory or seat.root,
            timeout_seconds=command.start_seconds,
        )
        if finished.code != 0:
            program = Path(command.argv[0]).name
            raise errors.EngineFailed(
                f"server {seat.server.name}: {program} ended with code {finished.code}: {finished.output[-1500:]}"
            )
        return finished.output

    # Details

    def _is_running(self, seat: engines.Seat) -> bool:
        record = self.store.server(seat.server.name).processes.get(seat.process.name)
        return record is not None and record.is_alive

    async def _launch(self, seat: engines.Seat, *, as_before: bool) -> None:
        server = self.store.server(seat.server.name)
        seat.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        registry.ensure_installed({seat.process.engine})
        previous = server.processes.get(seat.process.name)
        if as_before and previous is not None:
            previous.is_expected = True
            await self._spawn(server, previous)
            return
        self.render(seat)
        record = _record(seat)
        record.restarts = previous.restarts if previous else 0
        server.processes[record.name] = record
        await self._spawn(server, record)

    async def _spawn(self, server: records.ServerRecord, record: records.ProcessRecord) -> None:
        """Recorded before (as expected) and after (with its identity): after a crash in between it is found again by
        its name inside the enclosure, and no second one is started."""
        self.store.save()
        if server.enclosure is None or not server.is_alive:
            raise errors.EngineFailed(f"server {server.spec.name}: has no power; {record.name} cannot start")
        _ensure_directory(server, record)
        log = self.where.server(server.spec.name) / "log" / f"{record.name}.log"
        self._log_begins[log] = log.stat().st_size if log.exists() else 0
        try:
            record.identity = server.enclosure.find(record.name, record.argv) or await server.enclosure.spawn(
                record.name, record.argv, env=record.env, log=log, directory=Path(record.directory)
            )
        except (enclosure.EnclosureError, OSError) as error:
            lines = last_lines(log, self._log_begins[log])
            raise errors.EngineFailed(f"{record.name} on {server.spec.name}: {error}\n{lines}") from error
        self.store.save()

    async def _probe(self, seat: engines.Seat) -> engines.Health:
        """Ready means: its probe says so, and what can only be arranged while it runs is arranged."""
        engine = registry.engine(seat.process.engine)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                health = await engine.probe(seat)
        except TimeoutError:
            return engines.Health(False, detail=f"no answer within {PROBE_SECONDS:g} s")
        if health.is_ready:
            try:
                await engine.on_ready(seat)
            except errors.EngineFailed as error:
                return engines.Health(False, health.role, str(error))
        return health

    async def _await_ready(self, seat: engines.Seat, within_seconds: float | None) -> None:
        record = self.store.server(seat.server.name).processes[seat.process.name]
        patience = record.start_seconds if within_seconds is None else within_seconds
        started = time.monotonic()
        health = engines.Health(False)

        said = started

        async def look() -> bool:
            nonlocal health, said
            process.Detached.reap()
            if not record.is_alive:
                return True
            health = await self._probe(seat)
            if time.monotonic() - said >= SAY_SECONDS:
                said = time.monotonic()
                text = f"{record.name} on {seat.server.name} is not ready yet: {health.detail}"
                self.journal.say("still_starting", text, subject=seat.server.name, seconds=said - started)
            return health.is_ready

        await clock.until(look, seconds=patience, pause_seconds=0.05)
        if record.is_alive and health.is_ready:
            record.was_ready = True
            record.restarts = 0
            self.store.save()
            self.journal.say(
                "process_ready",
                f"{record.name} on {seat.server.name} is ready",
                subject=seat.server.name,
                seconds=time.monotonic() - started,
            )
            return
        reason = f"not ready after {patience:g} s: {health.detail}" if record.is_alive else "ended"
        lines = last_lines(seat.log, self._log_begins.get(seat.log, 0))
        raise errors.EngineFailed(f"{record.name} on {seat.server.name}: {reason}; last lines of {seat.log}:\n{lines}")


def revision(seat: engines.Seat) -> str:
    """A hash of everything a process is started with: rendered files, command, environment."""
    engine = registry.engine(seat.process.engine)
    command = engine.command(seat)
    digest = hashlib.sha256()
    for part in (*sorted(engine.render(seat).items()), command.argv, *sorted(command.env.items())):
        digest.update(repr(part).encode())
    return digest.hexdigest()[:16]


def last_lines(log: Path, begin: int = 0, count: int = 15) -> str:
    """The end of a log from byte `begin` on, indented, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(begin, log.stat().st_size - 8192))
            lines = file.read().decode(errors="replace").splitlines()[-count:]
    except OSError:
        return "    (no log)"
    return "\n".join(f"    {line}" for line in lines)


def _record(seat: engines.Seat) -> records.ProcessRecord:
    command = registry.engine(seat.process.engine).command(seat)
    return records.ProcessRecord(
        name=seat.process.name,
        engine=seat.process.engine,
        argv=command.argv,
        env=dict(command.env),
        directory=str(command.directory or seat.root),
        stop_signal=int(command.stop_signal),
        grace_seconds=command.grace_seconds,
        start_seconds=command.start_seconds,
        pid_file=str(command.pid_file or ""),
        revision=revision(seat),
        release=seat.release.version if seat.release else "",
    )


def _ensure_directory(server: records.ServerRecord, record: records.ProcessRecord) -> None:
    if Path(record.directory).is_dir():
        return
    what = f"release {record.release}" if record.release else "its folder"
    raise errors.EngineFailed(
        f"{record.name} on {server.spec.name} cannot start: {what} is gone, {record.directory} not found. "
        "What runs keeps serving; make a release of the code as it is now: tenfold deploy"
    )


def _by_pid_file(server: records.ServerRecord, record: records.ProcessRecord) -> process.Identity | None:
    """The process whose pid, as its enclosure counts, is on the first line of the pid file."""
    try:
        inner = int(Path(record.pid_file).read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return server.enclosure.outside(inner) if server.enclosure else None


def _stop_order(name: str) -> int:
    return STOP_ORDER.index(name) if name in STOP_ORDER else len(STOP_ORDER)
