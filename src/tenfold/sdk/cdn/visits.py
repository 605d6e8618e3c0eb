"""What the CDN does with one request when its response begins: cookies for the bypass, and a last look at a mark.

A `Visit` is `request.Request.edge`: made by `asgi/arrival` (the request bypasses the edges), `delivery` (it has
purged) or `cdn` (its response is marked), so that other requests cost nothing. Called by `asgi/exchange`.
"""

import logging
from dataclasses import dataclass, field
from uuid import UUID

from tenfold import request
from tenfold.sdk import counters
from tenfold.sdk.cdn import bypass, edges, marking, settling

log = logging.getLogger("tenfold.cdn")

MOST_WARNINGS = 64
"""Paths that a warning is written for, once each."""


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

    def __init__(self, told: edges.Edges, settled: settling.Settled) -> None:
        self._edges = told
        self._settled = settled
        self._warned: set[str] = set()
        self.cookies = bypass.Cookies("", "")
        """Those of the service; replaced when the bindings change."""

    async def leaving(self, serving: request.Request, headers: request.Headers) -> request.Headers:
        """The headers of the response that begins now, with its cookies, and without a mark that it must not have."""
        visit = of(serving)
        serving.edge = None
        ours = await self._bypass(visit, is_secure=serving.scope.get("scheme") == "https")
        if visit.is_marked and marking.is_kept(headers) and (self._is_personal(serving, headers) or ours):
            return [*marking.closed(headers), *ours]
        return [*headers, *ours]

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

    def _is_personal(self, serving: request.Request, headers: request.Headers) -> bool:
        """Whether it is for one person after all; a trace is for the developer who asked."""
        why = marking.personal(headers) or ("has written" if serving.has_written else "")
        if why:
            self._warn(serving, why)
        return bool(why) or serving.recorder is not None

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
