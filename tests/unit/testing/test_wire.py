"""How the stream of a PostgreSQL client is cut into messages, and which of them commit."""

import struct

import pytest

from tenfold.testing import wire


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


SSL_REQUEST = struct.pack("!II", 8, 80877103)
STARTUP = struct.pack("!II", 17, 196608) + b"user\0ada\0"
QUERY = message(b"Q", b"select 1\0")
COMMIT = message(b"Q", b"COMMIT;\0")


def test_messages_come_out_whole_however_the_bytes_arrive() -> None:
    stream = SSL_REQUEST + STARTUP + QUERY + COMMIT
    for size in (1, 2, 3, 7, len(stream)):
        frames = wire.Frames(is_open=False)
        chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert [SSL_REQUEST, STARTUP, QUERY, COMMIT] == [one for chunk in chunks for one in frames.feed(chunk)]


@pytest.mark.parametrize(
    "sql",
    ["commit", "COMMIT;", "  end", "set local client_min_messages = warning; commit; reset all", "commit and no chain"],
)
def test_a_commit_is_known(sql: str) -> None:
    assert wire.is_commit(message(b"Q", sql.encode() + b"\0"))
    assert wire.is_commit(message(b"P", b"name\0" + sql.encode() + b"\0\0\0"))


@pytest.mark.parametrize(
    "sql", ["insert into tenfold.commit (token) values ($1)", "select committed from t", "rollback", "select 'commit'"]
)
def test_what_only_speaks_of_commits_is_none(sql: str) -> None:
    assert not wire.is_commit(message(b"Q", sql.encode() + b"\0"))
    assert not wire.is_commit(message(b"P", b"\0" + sql.encode() + b"\0\0\0"))
    assert not wire.is_commit(message(b"B", b"commit\0"))
