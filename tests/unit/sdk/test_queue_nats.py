"""The bytes, names and envelopes of the NATS transport."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.sdk.queue import envelopes
from tenfold.sdk.queue.nats import enveloping, naming, wire

STREAM = (
    b'INFO {"max_payload":1048576}\r\nPING\r\n'
    b"MSG a.b 7 5\r\nhel\r\n\r\n"
    b"MSG a.b 7 $JS.ACK.x 0\r\n\r\n"
    b"HMSG a.b 8 reply 18 23\r\nNATS/1.0\r\nA: b\r\n\r\nhello\r\n"
    b"HMSG _INBOX.1 9 32 32\r\nNATS/1.0 408 Request Timeout\r\n\r\n\r\n"
    b"-ERR 'Authorization Violation'\r\n+OK\r\n"
)


@given(st.lists(st.integers(min_value=1, max_value=40), min_size=1))
def test_what_arrives_means_the_same_however_it_is_cut(sizes: list[int]) -> None:
    whole = wire.Parser().feed(STREAM)

    parser, found, at, turn = wire.Parser(), [], 0, 0
    while at < len(STREAM):
        size = sizes[turn % len(sizes)]
        found += parser.feed(STREAM[at : at + size])
        at, turn = at + size, turn + 1

    assert whole == found
    assert 8 == len(whole)
    assert wire.Delivered(7, b"a.b", b"", b"", b"hel\r\n") == whole[2]
    assert wire.Delivered(8, b"a.b", b"reply", b"NATS/1.0\r\nA: b\r\n\r\n", b"hello") == whole[4]
    timeout = whole[5]
    assert isinstance(timeout, wire.Delivered)
    assert "408" == wire.status(timeout.head)
    assert wire.Said(b"-ERR", b"'Authorization Violation'") == whole[6]


@pytest.mark.parametrize("line", [b"MSG a 1\r\n", b"MSG a b c d e f\r\n", b"HMSG a 1 30 5\r\n", b"HMSG a 1 x 5\r\n"])
def test_a_message_that_is_none_ends_the_connection(line: bytes) -> None:
    with pytest.raises(wire.ProtocolError):
        wire.Parser().feed(line + b"x" * 40)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_a_header_comes_back_as_it_was_whatever_it_holds(first: str, second: str) -> None:
    head = wire.head_of([("One", first), ("two", second)])

    assert {"one": first, "two": second} == wire.headers(head)
    assert b"" == head.partition(b"\r\n\r\n")[2]
    assert "" == wire.status(head)


def test_an_envelope_comes_back_from_the_servers_as_it_was() -> None:
    names = naming.of("shop")
    sent = envelopes.make(
        "order.placed", {"n": 1}, key="Zoë %", headers={"x-of-mine": "ü"}, source="/shop", most_bytes=1000
    )
    subject, head = enveloping.packed(sent, names)
    reply = b"$JS.ACK.tenfold-shop.mailer.3.17.20.1700000000123456789.0"
    source = enveloping.source(reply)

    assert sent == enveloping.unpacked(wire.Delivered(1, subject, reply, head, sent.payload), source)
    assert (3, 1700000000.1234567) == (source.attempt, source.published_at)
    assert source == enveloping.source(b"$JS.ACK._.hash.tenfold-shop.mailer.3.17.20.1700000000123456789.0.x")


def test_a_key_has_one_lane_and_a_group_in_order_a_consumer_for_each() -> None:
    names = naming.of("shop")
    free, strict = naming.Group("mailer", "a.b"), naming.Group("mailer", "a.b", is_ordered=True)
    [one] = names.consumers(free)
    lanes = names.consumers(strict)

    assert "tenfold.shop.*.a.b" == one.filter
    assert [f"tenfold.shop.{lane:02d}.a.b" for lane in range(16)] == [lane.filter for lane in lanes]
    assert naming.lane_of("k", b"1") == naming.lane_of("k", b"2")
    assert len({name.name for name in [one, *lanes]}) == 17


def test_names_that_a_server_would_refuse_become_others_that_stay_different() -> None:
    assert "tenfold-shop" == naming.of("shop").stream
    odd, even = naming.of("my shop.de"), naming.of("my shop_de")

    assert odd.stream != even.stream
    assert not set(" .*>") & set(odd.stream)
