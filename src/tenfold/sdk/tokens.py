"""`tf.tokens`: signed tokens for clients that keep no cookies. Made by `sdk/service`, one a `Tenfold`."""

from tenfold import bindings
from tenfold.sdk import db
from tenfold.sdk.valkey import client


class Tokens:
    """The tokens of a service."""

    def __init__(self, database: db.Database, servers: client.Client) -> None:
        self._database = database
        self._servers = servers

    def update(self, service: bindings.Service) -> None:
        """Follow changed bindings."""
