"""Which purges have settled, as far as this process knows, and a look into the database for the others.

Fed by `delivery`; asked by `visits` for sessions that bypass the edges. An answer may come late, never too early.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from uuid import UUID

from tenfold import errors, request
from tenfold.sdk import db
from tenfold.sdk.db import connect

YOUNGEST_SECONDS = 1.0
"""No purge is settled sooner: the database need not be asked for it."""

PAUSE_SECONDS = 0.5
"""Between two questions for the same purge."""

ANSWER_SECONDS = 0.25
"""A session that bypasses the edges once more loses nothing but time."""

MOST_REMEMBERED = 4096

ASK = "select id from tenfold.purge where id = any($1) and settled_at is not null"
"""A replica will do: what it shows as settled is."""


class Settled:
    """The purges that have settled."""

    def __init__(self, database: db.Database) -> None:
        self._database = database
        self._known: OrderedDict[UUID, None] = OrderedDict()
        self._asked: OrderedDict[UUID, float] = OrderedDict()

    def add(self, ids: Iterable[UUID]) -> None:
        """These have settled."""
        self._known.update((one, None) for one in ids)
        while len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)

    async def among(self, ids: Iterable[UUID]) -> frozenset[UUID]:
        """Those of these that have settled for certain. Takes `ANSWER_SECONDS` at most."""
        wanted = frozenset(ids)
        now = asyncio.get_running_loop().time()
        unknown = [one for one in wanted if one not in self._known and self._is_worth_asking(one, now)]
        if unknown:
            await self._ask(unknown, now)
        return frozenset(one for one in wanted if one in self._known)

    async def _ask(self, ids: list[UUID], now: float) -> None:
        self._asked.update((one, now) for one in ids)
        while len(self._asked) > MOST_REMEMBERED:
            self._asked.popitem(last=False)
        way = self._database.reading("eventual").options(timeout=ANSWER_SECONDS)
        try:
            with request.serving(request.Request()):  # what this one reads is not the request's
                self.add([row["id"] for row in await way.fetch(ASK, ids)])
        except (errors.TenfoldError, *connect.ANSWERS):
            return

    def _is_worth_asking(self, one: UUID, now: float) -> bool:
        age_seconds = time.time() - (one.int >> 80) / 1000
        return age_seconds > YOUNGEST_SECONDS and now - self._asked.get(one, float("-inf")) > PAUSE_SECONDS
