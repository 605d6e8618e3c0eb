"""Values without a declared type, written so that they come back as what they were.

Called by `values`. MessagePack knows no tuples, sets, UUIDs, Decimals, dates: what a database row is full of. They are
written as extensions of it. No class is ever looked up by a name in the data: what is not listed here is refused.
"""

import datetime
import decimal
import ipaddress
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from tenfold import errors

ATOMS = frozenset((type(None), bool, int, float, str, bytes))
"""Types that MessagePack itself gives back as they were, and that nobody can change."""

FIXED = ATOMS | {
    uuid.UUID, decimal.Decimal, datetime.date, datetime.datetime, datetime.time, datetime.timedelta,
    ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network,
    ipaddress.IPv4Interface, ipaddress.IPv6Interface,
}  # fmt: skip
"""Types that nobody can change."""

LEAST_INTEGER, MOST_INTEGER = -(2**63), 2**64 - 1

_TEXTS: tuple[tuple[int, type, Callable[[str], Any]], ...] = (
    (4, uuid.UUID, uuid.UUID),
    (5, decimal.Decimal, decimal.Decimal),
    (6, datetime.datetime, datetime.datetime.fromisoformat),
    (7, datetime.date, datetime.date.fromisoformat),
    (8, datetime.time, datetime.time.fromisoformat),
    (10, ipaddress.IPv4Address, ipaddress.IPv4Address),
    (11, ipaddress.IPv6Address, ipaddress.IPv6Address),
    (12, ipaddress.IPv4Network, ipaddress.IPv4Network),
    (13, ipaddress.IPv6Network, ipaddress.IPv6Network),
    (14, ipaddress.IPv4Interface, ipaddress.IPv4Interface),
    (15, ipaddress.IPv6Interface, ipaddress.IPv6Interface),
)
_TUPLE, _SET, _FROZENSET, _TIMEDELTA, _INTEGER, _DICT = 1, 2, 3, 9, 16, 17
_SEQUENCES: dict[int, Callable[[Any], Any]] = {_TUPLE: tuple, _SET: set, _FROZENSET: frozenset, _DICT: dict}
_CODES = {kind: code for code, kind, _ in _TEXTS}
_READERS = {code: read for code, _, read in _TEXTS}


def encode(value: Any) -> bytes:
    """The value as MessagePack. Raises `NotEncodable`, which names the type and where in the value it is."""
    try:
        return _encoder.encode(_plain(value, ""))
    except RecursionError as error:
        raise errors.NotEncodable("cache: a value that contains itself found, or one nested too deeply") from error
    except UnicodeEncodeError as error:
        raise errors.NotEncodable("cache: a text with lone surrogates found, which no UTF-8 can hold") from error


def decode(data: bytes) -> Any:
    """The value that `encode` wrote. Raises `msgspec.DecodeError` or `ValueError` for anything else."""
    return _decoder.decode(data)


def is_fixed(value: Any) -> bool:
    """Whether nobody can change this value, nor anything in it: then all may have the same object."""
    kind = type(value)
    return kind in FIXED or (kind in (tuple, frozenset) and all(is_fixed(one) for one in value))


def _plain(value: Any, place: str) -> Any:
    """The value made of what MessagePack knows. `place`: where in the whole it is, such as `["items"][3]`."""
    kind = type(value)
    if kind is int:
        return value if LEAST_INTEGER <= value <= MOST_INTEGER else msgspec.msgpack.Ext(_INTEGER, b"%x" % value)
    if kind in ATOMS:
        return value
    if kind is dict:
        return _plain_dict(value, place)
    if kind is list:
        return [_plain(one, f"{place}[{number}]") for number, one in enumerate(value)]
    if kind in _CODES:
        text = value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)
        return msgspec.msgpack.Ext(_CODES[kind], text.encode())
    return _plain_rare(value, kind, place)


def _plain_dict(value: dict[Any, Any], place: str) -> Any:
    if all(type(key) is str for key in value):
        return {key: _plain(one, f"{place}[{key!r}]") for key, one in value.items()}
    pairs = [(_plain(key, f"{place}, the key {key!r}"), _plain(one, f"{place}[{key!r}]")) for key, one in value.items()]
    return msgspec.msgpack.Ext(_DICT, _encoder.encode(pairs))


def _plain_rare(value: Any, kind: type, place: str) -> Any:
    if kind is datetime.timedelta:
        return msgspec.msgpack.Ext(_TIMEDELTA, _encoder.encode((value.days, value.seconds, value.microseconds)))
    for code, sequence in ((_TUPLE, tuple), (_SET, set), (_FROZENSET, frozenset)):
        if kind is sequence:
            inner = [_plain(one, f"{place}[{number}]") for number, one in enumerate(value)]
            return msgspec.msgpack.Ext(code, _encoder.encode(inner))
    raise errors.NotEncodable(
        f"cache: {kind.__module__}.{kind.__qualname__} found at {place or 'the top'} of the value; {_advice(kind)}"
    )


def _advice(kind: type) -> str:
    if kind.__module__.startswith("asyncpg"):
        return "return `dict(row)`, or `[dict(row) for row in rows]`, in its place"
    return (
        "without a declared type only plain values can be kept (None, bool, numbers, str, bytes, list, dict, tuple, "
        "set, dates, UUID, Decimal); say what comes back, `-> Product` or type=Product, where Product is a dataclass, "
        "a msgspec.Struct or a pydantic model"
    )


def _extended(code: int, data: memoryview) -> Any:
    """What an extension stands for."""
    raw = bytes(data)
    if code in _READERS:
        return _READERS[code](raw.decode())
    if code in _SEQUENCES:
        return _SEQUENCES[code](_decoder.decode(raw))
    if code == _TIMEDELTA:
        return datetime.timedelta(*_decoder.decode(raw))
    if code == _INTEGER:
        return int(raw, 16)
    raise ValueError(f"extension {code} found, one that tenfold writes expected")


_encoder = msgspec.msgpack.Encoder()
_decoder: "msgspec.msgpack.Decoder[Any]" = msgspec.msgpack.Decoder(ext_hook=_extended)
