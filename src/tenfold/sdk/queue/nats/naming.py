"""What things are called on the NATS servers: the stream, subjects with their partition, a group's consumers.

Used by every module above `link`. Pure. Several services may share servers: each name begins with the service's.
"""

import hashlib
import zlib
from typing import NamedTuple

PARTITIONS = 16
"""A key's messages all go through one of so many lanes; a group that keeps order works on each lane's messages one
after the other. More lanes: more at once, and more consumers for the servers to look after."""

MOST_NAME_CHARACTERS = 48
"""Of a group's name, what stays readable in its consumers' names."""

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


class Group(NamedTuple):
    """A group of subscribers of one subject."""

    name: str
    subject: str
    is_ordered: bool = False


class Consumer(NamedTuple):
    """One consumer of a group: all of its messages, or those of one lane."""

    name: str
    filter: str
    group: Group
    lane: int | None = None


class Names(NamedTuple):
    """The names of one service."""

    stream: str
    prefix: str
    """What its subjects begin with, up to the lane."""

    @property
    def everything(self) -> str:
        """The pattern of all its subjects."""
        return f"{self.prefix}.*.>"

    @property
    def nothing(self) -> str:
        """A subject that nobody publishes to: what a stream takes that takes no more."""
        return f"tenfold-shut.{self.stream}"

    def copy(self, region: str) -> str:
        """The stream that has, in another region, what this region's has taken."""
        return f"{self.stream}-from-{_plain(region)}"

    def subject(self, subject: str, lane: int) -> str:
        """Where a message of the subject is published."""
        return f"{self.prefix}.{lane:02d}.{subject}"

    def consumers(self, group: Group) -> list[Consumer]:
        """One for each lane when the group keeps order, else one for all."""
        readable = _plain(group.name)[:MOST_NAME_CHARACTERS]
        digest = hashlib.blake2b(f"{group.name}\n{group.subject}".encode(), digest_size=6).hexdigest()
        if not group.is_ordered:
            return [Consumer(f"{readable}-{digest}", f"{self.prefix}.*.{group.subject}", group)]
        return [
            Consumer(f"{readable}-{digest}-{lane:02d}", self.subject(group.subject, lane), group, lane)
            for lane in range(PARTITIONS)
        ]


def of(service: str) -> Names:
    """The names of this service."""
    plain = _plain(service)
    return Names(f"tenfold-{plain}", f"tenfold.{plain}")


def lane_of(key: str | None, message_id: bytes) -> int:
    """The lane of a message: its key's, always the same; without a key, any."""
    return zlib.crc32(message_id if key is None else key.encode()) % PARTITIONS


def plain_subject(subject: str) -> str:
    """The subject that an app knows, of one on the servers."""
    return subject.split(".", 3)[3]


def _plain(name: str) -> str:
    """Only what every name on a server may hold; what is replaced leaves a digest, so that two names stay two."""
    plain = "".join(one if one in _PLAIN else "_" for one in name)
    return plain if plain == name else f"{plain}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
