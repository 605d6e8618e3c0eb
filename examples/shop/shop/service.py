"""The shop's one connection to tenfold: database, cache, sessions and queue. The others import `tf` from here."""

import hashlib
from collections.abc import MutableMapping
from typing import Any

from starlette.requests import Request

from tenfold import Tenfold

SESSION_COOKIE = "shop-session"


def principal(scope: MutableMapping[str, Any]) -> str:
    """Who makes a request: an `Idempotency-Key` counts for one session only, so nobody can ask for another's answer."""
    cookie = Request(scope).cookies.get(SESSION_COOKIE, "")
    return hashlib.sha256(cookie.encode()).hexdigest() if cookie else ""


tf = Tenfold(principal=principal)
