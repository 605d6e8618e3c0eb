"""Forgetting old tokens, a bounded piece at a time, with later writes.

Called by `transaction` after a commit, on the connection it is about to give back. Never fails a write.
"""

import logging
import random
import time

from tenfold.sdk.db import connect, tokens
from tenfold.sdk.db.primary import Lease

log = logging.getLogger("tenfold.db")

KEEP_SECONDS = 24 * 3600.0
"""How long a token, and with it a request's `Idempotency-Key`, is remembered. Settling takes seconds."""

EVERY = 256
"""One commit in so many prunes, by chance: processes that live for a few commits do their share too."""

MOST = 1024
"""Rows that one prune deletes at most: milliseconds, without waiting for replicas, and faster than rows are made."""

PRUNE = """
begin; set local synchronous_commit = off;
delete from tenfold.commit where token in (
    select token from tenfold.commit
     where token < '{oldest}' and created_at < now() - interval '{seconds} seconds'
     order by token limit {most} for update skip locked);
delete from tenfold.commit where token in (
    select token from tenfold.commit
     where token >= '{first_with_key}' and created_at < now() - interval '{seconds} seconds'
     order by created_at limit {most} for update skip locked);
commit
"""
"""Tokens begin with the time of their maker's clock, so the index finds the old ones; the database's own clock has
the last word, so a maker whose clock is behind loses nothing."""


async def sometimes(lease: Lease) -> None:
    """Prune after one commit in `EVERY`. A lease on which that failed is discarded."""
    if random.random() * EVERY < 1.0:  # noqa: S311 - spreads work, guards nothing
        await prune(lease, KEEP_SECONDS)


async def prune(lease: Lease, keep_seconds: float) -> None:
    """Delete up to `MOST` tokens of either kind that are older than `keep_seconds`."""
    statements = PRUNE.format(
        oldest=tokens.oldest_of(max(0.0, time.time() - keep_seconds)),
        first_with_key=tokens.FIRST_WITH_KEY,
        seconds=keep_seconds,
        most=MOST,
    )
    try:
        await lease.connection.execute(statements, timeout=2.0)
    except connect.ANSWERS as error:
        log.debug("old tokens were not pruned: %s", error)
        lease.discard()
