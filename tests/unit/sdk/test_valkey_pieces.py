"""The pieces of the client of Valkey that need no server: slots, views, redirects, and a connection's answers."""

import asyncio
from collections.abc import Sequence

import pytest

from tenfold.sdk.valkey import command, connection, scripts, slots, trouble

HERE = ("10.0.0.1", 6379)


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        ("123456789", 0x31C3),
        ("foo", 12182),
        ("{foo}bar", 12182),
        ("x{foo}y{z}", 12182),
        ("{}foo", slots.of(b"{}foo")),
        ("foo{{bar}}zap", slots.of("{bar")),
        ("", 0),
    ],
)
def test_a_key_is_in_the_slot_of_its_hash_tag(key: str, slot: int) -> None:
    assert slot == slots.of(key) == slots.of(key.encode())


def test_an_empty_or_open_hash_tag_is_none() -> None:
    assert slots.of("{}foo") != slots.of("{}bar")
    assert slots.of("{foo") != slots.of("foo")


def test_of_two_views_the_newer_of_a_server_in_the_majority_is_believed() -> None:
    old = slots.View(((0, 16383, HERE),), epoch=3)
    new = slots.View(((0, 16383, ("10.0.0.2", 6379)),), epoch=4)
    alone = slots.View(((0, 16383, HERE),), epoch=9, is_healthy=False)

    assert new == slots.newest([old, new, alone])
    assert slots.newest([]) is None


def test_a_view_is_read_from_what_a_server_says() -> None:
    answer = [
        [0, 8191, [b"", 6379, b"id", {}], [b"10.0.0.3", 6379, b"id", {}]],
        [8192, 16383, [b"10.0.0.2", 6380, b"id"]],
    ]

    found = slots.view(answer, b"cluster_state:ok\r\ncluster_current_epoch:7\r\n", HERE)

    assert slots.View(((0, 8191, HERE), (8192, 16383, ("10.0.0.2", 6380))), 7, True) == found
    assert found.is_complete
    assert (HERE, ("10.0.0.2", 6380)) == found.primaries


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MOVED 3999 10.0.0.2:6380", (3999, ("10.0.0.2", 6380))),
        ("ASK 1 :7000", (1, ("10.0.0.1", 7000))),
        ("MOVED 5 [::1]:6379", (5, ("::1", 6379))),
    ],
)
def test_a_redirect_names_a_slot_and_a_server(text: str, expected: tuple[int, slots.Address]) -> None:
    assert expected == slots.target(text, HERE)


def test_errors_say_their_code_and_whether_a_write_may_have_happened() -> None:
    assert "OOM" == trouble.Refused("OOM command not allowed").code
    assert "nothing was sent" in str(trouble.Unavailable("GET: no server"))
    assert "a write may have happened" in str(trouble.Unavailable("SET: no answer", is_unknown=True))


def test_a_script_knows_its_digest() -> None:
    assert "e0e1f9fabfc9d4800c877a703b823ac0578ff8db" == scripts.Script("return 1").sha


class Owner:
    """Writes down what a connection tells."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def refused(self, one: command.Command, error: trouble.Refused) -> None:
        self.told.append(error.code)
        one.refuse(error)

    def pushed(self, channel: bytes, payload: bytes) -> None:
        self.told.append((channel, payload))

    def has_room(self) -> None:
        self.told.append("room")

    def lost(self, left: Sequence[command.Command], why: str) -> None:
        self.told.append(why)
        for one in left:
            one.fail(why)


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_aborted = False

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written.append(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Not looked at."""

    def abort(self) -> None:
        self.is_aborted = True


def opened() -> tuple[connection.Connection, Owner, Wire]:
    owner, wire = Owner(), Wire()
    made = connection.Connection(owner)
    made.connection_made(wire)
    return made, owner, wire


def asked(*parts: command.Part) -> command.Command:
    return command.Command(parts, asyncio.get_running_loop().create_future(), 1e9)


@pytest.mark.anyio
async def test_a_batch_is_one_write_and_its_answers_come_in_their_order() -> None:
    made, owner, wire = opened()
    first, second, third = asked("GET", "a"), asked("INCR", "b"), asked("GET", b"\xff")

    made.write([first, second, third])
    made.data_received(b"$1\r\nx\r\n:5\r\n_\r")
    made.data_received(b"\n")

    assert [
        b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$4\r\nINCR\r\n$1\r\nb\r\n*2\r\n$3\r\nGET\r\n$1\r\n\xff\r\n"
    ] == wire.written
    assert [b"x", 5, None] == [one.future.result() for one in (first, second, third)]
    assert ["room", "room"] == owner.told


@pytest.mark.anyio
async def test_a_message_between_answers_is_told_before_what_was_answered_after_it() -> None:
    made, owner, _ = opened()
    subscribed, read, refused = asked("SUBSCRIBE", "c"), asked("GET", "a"), asked("GET", "list")
    seen: list[object] = []
    read.future.add_done_callback(lambda _: seen.extend(owner.told))

    made.write([subscribed, read, refused])
    made.data_received(
        b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
        b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
        b"$1\r\nx\r\n-WRONGTYPE no\r\n>2\r\n$10\r\ninvalidate\r\n*0\r\n"
    )
    await asyncio.sleep(0)

    assert [(b"c", b"hi"), "WRONGTYPE", "room"] == owner.told
    assert (b"c", b"hi") in seen
    assert isinstance(refused.future.exception(), trouble.Refused)


@pytest.mark.anyio
async def test_a_cancelled_command_keeps_its_place_among_the_answers() -> None:
    made, _, _ = opened()
    first, second = asked("GET", "a"), asked("GET", "b")

    made.write([first, second])
    first.future.cancel()
    made.data_received(b"$1\r\na\r\n$1\r\nb\r\n")

    assert b"b" == second.future.result()


@pytest.mark.anyio
@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n", b"$1\r\na\r\n$1\r\nb\r\n", b"*1\r\n!nonsense\r\n"])
async def test_what_is_not_the_protocol_closes_the_connection(said: bytes) -> None:
    made, owner, wire = opened()
    only = asked("GET", "a")

    made.write([only])
    made.data_received(said)
    made.connection_lost(None)

    assert wire.is_aborted
    assert not made.is_open
    assert "not the protocol of Valkey" in str(owner.told[-1])
    assert only.future.done()
    only.future.exception()
