"""No other site may act in a visitor's name (cross-site request forgery). Put around the app by `web`.

Browsers say where an unsafe request comes from: in `Sec-Fetch-Site`, older ones in `Origin`, and a page cannot
change either. Programs send neither, and carry no cookies that somebody else could ride on. So no form needs a
hidden token, and none can be forgotten.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class SameOrigin:
    """ASGI middleware that answers 403 to an unsafe request which another site's page made."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE and not is_own(Headers(scope=scope)):
            await PlainTextResponse("This request came from another site.", 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def is_own(headers: Headers) -> bool:
    """Whether a request with these headers was made by our own page, or by no page at all."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")
