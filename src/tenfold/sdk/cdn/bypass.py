"""The cookies that let a session bypass the edges: which purges it waits for, signed. Pure.

Written by `visits` when a response begins, read by `asgi/arrival`; the front door looks at their names alone. Each has
a name of its own: of two responses at once neither overwrites or deletes what the other has set.
"""

import base64
import hmac
import secrets
from collections.abc import Iterable, Mapping
from uuid import UUID

LIFE_SECONDS = 60
"""The longest bypass: an edge that has not acknowledged for so long may show this session something older."""

MOST_IDS = 16
"""In one cookie. Of more purges than this the newest count: they settle last."""

MOST_COOKIES = 4
"""With so many, the next one takes in what is in them."""

SIGNATURE_BYTES = 16

Brought = Mapping[str, tuple[UUID, ...]]
"""By cookie, the purges that it waits for."""


class Cookies:
    """Those of one service."""

    def __init__(self, secret: str, service: str) -> None:
        self._key = hmac.digest(secret.encode(), f"tenfold-edge:{service}".encode(), "sha256")
        self._name = f"{service}-edge-"
        self.prefix = self._name.encode()
        """How their names begin, as it stands in a Cookie header."""

    def read(self, header: bytes) -> dict[str, tuple[UUID, ...]]:
        """What came in a Cookie header; one that is not ours, or not as we wrote it, waits for nothing."""
        found = {}
        for part in header.split(b";"):
            name, _, value = part.strip().partition(b"=")
            if name.startswith(self.prefix) and name.isascii():
                found[name.decode()] = self._ids(value)
        return found

    def write(self, ids: Iterable[UUID], *, is_secure: bool) -> tuple[bytes, bytes]:
        """The header that sets a new one."""
        newest = sorted(ids)[-MOST_IDS:]
        text = ".".join(one.hex for one in newest)
        name = f"{self._name}{secrets.token_hex(4)}"
        return _header(f"{name}={text}_{self._signature(text)}; Max-Age={LIFE_SECONDS}", is_secure=is_secure)

    def forget(self, name: str, *, is_secure: bool) -> tuple[bytes, bytes]:
        """The header that deletes one."""
        return _header(f"{name}=; Max-Age=0", is_secure=is_secure)

    def _ids(self, value: bytes) -> tuple[UUID, ...]:
        text, _, signature = value.decode("latin-1").partition("_")
        if not text.isascii() or not signature.isascii() or len(text) > 33 * MOST_IDS:
            return ()
        if not hmac.compare_digest(signature, self._signature(text)):
            return ()
        return tuple(UUID(one) for one in text.split("."))

    def _signature(self, text: str) -> str:
        digest = hmac.digest(self._key, text.encode(), "sha256")[:SIGNATURE_BYTES]
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _header(cookie: str, *, is_secure: bool) -> tuple[bytes, bytes]:
    attributes = "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if is_secure else "")
    return b"set-cookie", f"{cookie}{attributes}".encode("latin-1")
