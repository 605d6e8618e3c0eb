"""What hangs is ended: a process that a signal has stopped looks alive, and keeps every request that is inside it.

Called by the control loop about once a second. It only ends; the loop itself starts again what is expected to run.
A process under a debugger (traced) is none of its business.
"""

from collections.abc import Iterator

from tenfold.kit import process
from tenfold.runtime import records, supervise

STOPPED_SECONDS = 2.0
"""How long a process may be stopped: longer than a person's Ctrl-Z and `bg`, shorter than a request's patience."""

LOOK_SECONDS = 0.5
"""How often the processes are looked at."""

WITH_WORKERS = ("granian", "worker", "haproxy", "varnish")
"""Engines whose work is done by the children of the process that was started."""


class Watch:
    """Since when each process has been seen stopped. One a control loop."""

    def __init__(self) -> None:
        self._since: dict[process.Identity, float] = {}
        self._looked_at = -LOOK_SECONDS

    def look(self, servers: dict[str, records.ServerRecord], now: float) -> list[tuple[str, str]]:
        """(server, process) of what has been stopped for `STOPPED_SECONDS` at `now`, a monotonic time in seconds."""
        if now - self._looked_at < LOOK_SECONDS:
            return []
        self._looked_at = now
        stopped = {
            identity: (server, name)
            for server, record in servers.items()
            if record.is_alive
            for name, identity in _watched(record)
            if process.is_stopped(identity)
        }
        self._since = {identity: self._since.get(identity, now) for identity in stopped}
        long = [place for identity, place in stopped.items() if now - self._since[identity] >= STOPPED_SECONDS]
        return list(dict.fromkeys(long))


async def end(supervisor: supervise.Supervisor, watch: Watch, now: float) -> None:
    """End everything that hangs. Whoever holds a copy of the data loses its power: nothing less is a fence."""
    for server, name in watch.look(supervisor.store.records.servers, now):
        supervisor.journal.say(
            "hung",
            f"{name} on {server} has been stopped (SIGSTOP) for {STOPPED_SECONDS:g} s: it is killed and started again",
            subject=server,
            level="warning",
        )
        record = supervisor.store.server(server)
        if "patroni" in record.processes or name == INIT:
            await supervisor.cut_server(server, "on")
        else:
            await supervisor.kill_tree(server, name)


INIT = "its first process"


def _watched(record: records.ServerRecord) -> Iterator[tuple[str, process.Identity]]:
    """The processes whose standing still is a hang: what was started, its workers, and Patroni's PostgreSQL."""
    init = record.enclosure.init if record.enclosure else None
    if init is not None:
        yield INIT, init
    for one in record.processes.values():
        if one.identity is None:
            continue
        yield one.name, one.identity
        if one.engine in WITH_WORKERS:
            yield from _known(one.name, process.children(one.identity.pid))
        if one.engine == "patroni":
            started = process.children(one.identity.pid) + (process.children(init.pid) if init else ())
            yield from _known("postgres", tuple(pid for pid in started if process.program(pid) == "postgres"))


def _known(name: str, pids: tuple[int, ...]) -> Iterator[tuple[str, process.Identity]]:
    for pid in pids:
        identity = process.identify(pid)
        if identity is not None:
            yield name, identity
