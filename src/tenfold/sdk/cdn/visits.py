"""What the CDN does with one request when its response begins: cookies for the bypass, and a last look at a mark.

A `Visit` is `request.Request.edge`: made by `asgi/arrival` (the request bypasses the edges), `delivery` (it has
purged) or `cdn` (its response is marked), so that other requests cost nothing. Called by `asgi/exchange`.
"""

import logging
from dataclasses import dataclass, field
from uuid import UUID

from tenfold import errors, request
from tenfold.sdk import counters
from tenfold.sdk.cdn import bypass, edges, marking, settling
from tenfold.sdk.db import connect, outgoing, primary

log = logging.getLogger("tenfold.cdn")

SLOW_SECONDS = 1.0
"""A response that took longer may have read before a purge that is over by the time an edge keeps it."""

MOST_WARNINGS = 64
"""Paths that a warning is written for, once each."""

RACED = """
select exists (
    select from tenfold.purge
     where (settled_at is null or settled_at > clock_timestamp() - $1 * interval '1 second')
       and (is_everything or cardinality(urls) > 0 or tags && $2))
"""
"""Whether anything was purged since so long ago that may be this response. What settled before it began cannot be."""


@dataclass(slots=True)
class Visit:
    """One request's dealings with the edges."""

    brought: bypass.Brought = field(default_factory=dict)
    """The bypass cookies that it came with."""
    purged: list[UUID] = field(default_factory=list)
    """What it has purged itself."""
    is_marked: bool = False
    """Whether the app said that a response of it is public."""


def of(serving: request.Request) -> Visit:
    """The request's own."""
    found: Visit = serving.edge or Visit()
    serving.edge = found
    return found


class Doors:
    """Where responses leave."""

    def __init__(self, shards: primary.Shards, told: edges.Edges, settled: settling.Settled) -> None:
        self._shards = shards
        self._edges = told
        self._settled = settled
        self._warned: set[str] = set()
        self.cookies = bypass.Cookies("", "")
        """Those of the service; replaced when the bindings change."""

    async def leaving(self, serving: request.Request, headers: request.Headers, seconds: float) -> request.Headers:
        """The headers of the response that begins now, `seconds` after its request came in."""
        visit = of(serving)
        serving.edge = None
        found = [*headers, *await self._bypass(visit, is_secure=serving.scope.get("scheme") == "https")]
        if not visit.is_marked or not marking.is_kept(found):
            return found
        return marking.closed(found) if await self._may_not_be_kept(serving, found, seconds) else found

    async def _bypass(self, visit: Visit, *, is_secure: bool) -> request.Headers:
        """The cookies to set and to delete."""
        is_there = bool(self._edges)
        awaited = [one for ids in visit.brought.values() for one in ids] if is_there else []
        left = frozenset(awaited) - await self._settled.among(awaited)
        gone = [name for name, ids in visit.brought.items() if left.isdisjoint(ids)]
        mine = visit.purged if is_there else []
        if mine and len(visit.brought) - len(gone) >= bypass.MOST_COOKIES:
            mine, gone = [*left, *mine], list(visit.brought)
        deleted = [self.cookies.forget(name, is_secure=is_secure) for name in gone]
        return [*deleted, self.cookies.write(mine, is_secure=is_secure)] if mine else deleted

    async def _may_not_be_kept(self, serving: request.Request, headers: request.Headers, seconds: float) -> bool:
        why = marking.personal(headers) or ("has written" if serving.has_written else "")
        if why:
            self._warn(serving, why)
            return True
        if serving.recorder is not None:
            return True
        if seconds <= SLOW_SECONDS or not self._edges or not await self._has_raced(headers, seconds):
            return False
        counters.add("cdn.not_kept_because_purged")
        return True

    async def _has_raced(self, headers: request.Headers, seconds: float) -> bool:
        """Whether a purge may have missed this response; without an answer, yes."""
        tags = [tag for name, value in headers if name.lower() == b"surrogate-key" for tag in value.decode().split()]
        try:
            rows = await outgoing.write(self._shards, 0, RACED, seconds, tags)
        except (errors.TenfoldError, *connect.ANSWERS) as error:
            log.debug("a slow response is not kept: %s", error)
            return True
        return bool(rows[0][0])

    def _warn(self, serving: request.Request, why: str) -> None:
        counters.add("cdn.not_kept_because_personal")
        path = str(serving.scope.get("path", ""))
        if path not in self._warned and len(self._warned) < MOST_WARNINGS:
            self._warned.add(path)
            log.warning(
                "%s is marked with tf.cdn.public, and %s: no edge keeps it, for it is one person's; mark only what is "
                "the same for all, or make it so",
                *(path, why),
            )
