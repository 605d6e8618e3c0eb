"""Becoming the runtime of a service: with its lock, as the only one that acts, or without it, only to look.

Called by `runtime/daemon`; it decides nothing else. The lock is the kernel's (flock): a runtime that died holds none,
so there are no stale ones.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tenfold import errors
from tenfold.kit import address, lock
from tenfold.runtime import events, paths, records, service


@asynccontextmanager
async def opened(where: paths.Paths, *, wait_seconds: float = 0.0) -> AsyncIterator[service.Runtime]:
    """The runtime of this service, with its lock held. Raises AlreadyRunning when another one holds it."""
    where.make()
    handle = lock.opened(where.lock)
    try:
        await _lock(handle, where, wait_seconds)
        store = records.Store.open(where.records)
        if store.records.network == 0:
            store.records.network = address.claim(where.state, address.claims_folder())
            store.save()
        runtime = service.Runtime(where, store, events.Journal(where.events))
        try:
            yield runtime
        finally:
            await runtime.observer.close()
    finally:
        os.close(handle)


@asynccontextmanager
async def looked_at(where: paths.Paths) -> AsyncIterator[service.Runtime]:
    """A runtime that only looks, without the lock: it is in nobody's way, and whoever holds the lock not in its."""
    journal = events.Journal(None)
    journal.recent.extend(events.last(where.events, events.MOST_RECENT))
    runtime = service.Runtime(where, records.Store.open(where.records), journal)
    try:
        yield runtime
    finally:
        await runtime.observer.close()


async def _lock(handle: int, where: paths.Paths, wait_seconds: float) -> None:
    if not await lock.take(handle, wait_seconds):
        raise errors.AlreadyRunning(
            f"{where.state}: a runtime runs already (pid {lock.signer(handle) or 'unknown'}); "
            "look with `tenfold status`, stop it with `tenfold down`"
        )
    lock.sign(handle)
