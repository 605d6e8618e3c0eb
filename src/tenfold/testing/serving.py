"""The app under test, served in this process: imported once, its lifespan run for each test, and clients for it.

Called by `asynchrony`, on the loop of the test. The app is what `tenfold up` would serve (`sdk/hosting`): found by its
bindings, and wrapped where it has not done so itself.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from tenfold import errors
from tenfold.sdk import hosting, service
from tenfold.sdk.asgi import protocol, wrap

if TYPE_CHECKING:
    import httpx

    from tenfold.testing import run

LIFESPAN_SECONDS = 60.0
"""How long the app's startup, and its shutdown, may take."""

_loaded: dict[str, wrap.Wrapped] = {}
"""By what names it, the app: imported, or made by its factory, once a process, as a server does."""


class Served:
    """The app while one test runs."""

    def __init__(self, app: wrap.Wrapped, base_url: str) -> None:
        self.app = app
        """The wrapped app; its other attributes are the framework's (`dependency_overrides`)."""
        self._base_url = base_url
        self._clients: list[httpx.AsyncClient] = []

    @property
    def tf(self) -> service.Tenfold:
        """The app's `Tenfold`, started."""
        return cast(service.Tenfold, self.app.service)

    def new_client(self, *, raise_app_exceptions: bool = True, **options: Any) -> "httpx.AsyncClient":
        """A client with cookies of its own, closed when the test ends. `options`: httpx.AsyncClient's.

        It speaks https, so that Secure cookies come back. What the app does not catch is raised in the test; with
        `raise_app_exceptions=False` it is the response that a server would give.
        """
        module = _httpx()
        transport = module.ASGITransport(
            self.app, raise_app_exceptions=raise_app_exceptions, client=("127.0.0.1", 50000)
        )
        made: httpx.AsyncClient = module.AsyncClient(**{"transport": transport, "base_url": self._base_url, **options})
        self._clients.append(made)
        return made

    async def close(self) -> None:
        """Close the clients."""
        for one in self._clients:
            await one.aclose()


@asynccontextmanager
async def serving(shared: "run.Run") -> AsyncIterator[Served]:
    """The app with its lifespan run. Raises BadInput when there is none, or it does not import or start."""
    told = shared.topology.service
    app = _load(told.app, told.factory)
    _ensure_own_database(cast(service.Tenfold, app.service), shared)
    made = Served(app, f"https://{told.domain or 'testserver'}")
    async with _lifespan(app):
        shared.served = made
        try:
            yield made
        finally:
            shared.served = None
            await made.close()


def _load(app: str, factory: str) -> wrap.Wrapped:
    if not app and not factory:
        raise errors.BadInput(
            'no app found: say in pytest\'s configuration where it is (tenfold_app = "shop.web:app"), or in '
            "tenfold.toml ([service] app)"
        )
    name = app or f"{factory}()"
    if name not in _loaded:
        _loaded[name] = hosting.wrapped(hosting.load())
    return _loaded[name]


def _ensure_own_database(tf: service.Tenfold, shared: "run.Run") -> None:
    """A test must never write to a database that is not its own."""
    given = tf.given_database
    own = (*shared.door.address, shared.setting.database)
    if given is not None and {(one.host, one.port, given.name) for one in given.shards[0].nodes} != {own}:
        raise errors.BadInput(
            "the app's Tenfold(database=...) names another database than this test's; take the address from "
            'os.environ["DATABASE_URL"], or leave the argument out'
        )


@asynccontextmanager
async def _lifespan(app: wrap.Wrapped) -> AsyncIterator[None]:
    """As a server runs it: in a task of its own, on this loop (httpx.ASGITransport does not run it at all)."""
    inbox: asyncio.Queue[protocol.Message] = asyncio.Queue()
    outbox: asyncio.Queue[protocol.Message] = asyncio.Queue()
    scope: protocol.Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    task = asyncio.create_task(app(scope, inbox.get, outbox.put), name="tenfold-tests-lifespan")
    try:
        await inbox.put({"type": "lifespan.startup"})
        _ensure_complete(await _answer(task, outbox), "startup")
        yield
        await inbox.put({"type": "lifespan.shutdown"})
        _ensure_complete(await _answer(task, outbox), "shutdown")
        await asyncio.wait([task], timeout=LIFESPAN_SECONDS)
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _answer(task: "asyncio.Task[None]", outbox: "asyncio.Queue[protocol.Message]") -> protocol.Message:
    """The app's next word; its own error when it ends without one."""
    word = asyncio.create_task(outbox.get())
    try:
        await asyncio.wait([word, task], timeout=LIFESPAN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if word.done():
            return word.result()
        if task.done():
            task.result()
        raise errors.BadInput(f"the app's lifespan: no answer within {LIFESPAN_SECONDS:g} s")
    finally:
        word.cancel()


def _ensure_complete(message: protocol.Message, event: str) -> None:
    if message["type"] != f"lifespan.{event}.complete":
        raise errors.BadInput(f"the app's {event} failed:\n{message.get('message', '')}")


def _httpx() -> Any:
    try:
        import httpx  # late: it is not needed by tests without a client, and may not be installed
    except ImportError:
        raise errors.BadInput("the fixture `client` needs httpx: pip install 'tenfold[testing]'") from None
    return httpx
