"""Seats: where each process sits, built from the topology and what is recorded.

A seat's layout holds the wanted servers and those that are still there, so that a server on its way out still finds
its neighbours. A web server's seat holds the release that `planning/releases` gives it.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tenfold import engines, errors
from tenfold.engines.haproxy import settings
from tenfold.planning import releases
from tenfold.runtime import paths, records
from tenfold.topology import layout, tiers


@dataclass(frozen=True, slots=True)
class Seats:
    """The seats of one topology."""

    where: paths.Paths
    store: records.Store
    secrets: engines.Secrets
    topology: tiers.Topology
    candidate: engines.Release | None = None
    """A release that is not made yet, for a plan that is only looked at: as if it were the wanted one."""

    @property
    def released(self) -> releases.Wanted:
        """Which releases shall serve."""
        return releases.Wanted(self.candidate.version) if self.candidate else self.store.records.wanted_releases

    @property
    def newest(self) -> engines.Release | None:
        """The release whose migrations have to have run; None: there is none."""
        return self.candidate or self.release(self.released.canary) or self.release(self.released.current)

    def release(self, version: str) -> engines.Release | None:
        """The release of this version, or None when there is none (any more)."""
        found = self.store.records.releases.get(version)
        if self.candidate is not None and self.candidate.version == version:
            return self.candidate
        if found is None:
            return None
        directory = self.where.releases / version
        return engines.Release(version, directory, found.app, found.factory, found.groups, found.python, found.env)

    @property
    def canaries(self) -> tuple[str, ...]:
        """The web servers that shall run the canary: their share in every region."""
        return tuple(name for region in self.topology.regions for name in self._canaries_in(region))

    def bindings(self, region: str) -> Path:
        """The file that the app in a region is told by."""
        is_first = region == self.topology.first
        return self.where.bindings if is_first else self.where.bindings.with_name(f"bindings-{region}.json")

    @property
    def wanted(self) -> layout.Layout:
        """The servers that the topology asks for."""
        return layout.layout(self.topology)

    @property
    def known(self) -> layout.Layout:
        """The wanted servers, then those that are still there."""
        wanted = self.wanted
        there = (one.spec for one in self.store.records.servers.values() if wanted.server(one.spec.name) is None)
        leaving = (dataclasses.replace(one, region=layout.region_of(one, self.topology)) for one in there)
        return layout.Layout((*wanted.servers, *leaving))

    def seat(
        self,
        server: str,
        process: str,
        *,
        web_servers: tuple[str, ...] | None = None,
        edges: tuple[str, ...] | None = None,
    ) -> engines.Seat:
        """The seat of a process. `web_servers` and `edges` limit those that it knows of (a balancer's).

        A wanted server's layout entry wins over its record. Raises BadInput for an unknown server or process.
        """
        known = self.known
        spec = known.server(server)
        if spec is None:
            raise errors.BadInput(f"server {server}: not found; known servers: {', '.join(_names(known))}")
        wanted = next((one for one in spec.processes if one.name == process), None) or _known_process(process)
        if web_servers is not None:
            known = known.with_only("granian", web_servers)
        if edges is not None:
            known = known.with_only("varnish", edges)
        return engines.Seat(
            process=wanted,
            server=spec,
            topology=layout.as_in(self.topology, spec.region, self.store.records.network),
            layout=known,
            network=self.store.records.network,
            root=self.where.server(server),
            project=self.where.project,
            bindings=self.bindings(spec.region),
            secrets=self.secrets,
            run=self.where.run,
            release=self._release_on(spec) if wanted.engine in layout.APP_ENGINES else None,
            weights=self._weights(spec.region) if wanted.engine == "haproxy" else {},
        )

    def of(self, server: str) -> tuple[engines.Seat, ...]:
        """The seats of all processes that a server is recorded to have."""
        record = self.store.records.servers.get(server)
        return tuple(self.seat(server, name) for name in record.processes if name in _KNOWN) if record else ()

    @property
    def _running(self) -> dict[str, str]:
        """By web or worker server, the release that it runs, or ran last."""
        return {
            name: record.release
            for name, server in self.store.records.servers.items()
            for record in server.processes.values()
            if record.name in layout.APP_ENGINES
        }

    def _canaries_in(self, region: str) -> tuple[str, ...]:
        return releases.canaries(self.released, self.wanted.of(region), self._running)

    def _release_on(self, server: layout.Server) -> engines.Release | None:
        """The release that a web server or a worker shall run; on one that leaves, the one that it runs."""
        running = self._running
        assigned = releases.assign(self.released, self.wanted.of(server.region), running)
        return self.release(assigned.get(server.name) or running.get(server.name, ""))

    def _weights(self, region: str) -> Mapping[str, int]:
        """The weights that give the canary its share, in one region."""
        chosen, balancer = self._canaries_in(region), self.topology.of(region).balancer
        if not chosen or balancer is None:
            return {}
        here = self.wanted.of(region).web()
        usual = {one.name: balancer.weights.get(one.name, settings.DEFAULT_WEIGHT) for one in here}
        return releases.weights(self.released.percent, usual, chosen)


_KNOWN = {
    one.name: one
    for one in (
        *(layout.HAPROXY, layout.VARNISH, layout.GRANIAN, layout.VALKEY, layout.POSTGRES, layout.PATRONI, layout.ETCD),
        *(layout.NATS, layout.WORKER, layout.WAN, layout.GEOROUTE, layout.POWERDNS),
    )
}


def _known_process(name: str) -> layout.Process:
    """A process that its server is not wanted to have (any more): PostgreSQL before Patroni, say."""
    if name not in _KNOWN:
        raise errors.BadInput(f"process {name}: not found; known processes: {', '.join(sorted(_KNOWN))}")
    return _KNOWN[name]


def _names(known: layout.Layout) -> list[str]:
    return [one.name for one in known.servers]
