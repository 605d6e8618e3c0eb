"""`tf.tokens`: signed tokens for clients that keep no cookies. Made by `sdk/service`, one a `Tenfold`.

A token is a JWT signed with Ed25519 (EdDSA, RFC 8037 and 9864), made and read by joserfc. What is in it anybody can
read; that nobody can change it, and that it was not taken back, is what `verify` says.
"""

import base64
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from joserfc import errors as jose
from joserfc import jwt

from tenfold import bindings, errors
from tenfold.sdk import db
from tenfold.sdk.tokens import keys, revocations
from tenfold.sdk.valkey import client

ALGORITHM = "Ed25519"

MOST_CHARACTERS = 8192
"""Longer ones are not even looked at: no header of a request holds more."""

MOST_SECONDS = 400 * 86400.0
"""The longest life of a token: for so long a revoked subject has to be remembered."""

REGISTERED = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti"})
"""Claims that tenfold writes (RFC 7519, 4.1)."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A token that is good: whom it is about, for whom, and what else it says. Times are Unix times, in seconds."""

    subject: str
    audience: str
    id: str
    issued_at: float
    expires_at: float
    claims: Mapping[str, Any]
    """What `issue` was given."""


class Tokens:
    """The tokens of a service."""

    def __init__(self, database: db.Database, servers: client.Client) -> None:
        self.revocations = revocations.Revocations(database, servers)
        """What was taken back."""
        self._keys: keys.Keys | None = None
        self._made_from: tuple[str, ...] = ()

    def update(self, service: bindings.Service) -> None:
        """Follow changed bindings."""
        made_from = (service.name, service.secret, *service.former_secrets)
        if made_from != self._made_from:
            self._keys, self._made_from = keys.derive(made_from[1:], service.name), made_from

    def issue(
        self, subject: str, *, audience: str = "", life: float = 3600.0, claims: Mapping[str, Any] | None = None
    ) -> str:
        """A token about `subject`, for `audience`, that is good for `life` seconds. No I/O.

        `claims` are kept in it as JSON, readable by whoever has it. Raises MisuseError for claims that tenfold writes
        itself and for a life beyond 400 days, NotEncodable for claims that are no JSON, TooLarge beyond 8 KiB.
        """
        said = dict(claims or {})
        if not subject or not isinstance(subject, str):
            raise errors.MisuseError(f"tf.tokens.issue: {subject!r} found as the subject, a text expected")
        if not 0 < life <= MOST_SECONDS:
            raise errors.MisuseError(f"tf.tokens.issue: life={life!r} found, seconds up to 400 days expected")
        if taken := REGISTERED & said.keys():
            raise errors.MisuseError(f"tf.tokens.issue: claims {sorted(taken)} found, which tenfold writes itself")
        now = round(time.time(), 6)  # as finely as the database keeps times: `revoke` compares with it
        own: dict[str, Any] = {
            "sub": subject,
            "iat": now,
            "exp": round(now + life, 3),
            "jti": secrets.token_urlsafe(16),
        }
        if audience:
            own["aud"] = audience
        return self._sign({**said, **own})

    async def verify(self, token: str, *, audience: str = "") -> Verified:
        """What a token says, if it is good. One command to the cache, or one read of the database.

        Raises BadToken, whose `reason` says what is wrong: `forged` (not signed by this service, or no token at all),
        `expired`, `audience` (made for somebody else) or `revoked`. TryAgain when nobody can say whether it was.
        """
        found = self._read(token)
        if found.audience != audience:
            raise errors.BadToken(
                f"token: {found.audience!r} found as its audience, {audience!r} expected", reason="audience"
            )
        if found.expires_at <= time.time():
            raise errors.BadToken("token: it has expired; get a new one", reason="expired")
        names = (revocations.Name(found.subject), revocations.Name(found.subject, found.id))
        for made_before in await self.revocations.find(names):
            if made_before is not None and found.issued_at < made_before:
                raise errors.BadToken("token: it was revoked; get a new one", reason="revoked")
        return found

    async def revoke(self, token: str = "", *, subject: str = "") -> None:
        """Take one token back, or all that a subject has got until now: from the return on `verify` refuses them.

        A token that has expired needs no revocation, and is none. Raises BadToken for one that is not ours, and what
        `tf.db` raises: then it is not revoked.
        """
        if bool(token) == bool(subject):
            raise errors.MisuseError("tf.tokens.revoke: write revoke(token), or revoke(subject=...)")
        now = time.time()
        if subject:
            await self.revocations.add(revocations.Name(subject), now, now + MOST_SECONDS)
            return
        found = self._read(token)
        if found.expires_at > now:
            name = revocations.Name(found.subject, found.id)
            await self.revocations.add(name, found.expires_at, found.expires_at)

    def _sign(self, claims: dict[str, Any]) -> str:
        found = self._current()
        try:
            msgspec.json.encode(claims)
            header = {"alg": ALGORITHM, "kid": found.newest, "typ": "JWT"}
            token = jwt.encode(header, claims, found.by_kid[found.newest], algorithms=[ALGORITHM])
        except (TypeError, ValueError, jose.JoseError) as error:
            raise errors.NotEncodable(f"tf.tokens.issue: claims that are no JSON found ({error})") from error
        if len(token) > MOST_CHARACTERS:
            raise errors.TooLarge(
                f"tf.tokens.issue: a token of {len(token):,} characters found, {MOST_CHARACTERS:,} at most expected; "
                "put an id into its claims, and the data into the database"
            )
        return token

    def _read(self, token: str) -> Verified:
        """The claims of a token that this service has signed, whether it still holds or not."""
        found = self._current()
        if not isinstance(token, str) or not 0 < len(token) <= MOST_CHARACTERS:
            raise errors.BadToken("token: none found, or one too long to be ours", reason="forged")
        try:
            key = found.by_kid[_kid(token)]
            claims = jwt.decode(token, key, algorithms=[ALGORITHM]).claims
            said = {name: value for name, value in claims.items() if name not in REGISTERED}
            return Verified(
                claims["sub"], claims.get("aud", ""), claims["jti"], float(claims["iat"]), float(claims["exp"]), said
            )
        except (jose.JoseError, ValueError, TypeError, KeyError, UnicodeError, RecursionError) as error:
            raise errors.BadToken("token: it was not signed by this service", reason="forged") from error

    def _current(self) -> keys.Keys:
        if self._keys is None:
            raise errors.NotStarted("tf.tokens is not started: use it in requests, or inside `async with tf:`")
        return self._keys


def _kid(token: str) -> str:
    """Which key a token says it was signed with; nothing of it is believed yet."""
    header = token.partition(".")[0]
    found = msgspec.json.decode(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)), type=dict[str, Any])
    return str(found["kid"])
