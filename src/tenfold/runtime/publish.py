"""Writes the bindings: what apps are told about where they run. The file is replaced atomically, 0600."""

from typing import cast

from tenfold import bindings, engines, errors
from tenfold.kit import files
from tenfold.observation import snapshot
from tenfold.runtime import seats
from tenfold.topology import layout, tiers

MOST_REPLICAS = 3
"""On how many queue servers a message is at most: any two of three may still be asked when one is dead."""


def make(
    places: seats.Seats, databases: tuple[str, ...], told: snapshot.Told = snapshot.NOTHING_TOLD
) -> bindings.Bindings:
    """The bindings for this topology with these database servers, and with what else the app is to be told of."""
    topology = places.topology
    network = places.store.records.network
    nodes = tuple(
        bindings.DatabaseNode(name=server.name, host=server.address(network), region=server.region)
        for server in _servers(places, databases)
    )
    service = bindings.Service(
        name=topology.service.name,
        app=topology.service.app,
        factory=topology.service.factory,
        directory=str((places.where.project / topology.service.directory).resolve()),
        secret=places.secrets.signing,
        request_seconds=topology.service.request_seconds,
        max_requests=-(-topology.web.max_requests // topology.web.workers_per_server),
        trusted_proxies=(f"127.{network}.0.0/16", "127.0.0.1"),
    )
    return bindings.Bindings(
        service=service,
        database=database(topology, places.secrets, nodes),
        cdn=_cdn(places, told),
        cache=_cache(places, told),
        sessions=bindings.Sessions(
            store=told.store,
            former=told.former_stores,
            life_seconds=topology.sessions.life_seconds,
            is_eager=topology.sessions.eager,
        ),
        queue=_queue(places, told),
        region=topology.home,
    )


def _cdn(places: seats.Seats, told: snapshot.Told) -> bindings.Cdn:
    cdn = places.topology.cdn or tiers.Cdn()
    network = places.store.records.network
    return bindings.Cdn(
        nodes=tuple(
            bindings.EdgeNode(name=one.name, host=one.address(network), port=layout.PURGE_PORT, region=one.region)
            for one in _servers(places, told.edges)
        ),
        key=places.secrets.edge if told.edges else "",
        static=cdn.static,
        static_path=cdn.static_path,
    )


def _cache(places: seats.Seats, told: snapshot.Told) -> bindings.Cache:
    cache = places.topology.cache or tiers.Cache(servers=0)
    network = places.store.records.network
    return bindings.Cache(
        nodes=tuple(
            bindings.CacheNode(name=one.name, host=one.address(network)) for one in _servers(places, told.caches)
        ),
        password=places.secrets.cache if told.caches else "",
        eviction=cache.eviction,
        local_bytes=cache.local_memory_bytes,
        local_entries=cache.local_entries,
        local_eviction=cache.local_eviction,
    )


def _queue(places: seats.Seats, told: snapshot.Told) -> bindings.Queue:
    queue, workers = places.topology.queue or tiers.Queue(), places.topology.workers or tiers.Workers()
    network = places.store.records.network
    return bindings.Queue(
        transport=told.transport,
        former=told.former_transport,
        nodes=tuple(
            bindings.QueueNode(name=one.name, host=one.address(network)) for one in _servers(places, told.queues)
        ),
        password=places.secrets.queue if told.queues else "",
        replicas=max(1, min(MOST_REPLICAS, len(told.queues))),
        storage_bytes=queue.storage_bytes,
        handled_by=told.handled_by,
        concurrency=workers.concurrency,
        most_bytes=queue.message_size_bytes,
        imports=workers.imports,
    )


def _servers(places: seats.Seats, names: tuple[str, ...]) -> tuple[layout.Server, ...]:
    known = places.known
    return tuple(server for name in names if (server := known.server(name)) is not None)


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


def write(places: seats.Seats, databases: tuple[str, ...], told: snapshot.Told = snapshot.NOTHING_TOLD) -> None:
    """Tell apps; they watch the file."""
    files.write_if_changed(places.where.bindings, bindings.dump(make(places, databases, told)).decode())


def published(places: seats.Seats) -> bindings.Bindings | None:
    """What apps are told now, or None when there is no readable file."""
    try:
        return bindings.load(places.where.bindings)
    except errors.BadBindings:
        return None


def databases_in(bound: bindings.Bindings | None) -> tuple[str, ...]:
    """The database servers that these bindings name."""
    return tuple(node.name for node in bound.database.shards[0].nodes) if bound and bound.database else ()


def told_in(bound: bindings.Bindings | None) -> snapshot.Told:
    """What else they tell the app of."""
    if bound is None:
        return snapshot.NOTHING_TOLD
    return snapshot.Told(
        edges=tuple(node.name for node in bound.cdn.nodes),
        caches=tuple(node.name for node in bound.cache.nodes),
        store=cast(snapshot.Store, bound.sessions.store),
        former_stores=cast(tuple[snapshot.Store, ...], bound.sessions.former),
        queues=tuple(node.name for node in bound.queue.nodes),
        transport=cast(snapshot.Transport, bound.queue.transport),
        former_transport=cast(snapshot.Transport, bound.queue.former),
        handled_by="workers" if bound.queue.handled_by == "workers" else "web",
    )
