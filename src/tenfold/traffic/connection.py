"""One HTTP/1.1 connection: sends one request at a time and tells exactly how it ended.

Called by `client` alone. It never repeats, never follows, and never raises for what the other side does: a
request ends in an `Answer` or a `Failure`, and a failure says whether any byte of the answer had come.
"""

import asyncio
import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast
from urllib.parse import urlsplit

import h11
import msgspec

from tenfold import errors


class Reason(StrEnum):
    """Why a request failed."""

    REFUSED = "refused"
    """No connection could be made: the front door must never do that."""
    UNTRUSTED = "untrusted"
    """The front door shows a certificate that is not believed."""
    DIED = "died"
    """The connection died before any byte of the answer (and the request could not be repeated, or was)."""
    CUT = "cut"
    """The connection died in the middle of the answer."""
    TIMEOUT = "timeout"
    """No whole answer in time."""
    GARBLED = "garbled"
    """The answer is not HTTP, or its redirect leads nowhere."""
    STATUS = "status"
    """A 5xx, or a status that the journey did not expect."""
    WRONG = "wrong"
    """The journey found the answer wrong."""
    UNSENT = "unsent"
    """Its time came, and until the end nobody was free to send it."""
    OVERLOADED = "refused: overloaded"
    """Refused for want of capacity, with 503 and when to come back. Not a failure; counted apart."""
    INTERRUPTED = "interrupted"
    """The load was stopped while it waited for the answer. Not counted as failed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How a request ended without a usable answer; `detail` is for people."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response. Header names are lower case."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def header(self, name: str) -> str:
        """The first header of this name (any case), or an empty string."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key == wanted), "")

    def header_values(self, name: bytes) -> list[str]:
        """All headers of this lower-case name, in order."""
        return [value.decode("latin-1") for key, value in self.headers if key == name]

    @property
    def text(self) -> str:
        """The body as UTF-8; bytes that are not are replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body's JSON. Raises `WrongAnswer`, which ends the journey as failed, when it is none."""
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError as error:
            raise errors.WrongAnswer(f"{self.text[:80]!r} found in an answer {self.status}, JSON expected") from error


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the service answers."""

    scheme: str
    host: str
    port: int
    trust: ssl.SSLContext | None = field(default=None, compare=False, repr=False)
    """Under https: which certificates are believed."""
    certified_name: str = ""
    """Under https: the name that the certificate must be for; empty: `host`."""

    @classmethod
    def parse(cls, url: str, trust: ssl.SSLContext | None = None, certified_name: str = "") -> "Origin":
        """From `http://host:port`. Raises `BadInput` for anything else; a path is not allowed.

        `trust`: which certificates are believed under https; absent: those of the authorities that this machine trusts.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise errors.BadInput(f"url: {url!r} found ({error}), http://HOST:PORT expected") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise errors.BadInput(f"url: {url!r} found, http://HOST:PORT expected")
        is_secure = parts.scheme == "https"
        believed = (trust or ssl.create_default_context()) if is_secure else None
        return cls(parts.scheme, parts.hostname, port or (443 if is_secure else 80), believed, certified_name)

    @property
    def is_secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme == "https"

    @property
    def host_header(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_secure else 80) else f"{host}:{self.port}"


async def open_connection(origin: Origin, address: str = "") -> "Connection | Failure":
    """A new connection, or why there is none. Cancelled: nothing is left open.

    `address`: what the origin's name stands for; empty: this machine's resolver says it.
    """
    name = (origin.certified_name or origin.host) if origin.is_secure else None
    try:
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection, address or origin.host, origin.port, ssl=origin.trust, server_hostname=name
        )
    except ssl.SSLCertVerificationError as error:
        return Failure(
            Reason.UNTRUSTED, f"the certificate of {origin.host_header} is not believed: {error.verify_message}"
        )
    except ssl.SSLError as error:
        return Failure(Reason.REFUSED, f"no TLS with {origin.host_header}: {error.reason or error}; is it plain HTTP?")
    except OSError as error:
        at = f" at {address}" if address else ""
        return Failure(Reason.REFUSED, f"no connection to {origin.host_header}{at}: {error.strerror or error}")
    connection.address = address
    return connection


class Connection(asyncio.Protocol):
    """One connection, with at most one request on it. Idle and closed by the server: `is_open` turns false."""

    address = ""
    """What it was made to, of several that the name stood for."""

    def __init__(self) -> None:
        self.is_open = False
        self._transport: asyncio.Transport | None = None
        self._parser = h11.Connection(h11.CLIENT)
        self._ended: asyncio.Future[Answer | Failure] | None = None
        self._has_heard = False
        self._head: h11.Response | None = None
        self._body: list[bytes] = []

    async def exchange(self, head: h11.Request, body: bytes) -> Answer | Failure:
        """Send one request and wait for its whole answer. Cancelled: the connection is closed at once."""
        assert self._transport is not None
        self._ended = asyncio.get_running_loop().create_future()
        self._has_heard, self._head, self._body = False, None, []
        try:
            self._transport.write(self._bytes_of(head, body))
            return await self._ended
        finally:
            self._after_exchange()

    def close(self) -> None:
        """Close now; whatever is on the way is dropped."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self._ended is None or self._ended.done():
            self.close()  # an answer nobody asked for: what follows could be taken for the next request's
            return
        self._has_heard = True
        self._advance(data)

    def eof_received(self) -> bool:
        self.is_open = False
        if self._waits() and self._has_heard:
            self._advance(b"")  # an answer without a length ends here
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if not self._waits():
            return
        why = "reset" if exc else "closed"
        if self._has_heard:
            self._end(Failure(Reason.CUT, f"the connection was {why} in the middle of the answer"))
        else:
            self._end(Failure(Reason.DIED, f"the connection was {why} before any byte of the answer"))

    # What an exchange is made of.

    def _bytes_of(self, head: h11.Request, body: bytes) -> bytes:
        parts = [self._parser.send(head)]
        if body:
            parts.append(self._parser.send(h11.Data(data=body)))
        parts.append(self._parser.send(h11.EndOfMessage()))
        return b"".join(part for part in parts if part)

    def _waits(self) -> bool:
        return self._ended is not None and not self._ended.done()

    def _end(self, result: Answer | Failure) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(result)

    def _advance(self, data: bytes) -> None:
        try:
            self._parser.receive_data(data)
            while self._take(self._parser.next_event()):
                pass
        except h11.RemoteProtocolError as error:
            reason = Reason.GARBLED if data else Reason.CUT
            self._end(Failure(reason, f"not an HTTP answer: {error}" if data else f"the answer ended early: {error}"))

    def _take(self, event: object) -> bool:
        """One event of the parser; True when another may follow."""
        match event:
            case h11.Response():
                self._head = event
            case h11.Data():
                self._body.append(bytes(event.data))
            case h11.EndOfMessage():
                assert self._head is not None
                # h11 gives lower-case names; iterating its own type is slow, and the copy is a plain tuple.
                self._end(Answer(self._head.status_code, tuple(self._head.headers), b"".join(self._body)))
                return False
            case h11.InformationalResponse():
                pass
            case _:
                return False
        return True

    def _after_exchange(self) -> None:
        """Ready for the next request, or closed: also when more came than was asked for, which would answer it."""
        parser = self._parser
        is_done = (
            parser.our_state is h11.DONE and parser.their_state is h11.DONE and parser.trailing_data == (b"", False)
        )
        if self.is_open and is_done:
            parser.start_next_cycle()
            self._ended = None
        else:
            self.close()
