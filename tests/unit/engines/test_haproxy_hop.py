"""The balancer's part of a trace: what is rendered into its configuration, and how its answer is read back."""

from pathlib import Path

import pytest

from support import frontdoor
from tenfold import bindings
from tenfold.engines.haproxy import hop, render
from tenfold.topology import tiers


def said(**changes: str) -> str:
    """A header as HAProxy fills it in."""
    fields = {
        "name": "balancer-1",
        "group": "default",
        "policy": "least_connections",
        "route": "",
        "server": "web-2",
        "usable": "2",
        "cookie": "----",
        "retries": "0",
        "queue": "0",
        "connect": "0",
        "answer": "7",
        "microseconds": "7300",
        "id": "the-id",
    }
    return "; ".join(["balancer", *(f"{key}={value}" for key, value in {**fields, **changes}.items())])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "of 2 the one with the fewest open requests (least_connections)"),
        ({"policy": "round_robin", "usable": "3"}, "of 3 each in its turn (round_robin)"),
        ({"usable": "1"}, "the only usable web server"),
        ({"cookie": "--VN"}, "the one that the client's cookie names"),
        ({"cookie": "--DI", "usable": "1"}, "the only usable web server"),
        (
            {"route": hop.route("/api/"), "group": "api", "usable": "1"},
            "route /api/ leads to group api; the only usable web server",
        ),
        ({"usable": "1", "retries": "1"}, "the only usable web server; tried 2 times"),
        ({"usable": "1", "retries": "+2"}, "the only usable web server; tried 3 times, and moved to another server"),
        ({"server": "<NOSRV>"}, "no web server was given it"),
        ({"server": "hold"}, "no web server could be used: the request was held until one could"),
    ],
)
def test_a_choice_is_told_in_words(changes: dict[str, str], expected: str) -> None:
    found = hop.spans_of([said(**changes)])

    assert found is not None
    assert ("balancer-1", expected) == (found.name, found.decision)


def test_the_time_in_the_queue_and_of_connecting_is_told() -> None:
    found = hop.spans_of([said(queue="120", connect="30", microseconds="400000")])

    assert found is not None
    assert 400.0 == found.duration_ms
    assert [("queue", 0.0, 120.0), ("connect", 120.0, 30.0)] == [
        (one.kind, one.start_ms, one.duration_ms) for one in found.children
    ]


def test_a_request_that_was_held_has_passed_the_balancer_twice() -> None:
    found = hop.spans_of([said(microseconds="8000"), said(server="hold", microseconds="2000000")])

    assert found is not None
    assert ["hold", "web-2"] == [one.where for one in found.walk() if one.kind == hop.KIND]
    assert 1992.0 == found.children[-1].start_ms
    assert "the-id" == hop.request_id([said(id="-"), said(server="hold")])


@pytest.mark.parametrize("text", ["", "nonsense", "balancer; usable=x; microseconds=-; route=zz; retries=many"])
def test_what_does_not_parse_counts_as_not_said(text: str) -> None:
    found = hop.spans_of([text])

    assert found is not None
    assert ("", 0.0, []) == (found.name, found.duration_ms, found.children)


def test_without_a_header_there_is_no_hop() -> None:
    assert hop.spans_of([]) is None
    assert "" == hop.request_id([])


def test_the_configuration_holds_what_the_key_hashes_to_and_never_the_key(tmp_path: Path) -> None:
    seat = frontdoor.seat(tmp_path, frontdoor.topology(balancer=tiers.Balancer(servers=2)), 1)
    texts = "".join(render.render(seat).values())

    assert bindings.debug_key(seat.secrets.signing) not in texts
    assert "balancer; name=balancer-2; group=web; policy=least_connections" in texts
