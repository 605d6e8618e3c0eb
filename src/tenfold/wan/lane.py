"""One way along a link, shared by everything that goes this way: when what is sent now arrives, and whether it does.

Owned by `program`, asked by `crossing`. It knows times and counts; it carries nothing itself.
"""

import asyncio
import random
from collections.abc import Callable

from tenfold.wan import network


class Lane:
    """From one region to another. Times are the event loop's."""

    def __init__(self, source: str, target: str) -> None:
        self.source = source
        self.target = target
        self.passable = asyncio.Event()
        self.passable.set()
        """Set while it is not cut."""
        self.open = self.opened = self.refused = self.sent_bytes = 0
        self.waiting: set[Callable[[], None]] = set()
        """Called when the cut is healed."""
        self._link = network.Link(name="")
        self._free_at = 0.0

    @property
    def delay_seconds(self) -> float:
        """How long everything takes at least."""
        return self._link.delay_seconds

    @property
    def is_direct(self) -> bool:
        """Whether what is sent arrives at once."""
        link = self._link
        return not (self.is_cut or link.delay_seconds or link.jitter_seconds or link.bandwidth_bytes)

    def become(self, link: network.Link) -> None:
        """From here on it takes as long as this link says."""
        self._link = link

    @property
    def is_cut(self) -> bool:
        """Whether nothing arrives."""
        return not self.passable.is_set()

    def cut(self) -> None:
        """Nothing arrives any more."""
        self.passable.clear()

    def heal(self) -> None:
        """What is on its way arrives, at once when its time is over."""
        self.passable.set()
        waiting, self.waiting = self.waiting, set()
        for call in waiting:
            call()

    def arrival(self, now: float, size: int) -> float:
        """When so many bytes arrive that are sent now. They take their place on the link."""
        link, sent_at = self._link, now
        if link.bandwidth_bytes:
            self._free_at = sent_at = max(now, self._free_at) + size / link.bandwidth_bytes
        jitter = link.jitter_seconds * random.random() if link.jitter_seconds else 0.0  # noqa: S311 - no secret
        return sent_at + link.delay_seconds + jitter

    def figures(self) -> network.Direction:
        """What it has carried."""
        return network.Direction(
            source=self.source,
            target=self.target,
            open=self.open,
            opened=self.opened,
            refused=self.refused,
            sent_bytes=self.sent_bytes,
        )
