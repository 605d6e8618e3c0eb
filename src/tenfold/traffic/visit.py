"""One request with the time of its every part: name, connection, TLS, first byte, whole answer.

Called by `tenfold trace`. It repeats nothing and follows nothing. An answer that does not end in time counts as far as
it came: a stream of events never ends.
"""

import asyncio
import ipaddress
import os
import socket
import ssl
import time
from dataclasses import dataclass, field

import h11

from tenfold import errors, spans
from tenfold.traffic import connection as connections
from tenfold.traffic import resolving

Parts = list[spans.Span]
Address = tuple[int, tuple[object, ...]]
"""A family, and an address as sockets take it."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked for. `origin` is where it goes, `host` what the Host header says."""

    origin: connections.Origin
    host: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    resolver: resolving.Resolver | None = None
    """Who says what the origin's name stands for; None: this machine."""

    @property
    def head(self) -> h11.Request:
        """The request as it is sent."""
        own = [("Host", self.host), ("User-Agent", "tenfold-trace"), ("Accept", "*/*"), ("Connection", "close")]
        if self.body or self.method in ("POST", "PUT", "PATCH"):
            own.append(("Content-Length", str(len(self.body))))
        said = {name.lower() for name, _ in self.headers}
        kept = [(name, value) for name, value in own if name.lower() not in said]
        return h11.Request(method=self.method, target=self.path, headers=[*kept, *self.headers])


@dataclass(slots=True)
class Visit:
    """What came of a call: an answer, as far as it came, or a failure. Times are milliseconds from the beginning."""

    answer: connections.Answer | None = None
    failure: connections.Failure | None = None
    parts: Parts = field(default_factory=list)
    """Name resolution, connecting and TLS, as far as they came."""
    sent_ms: float = 0.0
    first_byte_ms: float = 0.0
    total_ms: float = 0.0
    is_whole: bool = True


async def pay(call: Call, timeout_seconds: float) -> Visit:
    """Send it and wait for the whole answer. Raises nothing but cancellation and h11's `LocalProtocolError`."""
    visit, clock = Visit(), _Clock()
    opened: _Timed | connections.Failure | None = None
    try:
        async with asyncio.timeout(timeout_seconds):
            opened = await _open(call, visit.parts, clock)
            if isinstance(opened, connections.Failure):
                visit.failure = opened
            else:
                visit.sent_ms = clock.ms()
                _take(visit, await opened.exchange(call.head, call.body))
    except TimeoutError:
        visit.answer = opened.answer_so_far if isinstance(opened, _Timed) else None
        visit.is_whole = False
        if visit.answer is None:
            reason = connections.Reason.TIMEOUT
            visit.failure = connections.Failure(reason, f"no answer within {timeout_seconds:g} s")
    visit.total_ms = clock.ms()
    if isinstance(opened, _Timed):
        visit.first_byte_ms = clock.ms(opened.first_byte_at)
        opened.close()
    return visit


@dataclass(slots=True)
class _Clock:
    began: float = field(default_factory=time.perf_counter)

    def ms(self, at: float | None = None) -> float:
        return ((time.perf_counter() if at is None else at) - self.began) * 1000


class _Timed(connections.Connection):
    """A connection that knows when the first byte of the answer came."""

    first_byte_at: float | None = None

    def data_received(self, data: bytes) -> None:
        if self.first_byte_at is None:
            self.first_byte_at = time.perf_counter()
        super().data_received(data)

    @property
    def answer_so_far(self) -> connections.Answer | None:
        """What has come of an answer that has begun."""
        if self._head is None:
            return None
        return connections.Answer(self._head.status_code, tuple(self._head.headers), b"".join(self._body))


def _take(visit: Visit, result: connections.Answer | connections.Failure) -> None:
    if isinstance(result, connections.Failure):
        visit.failure = result
    else:
        visit.answer = result


async def _open(call: Call, parts: Parts, clock: _Clock) -> "_Timed | connections.Failure":
    origin, began = call.origin, clock.ms()
    found = await (_addresses(origin) if call.resolver is None else _answered(origin, call.resolver, parts, clock))
    if isinstance(found, connections.Failure):
        return found
    names = [str(address[0]) for _, address in found]
    if names != [origin.host] and call.resolver is None:
        parts.append(_part("resolve", origin.host, f"it is {', '.join(names)}", began, clock))
    began = clock.ms()
    connected = await _connect(origin, found)
    if isinstance(connected, connections.Failure):
        return connected
    peer = connected.getpeername()
    parts.append(_part("connect", f"{peer[0]}:{peer[1]}", "", began, clock))
    return await _speak(origin, connected, parts, clock)


async def _addresses(origin: connections.Origin) -> list[Address] | connections.Failure:
    """What the name stands for; an address stands for itself, and nobody is asked."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(origin.host).version == 6 else socket.AF_INET
        return [(family, (origin.host, origin.port))]
    except ValueError:
        pass  # it is a name
    try:
        found = await asyncio.get_running_loop().getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except OSError as error:
        detail = f"the name {origin.host} was not found: {error.strerror or error}"
        return connections.Failure(connections.Reason.REFUSED, detail)
    return list(dict.fromkeys((one[0], one[4]) for one in found))


async def _answered(
    origin: connections.Origin, resolver: resolving.Resolver, parts: Parts, clock: _Clock
) -> list[Address] | connections.Failure:
    """What the service's own name servers say, with the region that it is."""
    began = clock.ms()
    try:
        found = await resolver.lookup()
    except errors.EngineFailed as error:
        return connections.Failure(connections.Reason.REFUSED, str(error))
    named = ", ".join(f"{one} ({resolver.region(one)})" if one in resolver.regions else one for one in found.addresses)
    client = f", for a client of {resolver.subnet}" if resolver.subnet else ""
    decision = f"{found.server} says {named}, for {found.life_seconds} s{client}"
    parts.append(_part("resolve", resolver.name, decision, began, clock))
    families = ((socket.AF_INET6 if ":" in one else socket.AF_INET, one) for one in found.addresses)
    return [(family, (one, origin.port)) for family, one in families]


async def _connect(origin: connections.Origin, addresses: list[Address]) -> socket.socket | connections.Failure:
    """The first of the addresses that takes a connection."""
    last = ""
    for family, address in addresses:
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(one, address)
        except OSError as error:
            one.close()
            last = os.strerror(error.errno) if error.errno else str(error)  # asyncio's own words name the address again
        except BaseException:
            one.close()
            raise
        else:
            return one
    return connections.Failure(connections.Reason.REFUSED, f"no connection to {origin.host_header}: {last}")


async def _speak(
    origin: connections.Origin, connected: socket.socket, parts: Parts, clock: _Clock
) -> "_Timed | connections.Failure":
    """HTTP on the socket, inside TLS where the origin wants it. The socket is the connection's from here on."""
    began = clock.ms()
    name = (origin.certified_name or origin.host) if origin.is_secure else None
    try:
        _, made = await asyncio.get_running_loop().create_connection(
            _Timed, sock=connected, ssl=origin.trust, server_hostname=name
        )
    except ssl.SSLCertVerificationError as error:
        detail = f"the certificate of {origin.host_header} is not believed: {error.verify_message}"
        return connections.Failure(connections.Reason.UNTRUSTED, detail)
    except OSError as error:  # ssl.SSLError is one
        detail = f"no TLS with {origin.host_header}: {error.strerror or error}; is it plain HTTP?"
        return connections.Failure(connections.Reason.REFUSED, detail)
    if origin.is_secure:
        transport = made._transport
        found = transport.get_extra_info("ssl_object") if transport is not None else None
        parts.append(_part("tls", (found.version() if found is not None else None) or "TLS", "", began, clock))
    return made


def _part(kind: str, name: str, decision: str, began: float, clock: _Clock) -> spans.Span:
    return spans.Span(kind, name, "", decision, began, clock.ms() - began, [])
