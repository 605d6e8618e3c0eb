"""The shop's one connection to tenfold. Everything that touches the database imports `tf` from here."""

from collections.abc import MutableMapping
from typing import Any

from starlette.requests import Request

from shop import passwords
from tenfold import Tenfold

LOGIN_COOKIE = "shop_login"


def principal(scope: MutableMapping[str, Any]) -> str:
    """Who makes a request: an `Idempotency-Key` counts for one login only, so nobody can ask for another's answer."""
    token = Request(scope).cookies.get(LOGIN_COOKIE)
    return passwords.digest(token).hex() if token else ""


tf = Tenfold(principal=principal)
