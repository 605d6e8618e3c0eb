"""The layout: names and addresses are a function of the topology, and nobody's address passes on to another job."""

import itertools

from support.topologies import TOPOLOGIES, topology
from tenfold.topology import layout


def addresses(**sections: object) -> dict[str, str]:
    return {one.name: one.address(66) for one in layout.layout(topology(**sections)).servers}


def test_one_server_has_everything() -> None:
    (server,) = layout.layout(topology()).servers

    assert ("server-1", "127.66.1.1") == (server.name, server.address(66))
    assert ["haproxy", "granian", "postgres"] == [process.name for process in server.processes]


def test_replicas_have_servers_for_data_and_coordination() -> None:
    assert {
        "balancer-1": "127.66.1.10",
        "balancer-2": "127.66.1.11",
        "web-1": "127.66.1.100",
        "web-2": "127.66.1.101",
        "coordination-1": "127.66.1.40",
        "coordination-2": "127.66.1.41",
        "coordination-3": "127.66.1.42",
        "database-1": "127.66.1.50",
        "database-2": "127.66.1.51",
        "database-3": "127.66.1.52",
    } == addresses(balancer={"servers": 2}, web={"servers": 2}, database={"replicas": 2})


def test_no_two_servers_share_an_address_or_pass_it_on() -> None:
    owner: dict[str, str] = {}
    for wanted in TOPOLOGIES.values():
        names = [(one.name, one.address(66)) for one in layout.layout(wanted).servers]
        assert len(names) == len({address for _, address in names})
        for name, address in names:
            assert name == owner.setdefault(address, name)


def test_the_addresses_of_the_database_are_the_same_on_every_rung_and_hold_every_database() -> None:
    known = layout.database_addresses(topology(), 66)

    assert "127.66.1.1" == known[0]
    for wanted in (*TOPOLOGIES.values(), topology(balancer={}, database={"replicas": 8})):
        assert known == layout.database_addresses(wanted, 66)
        assert {one.address(66) for one in layout.layout(wanted).databases} <= set(known)


def test_the_largest_topology_fits() -> None:
    wanted = topology(
        balancer={"servers": 9},
        web={"servers": 90},
        web_groups={"api": {"servers": 60}, "admin": {"servers": 60}},
        database={"replicas": 8},
    )
    found = [one.address(66) for one in layout.layout(wanted).servers]

    assert len(found) == len(set(found)) == 9 + 90 + 120 + 3 + 9
    assert all(0 < int(part) < 255 for address in found for part in address.split("."))


def test_another_group_or_server_moves_nobody() -> None:
    small = addresses(balancer={}, web_groups={"b": {"servers": 2}})
    large = addresses(balancer={}, web={"servers": 4}, web_groups={"a": {"servers": 3}, "b": {"servers": 4}})

    assert small.items() <= large.items()


def test_a_group_is_served_by_its_own_servers() -> None:
    wanted = layout.layout(topology(balancer={}, web={"servers": 2}, web_groups={"api": {"servers": 1}}))

    assert ["web-1", "web-2"] == [one.name for one in wanted.web()]
    assert ["web-api-1"] == [one.name for one in wanted.web("api")]


def test_blocks_of_groups_never_overlap() -> None:
    blocks = {layout.group_address("home", f"group-{number}") for number in range(2000)}

    for (subnet, first), (other_subnet, other_first) in itertools.combinations(sorted(blocks), 2):
        assert subnet != other_subnet or abs(first - other_first) >= layout.GROUP_SERVERS


REGIONS = {"seoul": {"primary": True}, "virginia": {"web": {"servers": 1}}}


def test_a_second_region_moves_nobody_and_has_tiers_of_its_own() -> None:
    alone = addresses(balancer={}, web={"servers": 2}, web_groups={"api": {}}, database={"replicas": 1})
    both = addresses(balancer={}, web={"servers": 2}, web_groups={"api": {}}, database={"replicas": 1}, regions=REGIONS)

    assert alone.items() <= both.items()
    assert "127.66.2.100" == both["virginia-web-1"]
    assert "virginia-web-2" not in both
    assert len(both) == len(set(both.values()))


def test_servers_of_another_region_are_met_at_addresses_of_the_network_between() -> None:
    regions = {f"region-{number}": {"primary": number == 0} for number in range(layout.MOST_REGIONS)}
    wanted = layout.layout(topology(regions=regions))
    met = {
        (asking, one.name): one.address(66, seen_from=asking)
        for asking in range(1, layout.MOST_REGIONS + 1)
        for one in wanted.servers
        if one.region_number not in (asking, layout.OUTSIDE)
    }
    own = {one.address(66) for one in wanted.servers}

    assert len(met) == len(set(met.values()))
    assert not own & set(met.values())
    assert all(layout.FIRST_CROSSING < int(address.split(".")[2]) < 50 for address in met.values())


def test_each_region_has_a_front_door_of_its_own() -> None:
    wanted = topology(regions={**REGIONS, "ireland": {"listen": "127.0.0.1:9090"}})

    doors = [layout.as_in(wanted, name, 66).service.listen for name in wanted.regions]

    assert ["127.0.0.1:8080", "127.66.2.9:8080", "127.0.0.1:9090"] == doors
