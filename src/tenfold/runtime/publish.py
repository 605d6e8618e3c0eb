"""Writes the bindings: what apps are told about where they run. The file is replaced atomically, 0600."""

from typing import cast

from tenfold import bindings, engines, errors
from tenfold.engines.haproxy import settings as haproxy
from tenfold.kit import files
from tenfold.observation import snapshot
from tenfold.runtime import seats
from tenfold.topology import layout, tiers

MOST_REPLICAS = 3
"""On how many queue servers a message is at most: any two of three may still be asked when one is dead."""


def make(
    places: seats.Seats,
    databases: tuple[str, ...],
    told: snapshot.Told = snapshot.NOTHING_TOLD,
    region: str = "",
) -> bindings.Bindings:
    """The bindings for this topology with these database servers, and with what else the app is to be told of.

    `region`: where the app is that is told; empty: at home. Servers of other regions have the addresses there that
    lead through the wide area network.
    """
    region = region or places.topology.home
    topology = places.topology.of(region)
    network = places.store.records.network
    nodes = tuple(
        bindings.DatabaseNode(name=server.name, host=_address(places, server, region), region=server.region)
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
        most_waiting=_most_waiting(topology),
        trusted_proxies=(f"127.{network}.0.0/16", "127.0.0.1"),
    )
    return bindings.Bindings(
        service=service,
        database=database(topology, places.secrets, nodes, told.witnesses),
        cdn=_cdn(places, told, region),
        cache=_cache(places, told, region),
        sessions=bindings.Sessions(
            store=told.store,
            former=told.former_stores,
            life_seconds=topology.sessions.life_seconds,
            is_eager=topology.sessions.eager,
        ),
        queue=_queue(places, told, region),
        region=region,
        home=topology.home,
        home_doors=_home_doors(places, region),
    )


def _home_doors(places: seats.Seats, region: str) -> tuple[bindings.HomeDoor, ...]:
    """The home's balancers, as another region meets them."""
    home = places.topology.home
    return tuple(
        bindings.HomeDoor(name=one.name, host=_address(places, one, region), port=layout.HOME_PORT)
        for one in (places.wanted.of(home).balancers if region != home else ())
    )


def _cdn(places: seats.Seats, told: snapshot.Told, region: str) -> bindings.Cdn:
    cdn = places.topology.of(region).cdn or tiers.Cdn()
    edges = (*told.edges, *_edges_elsewhere(places, region))
    return bindings.Cdn(
        nodes=tuple(
            bindings.EdgeNode(
                name=one.name, host=_address(places, one, region), port=layout.PURGE_PORT, region=one.region
            )
            for one in _servers(places, edges)
        ),
        key=places.secrets.edge if edges else "",
        static=cdn.static,
        static_path=cdn.static_path,
    )


def static_files(topology: tiers.Topology) -> bindings.Cdn:
    """Where the app's static files are, for an app without edges: in development, in tests."""
    cdn = topology.cdn or tiers.Cdn()
    return bindings.Cdn(static=cdn.static, static_path=cdn.static_path)


def _edges_elsewhere(places: seats.Seats, region: str) -> tuple[str, ...]:
    """The edges that the app in other regions is told of: a purge is for all of them."""
    others = [name for name in places.topology.regions if name != region]
    return tuple(edge for other in others for edge in told_in(published(places, other)).edges)


def _most_waiting(topology: tiers.Topology) -> int:
    """All that balancers may give to a process beyond what it works on, where more servers come when that happens."""
    follows_load = any(tier != "workers" for tier in topology.bounds)
    per_process = -(-topology.web.max_requests // topology.web.workers_per_server)
    return (haproxy.WAITING_SHARE - 1) * per_process if follows_load else 0


def _cache(places: seats.Seats, told: snapshot.Told, region: str) -> bindings.Cache:
    cache = places.topology.of(region).cache or tiers.Cache(servers=0)
    return bindings.Cache(
        nodes=tuple(
            bindings.CacheNode(name=one.name, host=_address(places, one, region))
            for one in _servers(places, told.caches)
        ),
        password=places.secrets.cache if told.caches else "",
        eviction=cache.eviction,
        local_bytes=cache.local_memory_bytes,
        local_entries=cache.local_entries,
        local_eviction=cache.local_eviction,
    )


def _queue(places: seats.Seats, told: snapshot.Told, region: str) -> bindings.Queue:
    queue, workers = places.topology.queue or tiers.Queue(), places.topology.workers or tiers.Workers()
    return bindings.Queue(
        transport=told.transport,
        former=told.former_transport,
        nodes=_queue_nodes(places, _servers(places, told.queues), region),
        domain=layout.region_named(places.topology, region).scope if told.queues else "",
        mirrors=_mirrors(places, region) if told.queues else (),
        password=places.secrets.queue if told.queues else "",
        replicas=max(1, min(MOST_REPLICAS, len(told.queues))),
        storage_bytes=queue.storage_bytes,
        handled_by=told.handled_by,
        concurrency=workers.concurrency,
        most_bytes=queue.message_size_bytes,
        imports=workers.imports,
    )


def _mirrors(places: seats.Seats, region: str) -> tuple[bindings.QueueRegion, ...]:
    """The queue servers of all regions but this one that the topology asks for, whether they run just now or not."""
    others = [one for one in layout.regions(places.topology) if one.name != region]
    servers = {one.name: places.wanted.of(one.name).running("nats") for one in others}
    return tuple(
        bindings.QueueRegion(name=one.name, domain=one.scope, nodes=_queue_nodes(places, servers[one.name], region))
        for one in others
        if servers[one.name]
    )


def _queue_nodes(
    places: seats.Seats, servers: tuple[layout.Server, ...], region: str
) -> tuple[bindings.QueueNode, ...]:
    has_regions = places.topology.has_regions
    return tuple(
        bindings.QueueNode(name=one.name, host=_address(places, one, region), region=one.region if has_regions else "")
        for one in servers
    )


def _address(places: seats.Seats, server: layout.Server, region: str) -> str:
    """Where a server is met by one in this region."""
    number = layout.region_named(places.topology, region).number
    return server.address(places.store.records.network, seen_from=number)


def _servers(places: seats.Seats, names: tuple[str, ...]) -> tuple[layout.Server, ...]:
    known = places.known
    return tuple(server for name in names if (server := known.server(name)) is not None)


def database(
    topology: tiers.Topology,
    secrets: engines.Secrets,
    nodes: tuple[bindings.DatabaseNode, ...],
    witnesses: tuple[str, ...] = (),
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
        witnesses=witnesses,
    )


def database_name(service: str) -> str:
    """The name of the service's database and of its role."""
    return service


def write(
    places: seats.Seats,
    databases: tuple[str, ...],
    told: snapshot.Told = snapshot.NOTHING_TOLD,
    region: str = "",
) -> None:
    """Tell the app in a region (empty: at home); it watches the file."""
    text = bindings.dump(make(places, databases, told, region)).decode()
    files.write_if_changed(places.bindings(region or places.topology.home), text)


def published(places: seats.Seats, region: str = "") -> bindings.Bindings | None:
    """What the app in a region (empty: at home) is told now, or None when there is no readable file."""
    try:
        return bindings.load(places.bindings(region or places.topology.home))
    except errors.BadBindings:
        return None


def databases_in(bound: bindings.Bindings | None) -> tuple[str, ...]:
    """The database servers that these bindings name."""
    return tuple(node.name for node in bound.database.shards[0].nodes) if bound and bound.database else ()


def told_in(bound: bindings.Bindings | None) -> snapshot.Told:
    """What else they tell the app of; of edges, those of its own region."""
    if bound is None:
        return snapshot.NOTHING_TOLD
    return snapshot.Told(
        edges=tuple(node.name for node in bound.cdn.nodes if node.region == bound.region),
        caches=tuple(node.name for node in bound.cache.nodes),
        store=cast(snapshot.Store, bound.sessions.store),
        former_stores=cast(tuple[snapshot.Store, ...], bound.sessions.former),
        queues=tuple(node.name for node in bound.queue.nodes),
        transport=cast(snapshot.Transport, bound.queue.transport),
        former_transport=cast(snapshot.Transport, bound.queue.former),
        handled_by="workers" if bound.queue.handled_by == "workers" else "web",
        witnesses=bound.database.witnesses if bound.database else (),
    )
