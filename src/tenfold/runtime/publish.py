"""Writes the bindings: what apps are told about where they run. The file is replaced atomically, 0600."""

from tenfold import bindings, engines, errors
from tenfold.kit import files
from tenfold.runtime import seats
from tenfold.topology import tiers


def make(places: seats.Seats, databases: tuple[str, ...]) -> bindings.Bindings:
    """The bindings for this topology with these database servers."""
    topology = places.topology
    known = places.known
    network = places.store.records.network
    nodes = tuple(
        bindings.DatabaseNode(name=server.name, host=server.address(network), region=server.region)
        for name in databases
        if (server := known.server(name)) is not None
    )
    service = bindings.Service(
        name=topology.service.name,
        app=topology.service.app,
        factory=topology.service.factory,
        directory=str((places.where.project / topology.service.directory).resolve()),
        secret=places.secrets.signing,
        request_seconds=topology.service.request_seconds,
        max_requests=-(-topology.web.max_requests // topology.web.workers),
        trusted_proxies=(f"127.{network}.0.0/16", "127.0.0.1"),
    )
    bound = database(topology, places.secrets, nodes)
    return bindings.Bindings(service=service, database=bound, region=topology.home)


def database(
    topology: tiers.Topology, secrets: engines.Secrets, nodes: tuple[bindings.DatabaseNode, ...]
) -> bindings.Database:
    """How an app of this topology reaches its database on these nodes."""
    name = database_name(topology.service.name)
    return bindings.Database(
        shards=(bindings.Shard(nodes=nodes),),
        name=name,
        user=name,
        password=secrets.app,
        pool_size=topology.database.pool_size,
        unknown_client=topology.database.unknown_client,
    )


def database_name(service: str) -> str:
    """The name of the service's database and of its role."""
    return service


def write(places: seats.Seats, databases: tuple[str, ...]) -> None:
    """Tell apps; they watch the file."""
    files.write_if_changed(places.where.bindings, bindings.dump(make(places, databases)).decode())


def published(places: seats.Seats) -> bindings.Bindings | None:
    """What apps are told now, or None when there is no readable file."""
    try:
        return bindings.load(places.where.bindings)
    except errors.BadBindings:
        return None
