"""The control API: HTTP over a unix socket (0600) that the other commands and the dashboard talk to.

Thin: each route calls one method of the runtime. Bodies are JSON; long work answers with one JSON object a line,
events first, the result or the error last. The form is documented in docs/control-api.md.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import msgspec
from aiohttp import web

from tenfold import errors
from tenfold.runtime import client, deploy, events, wan

Json = dict[str, Any]

log = logging.getLogger(__name__)


class Controlled(Protocol):
    """What the control API may ask of a runtime."""

    journal: events.Journal

    async def status(self) -> Json: ...
    async def plan(self, text: str, *, keeps_release: bool) -> Json: ...
    async def up(self, text: str) -> Json: ...
    async def apply(self, text: str, *, writes_file: bool, keeps_release: bool) -> Json: ...
    async def deploy(self, asked: deploy.Request) -> Json: ...
    async def release_status(self) -> Json: ...
    async def cdn(self) -> Json: ...
    async def migrate(self) -> Json: ...
    async def kill_server(self, name: str) -> Json: ...
    async def start_server(self, name: str) -> Json: ...
    async def kill_region(self, name: str, heir: str = "") -> Json: ...
    async def start_region(self, name: str) -> Json: ...
    async def change_wan(self, asked: wan.Request) -> Json: ...
    async def down(self) -> Json: ...


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `plan`, `up` and `apply`."""

    topology: str
    """The text of tenfold.toml."""
    writes_file: bool = False
    keeps_release: bool = False


Asked = TypeVar("Asked", Change, wan.Request, deploy.Request)


@asynccontextmanager
async def serving(runtime: Controlled, socket: str, stop: asyncio.Event) -> AsyncIterator[None]:
    """Answer on the socket while the context is open. A socket left by a dead runtime is replaced."""
    runner = web.AppRunner(_application(runtime, stop), handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.UnixSite(runner, socket).start()
        os.chmod(socket, 0o600)  # its folder is private as well, so nobody came in between
        yield
    finally:
        await runner.cleanup()


def _application(runtime: Controlled, stop: asyncio.Event) -> web.Application:
    routes = _Routes(runtime, stop)
    application = web.Application(middlewares=[_errors])
    application.add_routes(
        [
            web.get("/v1/hello", routes.hello),
            web.get("/v1/status", routes.status),
            web.get("/v1/events", routes.follow),
            web.post("/v1/plan", routes.plan),
            web.post("/v1/up", routes.up),
            web.post("/v1/apply", routes.apply),
            web.post("/v1/deploy", routes.deploy),
            web.get("/v1/releases", routes.releases),
            web.get("/v1/cdn", routes.cdn),
            web.post("/v1/migrate", routes.migrate),
            web.post("/v1/servers/{name}/kill", routes.kill),
            web.post("/v1/servers/{name}/start", routes.start),
            web.post("/v1/regions/{name}/kill", routes.kill_region),
            web.post("/v1/regions/{name}/start", routes.start_region),
            web.post("/v1/wan", routes.wan),
            web.post("/v1/down", routes.down),
            web.post("/v1/leave", routes.leave),
        ]
    )
    return application


class _Routes:
    """One method a route."""

    def __init__(self, runtime: Controlled, stop: asyncio.Event) -> None:
        self._runtime = runtime
        self._stop = stop

    async def hello(self, _: web.Request) -> web.StreamResponse:
        return _answer({"version": 1, "tenfold": client.own_version()})

    async def status(self, _: web.Request) -> web.StreamResponse:
        return _answer(await self._runtime.status())

    async def plan(self, request: web.Request) -> web.StreamResponse:
        asked = await _asked(request, Change)
        return _answer(await self._runtime.plan(asked.topology, keeps_release=asked.keeps_release))

    async def up(self, request: web.Request) -> web.StreamResponse:
        asked = await _asked(request, Change)
        return await self._stream(request, lambda: self._runtime.up(asked.topology))

    async def apply(self, request: web.Request) -> web.StreamResponse:
        asked = await _asked(request, Change)
        flags = {"writes_file": asked.writes_file, "keeps_release": asked.keeps_release}
        return await self._stream(request, lambda: self._runtime.apply(asked.topology, **flags))

    async def deploy(self, request: web.Request) -> web.StreamResponse:
        asked = await _asked(request, deploy.Request)
        return await self._stream(request, lambda: self._runtime.deploy(asked))

    async def releases(self, _: web.Request) -> web.StreamResponse:
        return _answer(await self._runtime.release_status())

    async def cdn(self, _: web.Request) -> web.StreamResponse:
        return _answer(await self._runtime.cdn())

    async def migrate(self, request: web.Request) -> web.StreamResponse:
        return await self._stream(request, self._runtime.migrate)

    async def kill(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        return await self._stream(request, lambda: self._runtime.kill_server(name))

    async def start(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        return await self._stream(request, lambda: self._runtime.start_server(name))

    async def kill_region(self, request: web.Request) -> web.StreamResponse:
        name, heir = request.match_info["name"], request.query.get("heir", "")
        return await self._stream(request, lambda: self._runtime.kill_region(name, heir))

    async def start_region(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        return await self._stream(request, lambda: self._runtime.start_region(name))

    async def wan(self, request: web.Request) -> web.StreamResponse:
        return _answer(await self._runtime.change_wan(await _asked(request, wan.Request)))

    async def down(self, request: web.Request) -> web.StreamResponse:
        response = await self._stream(request, self._runtime.down)
        self._stop.set()
        return response

    async def leave(self, _: web.Request) -> web.StreamResponse:
        self._stop.set()
        return _answer({"left": True})

    async def follow(self, request: web.Request) -> web.StreamResponse:
        return await _follow(request, self._runtime.journal)

    async def _stream(self, request: web.Request, act: Callable[[], Awaitable[Json]]) -> web.StreamResponse:
        return await _stream(request, self._runtime.journal, act)


async def _asked(request: web.Request, form: type[Asked]) -> Asked:
    """The body in the form that the call takes."""
    try:
        return msgspec.json.decode(await request.read(), type=form)
    except msgspec.DecodeError as error:
        expected = '{"topology": "text of tenfold.toml"}'
        raise errors.BadInput(f"control API: {error}; {expected} expected as the body") from error


def _answer(body: Json, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


def error_body(error: errors.TenfoldError) -> Json:
    """An error as the API says it; `client` raises it again on the other side."""
    kind = "bad_input" if isinstance(error, errors.BadInput) else "failed"
    return {"error": {"kind": kind, "type": type(error).__name__, "message": str(error)}}


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except errors.TenfoldError as error:
        return _answer(error_body(error), 400 if isinstance(error, errors.BadInput) else 500)
    except msgspec.DecodeError as error:
        return _answer({"error": {"kind": "bad_input", "type": "BadInput", "message": str(error)}}, 400)
    except Exception as error:  # noqa: BLE001 - the boundary: whoever asked gets an answer, the log the traceback
        return _answer(error_body(_unforeseen(error)), 500)


def _unforeseen(error: Exception) -> errors.RuntimeFailure:
    """A mistake of ours, as the one who asked may see it; the traceback goes to the runtime's log."""
    log.exception("control API: an error that nobody foresaw", exc_info=error)
    return errors.RuntimeFailure(f"{type(error).__name__}: {error}; the runtime goes on, see: tenfold logs runtime")


async def _stream(
    request: web.Request, journal: events.Journal, act: Callable[[], Awaitable[Json]]
) -> web.StreamResponse:
    """Events while the work runs, then its result. The work goes on when the client leaves."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    work = asyncio.ensure_future(_settled(act))
    follower = asyncio.ensure_future(_forward(response, journal))
    try:
        last = await asyncio.shield(work)
    finally:
        await asyncio.sleep(0)
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
    await response.write(msgspec.json.encode(last) + b"\n")
    await response.write_eof()
    return response


async def _settled(act: Callable[[], Awaitable[Json]]) -> Json:
    try:
        return {"result": await act()}
    except errors.TenfoldError as error:
        return error_body(error)
    except OSError as error:  # a full disk, say
        return error_body(errors.RuntimeFailure(f"the runtime could not go on: {error}"))
    except Exception as error:  # noqa: BLE001 - the boundary: whoever asked gets an answer, the log the traceback
        return error_body(_unforeseen(error))


async def _forward(response: web.StreamResponse, journal: events.Journal) -> None:
    async for event in journal.follow():
        await response.write(msgspec.json.encode({"event": event}) + b"\n")


async def _follow(request: web.Request, journal: events.Journal) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    for event in list(journal.recent):
        await response.write(msgspec.json.encode({"event": event}) + b"\n")
    await _forward(response, journal)
    return response
