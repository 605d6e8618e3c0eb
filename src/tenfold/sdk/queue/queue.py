"""`tf.queue` as an app sees it. Made by `sdk/service`, one a `Tenfold`."""

from tenfold import bindings
from tenfold.sdk import db


class Queue:
    """The queue of a service."""

    def __init__(self, database: db.Database) -> None:
        self._database = database

    async def start(self, bound: bindings.Queue) -> None:
        """Begin to pass messages on, and to handle them where this process is one that does."""

    def update(self, bound: bindings.Queue) -> None:
        """Follow changed bindings."""

    async def drain(self) -> None:
        """Take no more messages; returns when those under way are handled, or given back."""

    async def stop(self) -> None:
        """Close everything. Twice is once."""
