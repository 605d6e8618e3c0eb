"""A service's servers in a temporary folder: seats for engines, and just enough life to start, stop and cut them.

Used by tests/engines. The runtime's supervisor does this with records and backoff; tests of one engine want neither.
"""

import dataclasses
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL

from tenfold import engines
from tenfold.kit import clock, enclosure, files, process
from tenfold.topology import layout, tiers

NETWORK = 65

PASSWORDS = engines.Secrets(**{one.name: secrets.token_hex(12) for one in dataclasses.fields(engines.Secrets)})


class NotReadyError(AssertionError):
    """A process ended or was not ready in time; the message ends with its log."""


def topology(replicas: int = 0, *, sections: Mapping[str, object] | None = None, **database: object) -> tiers.Topology:
    """A shop with a database of its own, small enough for many at once."""
    return tiers.Topology.model_validate(
        {
            "service": {"name": "shop", "app": "shop.web:app"},
            "database": {"placement": "own", "replicas": replicas, "memory": 32 * 1024**2, **database},
            **(sections or {}),
        }
    )


def of_engine(
    engine: str, folder: Path, wanted: tiers.Topology, network: int, subnet: int, **passwords: str
) -> list[engines.Seat]:
    """The seats of every process of one engine, on 127.`network`.`subnet`.1 and up, with these passwords."""
    known = layout.layout(wanted)
    servers = tuple(dataclasses.replace(server, subnet=subnet, host=server.number) for server in known.running(engine))
    found = []
    for server in servers:
        process_there = server.process(engine)
        assert process_there is not None
        seat = engines.Seat(
            process=process_there,
            server=server,
            topology=wanted,
            layout=layout.Layout(servers),
            network=network,
            root=folder / server.name,
            project=folder,
            bindings=folder / "bindings.json",
            secrets=dataclasses.replace(PASSWORDS, **passwords),
            run=folder,
        )
        found.append(seat)
    return found


async def launch(seat: engines.Seat, engine: engines.Engine) -> enclosure.Enclosure:
    """Start a process on a machine of its own, as the runtime does; it may not be ready when this returns."""
    for folder in (seat.data, seat.config, seat.log.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, text in engine.render(seat).items():
        files.write_if_changed(seat.config / path, text)
    command = engine.command(seat)
    machine = await enclosure.make(enclosure.new_marker(), seat.root / "log" / "server.log")
    await machine.spawn(
        seat.process.name, command.argv, env=command.env, log=seat.log, directory=command.directory or seat.root
    )
    return machine


@dataclass
class Site:
    """The servers of one test. `engine_of` finds an adapter by name."""

    folder: Path
    topology: tiers.Topology
    engine_of: Mapping[str, engines.Engine]
    network: int = NETWORK
    powered: dict[str, enclosure.Enclosure] = field(default_factory=dict)
    running: dict[tuple[str, str], process.Identity] = field(default_factory=dict)
    known: layout.Layout | None = None
    """The servers; None: those that the topology asks for."""

    def seat(self, server: str, process_name: str) -> engines.Seat:
        """The seat of a process; a server of the layout may run another engine than the layout says."""
        wanted = self.known or layout.layout(self.topology)
        spec = wanted.server(server)
        assert spec is not None, f"{server} is not one of {[one.name for one in wanted.servers]}"
        known = {one.name: one for one in (layout.POSTGRES, layout.PATRONI, *spec.processes)}
        return engines.Seat(
            process=known[process_name],
            server=spec,
            topology=self.topology,
            layout=wanted,
            network=self.network,
            root=self.folder / server,
            project=self.folder,
            bindings=self.folder / "bindings.json",
            secrets=PASSWORDS,
            run=_sockets(self.folder),
        )

    async def power(self, seat: engines.Seat) -> None:
        """Give the seat's server power, when it has none."""
        if seat.server.name in self.powered and self.powered[seat.server.name].is_alive:
            return
        for folder in ("data", "config", "log", "run"):
            (seat.root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.engine_of[seat.process.engine].on_power(seat)
        log = seat.root / "log" / "server.log"
        self.powered[seat.server.name] = await enclosure.make(enclosure.new_marker(), log)

    async def launch(self, seat: engines.Seat) -> process.Identity:
        """Render and spawn, without waiting until it is ready."""
        await self.power(seat)
        engine = self.engine_of[seat.process.engine]
        seat.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.render(seat)
        command = engine.command(seat)
        identity = await self.powered[seat.server.name].spawn(
            seat.process.name, command.argv, env=command.env, log=seat.log, directory=command.directory or seat.root
        )
        self.running[seat.server.name, seat.process.name] = identity
        return identity

    async def start(self, seat: engines.Seat, seconds: float = 30.0) -> process.Identity:
        """Render, spawn and wait until it is ready. Raises NotReadyError with its log."""
        try:
            identity = await self.launch(seat)
        except enclosure.EnclosureError as error:
            raise NotReadyError(f"{seat.process.name} on {seat.server.name}: {error}\n{log_of(seat)}") from error
        await self.ready(seat, seconds)
        return identity

    async def ready(self, seat: engines.Seat, seconds: float = 30.0) -> engines.Health:
        """Wait until the process that was launched is ready."""
        engine = self.engine_of[seat.process.engine]
        identity = self.running[seat.server.name, seat.process.name]
        health = engines.Health(False)

        async def look() -> bool:
            nonlocal health
            process.Detached.reap()
            if identity.is_alive:
                health = await engine.probe(seat)
            return health.is_ready or not identity.is_alive

        await clock.until(look, seconds=seconds, pause_seconds=0.05)
        if not (health.is_ready and identity.is_alive):
            raise NotReadyError(f"{seat.process.name} on {seat.server.name}: {health.detail}\n{log_of(seat)}")
        await engine.on_ready(seat)
        return health

    def render(self, seat: engines.Seat) -> None:
        """Write the process's files."""
        for path, text in self.engine_of[seat.process.engine].render(seat).items():
            files.write_if_changed(seat.config / path, text)

    async def run(self, seat: engines.Seat, command: engines.Command) -> str:
        """Run a one-shot program on the seat's server, to a good end."""
        await self.power(seat)
        finished = await self.powered[seat.server.name].run(
            command.argv,
            env=command.env,
            directory=command.directory or seat.root,
            timeout_seconds=min(60.0, command.start_seconds),
        )
        assert finished.code == 0, finished.output
        return finished.output

    async def stop(self, seat: engines.Seat) -> bool:
        """Stop a process as its command says. True when it ended without SIGKILL."""
        identity = self.running.pop((seat.server.name, seat.process.name))
        command = self.engine_of[seat.process.engine].command(seat)
        process.send(identity, command.stop_signal)
        is_polite = await process.gone(identity, command.grace_seconds)
        process.send(identity, SIGKILL)
        return is_polite

    def adopt(self, seat: engines.Seat) -> process.Identity:
        """Take the process that the pid file names for the seat's, as the runtime does."""
        pid_file = self.engine_of[seat.process.engine].command(seat).pid_file
        assert pid_file is not None
        inner = int(pid_file.read_text().split()[0])
        identity = self.powered[seat.server.name].outside(inner)
        assert identity is not None
        self.running[seat.server.name, seat.process.name] = identity
        return identity

    async def cut(self, server: str) -> None:
        """A power cut, proven."""
        assert await self.powered.pop(server).cut()
        self.running = {key: value for key, value in self.running.items() if key[0] != server}
        process.Detached.reap()


@asynccontextmanager
async def site(
    folder: Path, wanted: tiers.Topology, engine_of: Mapping[str, engines.Engine], network: int = NETWORK
) -> AsyncIterator[Site]:
    """A site whose servers all lose their power at the end."""
    made = Site(folder, wanted, engine_of, network)
    try:
        yield made
    finally:
        for server in list(made.powered):
            await made.cut(server)
        shutil.rmtree(files.socket_folder(folder / "run"), ignore_errors=True)


def log_of(seat: engines.Seat, count: int = 25) -> str:
    """The end of a process's log."""
    return "\n".join(seat.log.read_text(errors="replace").splitlines()[-count:]) if seat.log.exists() else ""


def _sockets(folder: Path) -> Path:
    return files.make_socket_folder(folder / "run")
