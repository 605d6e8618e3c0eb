"""Makes small files in MaxMind's form (MaxMind DB File Format Specification 2.0, IPv4), for what reads them."""

import ipaddress
import struct
from pathlib import Path
from typing import Any

RECORD_BITS = 32


def write(path: Path, places: dict[str, tuple[float, float]]) -> None:
    """A City file that knows where these networks are, as (latitude, longitude)."""
    nodes: list[list[Any]] = [[None, None]]
    data = b""
    for text, (latitude, longitude) in places.items():
        network = ipaddress.IPv4Network(text)
        record = ("data", len(data))
        data += _encode({"location": {"latitude": latitude, "longitude": longitude}})
        _place(nodes, network, record)
    tree = b"".join(_record(side, len(nodes)) for node in nodes for side in node)
    path.write_bytes(tree + b"\0" * 16 + data + b"\xab\xcd\xefMaxMind.com" + _encode(_metadata(len(nodes))))


def _place(nodes: list[list[Any]], network: ipaddress.IPv4Network, record: tuple[str, int]) -> None:
    at = 0
    for depth in range(network.prefixlen):
        side = int(network.network_address) >> (31 - depth) & 1
        if depth == network.prefixlen - 1:
            nodes[at][side] = record
            return
        if nodes[at][side] is None:
            nodes.append([None, None])
            nodes[at][side] = ("node", len(nodes) - 1)
        at = nodes[at][side][1]


def _record(side: Any, count: int) -> bytes:
    if side is None:
        return struct.pack("!I", count)
    kind, number = side
    return struct.pack("!I", number if kind == "node" else count + 16 + number)


def _metadata(count: int) -> dict[str, Any]:
    return {
        "binary_format_major_version": ("u16", 2),
        "binary_format_minor_version": ("u16", 0),
        "build_epoch": ("u64", 1),
        "database_type": "Test-City",
        "description": {"en": "a test"},
        "ip_version": ("u16", 4),
        "languages": ["en"],
        "node_count": ("u32", count),
        "record_size": ("u16", RECORD_BITS),
    }


def _encode(value: Any) -> bytes:
    """One field: a control byte with its type and size, then its content."""
    match value:
        case str():
            return bytes([2 << 5 | len(value)]) + value.encode()
        case float():
            return bytes([3 << 5 | 8]) + struct.pack("!d", value)
        case dict():
            return bytes([7 << 5 | len(value)]) + b"".join(_encode(key) + _encode(one) for key, one in value.items())
        case list():
            return bytes([len(value), 11 - 7]) + b"".join(_encode(one) for one in value)
        case ("u16", number):
            return bytes([5 << 5 | 2]) + struct.pack("!H", number)
        case ("u32", number):
            return bytes([6 << 5 | 4]) + struct.pack("!I", number)
        case ("u64", number):
            return bytes([8, 9 - 7]) + struct.pack("!Q", number)
    raise AssertionError(value)
