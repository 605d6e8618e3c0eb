"""`tf.session(request)` and `tf.sessions` as an app sees them. Made by `sdk/service`, one a `Tenfold`."""

from tenfold import bindings
from tenfold.sdk import db
from tenfold.sdk.valkey import client


class Sessions:
    """The sessions of a service."""

    def __init__(self, database: db.Database, servers: client.Client) -> None:
        self._database = database
        self._servers = servers

    async def start(self, bound: bindings.Sessions, service: bindings.Service) -> None:
        """Nothing is read before a request asks for its session."""

    def update(self, bound: bindings.Sessions, service: bindings.Service) -> None:
        """Follow changed bindings."""

    async def stop(self) -> None:
        """Twice is once."""
