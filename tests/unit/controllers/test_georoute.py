"""Where clients are sent, and which regions count as healthy: decisions alone, on a clock that tests move."""

import ipaddress
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold import zone
from tenfold.controllers import georoute

SEOUL = zone.Location(37.57, 126.98)
VIRGINIA = zone.Location(38.9, -77.0)
FRANKFURT = zone.Location(50.1, 8.7)
TOKYO = zone.Location(35.7, 139.7)


def region(name: str, *networks: str, place: zone.Location | None = None, weight: int | None = None) -> zone.Region:
    number = sum(name.encode()) % 250
    return zone.Region(name, (f"198.51.100.{number}",), (), networks, place, weight)


def made(*regions: zone.Region, has_spare: bool = False) -> zone.Zone:
    return zone.Zone("shop.test", 5, regions, regions[0].name, regions[0].name, ("127.0.0.1",), has_spare=has_spare)


WORLD = made(
    region("seoul", "203.0.113.0/24", "2001:db8:1::/48", place=SEOUL),
    region("virginia", "192.0.2.0/24", "203.0.113.128/25", place=VIRGINIA),
    region("frankfurt", place=FRANKFURT),
)
ALL = frozenset(one.name for one in WORLD.regions)


def names(found: georoute.Order) -> list[str]:
    return [one.name for one in found.regions]


def sent(client: str, healthy: frozenset[str] = ALL, known: zone.Zone = WORLD, **places: zone.Location) -> list[str]:
    def locate(address: georoute.Address) -> georoute.Found | None:
        place = places.get(f"at_{str(address).partition('.')[0]}")
        return georoute.Found(place, 16) if place else None

    return names(georoute.Map(known, locate).order(ipaddress.ip_network(client), healthy))


def test_the_longest_network_says_where_a_client_belongs_and_distance_who_is_next() -> None:
    assert ["seoul", "frankfurt", "virginia"] == sent("203.0.113.0/25")
    assert ["virginia", "frankfurt", "seoul"] == sent("203.0.113.200/32")
    assert ["seoul", "frankfurt", "virginia"] == sent("2001:db8:1:700::/56")


def test_a_client_in_no_network_is_sent_to_the_nearest_region_that_is_healthy() -> None:
    assert ["seoul", "frankfurt", "virginia"] == sent("100.64.0.0/24", at_100=TOKYO)
    assert ["frankfurt", "virginia"] == sent("100.64.0.0/24", ALL - {"seoul"}, at_100=TOKYO)


def test_a_client_whose_place_nobody_knows_is_sent_home() -> None:
    assert "seoul" == sent("100.64.0.0/24")[0]
    assert "virginia" == sent("100.64.0.0/24", ALL - {"seoul"})[0]


def test_weights_share_out_clients_whose_place_nobody_knows_and_a_failure_moves_no_others() -> None:
    known = made(region("seoul", weight=3), region("virginia", weight=1), region("spare", weight=0))
    clients = [f"10.{one}.{other}.0/24" for one in range(64) for other in range(64)]
    before = {client: sent(client, frozenset({"seoul", "virginia", "spare"}), known)[0] for client in clients}
    after = {client: sent(client, frozenset({"seoul", "spare"}), known)[0] for client in clients}

    assert 0.72 < Counter(before.values())["seoul"] / len(clients) < 0.78
    assert {"seoul", "virginia"} == set(before.values())
    assert {"seoul"} == set(after.values())
    assert all(before[client] == "virginia" or before[client] == after[client] for client in clients)
    assert ["spare"] == sent(clients[0], frozenset({"spare"}), known)


def test_when_no_region_is_healthy_all_are_answered() -> None:
    found = georoute.Map(WORLD).order(ipaddress.ip_network("192.0.2.0/24"), ())

    assert ["virginia", "frankfurt", "seoul"] == names(found)
    assert 3 == len(georoute.answers(WORLD, found, ()))


def test_an_answer_holds_addresses_of_one_region_and_a_spare_only_when_asked_for() -> None:
    order = georoute.Map(WORLD).order(ipaddress.ip_network("192.0.2.0/24"), ALL)
    with_spare = made(*WORLD.regions, has_spare=True)

    assert WORLD.regions[1].addresses == georoute.answers(WORLD, order, ALL)
    expected = (*WORLD.regions[1].addresses, *WORLD.regions[2].addresses)
    assert expected == georoute.answers(with_spare, order, ALL)


def test_where_there_is_no_choice_the_answer_is_everybodys() -> None:
    client = ipaddress.ip_network("192.0.2.0/24")

    assert 24 == georoute.Map(WORLD).order(client, ALL).bits
    assert 0 == georoute.Map(WORLD).order(client, {"seoul"}).bits
    assert 0 == georoute.Map(made(region("seoul", "192.0.2.0/24"))).order(client, {"seoul"}).bits


networks = st.builds(
    lambda number, bits: ipaddress.IPv4Network((number, bits), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(1, 30),
)


@given(
    st.dictionaries(networks, st.sampled_from(["a", "b", "c"]), max_size=12),
    networks,
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_everybody_in_the_scope_of_an_answer_is_sent_the_same_way(
    owned: dict[ipaddress.IPv4Network, str], client: ipaddress.IPv4Network, other: int, is_weighted: bool
) -> None:
    """What a resolver does with an answer (RFC 7871, 7.3.1): it gives it to whoever is in the scope."""
    weight = 2 if is_weighted else None
    regions = [region(name, *(str(net) for net, its in owned.items() if its == name), weight=weight) for name in "abc"]
    asked = georoute.Map(made(*regions))
    single = ipaddress.IPv4Network((int(client.network_address), 32))
    healthy = frozenset("abc")
    found = asked.order(single, healthy)
    scope = ipaddress.IPv4Network((int(client.network_address), found.bits), strict=False)
    neighbour = ipaddress.IPv4Network((int(scope.network_address) | (other & int(scope.hostmask)), 32))

    assert names(found) == names(asked.order(neighbour, healthy))


@given(st.lists(st.booleans(), min_size=1, max_size=400))
def test_a_verdict_never_changes_on_less_than_the_rules_say(checks: list[bool]) -> None:
    rules = georoute.Rules()
    health = georoute.Health()
    for number, is_good in enumerate(checks):
        before, health = health, georoute.judge(health, is_good, number * 0.4, rules)
        if before.is_up and not health.is_up:
            assert [False] * rules.down_after == checks[number + 1 - rules.down_after : number + 1]
        if health.is_up and not before.is_up:
            assert [True] * rules.up_after == checks[number + 1 - rules.up_after : number + 1]


@pytest.mark.parametrize("period", [4, 7, 10, 16])
def test_a_region_that_comes_and_goes_is_left_out_for_longer_and_longer(period: int) -> None:
    rules, health, changes = georoute.Rules(), georoute.Health(), 0
    for number in range(750):  # five minutes
        before, health = health, georoute.judge(health, number // period % 2 == 0, number * 0.4, rules)
        changes += before.is_up != health.is_up

    assert changes <= 12, f"{changes} changes of the answer in five minutes"


def test_a_region_that_was_well_for_long_comes_back_at_once_the_next_time() -> None:
    rules, health = georoute.Rules(), georoute.Health()
    for second in (*range(3), *range(10, 13), *range(14, 17), *range(20, 26), *range(500, 503)):
        is_good = second in (10, 11, 12) or 20 <= second < 26
        health = georoute.judge(health, is_good, float(second), rules)

    assert not health.is_up
    assert rules.up_after == health.up_after
