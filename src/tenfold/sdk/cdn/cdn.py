"""`tf.cdn` as an app sees it: what may be kept outside, what must be forgotten, and the names of static files.

Made by `sdk/service`, one a `Tenfold`. Without edges (rungs below `cdn`) everything here is still there: marks are
headers that nobody looks at, purges cost nothing, and static files are served by the web servers themselves.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from tenfold import bindings, errors, request
from tenfold.sdk import db
from tenfold.sdk.cdn import bypass, delivery, edges, files, marking, purges, serving, settling, visits
from tenfold.sdk.db import transaction

log = logging.getLogger("tenfold.cdn")


class Cdn:
    """The edges of a service, and its static files."""

    def __init__(self, database: db.Database) -> None:
        self._database = database
        self._edges = edges.Edges()
        settled = settling.Settled(database)
        self._delivery = delivery.Delivery(database.shards, self._edges, settled)
        self.doors = visits.Doors(self._edges, settled)
        """What happens when a response begins; for `asgi`."""
        self.static: serving.Static | None = None
        """The static files; None: the app serves its own."""
        self._bound: bindings.Cdn | None = None
        self._service = bindings.Service(name="")
        database.shards.takers.purger = self._delivery

    def public(
        self, response: marking.Response, *, max_age: float = 60, stale: float = 0, tags: Sequence[str] = ()
    ) -> marking.Response:
        """Let edges keep this response for `max_age` seconds, and serve it `stale` seconds longer while they fetch it
        anew; returns it. `tx.purge` with one of its tags ends that at once.

        For what is the same for everybody: a response that sets a cookie, or that a session was asked for, is not kept
        after all, and the log says so once. Browsers ask again each time, for they cannot be purged. The response may
        be any framework's with `.headers`. Raises `MisuseError` for tags that no edge takes, `TooLarge` for too many.
        """
        marked = marking.public(response, max_age, stale, tags)
        current = request.current()
        if current is not None and not current.has_responded:
            visits.of(current).is_marked = True
        return marked

    def private(self, response: marking.Response) -> marking.Response:
        """Let nobody but the client's browser keep this response, whatever it was marked before; returns it."""
        return marking.private(response)

    def url(self, name: str) -> str:
        """The path of a static file, under a name that changes with its content: `/static/img/logo.DIGEST.png`.

        Whoever has it may keep it for ever. Reads the file at its first use, and when it has changed. Raises
        `MisuseError` when there is no such file: a page without its style sheet is better never served.
        """
        if self._bound is None:
            raise errors.NotStarted("tf.cdn.url: used before the lifespan began; use it in requests, not at import")
        if self.static is None:
            raise errors.MisuseError(
                'tf.cdn.url: no folder of static files found; write static = "static" into [cdn] of tenfold.toml '
                "(with edges = 0 on rungs without any)"
            )
        found = self.static.url(name)
        if found is None:
            folder = self.static.folder.root
            raise errors.MisuseError(
                f"tf.cdn.url: no file {name!r} found in {folder}, one expected; is the name right?"
            )
        return found

    async def purge(
        self,
        *,
        tags: Sequence[str] = (),
        urls: Sequence[str] = (),
        everything: bool = False,
        soft: bool = False,
    ) -> None:
        """`tx.purge` in a transaction of its own. Raises what `tf.db.run` raises."""
        if transaction.current() is not None:
            raise errors.InsideTransaction(
                "tf.cdn.purge found inside an open transaction of the same task; write `await tx.purge(...)`, with its "
                "`tx`: forgotten with it, or not at all"
            )
        purges.purge(tags, urls, everything=everything, soft=soft)
        if not self._delivery.is_wanted:
            return

        async def record(tx: transaction.Transaction) -> None:
            await tx.purge(tags=tags, urls=urls, everything=everything, soft=soft)

        await self._database.run(record)

    def watch(self, watcher: Callable[[purges.Purge], None] | None) -> None:
        """For tests, in whose processes there are no edges: `watcher` is told of each purge that was committed."""
        self._delivery.watcher = watcher

    async def start(self, bound: bindings.Cdn, service: bindings.Service, region: str) -> None:
        """Begin to look after purges. No edge needs to answer."""
        self.update(bound, service, region)
        self._delivery.start()

    def update(self, bound: bindings.Cdn, service: bindings.Service, region: str) -> None:
        """Follow changed bindings."""
        self._edges.update(bound, region)
        self.doors.cookies = bypass.Cookies(service.secret, service.name)
        is_new = self._bound is None or (self._bound.static, self._bound.static_path) != (
            bound.static,
            bound.static_path,
        )
        if is_new:
            self.static = _static(bound, service)
        self._bound = bound

    async def stop(self) -> None:
        """End everything. Twice is once."""
        await self._delivery.stop()
        await self._edges.stop()
        self._bound = None


def _static(bound: bindings.Cdn, service: bindings.Service) -> serving.Static | None:
    """The files that these bindings name. Under the runtime they are the release's that this process runs."""
    if not bound.static:
        return None
    release = bindings.release_from_environment()
    home = Path.cwd() if release else Path(service.directory).absolute()
    others = (home.parent,) if release and home.name == release else ()
    root = home / bound.static
    if not root.is_dir():
        log.warning("cdn.static: %s not found, a folder expected; its files are answered 404", root)
    return serving.Static(files.Folder(root, others), bound.static_path)
