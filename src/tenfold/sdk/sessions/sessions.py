"""`tf.session(request)` and `tf.sessions` as an app sees them. Made by `sdk/service`, one a `Tenfold`.

Decides which stores a service has; what happens to one session is `visits`' business.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from tenfold import bindings, errors, request
from tenfold.sdk import db
from tenfold.sdk.sessions import (
    cached,
    cookies,
    csrf,
    database,
    memory,
    remembered,
    sealed,
    sealing,
    session,
    stores,
    visits,
)
from tenfold.sdk.tokens import revocations
from tenfold.sdk.valkey import client

OTHERS = "another session middleware has put its own into request.session; take it out, tf.session takes its place"


STORES = ("database", "cache", "token", "memory")


def known(store: str) -> str:
    """The store's name. Raises MisuseError for what is none."""
    if store not in STORES:
        raise errors.MisuseError(f"sessions: {store!r} found as the store, one of {', '.join(STORES)} expected")
    return store


class Stay:
    """What `request.Request.visit` holds: the session of a request, and whose positions it looks after."""

    __slots__ = ("principal", "visit")

    def __init__(self) -> None:
        self.visit: visits.Visit | None = None
        self.principal = ""


class Sessions:
    """The sessions of a service."""

    def __init__(self, database_: db.Database, servers: client.Client) -> None:
        self._revoked = revocations.Revocations(database_, servers)
        self._remembered = remembered.Remembered(database_, servers)
        self._stores: dict[str, stores.Store] = {
            "database": database.DatabaseStore(database_),
            "cache": cached.CachedStore(servers),
            "memory": memory.MemoryStore(),
            "token": sealed.SealedStore(lambda: self._current().seal, self._revoked, lambda: self._bound.life_seconds),
        }
        self._bound = bindings.Sessions()
        self._setting: visits.Setting | None = None

    async def start(self, bound: bindings.Sessions, service: bindings.Service) -> None:
        """Nothing is read before a request asks for its session."""
        self.update(bound, service)

    def update(self, bound: bindings.Sessions, service: bindings.Service) -> None:
        """Follow changed bindings. Requests under way go on with what they began with."""
        secrets = (service.secret, *service.former_secrets)
        former = [self._stores[name] for name in bound.former if name != bound.store]
        self._bound = bound
        self._setting = visits.Setting(
            stores.Stores(self._stores[bound.store], former),
            sealing.Seal(secrets, service.name),
            csrf.Forms(secrets, service.name),
            cookies.name(service.name),
            bound.life_seconds,
        )

    async def stop(self) -> None:
        """Twice is once."""
        self._setting = None

    @property
    def entering(self) -> Callable[[request.Request], Awaitable[None]] | None:
        """What the door does with each request before the app sees it; None: nothing, unless sessions are eager."""
        return self._enter if self._bound.is_eager and self._setting is not None else None

    async def of(self, connection: Any = None) -> session.Session:
        """The session of the request that this task serves; see `Tenfold.session`."""
        serving = _serving("tf.session")
        scope = scope_of(connection, serving)
        if not isinstance(scope.get("session"), session.Session | session.Unavailable | None):
            raise errors.MisuseError(f"tf.session: {OTHERS}")
        found = await self._visit(serving).load()
        scope["session"] = serving.scope["session"] = found
        return found

    async def check(self, connection: Any = None) -> None:
        """Raise CsrfFailed unless the request proves that it comes from a page of its session; see `Tenfold.csrf`."""
        serving = _serving("tf.csrf")
        scope = scope_of(connection, serving)
        if scope.get("method", "GET") in csrf.SAFE:
            return
        token = await csrf.token_of(scope, connection)
        visit = self._visit(serving)
        await visit.load()
        if not visit.is_from_here(token):
            raise csrf.refused(scope, has_token=bool(token))

    async def remember(self, principal: str) -> None:
        """Read nothing older than what the principal has written, with whatever client; see `Tenfold.remember`."""
        serving = _serving("tf.remember")
        stay = self._stay(serving)
        if principal and principal != stay.principal:
            await self._remembered.recall(principal, serving)
            stay.principal = principal

    async def _enter(self, serving: request.Request) -> None:
        """Load a session ahead. Requests that do not need theirs must not fail with its store."""
        try:
            serving.scope["session"] = await self._visit(serving).load()
        except errors.TryAgain as error:
            serving.scope["session"] = session.Unavailable(error)

    def _visit(self, serving: request.Request) -> visits.Visit:
        stay = self._stay(serving)
        if stay.visit is None:
            stay.visit = visits.Visit(self._current(), serving)
        return stay.visit

    def _stay(self, serving: request.Request) -> Stay:
        if serving.visit is None:
            serving.visit = Stay()
            serving.before_response = partial(self._leave, serving, serving.visit)
        return serving.visit  # type: ignore[no-any-return]

    async def _leave(self, serving: request.Request, stay: Stay, status: int) -> request.Headers:
        headers = await stay.visit.keep(status, self._current()) if stay.visit is not None else []
        if stay.principal and serving.has_written:
            await self._remembered.note(stay.principal, serving)
        return headers

    def _current(self) -> visits.Setting:
        if self._setting is None:
            raise errors.NotStarted("tf.session is not started: use it in requests of an app that tf.wrap has wrapped")
        return self._setting


def scope_of(connection: Any, serving: request.Request) -> Any:
    """The ASGI scope of whatever stands for a request: a framework's object, the scope itself, or nothing."""
    if connection is None:
        return serving.scope
    scope = getattr(connection, "scope", connection)  # Starlette's request is a mapping too, and no scope
    if not isinstance(scope, Mapping):
        raise errors.MisuseError(
            f"tf.session: {type(connection).__name__} found; a request, its ASGI scope, or nothing at all expected"
        )
    return scope


def _serving(what: str) -> request.Request:
    serving = request.current()
    if serving is None or not serving.scope:
        raise errors.MisuseError(
            f"{what}: called outside a request; a session belongs to one: write it in a handler of an app that is "
            "wrapped (`app = tf.wrap(app)`; `tenfold up` does it itself)"
        )
    return serving
