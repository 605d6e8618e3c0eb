"""Which consumers of a group on NATS begin where others stopped, and which go."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tenfold.sdk.queue.nats import naming, succession

NAMES = naming.of("shop")
FREE = NAMES.consumers(naming.Group("mailer", "user.*"))
LANES = NAMES.consumers(naming.Group("mailer", "user.*", is_ordered=True))
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def there(
    wanted: naming.Consumer, *, name: str = "", floor: int = 0, unsettled: int = 0, **more: Any
) -> dict[str, Any]:
    """What the servers say of this consumer."""
    [config] = succession.missing([wanted], [], 0)
    return {
        "name": name or wanted.name,
        "config": config | {"name": name or wanted.name},
        "created": (NOW - timedelta(minutes=5)).isoformat(),
        "ack_floor": {"stream_seq": floor},
        "num_pending": unsettled,
        "num_ack_pending": 0,
        "num_waiting": 0,
        **more,
    }


def beginnings(wanted: list[naming.Consumer], found: list[dict[str, Any]], last: int) -> set[tuple[str, int]]:
    made = succession.missing(wanted, found, last)
    return {(one["deliver_policy"], one.get("opt_start_seq", 0)) for one in made}


def test_a_new_group_begins_with_what_comes() -> None:
    assert {("new", 0)} == beginnings(LANES, [], 40)
    assert {("new", 0)} == beginnings(LANES, [there(one) for one in NAMES.consumers(naming.Group("other", "b"))], 40)


def test_lanes_begin_with_the_first_message_that_their_group_has_not_settled() -> None:
    assert {("by_start_sequence", 8)} == beginnings(LANES, [there(FREE[0], floor=7, unsettled=3)], 40)
    assert {("by_start_sequence", 41)} == beginnings(LANES, [there(FREE[0], floor=7)], 40), "nothing is left of before"


def test_a_group_without_order_begins_with_the_first_that_any_lane_has_not_settled() -> None:
    lanes = [there(LANES[0]), there(LANES[1], floor=20, unsettled=1), there(LANES[2], floor=12, unsettled=2)]

    assert {("by_start_sequence", 13)} == beginnings(FREE, lanes, 40)


def test_a_lane_that_was_renamed_is_followed_by_itself_and_by_no_other_lane() -> None:
    found = [there(one) for one in LANES if one.lane != 7]
    found += [there(LANES[7], name=f"{LANES[7].name}-again", floor=30, unsettled=1)]

    [made] = succession.missing(LANES, found, 40)
    assert (LANES[7].name, 31) == (made["name"], made["opt_start_seq"])
    assert {("new", 0)} == beginnings([LANES[6]], [there(LANES[7], name="other-again", floor=30, unsettled=1)], 40), (
        "another lane's messages are not its own"
    )


def test_where_a_consumer_began_is_not_asked_to_change() -> None:
    began = there(FREE[0])
    began["config"] |= {"deliver_policy": "by_start_sequence", "opt_start_seq": 8}
    assert [] == succession.missing(FREE, [began], 40)

    began["config"]["ack_wait"] = 1
    assert {("by_start_sequence", 8)} == beginnings(FREE, [began], 40)


def test_whoever_was_replaced_goes_once_nobody_asks_it_for_messages() -> None:
    old, used = there(FREE[0]), there(FREE[0], num_waiting=1)
    lanes = [there(one) for one in LANES]

    assert [FREE[0].name] == succession.strangers([old, *lanes], LANES, NOW)
    assert [] == succession.strangers([used, *lanes], LANES, NOW), "a process of the former release still works"
    assert [] == succession.strangers([old | {"created": NOW.isoformat()}, *lanes], LANES, NOW)


def test_a_group_that_is_forgotten_goes_whoever_asks() -> None:
    gone = there(NAMES.consumers(naming.Group("gone", "b"))[0], num_waiting=1)

    assert [gone["name"]] == succession.strangers([gone, there(FREE[0])], FREE, NOW)
