"""Tokens that prove that a form came from a page of this service: bound to the session, another text in each page.

Used by `visits` (to make and check one) and `sessions` (to find it in a request). A page of another site can make a
browser send a form with the session's cookie, and cannot read the token. It is masked with random bytes, so that
compressed pages do not give it away.
"""

import base64
import hashlib
import hmac
import os
from collections.abc import Sequence
from typing import Any

from tenfold import errors
from tenfold.sdk.sessions import records

HEADER = b"x-csrf-token"
FIELD = "csrf_token"
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
BYTES = 16


class Forms:
    """The tokens of one service's forms."""

    def __init__(self, secrets: Sequence[str], service: str) -> None:
        label = f"tenfold-csrf:{service}".encode()
        self._keys = [hmac.digest(secret.encode(), label, hashlib.sha256) for secret in secrets]

    def issue(self, one: records.Id) -> str:
        """A token for the session of this id."""
        mask = os.urandom(BYTES)
        return base64.urlsafe_b64encode(mask + _mixed(mask, self._proof(self._keys[0], one))).rstrip(b"=").decode()

    def verify(self, one: records.Id, token: str) -> bool:
        """Whether the token is one of the session of this id."""
        try:
            data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            return False
        if len(data) != 2 * BYTES:
            return False
        proof = _mixed(data[:BYTES], data[BYTES:])
        return any(hmac.compare_digest(proof, self._proof(key, one)) for key in self._keys)

    @staticmethod
    def _proof(key: bytes, one: records.Id) -> bytes:
        return hmac.digest(key, one.secret, hashlib.sha256)[:BYTES]


async def token_of(scope: Any, connection: Any) -> str:
    """The token that a request brings: in the header, or as a field of the form that its framework reads for us."""
    for name, value in scope.get("headers", ()):
        if name == HEADER:
            return str(value.decode("latin-1"))
    if not _has_form(scope) or not hasattr(connection, "form"):
        return ""
    found = (await connection.form()).get(FIELD)
    return found if isinstance(found, str) else ""


def refused(scope: Any, *, has_token: bool) -> errors.CsrfFailed:
    """What to raise, and what its author should do."""
    what = "a token of another session, or none at all," if has_token else "no token"
    return errors.CsrfFailed(
        f"{scope.get('method')} {scope.get('path')}: {what} found; put "
        f'<input type="hidden" name="{FIELD}" value="{{{{ session.csrf }}}}"> into the form, or send session.csrf in '
        "the header X-CSRF-Token"
    )


def _has_form(scope: Any) -> bool:
    kinds = (value for name, value in scope.get("headers", ()) if name == b"content-type")
    return any(one.startswith((b"application/x-www-form-urlencoded", b"multipart/form-data")) for one in kinds)


def _mixed(first: bytes, second: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(first, second, strict=True))
