"""Talks to a running runtime over its control socket. Called by the command line."""

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tenfold import errors
from tenfold.runtime import deploy, events

Json = dict[str, Any]


def own_version() -> str:
    """The version of tenfold that is installed here: a runtime goes on as the one that started it."""
    return metadata.version("tenfold")


class Client:
    """One runtime. Every call raises NotRunning when none answers, BadInput or RuntimeFailure as the runtime says."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def hello(self) -> Json:
        """Proof that a runtime answers, and of which version of tenfold it is (one before 0.1.0 does not say)."""
        return await self._call("GET", "/v1/hello")

    async def status(self) -> Json:
        """What `tenfold status --json` prints."""
        return await self._call("GET", "/v1/status")

    async def plan(self, text: str, *, keeps_release: bool = False) -> Json:
        """The plan from what is there to this topology. `keeps_release`: code that has changed does not count."""
        return await self._call("POST", "/v1/plan", {"topology": text, "keeps_release": keeps_release})

    async def up(self, text: str, say: Callable[[events.Event], None]) -> Json:
        """Start, or take over, and make it so."""
        return await self._stream("/v1/up", say, {"topology": text})

    async def apply(
        self,
        text: str,
        say: Callable[[events.Event], None],
        *,
        writes_file: bool = False,
        keeps_release: bool = False,
    ) -> Json:
        """Make it so. `say` gets each event. The work goes on when the caller stops listening.

        `writes_file`: tenfold.toml gets this text, and its former one when everything goes back.
        """
        flags = {"writes_file": writes_file, "keeps_release": keeps_release}
        return await self._stream("/v1/apply", say, {"topology": text, **flags})

    async def deploy(self, asked: deploy.Request, say: Callable[[events.Event], None]) -> Json:
        """Make another release serve."""
        return await self._stream("/v1/deploy", say, msgspec.to_builtins(asked))

    async def releases(self) -> Json:
        """Which releases serve, and how each of them does."""
        return await self._call("GET", "/v1/releases")

    async def cdn(self) -> Json:
        """What the edges answer, and what each holds."""
        return await self._call("GET", "/v1/cdn")

    async def change_wan(self, *, cuts: bool, regions: tuple[str, ...]) -> Json:
        """Cut or heal what lies between regions."""
        return await self._call("POST", "/v1/wan", {"cuts": cuts, "regions": regions})

    async def migrate(self, say: Callable[[events.Event], None]) -> Json:
        """Run the migrations that have not run."""
        return await self._stream("/v1/migrate", say)

    async def kill_server(self, name: str, say: Callable[[events.Event], None]) -> Json:
        """Cut a server's power."""
        return await self._stream(f"/v1/servers/{name}/kill", say)

    async def start_server(self, name: str, say: Callable[[events.Event], None]) -> Json:
        """Give a server power again."""
        return await self._stream(f"/v1/servers/{name}/start", say)

    async def kill_region(self, name: str, heir: str, say: Callable[[events.Event], None]) -> Json:
        """Cut the power of a region; `heir`: the region that shall be the home in its place, or empty."""
        return await self._stream(f"/v1/regions/{name}/kill{f'?heir={heir}' if heir else ''}", say)

    async def start_region(self, name: str, say: Callable[[events.Event], None]) -> Json:
        """Give a region power again."""
        return await self._stream(f"/v1/regions/{name}/start", say)

    async def down(self, say: Callable[[events.Event], None]) -> Json:
        """Stop everything and the runtime; the data stays."""
        return await self._stream("/v1/down", say)

    async def leave(self) -> Json:
        """Stop the runtime alone; everything keeps serving."""
        return await self._call("POST", "/v1/leave", {})

    async def follow(self, say: Callable[[events.Event], None]) -> None:
        """Recent events, then new ones, until the caller stops or the runtime does."""
        await self._stream("/v1/events", say, method="GET")

    async def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        try:
            async with self._session(30) as session, session.request(method, _url(path), data=_data(body)) as answer:
                return _checked(msgspec.json.decode(await answer.read()))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._not_running(error) from error
        except msgspec.DecodeError as error:
            raise errors.RuntimeFailure(
                f"{self._socket}: an answer found that is not JSON; restart the runtime"
            ) from error

    async def _stream(
        self, path: str, say: Callable[[events.Event], None], body: Json | None = None, method: str = "POST"
    ) -> Json:
        last: Json = {}
        try:
            async with self._session(None) as session, session.request(method, _url(path), data=_data(body)) as answer:
                async for line in answer.content:
                    last = msgspec.json.decode(line)
                    if "event" in last:
                        say(msgspec.convert(last["event"], events.Event))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._not_running(error) from error
        result = _checked(last)
        return dict(result.get("result") or {})

    def _session(self, seconds: float | None) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._socket)), timeout=aiohttp.ClientTimeout(total=seconds)
        )

    def _not_running(self, error: Exception) -> errors.NotRunning:
        return errors.NotRunning(
            f"no runtime answers on {self._socket} ({type(error).__name__}); start it with: tenfold up -d"
        )


def _url(path: str) -> str:
    return f"http://runtime{path}"


def _data(body: Json | None) -> bytes | None:
    return None if body is None else msgspec.json.encode(body)


def _checked(body: Json) -> Json:
    error = body.get("error")
    if error is None:
        return body
    if error["kind"] == "bad_input":
        raise errors.BadInput(error["message"])
    raise errors.RuntimeFailure(error["message"])
