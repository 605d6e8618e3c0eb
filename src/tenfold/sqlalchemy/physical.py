"""The connections under SQLAlchemy's: asyncpg's, with the prepared statements that each of them keeps.

Opened by the pools of `Sessions`, used by `link`. SQLAlchemy keeps prepared statements with a connection of its own,
which is another one of ours in every transaction: so they are kept here. It decides nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

if TYPE_CHECKING:
    Base = asyncpg.Connection[Any]
else:
    Base = asyncpg.Connection  # generic only in its stubs

KEPT = 200
"""Prepared statements a connection keeps; the one that was not used for longest goes first."""

STALE = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)
"""A migration has changed a table under a prepared statement."""


class Prepared(NamedTuple):
    """A statement that the server knows, and the columns of its answer."""

    statement: Any
    columns: Any


class Physical(Base):
    """asyncpg's connection. `prepared` asks the server once for each statement."""

    __slots__ = ("_kept",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kept: dict[str, Prepared] = {}

    async def prepared(self, query: str, seconds: float | None) -> Prepared:
        """The statement, prepared at its first use."""
        found = self._kept.pop(query, None)
        if found is None:
            statement = await self.prepare(query, timeout=seconds)
            found = Prepared(statement, statement.get_attributes())
            if len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
        self._kept[query] = found
        return found

    async def fetch_prepared(self, query: str, args: Sequence[Any], seconds: float | None) -> tuple[list[Any], str]:
        """All rows, and what the server says that it did (`INSERT 0 1`)."""
        statement = (await self.prepared(query, seconds)).statement
        try:
            return await statement.fetch(*args, timeout=seconds), statement.get_statusmsg()
        except STALE:
            self._kept.clear()
            raise


class Codecs:
    """How types are translated, as SQLAlchemy and the app have said: set once on each connection.

    They are said again with each of SQLAlchemy's connections; the first time counts.
    """

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], dict[str, Any]] = {}

    @property
    def are_known(self) -> bool:
        """Whether SQLAlchemy has said its own."""
        return bool(self._said)

    def say(self, name: str, schema: str, how: dict[str, Any]) -> bool:
        """Remember a codec; whether it is a new one, which open connections do not have."""
        is_new = (schema, name) not in self._said
        self._said.setdefault((schema, name), how)
        return is_new

    async def set_on(self, connection: Any) -> None:
        """Teach a new connection all of them."""
        for (schema, name), how in self._said.items():
            await connection.set_type_codec(name, schema=schema, **how)
