"""Passwords. Called by `accounts`; knows no database and never keeps a password."""

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
    """What scrypt made of a password: all of it may be stored."""

    cost: int
    salt: bytes
    check: bytes

    def matches(self, check: bytes) -> bool:
        """Whether the password is the one that `check` was stored for."""
        return hmac.compare_digest(self.check, check)


async def derive(password: str, salt: bytes | None = None, cost: int = COST) -> Derived:
    """Work on the password in a thread, so that other requests go on. Without a salt a new one is drawn."""
    salt = salt or secrets.token_bytes(16)
    scrypt = partial(hashlib.scrypt, n=2**cost, r=8, p=1, maxmem=2**cost * 1024 + 2**20, dklen=32)
    check = await anyio.to_thread.run_sync(partial(scrypt, password.encode(), salt=salt), limiter=AT_ONCE)
    return Derived(cost, salt, check)
