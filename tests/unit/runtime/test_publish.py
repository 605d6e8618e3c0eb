"""The bindings: what apps are told about their database, and nothing that they must not know."""

from pathlib import Path

from support.topologies import TOPOLOGIES, topology
from tenfold import bindings, engines
from tenfold.observation import snapshot
from tenfold.runtime import paths, publish, records, seats
from tenfold.topology import tiers

NAMES = (
    "superuser",
    "replicator",
    "app",
    "patroni",
    "etcd",
    "signing",
    "cache",
    "cache_admin",
    "edge",
    "queue",
    "queue_admin",
)
SECRETS = engines.Secrets(**{name: f"{name}!" for name in NAMES})

REPLICATED = topology(
    balancer={"servers": 2},
    web={"servers": 2, "workers_per_server": 3, "max_requests": 100},
    database={"replicas": 2, "unknown_client": "session", "pool_size": 7},
)


def places(tmp_path: Path, wanted: tiers.Topology = REPLICATED) -> seats.Seats:
    where = paths.Paths(tmp_path / "tenfold.toml")
    where.make()
    return seats.Seats(where, records.Store(where.records, records.Records(network=77)), SECRETS, wanted)


def test_an_app_is_told_the_database_nodes_that_were_asked_for(tmp_path: Path) -> None:
    database = publish.make(places(tmp_path), ("database-2", "database-1")).database

    assert database is not None
    assert ["127.77.1.51", "127.77.1.50"] == [node.host for node in database.shards[0].nodes]
    assert ("shop", "shop", "app!", 7, "session") == (
        database.name,
        database.user,
        database.password,
        database.pool_size,
        database.unknown_client,
    )


def test_a_server_that_is_not_known_any_more_is_left_out(tmp_path: Path) -> None:
    database = publish.make(places(tmp_path), ("database-1", "gone-1")).database

    assert database is not None
    assert ["database-1"] == [node.name for node in database.shards[0].nodes]


def test_workers_of_one_web_server_share_its_requests_and_round_up(tmp_path: Path) -> None:
    assert 34 == publish.make(places(tmp_path), ()).service.max_requests


def test_only_the_services_own_network_and_the_front_door_are_trusted_proxies(tmp_path: Path) -> None:
    assert ("127.77.0.0/16", "127.0.0.1") == publish.make(places(tmp_path), ()).service.trusted_proxies


def test_apps_get_no_password_but_their_own(tmp_path: Path) -> None:
    here = places(tmp_path)
    publish.write(here, ("database-1",))

    text = here.where.bindings.read_text()
    assert "app!" in text
    assert "signing!" in text
    assert [] == [one for one in ("superuser!", "replicator!", "patroni!", "etcd!") if one in text]
    assert 0o600 == here.where.bindings.stat().st_mode & 0o777


def test_what_was_written_is_what_is_published(tmp_path: Path) -> None:
    here = places(tmp_path)
    assert publish.published(here) is None

    publish.write(here, ("database-1",))
    assert publish.make(here, ("database-1",)) == publish.published(here)

    here.where.bindings.write_text("garbage")
    assert publish.published(here) is None


def test_a_file_that_says_the_same_is_not_touched_for_apps_watch_it(tmp_path: Path) -> None:
    here = places(tmp_path)
    publish.write(here, ("database-1",))
    before = here.where.bindings.stat().st_ino

    publish.write(here, ("database-1",))

    assert before == here.where.bindings.stat().st_ino
    assert isinstance(bindings.load(here.where.bindings), bindings.Bindings)


def test_what_the_app_is_told_of_comes_back_from_its_bindings(tmp_path: Path) -> None:
    queued = TOPOLOGIES["queued"]
    here = places(tmp_path, queued)
    told = snapshot.Told(
        caches=tuple(one.name for one in here.wanted.running("valkey")),
        store="cache",
        former_stores=("database",),
        queues=tuple(one.name for one in here.wanted.running("nats")),
        transport="nats",
        former_transport="postgres",
        handled_by="workers",
    )

    publish.write(here, ("database-1",), told)

    bound = publish.published(here)
    assert bound is not None
    assert (told, ("database-1",)) == (publish.told_in(bound), publish.databases_in(bound))
    assert ("127.77.1.60", "127.77.1.30", 3) == (
        bound.cache.nodes[0].host,
        bound.queue.nodes[0].host,
        bound.queue.replicas,
    )
    assert ("cache!", "queue!") == (bound.cache.password, bound.queue.password)


def test_an_app_without_cache_and_queue_servers_gets_no_passwords_for_them(tmp_path: Path) -> None:
    bound = publish.make(places(tmp_path), ("database-1",))

    assert ("", "", (), ()) == (bound.cache.password, bound.queue.password, bound.cache.nodes, bound.queue.nodes)


def test_each_region_is_told_the_homes_queue_servers_and_those_of_the_others_as_it_meets_them(tmp_path: Path) -> None:
    wanted = topology(
        database={"replicas": 1}, queue={"servers": 1}, regions={"seoul": {"primary": True}, "virginia": {}}
    )
    here = places(tmp_path, wanted)
    told = snapshot.Told(queues=("queue-1",), transport="nats")
    found = [publish.make(here, (), told, region).queue for region in ("seoul", "virginia")]

    assert ["home", "virginia"] == [one.domain for one in found], "whoever is home"
    nodes = [(node.region, node.host) for one in found for node in one.nodes]
    assert [("seoul", "127.77.1.30"), ("seoul", "127.77.16.30")] == nodes
    others = [(one.name, one.domain, *[node.host for node in one.nodes]) for region in found for one in region.mirrors]
    assert [("virginia", "virginia", "127.77.11.30"), ("seoul", "home", "127.77.16.30")] == others


def test_a_queue_of_one_region_has_no_copies(tmp_path: Path) -> None:
    here = places(tmp_path, topology(queue={"servers": 1}))
    queue = publish.make(here, (), snapshot.Told(queues=("queue-1",), transport="nats")).queue

    assert ("home", (), [""]) == (queue.domain, queue.mirrors, [node.region for node in queue.nodes])


def test_each_region_is_told_the_edges_of_all_as_it_meets_them(tmp_path: Path) -> None:
    here = places(
        tmp_path,
        topology(database={"replicas": 1}, cdn={"edges": 1}, regions={"seoul": {"primary": True}, "virginia": {}}),
    )
    own = {"seoul": "edge-1", "virginia": "virginia-edge-1"}
    for _ in range(2):  # when both are told for the first time, the first one hears of the other's edges afterwards
        for region, edge in own.items():
            publish.write(here, (), snapshot.Told(edges=(edge,)), region)
    found = {region: publish.published(here, region) for region in own}
    met = {
        region: [(node.name, node.region, node.host) for node in bound.cdn.nodes]
        for region, bound in found.items()
        if bound is not None
    }

    assert {
        "seoul": [("edge-1", "seoul", "127.77.1.20"), ("virginia-edge-1", "virginia", "127.77.11.20")],
        "virginia": [("virginia-edge-1", "virginia", "127.77.2.20"), ("edge-1", "seoul", "127.77.16.20")],
    } == met
