"""`tf.cache` as an app sees it. Made by `sdk/service`, one a `Tenfold`."""

from tenfold import bindings
from tenfold.sdk import db
from tenfold.sdk.valkey import client


class Cache:
    """The cache of a service."""

    def __init__(self, database: db.Database, servers: client.Client) -> None:
        self._database = database
        self._servers = servers

    async def start(self, bound: bindings.Cache) -> None:
        """Begin to follow what becomes stale. Neither database nor servers need to answer."""

    def update(self, bound: bindings.Cache) -> None:
        """Follow changed bindings."""

    async def stop(self) -> None:
        """Forget everything. Twice is once."""
