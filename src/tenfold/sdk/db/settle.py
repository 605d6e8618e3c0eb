"""Settling a transaction whose COMMIT was sent and whose answer is missing: was it committed, or never will be?

Called by `transaction` after an unknown answer, and by `run` to read what an earlier request with the same key left.
It never guesses: what it cannot prove before the deadline is `OutcomeUnknown`.

The proof is the token, inserted again on the *current* primary, whoever that is by now. The insert waits behind a
transaction that holds the token and still runs. A conflict means committed, success means not; the inserted row then
stands in the way of whatever might still come. Either is believed once this primary has acknowledged a later
synchronous commit: the check's own. A primary that was replaced and does not know it cannot acknowledge one. Where
commits count only when another region has them, "committed" is said only once another one has the check's commit, too.
"""

import asyncio
from dataclasses import dataclass

import asyncpg

from tenfold import errors, position
from tenfold.kit import backoff
from tenfold.sdk.db import commit, connect, tokens, witness
from tenfold.sdk.db.primary import Lease, Shards

BEGIN = "begin isolation level read committed; set local synchronous_commit = on"

TRY_SECONDS = 2.0
"""One try takes no longer: a primary that stopped answering may have been replaced meanwhile."""

PAUSE = backoff.Backoff(first_seconds=0.01, most_seconds=0.25)


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a token's transaction, and what was stored with it. `at`: everything of it is visible there."""

    is_committed: bool
    at: position.Position | None
    fingerprint: bytes | None = None
    result: bytes | None = None


async def settle(shards: Shards, shard: int, token: tokens.Token, until: float) -> Settled:
    """Whether the transaction of this token was committed. After the answer False it never will be.

    Raises `OutcomeUnknown` when no primary could prove it before `until` (`loop.time()`).
    """
    tries = 0
    seen: BaseException | None = None
    while True:
        try:
            settled = await _ask(shards, shard, token, until)
        except errors.TryAgain as error:
            raise _unknown(token, error) from error
        except connect.ANSWERS as error:
            settled, seen = None, error
        if settled is not None:
            return settled
        tries += 1
        pause = PAUSE.seconds(tries)
        if asyncio.get_running_loop().time() + pause >= until:
            raise _unknown(token, seen) from seen
        await asyncio.sleep(pause)


async def _ask(shards: Shards, shard: int, token: tokens.Token, until: float) -> Settled | None:
    """One try on the primary of this moment; None when its own COMMIT stayed without proof."""
    lease = await shards.primary(shard, until)
    try:
        settled = await _look(lease, token, until)
    except BaseException as error:
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            lease.demoted()
        else:
            lease.discard()
        raise
    if settled is None:
        lease.discard()
    else:
        await lease.release()
    watching = shards.witness_of(shard)
    if settled is None or not settled.is_committed or watching is None:
        return settled
    return settled if await _is_held(watching, settled.at, until) else None


async def _is_held(watching: witness.Witness, at: position.Position | None, until: float) -> bool:
    """Whether another region has it; False when this has to be asked again. Raises `TryAgain` when time is up."""
    held = witness.Held.MOVED if at is None else await watching.until_held(at, until)
    if held is witness.Held.NOT_IN_TIME:
        raise errors.TryAgain("it was committed at home, and no other region was known to have it in time")
    return held is witness.Held.YES


async def _look(lease: Lease, token: tokens.Token, until: float) -> Settled | None:
    now = asyncio.get_running_loop().time()
    seconds = min(TRY_SECONDS, max(0.05, until - now))
    await lease.connection.execute(BEGIN, timeout=seconds)
    row = await lease.connection.fetchrow(tokens.LOOK, token.id, timeout=seconds)
    assert row is not None
    answer = await commit.send(lease, asyncio.get_running_loop().time() + seconds)
    if answer.verdict is not commit.Verdict.COMMITTED:
        return None
    return Settled(not row["is_void"], answer.at, row["fingerprint"], row["result"])


def _unknown(token: tokens.Token, seen: BaseException | None) -> errors.OutcomeUnknown:
    reason = f" ({str(seen) or type(seen).__name__})" if seen is not None else ""
    return errors.OutcomeUnknown(
        f"database: the answer to a COMMIT was lost, and no primary could say before the deadline whether it happened"
        f"{reason}; it happened once or not at all: look for token {token} in tenfold.commit",
        str(token),
    )
