"""The channel by which every process learns at once of a floor that was raised: what is said on it, and Valkey's.

Run by `floors`, one a process; spoken on by `delivery`. `listening` is the other one, PostgreSQL's, for services
without cache servers. A channel only makes it quick: what it loses is in the database, where `following` reads it every
second.
"""

import asyncio
import base64
import logging
import sys
from array import array
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from tenfold import errors, position
from tenfold.sdk import counters
from tenfold.sdk.valkey import client, trouble

log = logging.getLogger("tenfold.cache")

NAME = "tenfold_invalidation"

PULSE_SECONDS = 1.0
"""How often a process reads what is new from the database, whatever its channel does."""

MOST_SLOTS = 2500
"""In one message: PostgreSQL's payloads end at 8000 bytes."""

Floor = tuple[position.Position, Sequence[int]]
"""A floor, and the slots that were raised to it."""


class Ears(Protocol):
    """Who listens to a channel: the process's floors."""

    def hear(self, floor: position.Position, slots: Sequence[int]) -> None:
        """A floor was raised somewhere."""

    def lost(self) -> None:
        """Something may have been missed."""

    async def pulse(self) -> None:
        """Read what is new from the database, and regain trust."""

    async def pulse_on(self, connection: Any) -> None:
        """The same, on this connection to the primary. Raises what a database raises."""


class Channel(Protocol):
    """One way to tell every process."""

    is_awaited: bool
    """Whether what was told is known before any entry that is asked for afterwards: worth waiting for."""
    is_whole: bool
    """Whether nothing that is said can be missed. Whenever it ceases to be so, the ears are told."""

    async def run(self) -> None:
        """Listen, and let the ears pulse, until cancelled."""

    async def tell(self, floors: Sequence[Floor], seconds: float) -> bool:
        """Tell every process, this one too. False: some may not have heard it within so many seconds."""

    def turn(self) -> None:
        """The database goes on on another timeline."""


def encode(floor: position.Position, slots: Sequence[int]) -> list[str]:
    """What is said of this floor, in as many messages as it takes."""
    parts = [slots[first : first + MOST_SLOTS] for first in range(0, len(slots), MOST_SLOTS)]
    return [f"{floor} {base64.b64encode(_big_endian(array('H', part))).decode()}" for part in parts]


def decode(message: str | bytes) -> tuple[position.Position, Sequence[int]]:
    """What `encode` has written. Raises `ValueError` for anything else."""
    text = message.decode(errors="replace") if isinstance(message, bytes) else message
    floor, _, slots = text.partition(" ")
    try:
        at = position.Position.parse(floor)
        found = array("H", base64.b64decode(slots, validate=True))
    except (errors.BadPosition, ValueError) as error:  # binascii's is one too, and so is that of half a slot
        raise ValueError(f"{text[:80]!r} found, a floor and its slots expected") from error
    if not found:
        raise ValueError(f"{text[:80]!r} found, a floor and its slots expected")
    if sys.byteorder == "little":
        found.byteswap()
    return at, found


class ValkeyChannel:
    """Every process listens on every primary, on the connections by which it reads entries.

    What is said is therefore known to a process before it gets any entry that a server sends after it; and once every
    primary has acknowledged it, before any entry that is asked for.
    """

    is_awaited = True

    def __init__(self, servers: client.Client, ears: Ears) -> None:
        self._servers = servers
        self._ears = ears
        self._changed = asyncio.Event()
        self._recent: deque[bytes] = deque(maxlen=32)
        self.is_whole = False

    async def run(self) -> None:
        """Listen, and let the ears pulse, until cancelled."""
        endings = (self._servers.subscribe(NAME, self._heard), self._servers.on_break(self._tell_whole))
        try:
            self._tell_whole(self._servers.is_whole)
            while True:
                await self._ears.pulse()
                await wait(self._changed, PULSE_SECONDS)
        finally:
            self.is_whole = False
            for end in endings:
                end()

    async def tell(self, floors: Sequence[Floor], seconds: float) -> bool:
        """Publish on every primary; True when all have it."""
        messages = [message for floor, slots in floors for message in encode(floor, slots)]
        try:
            await asyncio.gather(*(self._servers.every("PUBLISH", NAME, one, timeout=seconds) for one in messages))
        except trouble.ValkeyError as error:
            log.debug("some processes will hear of an invalidation from the database: %s", error)
            return False
        return True

    def turn(self) -> None:
        """It does not hang on the database; but what is there must be read."""
        self._changed.set()

    def _heard(self, message: bytes) -> None:
        if message not in self._recent:  # the servers of a cluster tell each other, so each of them tells us
            self._recent.append(message)
            heard(message, self._ears)

    def _tell_whole(self, is_whole: bool) -> None:
        if self.is_whole and not is_whole:
            counters.add("cache.channel_breaks")
            self._ears.lost()
        self.is_whole = is_whole
        self._changed.set()


def heard(message: str | bytes, ears: Ears) -> None:
    """Pass on what was said; what nobody of ours has said is counted, not believed."""
    try:
        floor, slots = decode(message)
    except ValueError as error:
        counters.add("cache.channel_garbage")
        log.warning("the channel of invalidations: %s", error)
    else:
        ears.hear(floor, slots)


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Until it is set, or so long; clears it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    event.clear()


def _big_endian(slots: "array[int]") -> bytes:
    """Servers of either kind must understand each other."""
    if sys.byteorder == "little":
        slots.byteswap()
    return slots.tobytes()
