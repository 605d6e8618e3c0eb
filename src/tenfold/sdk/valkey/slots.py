"""Which of a cluster's 16,384 slots a key is in, and which server owns each slot.

Called by `cluster`. Pure. Source: the Valkey cluster specification (CRC16-XMODEM of the key, or of its hash tag).
"""

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

COUNT = 16384

Address = tuple[str, int]


def of(key: str | bytes | float) -> int:
    """The slot of a key."""
    return binascii.crc_hqx(tag(key), 0) & (COUNT - 1)


def tag(key: str | bytes | float) -> bytes:
    """What decides it: what stands between the key's first `{` and the next `}`, unless that is nothing."""
    data = key if isinstance(key, bytes) else str(key).encode()
    if b"{" in data:
        start = data.find(b"{")
        end = data.find(b"}", start + 1)
        if end > start + 1:
            data = data[start + 1 : end]
    return data


@dataclass(frozen=True, slots=True)
class View:
    """Who owns which slots, as one server sees it: ranges of `(first, last, owner)`."""

    ranges: tuple[tuple[int, int, Address], ...] = ()
    epoch: int = 0
    """The cluster's epoch as that server knows it: of two views the one with the higher epoch is the newer."""
    is_healthy: bool = True
    """Whether that server sees a majority of the cluster."""

    @property
    def is_complete(self) -> bool:
        """Whether every slot has an owner."""
        return sum(last - first + 1 for first, last, _ in self.ranges) == COUNT

    @property
    def primaries(self) -> tuple[Address, ...]:
        """The owners, each once, in the order of their first slots."""
        return tuple(dict.fromkeys(owner for _, _, owner in sorted(self.ranges)))


def alone(owner: Address) -> View:
    """One server that is no cluster has all slots."""
    return View(((0, COUNT - 1, owner),))


def newest(views: Sequence[View]) -> View | None:
    """The view to believe: of a server that sees a majority, and of those the newest."""
    return max(views, key=lambda one: (one.is_healthy, one.epoch, one.is_complete), default=None)


def view(answer: Sequence[Sequence[Any]], info: bytes, asked: Address) -> View:
    """The view in the answers to CLUSTER SLOTS and CLUSTER INFO. A server that names no host means the one asked."""
    ranges = tuple(
        (int(first), int(last), ((owner[0] or b"").decode() or asked[0], int(owner[1])))
        for first, last, owner, *_ in answer
    )
    said = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    return View(ranges, int(said.get("cluster_current_epoch", 0)), said.get("cluster_state") == "ok")


def target(text: str, asked: Address) -> tuple[int, Address]:
    """The slot and the server in `MOVED 3999 10.0.0.2:6379` or `ASK ...`."""
    _, slot, address = text.split(" ")[:3]
    host, _, port = address.rpartition(":")
    return int(slot), (host.strip("[]") or asked[0], int(port))
