"""The bytes of the NATS client protocol: what we say, and what a server says.

Called by `link` alone. Pure: no clock, no I/O. A server's bytes may be cut anywhere; what is not of the protocol is
`ProtocolError`, and the connection is of no more use then.
Source: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote, unquote

END = b"\r\n"
PING = b"PING\r\n"
PONG = b"PONG\r\n"
VERSION = b"NATS/1.0"

MOST_LINE_BYTES = 1024 * 1024
"""INFO names every server of a cluster and is the longest line; a peer that never ends its line is no NATS."""


class ProtocolError(Exception):
    """What arrived is not the NATS protocol. Never leaves this package."""


class Delivered(NamedTuple):
    """A message that the server delivers to one of our subscriptions."""

    sid: int
    subject: bytes
    reply: bytes
    head: bytes
    """Status line and headers as they came; empty: none."""
    payload: bytes


class Said(NamedTuple):
    """A line of the server's: `INFO`, `PING`, `PONG`, `-ERR` or `+OK`, and what it has with it."""

    word: bytes
    rest: bytes


class Parser:
    """Takes what arrives, gives what it holds."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> list[Delivered | Said]:
        """What is complete now, in order. Raises `ProtocolError`."""
        buffer = self._held + data if self._held else data
        found: list[Delivered | Said] = []
        at, end = 0, len(buffer)
        while at < end:
            line_end = buffer.find(END, at)
            if line_end < 0:
                if end - at > MOST_LINE_BYTES:
                    raise ProtocolError(f"a line of more than {MOST_LINE_BYTES} bytes")
                break
            first = buffer[at]
            if first in (0x4D, 0x48):  # M(SG), H(MSG)
                after = _message(buffer, at, line_end, found)
                if after > end:
                    break
                at = after
            else:
                word, _, rest = buffer[at:line_end].partition(b" ")
                found.append(Said(word.upper(), rest))
                at = line_end + 2
        self._held = buffer[at:] if at else buffer
        return found


def _message(buffer: bytes, at: int, line_end: int, found: list[Delivered | Said]) -> int:
    """Where the message that begins at `at` ends; adds it to `found` when all of it is there."""
    words = buffer[at:line_end].split()
    begins = line_end + 2
    try:
        total = int(words[-1])
        ends = begins + total
        if ends + 2 > len(buffer):
            return ends + 2
        count = len(words)
        if words[0] == b"MSG":
            _ensure(count in (4, 5))
            reply = words[3] if count == 5 else b""
            found.append(Delivered(int(words[2]), words[1], reply, b"", buffer[begins:ends]))
        else:
            _ensure(words[0] == b"HMSG" and count in (5, 6))
            reply = words[3] if count == 6 else b""
            middle = begins + int(words[-2])
            _ensure(middle <= ends)
            found.append(Delivered(int(words[2]), words[1], reply, buffer[begins:middle], buffer[middle:ends]))
    except (ValueError, IndexError) as error:
        raise ProtocolError(f"{buffer[at:line_end][:80]!r}") from error
    return ends + 2


def _ensure(is_so: bool) -> None:
    if not is_so:
        raise ValueError


def publish(subject: bytes, payload: bytes, reply: bytes = b"", head: bytes = b"") -> bytes:
    """A message for the server; `head` as `head_of` makes it."""
    if head:
        size = len(head)
        return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, size, size + len(payload), head, payload)
    return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(payload), payload)


def subscribe(subject: bytes, sid: int) -> bytes:
    """Deliver what is published to this subject under our number `sid`."""
    return b"SUB %b %d\r\n" % (subject, sid)


def unsubscribe(sid: int) -> bytes:
    """Deliver no more."""
    return b"UNSUB %d\r\n" % sid


def head_of(headers: Iterable[tuple[str, str]]) -> bytes:
    """The headers of a message; what a value must not hold is percent-encoded, as CloudEvents has it."""
    lines = "\r\n".join([f"{name}: {value if _is_plain(value) else _quoted(value)}" for name, value in headers])
    return b"NATS/1.0\r\n%b\r\n\r\n" % lines.encode("ascii")


def status(head: bytes) -> str:
    """The three digits that a server puts in the place of a message (`100`: heartbeat); empty: it is a message."""
    return head[9:12].decode("latin-1") if len(head) > 12 and head[8] == 0x20 else ""


def headers(head: bytes) -> dict[str, str]:
    """The headers, by their names in lower case; of one that comes several times, the last."""
    found = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            value = value.strip()
            found[name.lower()] = unquote(value) if "%" in value else value
    return found


def _is_plain(value: str) -> bool:
    return value.isascii() and value.isprintable() and "%" not in value and value[:1] != " " != value[-1:]


def _quoted(value: str) -> str:
    return quote(value, safe="!#$&'()*+,/:;=?@[]{}|<>^`\\\"")
