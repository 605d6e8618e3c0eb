"""Tokens: the ids that write transactions insert first into `tenfold.commit`, and the SQL that does it. Pure.

Called by `transaction` (to begin), `settle` (to ask whether a token was committed) and `prune`.
A token is made anew for each try of a transaction; with an `Idempotency-Key` it is the key's, the same for every try.
"""

import hashlib
import os
import time
import uuid
from dataclasses import dataclass
from typing import Literal

import msgspec

from tenfold import request

Isolation = Literal["read_uncommitted", "read_committed", "repeatable_read", "serializable"]

FIRST_WITH_KEY = uuid.UUID("ff000000-0000-8000-8000-000000000000")
"""Tokens of keys sort after all others, whose first bytes are the time."""

LOOK = (
    "insert into tenfold.commit as seen (token, is_void) values ($1, true) "
    "on conflict (token) do update set checked_at = now() returning is_void, fingerprint, result"
)
"""Insert the token again as void. Waits behind a transaction that holds it and is still open. Writes in any case, so
that the COMMIT after it is one that the replicas must acknowledge; `is_void` in the answer: it was not committed."""

STORE = "update tenfold.commit set result = $2 where token = $1"
"""Keep the result of a request with a key, in its own transaction."""

_INSERT = "insert into tenfold.commit (token) values ('{token}')"

_INSERT_WITH_KEY = (
    "insert into tenfold.commit as seen (token, fingerprint) values ('{token}', decode('{fingerprint}', 'hex')) "
    "on conflict (token) do update set is_void = false, fingerprint = excluded.fingerprint, created_at = now() "
    "where seen.is_void"
)
"""Take the key's row: new, or voided by a check. Waits for an open transaction of the same key; see `IS_TAKEN`."""

IS_TAKEN = "INSERT 0 0"
"""What the server answers when the key's row is there and valid: the first request has committed."""


@dataclass(frozen=True, slots=True)
class Token:
    """One transaction's id; `fingerprint` is set exactly for those of an `Idempotency-Key`."""

    id: uuid.UUID
    fingerprint: bytes | None = None

    def __str__(self) -> str:
        return str(self.id)


def fresh() -> Token:
    """A new id, the current millisecond first (RFC 9562, version 7): neighbours in time are neighbours in the index."""
    milliseconds = time.time_ns() // 1_000_000
    number = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    return Token(_stamped(number, version=7))


def of_key(key: request.IdempotencyKey, number: int) -> Token:
    """The id of the `number`-th `run` of a request with this key: the same whenever and wherever it is asked."""
    digest = hashlib.sha256(msgspec.json.encode([key.scope, key.key, number])).digest()
    return Token(_stamped(int.from_bytes(b"\xff" + digest[:15], "big"), version=8), key.fingerprint)


def oldest_of(seconds: float) -> uuid.UUID:
    """A bound: tokens without a key that were made before this Unix time are below it."""
    return uuid.UUID(int=int(seconds * 1000) << 80)


def begin(token: Token | None, isolation: Isolation | None, *, is_deferrable: bool) -> str:
    """One message that opens the transaction and inserts its token; without a token it is a read-only one.

    It never says READ WRITE: `default_transaction_read_only` is how a primary is fenced, and must stay in force.
    """
    words = ["begin"]
    if isolation is not None:
        words.append(f"isolation level {isolation.replace('_', ' ')}")
    if token is None:
        words.append("read only")
    if is_deferrable:
        words.append("deferrable")
    opening = " ".join(words)
    return opening if token is None else f"{opening}; {_insertion(token)}"


def _insertion(token: Token) -> str:
    if token.fingerprint is None:
        return _INSERT.format(token=token)
    return _INSERT_WITH_KEY.format(token=token, fingerprint=token.fingerprint.hex())


def _stamped(number: int, version: int) -> uuid.UUID:
    number &= ~(0xF << 76) & ~(0x3 << 62)
    return uuid.UUID(int=number | (version << 76) | (0b10 << 62))
