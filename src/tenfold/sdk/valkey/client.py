"""The servers of the cache tier as one: a command goes to the server that holds its key, through failovers.

Made by `sdk/service`, one a `Tenfold`; used by `sdk/cache`, `sdk/sessions` and `sdk/tokens`.
"""

from tenfold import bindings


class Client:
    """The way to the cache's servers. Without any, `is_there` is False and nothing may be asked."""

    def __init__(self) -> None:
        self._bound = bindings.Cache()

    @property
    def is_there(self) -> bool:
        """Whether the service has a shared cache."""
        return bool(self._bound.nodes)

    async def start(self, bound: bindings.Cache) -> None:
        """Begin to connect. Servers that are down do not make it fail."""
        self._bound = bound

    def update(self, bound: bindings.Cache) -> None:
        """Follow changed bindings: servers join and leave, none may be left."""
        self._bound = bound

    async def stop(self) -> None:
        """Close every connection. Twice is once."""
        self._bound = bindings.Cache()
