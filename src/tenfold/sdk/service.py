"""`Tenfold`: the one object that an app makes, and everything hangs on.

Made by apps at import, where it does no I/O; started and stopped by the lifespan (`asgi/lifespan`) or `async with tf:`.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import weakref
from collections.abc import Sequence
from typing import Any

import msgspec

from tenfold import bindings, errors
from tenfold.request import current
from tenfold.sdk import addresses, db, watch
from tenfold.sdk.asgi import idempotency, inflight, protocol, road, settings, wrap
from tenfold.sdk.cache import cache as caching
from tenfold.sdk.cdn import cdn as edging
from tenfold.sdk.queue import queue as queueing
from tenfold.sdk.sessions import dependencies, session
from tenfold.sdk.sessions import sessions as sessioning
from tenfold.sdk.tokens import tokens
from tenfold.sdk.valkey import client as valkey

made: "weakref.WeakSet[Tenfold]" = weakref.WeakSet()
"""Every `Tenfold` of this process: `hosting` wraps an app with the one that the app has made."""


CUT_SECONDS = 1.0
"""How long streams get to clean up once they are cut."""

BUSY_SHARE = 1 / 16
"""With more of its `max_requests` than this at work, a process that serves has no time to spare for messages."""


class Tenfold:
    """A service's database, cache, CDN, sessions, tokens and queue, and `wrap` for its app.

    Without arguments it finds its bindings by the environment, as the runtime sets it. Beside an infrastructure of
    your own: `Tenfold(database=["postgres://app:...@10.0.0.1/shop", "postgres://app:...@10.0.0.2/shop"])` names
    the nodes of one database (which is the primary, it finds out), `cache=["valkey://app:...@10.0.0.3", ...]` a Valkey
    or the servers of one cluster, `queue=["nats://app:...@10.0.0.6", ...]` NATS servers with JetStream,
    `cdn=["edge://:KEY@10.0.0.9:6083", ...]` edges that take purges, `static` a folder of static files,
    `sessions="cache"` the store of sessions, and the other arguments say what else the bindings would. An argument that
    is given wins over the bindings.

    `secret` may be several, the newest first: the others verify what they have signed, and sign nothing new.
    `principal` names who makes a request, for `Idempotency-Key`: a key counts for one principal only. It gets the
    ASGI scope; without it the Authorization header counts.
    """

    def __init__(  # noqa: PLR0913 - each is optional, and given by its name
        self,
        *,
        database: Sequence[str] | str = (),
        cache: Sequence[str] | str = (),
        queue: Sequence[str] | str = (),
        cdn: Sequence[str] | str = (),
        static: str = "",
        sessions: str = "",
        name: str = "",
        secret: str | Sequence[str] = "",
        principal: settings.Principal = idempotency.default_principal,
        request_seconds: float | None = None,
        max_requests: int | None = None,
        trusted_proxies: Sequence[str] | None = None,
        **database_options: Any,
    ) -> None:
        urls = (database,) if isinstance(database, str) else tuple(database)
        self._database = addresses.database(urls) if urls else None
        cache_urls = (cache,) if isinstance(cache, str) and cache else tuple(cache)
        self._cache = addresses.cache(cache_urls) if cache_urls else None
        queue_urls = (queue,) if isinstance(queue, str) and queue else tuple(queue)
        self._queue = addresses.queue(queue_urls) if queue_urls else None
        cdn_urls = (cdn,) if isinstance(cdn, str) and cdn else tuple(cdn)
        self._cdn = addresses.cdn(cdn_urls, static) if cdn_urls or static else None
        self._sessions = bindings.Sessions(store=sessioning.known(sessions)) if sessions else None
        has_password = self._database is not None and bool(self._database.password)
        fallback = _fallback_secret(urls) if has_password else ""
        self._given = _given(name, secret, fallback, request_seconds, max_requests, trusted_proxies)
        self._principal = principal
        self._starts = 0
        self._watch: watch.Watch | None = None
        self.inflight = inflight.InFlight(settings.Settings(_service(None, self._given), principal))
        self.bindings: bindings.Bindings | None = None
        """What the runtime says, once started under it."""
        self.db = db.Database(**database_options)
        """The database: asyncpg.Pool's surface, and more."""
        self.valkey = valkey.Client()
        """The cache's servers, for commands of your own; `is_there` on the rungs that have them."""
        self.cache = caching.Cache(self.db, self.valkey)
        """Values kept to be read again."""
        self.cdn = edging.Cdn(self.db)
        """What edges may keep, and static files."""
        self.sessions = sessioning.Sessions(self.db, self.valkey)
        """Visitors' sessions; `tf.session(request)` is the one of a request."""
        self.tokens = tokens.Tokens(self.db, self.valkey)
        """Signed tokens."""
        self.queue = queueing.Queue(self.db, self._is_busy)
        """Messages and their subscribers."""
        self.inflight.messages = self.queue.reading
        self.inflight.leaving = self.cdn.doors.leaving
        made.add(self)

    @property
    def settings(self) -> settings.Settings:
        """What the middleware goes by now."""
        return self.inflight.settings

    @property
    def given_database(self) -> bindings.Database | None:
        """The database that an argument named; None when it is the bindings'."""
        return self._database

    def wrap(self, app: protocol.App) -> wrap.Wrapped:
        """The app with tenfold's lifespan and middleware around it, outermost. Wrapping twice is wrapping once.

        Raises MisuseError for what is no ASGI application, or is wrapped by another Tenfold.
        """
        if isinstance(app, type) or not callable(app):
            raise errors.MisuseError(
                f"tf.wrap: {app!r} found, an ASGI application expected; write `app = FastAPI()`, or whatever makes "
                "yours, and below it `app = tf.wrap(app)`"
            )
        if isinstance(app, wrap.Wrapped):
            if app.service is self:
                return app
            raise errors.MisuseError("this app is wrapped by another Tenfold already; make one, and share it")
        return wrap.Wrapped(app, self)

    @dependencies.offered
    async def session(self, request: Any = None) -> session.Session:
        """The session of this request: loaded once, kept before the response begins.

        `request` may be FastAPI's, Starlette's, Litestar's or Django's, the ASGI scope, or nothing inside a request; in
        FastAPI `Annotated[Session, Depends(tf.session)]` is the same. `request.session` works after it. Raises
        StoreUnavailable or another TryAgain when the store does not answer.
        """
        return await self.sessions.of(request)

    @dependencies.offered_with_request
    async def csrf(self, request: Any = None) -> None:
        """Raise CsrfFailed, answered 403, unless the request is safe (GET, HEAD, OPTIONS, TRACE) or brings
        `session.csrf`, in the header X-CSRF-Token or in the form's field csrf_token.

        A FastAPI dependency too: `dependencies=[Depends(tf.csrf)]`. Without `request` it looks at the header alone.
        """
        await self.sessions.check(request)

    @dependencies.offered
    async def remember(self, principal: str | None = None) -> None:
        """From here on this request reads nothing older than what the principal has written, with whatever client.

        For clients that keep neither cookies nor the position header. Without an argument, and as a FastAPI dependency,
        it is the principal that `Tenfold(principal=...)` names.
        """
        serving = current()
        if principal is None and serving is not None:
            principal = self.settings.principal(serving.scope)
        await self.sessions.remember(principal or "")

    async def start(self) -> None:
        """Read the bindings and start what hangs on them. A second start counts, and wants a second stop.

        Raises BadBindings, and leaves nothing running then; WrongLoop when it is started on another event loop.
        """
        if self._starts and self.inflight.home.here() is None:
            raise errors.WrongLoop(
                "this Tenfold is started already, on another event loop; start it once, or make one for each loop "
                "(in tests: use pytest fixtures and the app on the same loop)"
            )
        if self._starts == 0:
            database = self._read_bindings()
            try:
                await self._start_parts(database)
            except BaseException:
                self._unwatch()
                await self._stop_parts()
                raise
            self.inflight.open()
        self._starts += 1

    async def drain(self) -> None:
        """Not ready any more; returns when open requests have ended. Streams that outlast a request's time are cut.

        A second call returns at once.
        """
        if self._starts == 1 and self.inflight.phase is inflight.Phase.OPEN:
            self.inflight.drain()
            await asyncio.gather(self.queue.drain(), self._drain_requests())

    async def stop(self) -> None:
        """Undo `start`. Without a start it does nothing."""
        if self._starts == 0:
            return
        self._starts -= 1
        if self._starts == 0:
            self._unwatch()
            self.inflight.close()
            self.inflight.road = road.to((), self.inflight.road)
            await self._stop_parts()

    async def __aenter__(self) -> "Tenfold":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _drain_requests(self) -> None:
        if not await self.inflight.drained(self.settings.request_seconds):
            self.inflight.cut()
            await self.inflight.drained(CUT_SECONDS)

    def _is_busy(self) -> bool:
        """Whether requests leave this process no time for messages."""
        return len(self.inflight.working) > self.settings.max_requests * BUSY_SHARE

    def _read_bindings(self) -> bindings.Database:
        """Take the bindings in, and watch them; without any, the arguments must do."""
        path = bindings.path_from_environment()
        if path is not None:
            self._watch = watch.Watch(path, self._changed)
            self._apply(self._watch.start())
        else:
            self._apply(None)
        wanted = self._database or (self.bindings.database if self.bindings else None)
        if wanted is None:
            self._unwatch()
            raise errors.BadBindings(
                f"no database: {bindings.VARIABLE} is not set, and Tenfold() has no argument that names one; start the "
                'app with `tenfold up`, or write Tenfold(database=["postgres://USER:PASSWORD@HOST/NAME"])'
            )
        if self.bindings is None and not self.settings.service.secret:
            raise errors.BadBindings(
                "no secret: Tenfold(database=...) has an address without a password, and what is made of that anybody "
                "could guess, and forge cookies and tokens with; write Tenfold(..., secret=SECRET), the same in every "
                'process, and not in the source: python -c "import secrets; print(secrets.token_hex(32))" makes one'
            )
        return wanted

    async def _start_parts(self, database: bindings.Database) -> None:
        """Each part on those that it is built on; the queue last: its subscribers use all the others."""
        found, service = self._effective(), self.settings.service
        await self.db.start(database, found.region)
        await self.valkey.start(found.cache)
        await self.cache.start(found.cache)
        await self.cdn.start(found.cdn, service, found.region)
        await self.sessions.start(found.sessions, service)
        self.tokens.update(service)
        self._let_in()
        await self.queue.start(found.queue, service.name)

    async def _stop_parts(self) -> None:
        """The other way round; one that fails, or is cancelled, keeps none of the others running."""
        async with contextlib.AsyncExitStack() as parts:
            for part in (self.db, self.valkey, self.cache, self.cdn, self.sessions, self.queue):
                parts.push_async_callback(part.stop)

    def _changed(self, new: bindings.Bindings) -> None:
        self._apply(new)
        if self._database is None and new.database is not None:
            self.db.update(new.database)
        found, service = self._effective(), self.settings.service
        self.valkey.update(found.cache)
        self.cache.update(found.cache)
        self.sessions.update(found.sessions, service)
        self.cdn.update(found.cdn, service, found.region)
        self.tokens.update(service)
        self._let_in()
        self.queue.update(found.queue)

    def _let_in(self) -> None:
        """What the door does with requests before the app sees them, and instead of it."""
        self.inflight.entering = self.sessions.entering
        self.inflight.static = self.cdn.static
        self.inflight.road = road.to(self._effective().home_doors, self.inflight.road)

    def _effective(self) -> bindings.Bindings:
        """The bindings; outside the runtime what stands for them."""
        found = self.bindings or bindings.Bindings(service=self.settings.service)
        given = {"cache": self._cache, "cdn": self._cdn, "queue": self._queue, "sessions": self._sessions}
        return msgspec.structs.replace(found, **{name: one for name, one in given.items() if one is not None})

    def _apply(self, found: bindings.Bindings | None) -> None:
        self.bindings = found
        digest = bindings.digest(found) if found is not None else ""
        self.inflight.settings = settings.Settings(_service(found, self._given), self._principal, digest)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Given:
    """What the constructor was told; None where it was not."""

    fields: dict[str, Any]
    fallback_secret: str


def _given(
    name: str,
    secret: str | Sequence[str],
    fallback_secret: str,
    request_seconds: float | None,
    max_requests: int | None,
    trusted_proxies: Sequence[str] | None,
) -> _Given:
    secrets = (secret,) if isinstance(secret, str) else tuple(secret)
    said = {
        "name": name or None,
        "secret": (secrets and secrets[0]) or None,
        "former_secrets": secrets[1:] or None,
        "request_seconds": request_seconds,
        "max_requests": max_requests,
        "trusted_proxies": None if trusted_proxies is None else tuple(trusted_proxies),
    }
    return _Given({key: value for key, value in said.items() if value is not None}, fallback_secret)


def _fallback_secret(urls: tuple[str, ...]) -> str:
    """Every process of the service must read the others' cookies: they share the URLs, which hold a password."""
    return hashlib.sha256("\n".join(("tenfold", *urls)).encode()).hexdigest()


def _service(found: bindings.Bindings | None, given: _Given) -> bindings.Service:
    """The bindings' service settings, with what the constructor was told in their place."""
    service = found.service if found is not None else bindings.Service(name="app", secret=given.fallback_secret)
    return msgspec.structs.replace(service, **given.fields)
