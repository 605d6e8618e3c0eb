"""What the middleware needs of the bindings, worked out once per change of the file instead of once per request.

Made by `sdk/service`; read on every request.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field

from tenfold import bindings
from tenfold.sdk.asgi import client, protocol, tokens
from tenfold.sdk.cdn import bypass

Principal = Callable[[protocol.Scope], str]
"""Who makes a request, as the app knows it: part of an idempotency key's scope."""

MOST_REMEMBERED = 4096
"""How many addresses' answers are remembered; a stranger with many addresses must not fill the memory."""


@dataclass(slots=True)
class Settings:
    """One service's settings. Replaced as a whole, never changed."""

    service: bindings.Service
    principal: Principal
    digest: str = ""
    """The name of the bindings that the process goes by: the runtime waits until all go by the last ones."""
    request_seconds: float = field(init=False)
    max_requests: int = field(init=False)
    positions: tokens.Signer = field(init=False)
    slot_prefix: bytes = field(init=False)
    """The beginning of this service's position cookies, as it stands in a Cookie header."""
    bypasses: bypass.Cookies = field(init=False)
    _networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = field(init=False)
    _peers: dict[str, bool] = field(default_factory=dict)
    _clients: dict[bytes, tuple[str, int] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.request_seconds = self.service.request_seconds
        self.max_requests = self.service.max_requests
        self.positions = tokens.Signer(self.service.secret, self.service.name)
        self.slot_prefix = f"{self.service.name}-pos-".encode()
        self.bypasses = bypass.Cookies(self.service.secret, self.service.name)
        self._networks = tuple(ipaddress.ip_network(one, strict=False) for one in self.service.trusted_proxies)

    def trusts(self, address: str) -> bool:
        """Whether the X-Forwarded headers of this address are believed."""
        known = self._peers.get(address)
        if known is None:
            known = client.is_inside(address, self._networks)
            if len(self._peers) < MOST_REMEMBERED:
                self._peers[address] = known
        return known

    def client_of(self, forwarded_for: bytes) -> tuple[str, int] | None:
        """Who is behind the balancer, as a scope's `client`; remembered, for a client asks for more than one thing."""
        try:
            return self._clients[forwarded_for]
        except KeyError:
            address = client.original(forwarded_for.decode("latin-1"), self.trusts)
            found = (address, 0) if address else None
        if len(self._clients) < MOST_REMEMBERED:
            self._clients[forwarded_for] = found
        return found
