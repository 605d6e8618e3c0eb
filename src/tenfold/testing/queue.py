"""The fixture `queue`: what a test publishes, and handling it when the test says so.

Made by `plugin` for the app that a test has served. The queue itself is the real one, on the test's own database.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenfold.sdk import service
    from tenfold.sdk.queue import by_hand, messages


@dataclass(frozen=True, slots=True)
class Published:
    """One message that the app has published, for certain: with its transaction, or alone."""

    subject: str
    payload: Any
    """The object that was published."""
    key: str | None
    headers: dict[str, str] = field(repr=False)


class Queue:
    """`await queue.drain()` and `queue.published`."""

    def __init__(self, tf: "service.Tenfold") -> None:
        self.published: list[Published] = []
        """Since the test began, in their order."""
        self._by_hand = tf.queue.by_hand(self._watch)

    async def drain(self, until: datetime | timedelta | None = None) -> "list[by_hand.Handled]":
        """Handle every message that waits, and those that handlers publish meanwhile; returns what was handled.

        With `until`, a time or a span from now, also what is held back or to be tried again until then. Raises what a
        handler raises, with a note that names the message; the message is then tried again when that is due.
        """
        ahead = until - datetime.now(UTC) if isinstance(until, datetime) else until or timedelta(0)
        return await self._by_hand.drain(ahead)

    def _watch(self, made: "messages.Envelope", payload: Any) -> None:
        self.published.append(Published(made.subject, payload, made.key, made.headers))
