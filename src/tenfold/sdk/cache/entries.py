"""A cached value as it is kept and as it travels: its bytes, what it reflects, and how long it may be used.

Made by `loads`, kept by `local` and `shared`, judged by `floors`. Pure: the time is passed in, as seconds since 1970
by the server's own clock, because entries travel between servers. It never holds a live object.
"""

import zlib
from functools import lru_cache

import msgspec

from tenfold import position

MAGIC = b"tf1"
"""The first bytes of an entry: another form gets another number, and is then a miss for whoever does not know it."""

_HEAD = len(MAGIC) + 4


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One cached value. A value itself: nothing of it ever changes."""

    packed: bytes
    """The value as `values` has written it down."""
    stamp: position.Position | None
    """How far the node had come that it was read from, known before it was read. It reflects all of that, maybe more.
    None: nobody knows; it is then fresh only for sessions that have written nothing, while its slots have no floor."""
    slots: tuple[int, ...]
    """Where its floors are: the slot of its key first, then those of its tags."""
    made_at: float
    fresh_until: float
    """From then on it is served only while it is loaded anew, or when that fails."""
    dies_at: float
    """From then on it is never served. At or after `fresh_until`, and always finite."""
    cost: float = 0.0
    """How many seconds it took to load."""

    @property
    def is_tagged(self) -> bool:
        """Whether its author said what makes it stale. Without tags only its stamp and its key's floor tell."""
        return len(self.slots) > 1


class DamagedError(Exception):
    """Bytes that are no entry. Never leaves `sdk/cache`: it is a miss, and counted."""


def encode(entry: Entry) -> bytes:
    """The entry as bytes, with a checksum."""
    at = entry.stamp
    body = _encoder.encode(
        (
            None if at is None else (at.shard, at.epoch, at.timeline, at.lsn),
            entry.slots,
            entry.made_at,
            entry.fresh_until,
            entry.dies_at,
            entry.cost,
            entry.packed,
        )
    )
    return MAGIC + zlib.crc32(body).to_bytes(4, "big") + body


def decode(data: bytes) -> Entry:
    """The entry that `encode` wrote. Raises `DamagedError` for anything else."""
    body = data[_HEAD:]
    if not data.startswith(MAGIC) or data[len(MAGIC) : _HEAD] != zlib.crc32(body).to_bytes(4, "big"):
        raise DamagedError(f"{data[:16]!r} found, an entry expected")
    try:
        at, slots, made_at, fresh_until, dies_at, cost, packed = _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise DamagedError(str(error)) from error
    stamp = None if at is None else _position(*at)
    return Entry(packed, stamp, slots, made_at, fresh_until, dies_at, cost)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(
    tuple[tuple[int, int, int, int] | None, tuple[int, ...], float, float, float, float, bytes]
)

_position = lru_cache(maxsize=4096)(position.Position)
"""Many entries reflect the same position, and to make one costs more than the rest of reading an entry."""
