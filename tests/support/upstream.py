"""A small web server for tests of the front door, run as `python upstream.py NAME ADDRESS PORT JOURNAL`.

It says who it is and which headers it got, and writes every request that began to a journal file, so that a
test can count what really ran. Paths: `/slow?seconds=`; `/die` (the first of the servers that gets it ends its own
process in the middle of the request, the next one answers); `/-/ready` (503 after `/-/unready`, until
`/-/ready-again`); `/echo` (a WebSocket); anything else answers at once.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from aiohttp import web


class Upstream:
    """One web server's state."""

    def __init__(self, name: str, journal: str) -> None:
        self.name = name
        self.died = Path(f"{journal}.died")
        self.journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.is_ready = True

    async def answer(self, request: web.Request) -> web.Response:
        """Write the request down, do what its path says, and say what was seen."""
        body = await request.read()
        os.write(self.journal, f"{self.name} {request.method} {request.path} {request.query_string}\n".encode())
        if request.path == "/die" and not self.died.exists():
            self.died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(float(request.query.get("seconds", "0")))
        headers = [[name, value] for name, value in request.headers.items()]
        return web.json_response({"server": self.name, "headers": headers, "path": request.path, "size": len(body)})

    async def echo(self, request: web.Request) -> web.WebSocketResponse:
        """A WebSocket that says everything again."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{self.name}: {message.data}")
        return socket

    async def ready(self, request: web.Request) -> web.Response:
        """The health check's answer."""
        return web.Response(status=200 if self.is_ready else 503)

    async def become_unready(self, request: web.Request) -> web.Response:
        """Fail the health check from now on."""
        self.is_ready = False
        return web.Response()

    async def become_ready(self, request: web.Request) -> web.Response:
        """Pass the health check again."""
        self.is_ready = True
        return web.Response()


def main(name: str, address: str, port: str, journal: str) -> None:
    """Serve until killed; SIGTERM ends requests in flight first."""
    upstream = Upstream(name, journal)
    app = web.Application()
    app.router.add_get("/-/ready", upstream.ready)
    app.router.add_get("/-/unready", upstream.become_unready)
    app.router.add_get("/-/ready-again", upstream.become_ready)
    app.router.add_get("/echo", upstream.echo)
    app.router.add_route("*", "/{path:.*}", upstream.answer)
    web.run_app(app, host=address, port=int(port), print=None, access_log=None, keepalive_timeout=30)


if __name__ == "__main__":
    main(*sys.argv[1:])
