"""One browser: keeps connections alive, repeats what may be repeated, follows redirects, keeps cookies.

Called by `user`. The rule of repeating is the whole point: once, on a new connection, and only when the connection
died before any byte of the answer *and* the request is idempotent or carries an `Idempotency-Key`. A connection
that cannot be made is never tried again: the front door must not refuse.
"""

import asyncio
import time
from dataclasses import dataclass, field, replace
from urllib.parse import urljoin, urlsplit

import h11

from tenfold import errors
from tenfold.traffic import connection as connections
from tenfold.traffic import cookies, resolving
from tenfold.traffic.connection import Answer, Connection, Failure, Reason

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
MOST_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a journey. `path` may have a query."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    idempotency_key: str = ""

    @property
    def plain_path(self) -> str:
        """The path without its query."""
        return self.path.partition("?")[0]

    @property
    def may_repeat(self) -> bool:
        """Whether sending it twice has the effect of sending it once."""
        return self.method in IDEMPOTENT or bool(self.idempotency_key)


@dataclass(slots=True)
class Outcome:
    """What became of a request. It fills while the request runs, so that a timeout keeps what was known."""

    answer: Answer | None = None
    """The last answer, after redirects; None when there was none."""
    failure: Failure | None = None
    repeats: int = 0
    is_acknowledged: bool = False
    """Whether the request itself (before any redirect) was answered below 400."""
    position: str = ""
    """The X-Tenfold-Position of the answers, the last that had one."""
    region: str = ""
    """The region that was asked last, where name servers chose it."""


@dataclass(slots=True)
class Client:
    """One browser. `send` may run several times at once: each takes a connection of its own."""

    origin: connections.Origin
    timeout_seconds: float = 10.0
    """From sending to the whole answer, connecting, repeating and redirects included."""
    resolver: resolving.Resolver | None = None
    """Who says what the origin's name stands for; None: this machine."""
    jar: cookies.Jar = field(init=False)
    _idle: list[Connection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.jar = cookies.Jar(self.origin.host)

    async def send(self, request: Request, outcome: Outcome, follows_redirects: bool = True) -> None:
        """Send it; `outcome` holds either an answer or a failure on return. Raises nothing but cancellation."""
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await self._follow(request, outcome, follows_redirects)
        except TimeoutError:
            outcome.failure = Failure(Reason.TIMEOUT, f"no whole answer within {self.timeout_seconds:g} s")
        except h11.LocalProtocolError as error:
            outcome.failure = Failure(Reason.GARBLED, f"not a request that can be sent: {error}")

    def close(self) -> None:
        """Close every connection."""
        while self._idle:
            self._idle.pop().close()

    async def _follow(self, request: Request, outcome: Outcome, follows_redirects: bool) -> None:
        for hop in range(MOST_REDIRECTS + 1):
            result = await self._send_once_or_twice(request, outcome)
            if isinstance(result, Failure):
                outcome.failure = result
                return
            self._learn(request, result, outcome)
            if hop == 0:
                outcome.is_acknowledged = result.status < 400
            if result.status not in REDIRECTS or not follows_redirects:
                return
            following = redirected(request, result, self.origin)
            if isinstance(following, Failure):
                outcome.failure = following
                return
            request = following
        outcome.failure = Failure(Reason.GARBLED, f"more than {MOST_REDIRECTS} redirects, the last to {request.path}")

    async def _send_once_or_twice(self, request: Request, outcome: Outcome) -> Answer | Failure:
        result = await self._send_once(request, outcome, self._take_idle())
        if isinstance(result, Failure) and result.reason is Reason.DIED and request.may_repeat:
            outcome.repeats += 1
            result = await self._send_once(request, outcome, None)
        return result

    async def _send_once(self, request: Request, outcome: Outcome, connection: Connection | None) -> Answer | Failure:
        head = self._head(request)
        if connection is None:
            opened = await self._open()
            if isinstance(opened, Failure):
                return opened
            connection = opened
        if self.resolver is not None:
            outcome.region = self.resolver.region(connection.address)
        result = await connection.exchange(head, request.body)
        if connection.is_open:
            self._idle.append(connection)
        return result

    async def _open(self) -> Connection | Failure:
        """A connection to the first of the addresses that takes one, in the order in which they were answered."""
        if self.resolver is None:
            return await connections.open_connection(self.origin)
        try:
            found = await self.resolver.lookup()
        except errors.EngineFailed as error:
            return Failure(Reason.REFUSED, str(error))
        opened: Connection | Failure = Failure(Reason.REFUSED, f"{self.resolver.name} has no address")
        for address in found.addresses:
            opened = await connections.open_connection(self.origin, address)
            if isinstance(opened, Connection):
                break
        return opened

    def _take_idle(self) -> Connection | None:
        """An open connection; those the server closed meanwhile are dropped, and nothing was sent on them.

        So are those to an address that the name does not stand for any more.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and (self.resolver is None or connection.address in self.resolver.current):
                return connection
            connection.close()
        return None

    def _head(self, request: Request) -> h11.Request:
        headers = [("Host", self.origin.host_header), ("User-Agent", "tenfold-load"), ("Accept", "*/*")]
        cookie = self.jar.header(request.plain_path, self.origin.is_secure, time.time())
        if cookie:
            headers.append(("Cookie", cookie))
        if request.idempotency_key:
            headers.append(("Idempotency-Key", request.idempotency_key))
        if request.body or request.method in ("POST", "PUT", "PATCH"):
            headers.append(("Content-Length", str(len(request.body))))
        headers.extend(request.headers)
        return h11.Request(method=request.method, target=request.path, headers=headers)

    def _learn(self, request: Request, answer: Answer, outcome: Outcome) -> None:
        outcome.answer = answer
        outcome.position = answer.header("x-tenfold-position") or outcome.position
        path = request.plain_path
        for value in answer.header_values(b"set-cookie"):
            self.jar.take(value, path, self.origin.is_secure, time.time())


def redirected(request: Request, answer: Answer, origin: connections.Origin) -> Request | Failure:
    """The request a browser makes after this redirect: a GET, except that 307 and 308 keep method and body."""
    here = f"{origin.scheme}://{origin.host_header}"
    location = answer.header("location")
    there = urlsplit(urljoin(here + request.path, location))
    if not location or f"{there.scheme}://{there.netloc}" != here:
        return Failure(
            Reason.GARBLED,
            f"answered {answer.status} with location {location!r}, a path of {here} expected; "
            "where it leads elsewhere on purpose, ask with redirects=False",
        )
    path = there.path + (f"?{there.query}" if there.query else "") or "/"
    if answer.status in (307, 308) or request.method in ("GET", "HEAD"):
        return replace(request, path=path)
    kept = tuple(header for header in request.headers if not header[0].lower().startswith("content-"))
    return Request("GET", path, kept)
