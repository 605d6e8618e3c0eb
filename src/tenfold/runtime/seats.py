"""Seats: where each process sits, built from the topology and what is recorded.

A seat's layout holds the wanted servers and those that are still there, so that a server on its way out still finds
its neighbours.
"""

from dataclasses import dataclass

from tenfold import engines, errors
from tenfold.runtime import paths, records
from tenfold.topology import layout, tiers


@dataclass(frozen=True, slots=True)
class Seats:
    """The seats of one topology."""

    where: paths.Paths
    store: records.Store
    secrets: engines.Secrets
    topology: tiers.Topology

    @property
    def wanted(self) -> layout.Layout:
        """The servers that the topology asks for."""
        return layout.layout(self.topology)

    @property
    def known(self) -> layout.Layout:
        """The wanted servers, then those that are still there."""
        wanted = self.wanted
        leaving = (one.spec for one in self.store.records.servers.values() if wanted.server(one.spec.name) is None)
        return layout.Layout(wanted.servers + tuple(leaving))

    def seat(self, server: str, process: str, *, web_servers: tuple[str, ...] | None = None) -> engines.Seat:
        """The seat of a process. `web_servers` limits the web servers that it knows of (a balancer's).

        A wanted server's layout entry wins over its record. Raises BadInput for an unknown server or process.
        """
        known = self.known
        spec = known.server(server)
        if spec is None:
            raise errors.BadInput(f"server {server}: not found; known servers: {', '.join(_names(known))}")
        wanted = next((one for one in spec.processes if one.name == process), None) or _known_process(process)
        if web_servers is not None:
            known = known.with_web(web_servers)
        return engines.Seat(
            process=wanted,
            server=spec,
            topology=self.topology,
            layout=known,
            network=self.store.records.network,
            root=self.where.server(server),
            project=self.where.project,
            bindings=self.where.bindings,
            secrets=self.secrets,
            run=self.where.run,
        )

    def of(self, server: str) -> tuple[engines.Seat, ...]:
        """The seats of all processes that a server is recorded to have."""
        record = self.store.records.servers.get(server)
        return tuple(self.seat(server, name) for name in record.processes if name in _KNOWN) if record else ()


_KNOWN = {one.name: one for one in (layout.HAPROXY, layout.GRANIAN, layout.POSTGRES, layout.PATRONI, layout.ETCD)}


def _known_process(name: str) -> layout.Process:
    """A process that its server is not wanted to have (any more): PostgreSQL before Patroni, say."""
    if name not in _KNOWN:
        raise errors.BadInput(f"process {name}: not found; known processes: {', '.join(sorted(_KNOWN))}")
    return _KNOWN[name]


def _names(known: layout.Layout) -> list[str]:
    return [one.name for one in known.servers]
