"""The front door's files, and the weights of the policy `fastest`."""

from pathlib import Path

import pytest

from support import frontdoor
from tenfold.engines.haproxy import render, settings, weights
from tenfold.topology import tiers


def configuration(folder: Path, **sections: object) -> str:
    return render.render(frontdoor.seat(folder, frontdoor.topology(**sections)))[render.CONFIGURATION]


def lines(text: str, word: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith(f"{word} ")]


def revision(folder: Path, **sections: object) -> str:
    return render.revision(frontdoor.seat(folder, frontdoor.topology(**sections)))


def test_every_wanted_web_server_is_named_with_its_private_address(tmp_path: Path) -> None:
    text = configuration(tmp_path, web=tiers.Web(servers=2))

    servers = lines(text, "server")

    assert ["server web-1 127.64.1.100:8000 weight 100", "server web-2 127.64.1.101:8000 weight 100"] == servers[:2]
    assert servers[2].startswith("server hold 'unix@")


def test_a_folder_with_blanks_in_its_name_is_quoted(tmp_path: Path) -> None:
    text = configuration(tmp_path / "with a blank", web=tiers.Web(servers=1))

    unquoted = [line for line in text.splitlines() if "with a blank" in line and "'" not in line]
    assert [] == unquoted


def test_without_balancers_the_first_server_is_front_door_and_web_server(tmp_path: Path) -> None:
    text = configuration(tmp_path, balancer=None, web=tiers.Web(servers=1))

    assert "server server-1 127.64.1.1:8000 weight 100" in text
    assert ["bind 127.64.0.10:8080"] == lines(text, "bind")[:1]


def test_under_tls_the_front_door_speaks_http_2_and_nothing_older_than_tls_1_2(tmp_path: Path) -> None:
    service = tiers.Service(name="shop", app="shop:app", listen="127.0.0.1:443", tls=tiers.SELF_SIGNED)

    first, second = lines(configuration(tmp_path, service=service), "bind")[:2]

    assert first.startswith("bind 127.0.0.1:443 ssl crt '")
    assert first.endswith("/tls/self-signed.pem' alpn h2,http/1.1 ssl-min-ver TLSv1.2")
    assert second.startswith("bind 'unix@")
    assert "bind 127.0.0.1:80" in lines(configuration(tmp_path, service=service), "bind")


def test_the_revision_changes_with_where_the_certificate_comes_from(tmp_path: Path) -> None:
    service = tiers.Service(name="shop", app="shop:app")
    sources = (None, tiers.SELF_SIGNED, tiers.Tls(certificate="a.pem"), tiers.Tls(certificate="a.pem", key="a.key"))

    found = {revision(tmp_path, service=service.model_copy(update={"tls": source})) for source in sources}

    assert len(sources) == len(found)


def test_weights_count_for_the_weighted_policies_only(tmp_path: Path) -> None:
    weighted = tiers.Balancer(policy="weighted_round_robin", weights={"web-2": 7})
    plain = tiers.Balancer(policy="round_robin", weights={"web-2": 7})

    assert "server web-2 127.64.1.101:8000 weight 7" in configuration(tmp_path, balancer=weighted)
    assert "server web-2 127.64.1.101:8000 weight 100" in configuration(tmp_path, balancer=plain)


def test_the_longest_path_is_asked_first(tmp_path: Path) -> None:
    routes = (
        tiers.Route(path="/a/", group="api"),
        tiers.Route(path="/api/reports/", group="reports"),
        tiers.Route(path="/shop", group="api"),
    )
    groups = {"api": tiers.WebGroup(), "reports": tiers.WebGroup()}

    text = configuration(tmp_path, balancer=tiers.Balancer(route=routes), web_groups=groups)

    assert [
        "use_backend group-reports if { path_beg /api/reports/ }",
        "use_backend group-api if { path /shop } or { path_beg /shop/ }",
        "use_backend group-api if { path_beg /a/ }",
    ] == lines(text, "use_backend")


def test_a_path_cannot_leave_its_line(tmp_path: Path) -> None:
    routes = (tiers.Route(path='/a b\n"# }', group="web"),)

    text = configuration(tmp_path, balancer=tiers.Balancer(route=routes))

    assert ["use_backend group-web if { path /a%20b%0A%22%23%20%7D } or { path_beg /a%20b%0A%22%23%20%7D/ }"] == lines(
        text, "use_backend"
    )


def test_what_a_web_server_takes_is_shared_by_the_balancers(tmp_path: Path) -> None:
    web = tiers.Web(servers=2, max_requests=9)

    two = configuration(tmp_path, balancer=tiers.Balancer(servers=2), web=web)
    one = configuration(tmp_path, balancer=None, web=tiers.Web(servers=1, max_requests=9))

    assert lines(two, "default-server")[0].endswith("maxconn 18")
    assert lines(one, "default-server")[0].endswith("maxconn 36")


def test_the_revision_does_not_depend_on_the_list_of_web_servers(tmp_path: Path) -> None:
    seat = frontdoor.seat(tmp_path, frontdoor.topology())

    assert render.revision(seat) == render.revision(frontdoor.with_web(seat, "web-1"))
    assert revision(tmp_path, web=tiers.Web(servers=2)) == revision(tmp_path, web=tiers.Web(servers=5))


@pytest.mark.parametrize(
    "balancer",
    [
        tiers.Balancer(policy="round_robin"),
        tiers.Balancer(sticky=True),
        tiers.Balancer(route=(tiers.Route(path="/api/", group="web"),)),
    ],
    ids=["policy", "sticky", "route"],
)
def test_the_revision_changes_with_what_needs_a_reload(tmp_path: Path, balancer: tiers.Balancer) -> None:
    before = revision(tmp_path, balancer=tiers.Balancer(policy="least_connections"))

    assert before != revision(tmp_path, balancer=balancer)


def test_the_revision_changes_with_the_weights(tmp_path: Path) -> None:
    def weighted(weight: int) -> tiers.Balancer:
        return tiers.Balancer(policy="weighted_round_robin", weights={"web-1": weight})

    assert revision(tmp_path, balancer=weighted(10)) != revision(tmp_path, balancer=weighted(20))


def test_the_signing_secret_is_not_in_the_files(tmp_path: Path) -> None:
    seat = frontdoor.seat(tmp_path, frontdoor.topology(balancer=tiers.Balancer(sticky=True)))

    for text in render.render(seat).values():
        assert seat.secrets.signing not in text


def test_two_balancers_of_one_service_agree_on_the_sticky_cookies(tmp_path: Path) -> None:
    topology = frontdoor.topology(balancer=tiers.Balancer(servers=2, sticky=True))

    first, second = (settings.of(frontdoor.seat(tmp_path, topology, number)) for number in (0, 1))

    assert first.sticky_key == second.sticky_key != ""


def test_a_server_that_is_half_as_fast_gets_half_the_weight() -> None:
    assert {"a": 256, "b": 128, "c": 64} == weights.weights({"a": 5.0, "b": 10.0, "c": 20.0})


def test_a_very_slow_server_is_still_looked_at() -> None:
    assert {"a": 256, "b": weights.LOWEST} == weights.weights({"a": 1.0, "b": 5000.0})


def test_a_server_without_a_measurement_counts_as_an_average_one() -> None:
    assert {"a": 256, "b": 64, "new": 102} == weights.weights({"a": 2.0, "b": 8.0, "new": None})


def test_servers_that_all_answer_within_a_millisecond_are_equal() -> None:
    assert {"a": 256, "b": 256} == weights.weights({"a": 0.0, "b": 0.0})


def test_before_the_first_answer_all_are_equal() -> None:
    assert {"a": 256, "b": 256} == weights.weights({"a": None, "b": None})


def test_without_edges_the_configuration_says_nothing_of_them(tmp_path: Path) -> None:
    text = configuration(tmp_path)

    assert text == configuration(tmp_path, cdn=tiers.Cdn(edges=0, static="static"))
    assert "backend edges" not in text
    assert "frontend origin" not in text


def test_the_revision_says_whether_there_are_edges_and_not_which(tmp_path: Path) -> None:
    cdns = [tiers.Cdn(edges=1), tiers.Cdn(edges=2, memory="1GiB"), tiers.Cdn(static="static"), None]

    one, other, counted, none = (revision(tmp_path, cdn=cdn) for cdn in cdns)

    assert one == other
    assert 3 == len({one, counted, none})


def test_requests_that_may_write_go_to_the_balancers_of_the_home_region(tmp_path: Path) -> None:
    regions = {"near": tiers.Region(primary=True), "far": tiers.Region()}
    wanted = frontdoor.topology(balancer=tiers.Balancer(servers=2), regions=regions)

    home, far = (render.render(frontdoor.seat(tmp_path, wanted, number))[render.CONFIGURATION] for number in (0, 2))

    assert ["use_backend home if !is_safe !is_health"] == lines(far, "use_backend")
    assert ["server balancer-1 127.64.16.10:8082", "server balancer-2 127.64.16.11:8082"] == lines(far, "server")[:2]
    assert "use_backend home" not in home
    assert "bind 127.64.1.10:8082" in lines(home, "bind")
