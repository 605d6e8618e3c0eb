"""The session's cookie: found in a request, set by a response. Pure.

Called by `visits`. One cookie a service, `NAME-session`: HttpOnly, SameSite=Lax, Secure exactly when the request came
by https.
"""

from tenfold import request

MOST_COOKIE_BYTES = 4096
"""Name and value: what every browser takes (RFC 6265, 6.1)."""


def name(service: str) -> str:
    """What the cookie of this service is called."""
    return f"{service}-session"


def find(headers: request.Headers, wanted: str) -> str | None:
    """The cookie's value in a request's headers; of several the first, which has the longest path."""
    key = wanted.encode()
    for header, value in headers:
        if header == b"cookie" and key in value:
            for part in value.split(b";"):
                found, _, content = part.strip().partition(b"=")
                if found == key:
                    return content.decode("latin-1").strip('"')
    return None


def keep(wanted: str, value: str, life_seconds: float, *, is_secure: bool) -> tuple[bytes, bytes]:
    """The header that gives the cookie to the client."""
    return _header(f"{wanted}={value}; Max-Age={round(life_seconds)}", is_secure=is_secure)


def drop(wanted: str, *, is_secure: bool) -> tuple[bytes, bytes]:
    """The header that takes the cookie away."""
    return _header(f"{wanted}=; Max-Age=0", is_secure=is_secure)


def _header(cookie: str, *, is_secure: bool) -> tuple[bytes, bytes]:
    attributes = "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if is_secure else "")
    return b"set-cookie", (cookie + attributes).encode("latin-1")
