"""One connection to NATS, to whichever of the servers answers, made again for as long as it is wanted.

Owned by `transport`. Everything that one turn of the event loop says goes out in one write. What waits for an answer
when the connection breaks hears `LostError` at once and knows nothing of the outcome. No wait without a deadline.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple, cast

from tenfold.kit import backoff
from tenfold.sdk.queue import tasks
from tenfold.sdk.queue.nats import wire

log = logging.getLogger("tenfold.queue")

CONNECT_SECONDS = 3.0
"""From the first packet to the server's first PONG."""

SILENCE_SECONDS = 4.0
"""A server that says nothing for so long is asked, and must answer within as long again, or it counts as dead."""

MOST_UNSENT_BYTES = 16 * 1024 * 1024
"""What may wait to be written before `has_room` says no."""

PAUSE = backoff.Backoff(first_seconds=0.05, most_seconds=2.0)


class LostError(Exception):
    """There is no connection, or it broke before the answer came. Never leaves this package."""


class Server(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


class Login(NamedTuple):
    """Whom the servers know us as."""

    user: str
    password: str
    name: str

    def __repr__(self) -> str:
        return f"Login({self.user})"


OnMessage = Callable[[wire.Delivered], None]


class Link:
    """Publishes, subscribes, asks. Belongs to the event loop that it was started on."""

    def __init__(self, servers: Sequence[Server], login: Login) -> None:
        self.servers = tuple(servers)
        self.login = login
        self.on_up: list[Callable[[], None]] = []
        """Called whenever a connection has been made."""
        self.on_down: list[Callable[[], None]] = []
        """Called whenever one was lost."""
        self.most_bytes = 1024 * 1024
        """The largest message that the server takes."""
        self._sids = count(1)
        self._listening: dict[int, tuple[bytes, OnMessage]] = {}
        self._inbox = f"_INBOX.{secrets.token_hex(8)}."
        self._numbers = count(1)
        self._asked: dict[bytes, asyncio.Future[wire.Delivered]] = {}
        self._up: _Connection | None = None
        self._is_up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._turn = 0
        self._is_told = False

    @property
    def is_up(self) -> bool:
        """Whether there is a connection now."""
        return self._up is not None

    @property
    def has_room(self) -> bool:
        """Whether more can be said without filling the memory with what waits to be written."""
        return self._up is not None and self._up.unsent < MOST_UNSENT_BYTES

    def start(self) -> None:
        """Begin to connect; servers that are down are tried for ever."""
        if self._keeper is None:
            self._sid = self.listen(f"{self._inbox}*".encode(), self._answered)
            self._keeper = tasks.begin("nats", self._keep())

    def update(self, servers: Sequence[Server], login: Login) -> None:
        """Follow changed bindings; a connection to a server that is none of these any more is made anew elsewhere."""
        is_other = login != self.login
        self.servers, self.login = tuple(servers), login
        if self._up is not None and (is_other or self._up.server not in self.servers):
            self._up.close()

    async def stop(self) -> None:
        """Say what is still to be said, and close. Twice is once."""
        if self._keeper is not None:
            with suppress(LostError, TimeoutError):
                await self.flush(1.0)
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None

    async def up(self, seconds: float) -> None:
        """Return as soon as there is a connection. Raises `LostError` when there is none in time."""
        if self._up is None:
            try:
                await asyncio.wait_for(self._is_up.wait(), seconds)
            except TimeoutError:
                raise LostError(f"no server of {_names(self.servers)} answered within {seconds:g} s") from None

    def say(self, data: bytes) -> None:
        """Send bytes of the protocol, with all else that this turn of the loop says. Raises `LostError`."""
        if self._up is None:
            raise LostError(f"no connection to any of {_names(self.servers)}")
        self._up.say(data)

    def listen(self, subject: bytes, on_message: OnMessage) -> int:
        """Take what is published to the subject, on every connection to come. `on_message` must not block or raise."""
        sid = next(self._sids)
        self._listening[sid] = (subject, on_message)
        if self._up is not None:
            self._up.say(wire.subscribe(subject, sid))
        return sid

    def unlisten(self, sid: int) -> None:
        """Take no more. Twice is once."""
        if self._listening.pop(sid, None) is not None and self._up is not None:
            self._up.say(wire.unsubscribe(sid))

    def inbox(self) -> bytes:
        """A subject of ours that nobody has used, below one that no other listener of ours takes."""
        return f"_INBOX.{secrets.token_hex(8)}".encode()

    async def ask(self, subject: str, payload: bytes, seconds: float, head: bytes = b"") -> wire.Delivered:
        """The answer to a request. Raises `LostError` when the connection breaks, `TimeoutError` when none comes."""
        reply = f"{self._inbox}{next(self._numbers)}".encode()
        answer = asyncio.get_running_loop().create_future()
        self._asked[reply] = answer
        try:
            self.say(wire.publish(subject.encode(), payload, reply, head))
            async with asyncio.timeout(seconds):
                return cast(wire.Delivered, await answer)
        finally:
            self._asked.pop(reply, None)

    async def flush(self, seconds: float) -> None:
        """Return when the server has taken all that was said. Raises `LostError` or `TimeoutError`."""
        if self._up is None:
            raise LostError("no connection")
        async with asyncio.timeout(seconds):
            await self._up.ping()

    def _answered(self, message: wire.Delivered) -> None:
        waiting = self._asked.pop(message.subject, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    async def _keep(self) -> None:
        """Connect, live on it until it breaks, again. Pauses grow while no server takes us."""
        tries = 0
        while True:
            found = await self._connect()
            if found is None:
                tries += 1
                await asyncio.sleep(PAUSE.seconds(tries))
                continue
            tries = 0
            try:
                self._enter(found)
                await found.watch()
            finally:
                self._leave(found)

    async def _connect(self) -> "_Connection | None":
        """To the next server in turn; None when it does not take us."""
        if not self.servers:
            return None
        server = self.servers[self._turn % len(self.servers)]
        self._turn += 1
        made: _Connection | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                loop = asyncio.get_running_loop()
                _, made = await loop.create_connection(lambda: _Connection(server, self._deliver), *server)
                await made.greet(self.login)
        except (OSError, LostError, ValueError) as error:  # a timeout is an OSError; ValueError: it greets in no JSON
            if made is not None:
                made.close()
            self._tell(server, error)
            return None
        except asyncio.CancelledError:
            if made is not None:
                made.close()
            raise
        return made

    def _enter(self, found: "_Connection") -> None:
        self._is_told = False
        self.most_bytes = found.most_bytes
        self._up = found
        for sid, (subject, _) in self._listening.items():
            found.say(wire.subscribe(subject, sid))
        self._is_up.set()
        for tell in list(self.on_up):
            tell()

    def _leave(self, found: "_Connection") -> None:
        found.close()
        self._up = None
        self._is_up.clear()
        asked, self._asked = self._asked, {}
        for waiting in asked.values():
            if not waiting.done():
                waiting.set_exception(LostError(f"the connection to {found.server.host} broke"))
        for tell in list(self.on_down):
            tell()

    def _deliver(self, message: wire.Delivered) -> None:
        listening = self._listening.get(message.sid)
        if listening is not None:
            listening[1](message)

    def _tell(self, server: Server, error: BaseException) -> None:
        """Once for each time of trouble: it is tried for ever."""
        if not self._is_told and self._turn >= len(self.servers):
            self._is_told = True
            log.warning("queue: %s:%d does not take us (%s); tried again for ever", *server, error or type(error))


class _Connection(asyncio.Protocol):
    """One TCP connection, from its greeting to its end."""

    def __init__(self, server: Server, deliver: OnMessage) -> None:
        self.server = server
        self.most_bytes = 1024 * 1024
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._parser = wire.Parser()
        self._transport: asyncio.Transport | None = None
        self._unsaid: list[bytes] = []
        self._info: asyncio.Future[bytes] = self._loop.create_future()
        self._pongs: list[asyncio.Future[None]] = []
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._heard_at = self._loop.time()
        self._refusal = ""

    @property
    def unsent(self) -> int:
        """Bytes that wait to be written."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    async def greet(self, login: Login) -> None:
        """Introduce ourselves. Raises `LostError` when the server does not want us."""
        info = json.loads(await self._info)
        self.most_bytes = int(info.get("max_payload", self.most_bytes))
        options = {
            "verbose": False,
            "pedantic": False,
            "tls_required": False,
            "name": login.name,
            "lang": "python",
            "version": "1",
            "protocol": 1,
            "headers": True,
            "no_responders": True,
            **({"user": login.user, "pass": login.password} if login.password else {}),
        }
        self.say(b"CONNECT %b\r\n" % json.dumps(options).encode())
        await self.ping()

    async def ping(self) -> None:
        """Return when the server has answered a PING. Raises `LostError`. The caller sets the deadline."""
        answer = self._loop.create_future()
        if self._ended.done():
            raise LostError(self._refusal or "closed")
        self._pongs.append(answer)
        self.say(wire.PING)
        await answer

    async def watch(self) -> None:
        """Return when the connection has ended; end it when the server falls silent."""
        while not self._ended.done():
            await asyncio.wait([self._ended], timeout=SILENCE_SECONDS / 2)
            if not self._ended.done() and self._loop.time() - self._heard_at > SILENCE_SECONDS:
                try:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        await self.ping()
                except (TimeoutError, LostError):
                    log.warning("queue: %s:%d has fallen silent; another connection is made", *self.server)
                    return

    def say(self, data: bytes) -> None:
        """Send these bytes at the end of this turn of the loop."""
        if not self._unsaid:
            self._loop.call_soon(self._write)
        self._unsaid.append(data)

    def close(self) -> None:
        """End it at once, after what was said. Twice is once."""
        if self._transport is not None:
            self._write()
            self._transport.close()
        if not self._ended.done():
            self._ended.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        try:
            for one in self._parser.feed(data):
                if type(one) is wire.Delivered:
                    self._deliver(one)
                else:
                    self._hear(cast(wire.Said, one))
        except wire.ProtocolError as error:
            log.error("queue: %s:%d does not speak NATS: %s", *self.server, error)
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if not self._ended.done():
            self._ended.set_result(None)
        why = LostError(self._refusal or f"{self.server.host} closed the connection")
        asked: list[asyncio.Future[Any]] = [self._info, *self._pongs]
        for waiting in asked:
            if not waiting.done():
                waiting.set_exception(why)
                waiting.exception()  # whoever awaits it hears of it; nobody may
        self._pongs.clear()

    def _hear(self, said: wire.Said) -> None:
        if said.word == b"PING":
            self.say(wire.PONG)
        elif said.word == b"PONG":
            if self._pongs:
                waiting = self._pongs.pop(0)
                if not waiting.done():
                    waiting.set_result(None)
        elif said.word == b"INFO":
            self._hear_info(said.rest)
        elif said.word == b"-ERR":
            self._refusal = said.rest.decode(errors="replace").strip(" '")
            log.debug("queue: %s says %s", self.server.host, self._refusal)

    def _hear_info(self, rest: bytes) -> None:
        if not self._info.done():
            self._info.set_result(rest)
        elif b'"ldm":true' in rest:
            log.info("queue: %s is about to leave; another connection is made", self.server.host)
            self.close()

    def _write(self) -> None:
        if self._unsaid and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._unsaid))
        self._unsaid.clear()


def _names(servers: Sequence[Server]) -> str:
    return ", ".join(f"{server.host}:{server.port}" for server in servers) or "no servers"
