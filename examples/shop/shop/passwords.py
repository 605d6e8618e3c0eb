"""Passwords and the tokens of login cookies. Called by `accounts`; knows no database and never keeps a password.

scrypt turns a password into 64 bytes. The first half is kept, to check the password later. The second half is
never stored: it is the key that makes a login's token out of a random nonce. So a request that is repeated with
its `Idempotency-Key` gets the same cookie as the first time (the nonce is part of the stored result, the password
is in the request), while nothing in the database, its stored results included, is enough to log in with.
"""

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread

COST = int(os.environ.get("SHOP_PASSWORD_COST", "15"))  # noqa: TID251 - the app's own setting, from [service] env
"""scrypt's work: 2 to this power blocks of 1 KiB. Each step doubles the time; 15 takes about 0.1 s and 32 MiB."""

AT_ONCE = anyio.CapacityLimiter(4)
"""Passwords hashed at the same time in one process: they wait in line rather than eat the memory."""


@dataclass(frozen=True, slots=True)
class Derived:
    """What scrypt made of a password."""

    cost: int
    salt: bytes
    check: bytes
    """May be stored."""
    key: bytes
    """Must not be stored."""

    def matches(self, check: bytes) -> bool:
        """Whether the password is the one that `check` was stored for."""
        return hmac.compare_digest(self.check, check)

    def token(self, nonce: str) -> str:
        """The login token of this nonce; the same nonce always gives the same token."""
        return hmac.digest(self.key, nonce.encode(), "sha256").hex()


async def derive(password: str, salt: bytes | None = None, cost: int = COST) -> Derived:
    """Work on the password in a thread, so that other requests go on. Without a salt a new one is drawn."""
    salt = salt or secrets.token_bytes(16)
    scrypt = partial(hashlib.scrypt, n=2**cost, r=8, p=1, maxmem=2**cost * 1024 + 2**20, dklen=64)
    derived = await anyio.to_thread.run_sync(partial(scrypt, password.encode(), salt=salt), limiter=AT_ONCE)
    return Derived(cost, salt, derived[:32], derived[32:])


def digest(token: str) -> bytes:
    """What the database keeps of a token."""
    return hashlib.sha256(token.encode()).digest()
