"""What other regions keep of the queue's messages, and when the home lets go of what is handled."""

from typing import Any

import msgspec

from tenfold import bindings
from tenfold.sdk.queue import queue
from tenfold.sdk.queue.nats import copies, naming, succession

NAMES = naming.of("shop")


def node(region: str) -> bindings.QueueNode:
    return bindings.QueueNode(name=f"{region}-queue-1", host="10.0.0.1", region=region)


def told(region: str, home: str = "seoul", others: tuple[str, ...] = ("seoul", "virginia")) -> bindings.Queue:
    """What the app of a region is told."""
    mirrors = tuple(bindings.QueueRegion(name=one, domain=one, nodes=(node(one),)) for one in others if one != region)
    return bindings.Queue(transport="nats", nodes=(node(home),), domain=region, mirrors=mirrors)


def test_only_the_home_looks_after_copies_and_only_when_there_are_other_regions() -> None:
    assert copies.is_at_home(told("seoul"))
    assert not copies.is_at_home(told("virginia"))
    assert copies.is_at_home(told("virginia", home="virginia"))
    assert not copies.is_at_home(told("seoul", others=("seoul",)))
    assert not copies.is_at_home(bindings.Queue())


def test_the_acknowledgement_that_counts_is_the_home_s_wherever_one_is() -> None:
    assert b'"domain":"seoul"' == copies.answers_as(told("seoul"))
    assert b'"domain":"seoul"' == copies.answers_as(told("virginia"))
    assert b"" == copies.answers_as(bindings.Queue(transport="nats", nodes=(node(""),)))


def test_a_stream_leaves_room_for_a_copy_on_every_server_whoever_is_home() -> None:
    alone, shared = bindings.Queue(storage_bytes=1000), msgspec.structs.replace(told("seoul"), storage_bytes=1000)
    copy = copies.settings(shared, NAMES, "seoul", "then", 3)

    assert 900 == copies.most_bytes(alone)
    assert copies.most_bytes(shared) + copy["max_bytes"] <= 900
    assert ("tenfold-shop-from-seoul", 3, "old") == (copy["name"], copy["num_replicas"], copy["discard"])
    assert {"name": "tenfold-shop", "external": {"api": "$JS.seoul.API"}} == copy["mirror"]
    assert "$JS.virginia.API" == copies.settings(shared, NAMES, "virginia", "then", 1)["mirror"]["external"]["api"]


def test_servers_of_another_home_are_another_transport() -> None:
    """What a consumer of one home still says must not reach the other's consumer of the same name."""
    assert {"postgres", "nats@seoul"} == queue._ways(told("seoul"))
    assert {"postgres", "nats@virginia"} == queue._ways(told("seoul", home="virginia"))
    assert {"postgres", "nats"} == queue._ways(bindings.Queue(transport="nats", former="postgres", nodes=(node(""),)))
    assert {"postgres", "nats@seoul"} == queue._ways(
        msgspec.structs.replace(told("seoul"), transport="postgres", former="nats")
    )


def stream(last: int, stored: int = 0) -> dict[str, Any]:
    return {"state": {"last_seq": last, "bytes": stored}, "config": {"max_bytes": 100}}


def listener(floor: int, waiting: int, *, is_copy: bool = False) -> dict[str, Any]:
    metadata = {"_nats.mirror.stream": "x"} if is_copy else {"group": "mailer", "subject": "a"}
    return {
        "name": f"{'copy' if is_copy else 'group'}{floor}",
        "config": {"metadata": metadata},
        "ack_floor": {"stream_seq": floor},
        "num_pending": waiting,
        "num_ack_pending": 0,
    }


def test_what_any_group_has_not_settled_is_not_settled() -> None:
    assert 40 == succession.settled(stream(40), [])
    assert 40 == succession.settled(stream(40), [listener(12, 0), listener(40, 0)]), "nothing waits for the idle one"
    assert 12 == succession.settled(stream(40), [listener(12, 1), listener(40, 0)])
    assert 0 == succession.settled(stream(40), [listener(0, 40), listener(39, 1)])


def test_a_copy_that_is_far_behind_is_let_go_only_when_it_alone_fills_the_stream() -> None:
    behind, current = listener(3, 37, is_copy=True), listener(40, 0, is_copy=True)

    assert ["copy3"] == copies.holding_up(stream(40, 60), [behind, current, listener(40, 0)], 40)
    assert [] == copies.holding_up(stream(40, 40), [behind, listener(40, 0)], 40), "there is room"
    assert [] == copies.holding_up(stream(40, 60), [behind, listener(3, 37)], 3), "a group is as far behind"
