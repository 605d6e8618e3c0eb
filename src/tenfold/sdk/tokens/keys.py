"""The keys that sign tokens: derived from the service's secret, one pair for each secret that still counts. Pure.

Made by `tokens` when the bindings change. Every process derives the same keys, so none is ever sent or stored.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from joserfc import jwk

KID_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one service: the newest signs, all verify."""

    by_kid: Mapping[str, jwk.OKPKey]
    newest: str
    """The kid of the key that signs."""


def derive(secrets: Sequence[str], service: str) -> Keys:
    """Keys from the secrets, the newest first. Another service with the same secret has other keys."""
    pairs = [_pair(secret, service) for secret in secrets]
    return Keys(dict(pairs), pairs[0][0])


def _pair(secret: str, service: str) -> tuple[str, jwk.OKPKey]:
    seed = hmac.digest(secret.encode(), f"tenfold-tokens:{service}".encode(), hashlib.sha256)
    private = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    kid = hashlib.sha256(public).hexdigest()[:KID_CHARACTERS]
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return kid, jwk.OKPKey.import_key(pem, {"kid": kid, "use": "sig", "alg": "Ed25519"})
