"""A session's record inside its cookie: encrypted and signed, so that its owner can neither read nor change it. Pure.

Used by the store `token`, and by every store for visitors of whom nothing is known yet. AES-256-GCM; each cookie is
encrypted with a key of its own, derived from the service's by 128 random bits, so no number of cookies wears it out.

    .KID(4) SALT(16) CIPHERTEXT TAG(16), in base64url
"""

import base64
import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import aead

from tenfold.sdk import counters
from tenfold.sdk.sessions import records

MARK = "."
"""How a sealed cookie begins: no id does."""

MOST_CHARACTERS = 4096
KID_BYTES, SALT_BYTES, TAG_BYTES = 4, 16, 16
NONCE = bytes(12)
"""The key is used once, so its one nonce may be any."""


class _Sealed(msgspec.Struct, array_like=True):
    """What is inside."""

    secret: bytes
    created_at: float
    changed_at: float
    expires_at: float
    principal: str | None
    fields: dict[str, str]


class Seal:
    """Seals and opens the cookies of one service. Those of another, with the same secret or not, do not open."""

    def __init__(self, secrets: Sequence[str], service: str) -> None:
        self._label = f"tenfold-session:{service}".encode()
        pairs = [_key(secret, self._label) for secret in secrets]
        self._newest = pairs[0][0]
        self._keys: Mapping[bytes, bytes] = dict(pairs)

    def close(self, one: records.Id, record: records.Record) -> str:
        """The cookie's value."""
        inside = msgspec.msgpack.encode(
            _Sealed(
                one.secret,
                record.created_at,
                record.changed_at,
                record.expires_at,
                record.principal,
                dict(record.fields),
            )
        )
        salt = os.urandom(SALT_BYTES)
        sealed = self._cipher(self._newest, salt).encrypt(NONCE, inside, self._label)
        return MARK + base64.urlsafe_b64encode(self._newest + salt + sealed).rstrip(b"=").decode()

    def open(self, text: str) -> records.Ticket | None:
        """What is inside, or None for what this service has not sealed. Never raises: a client may send anything."""
        if len(text) > MOST_CHARACTERS or not text.isascii() or text.endswith("="):
            return None
        body = text.removeprefix(MARK)
        try:
            data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            kid, salt, sealed = data[:KID_BYTES], data[KID_BYTES:][:SALT_BYTES], data[KID_BYTES + SALT_BYTES :]
            inside = self._cipher(kid, salt).decrypt(NONCE, sealed, self._label)
            found = msgspec.msgpack.decode(inside, type=_Sealed)
        except (ValueError, KeyError, InvalidTag, msgspec.MsgspecError):
            counters.add("sessions.forged")
            return None
        record = records.Record(found.fields, found.principal, found.created_at, found.changed_at, found.expires_at)
        return records.Ticket(records.Id(found.secret), record)

    def _cipher(self, kid: bytes, salt: bytes) -> aead.AESGCM:
        return aead.AESGCM(hmac.digest(self._keys[kid], salt, hashlib.sha256))


def _key(secret: str, label: bytes) -> tuple[bytes, bytes]:
    key = hmac.digest(secret.encode(), label, hashlib.sha256)
    return hashlib.sha256(key).digest()[:KID_BYTES], key
