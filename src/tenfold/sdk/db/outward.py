"""What leaves the database with a commit: messages, and the news that something cached is stale, here or at the edges.

`Transaction` is made of it. Who takes them is set by `sdk/service`: `sdk/queue`, `sdk/cache` and `sdk/cdn`, which are
built on this package and which it therefore never imports.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, cast
from uuid import UUID

from tenfold import errors

if TYPE_CHECKING:
    from tenfold.sdk.db.transaction import Transaction


class Publisher(Protocol):
    """Records a message in the transaction, and passes it on once that is committed."""

    async def publish(
        self,
        tx: "Transaction",
        subject: str,
        payload: Any,
        *,
        key: str | None,
        at: datetime | None,
        delay: float | None,
        headers: dict[str, str] | None,
    ) -> UUID: ...


class Invalidator(Protocol):
    """Records in the transaction what becomes stale with it, and tells every process once it is committed."""

    async def invalidate(self, tx: "Transaction", *, tags: Sequence[str], keys: Sequence[str]) -> None: ...


class Purger(Protocol):
    """Records in the transaction what edges must forget, and tells them once it is committed."""

    async def purge(
        self, tx: "Transaction", *, tags: Sequence[str], urls: Sequence[str], everything: bool, soft: bool
    ) -> None: ...


class Takers:
    """Who takes what leaves with a commit. None: nobody does, and to try is a mistake."""

    __slots__ = ("invalidator", "publisher", "purger")

    def __init__(self) -> None:
        self.publisher: Publisher | None = None
        self.invalidator: Invalidator | None = None
        self.purger: Purger | None = None


class Outward:
    """`tx.publish`, `tx.invalidate` and `tx.purge`: with the transaction, or not at all."""

    __slots__ = ()

    @property
    def _takers(self) -> Takers:
        raise NotImplementedError

    async def publish(
        self,
        subject: str,
        payload: Any = None,
        *,
        key: str | None = None,
        at: datetime | None = None,
        delay: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> UUID:
        """Publish a message if and when this transaction commits; returns its id.

        `key` orders it for subscribers that ask for order; `at` or `delay` (seconds) hold it back. Costs one round
        trip. Raises `BadSubject`, `NotEncodable`, `TooLarge`, `Overloaded` when the queue is full.
        """
        if self._takers.publisher is None:
            raise errors.MisuseError("tx.publish: found on a database without a queue; use the `tf.db` of a Tenfold")
        return await self._takers.publisher.publish(
            cast("Transaction", self), subject, payload, key=key, at=at, delay=delay, headers=headers
        )

    async def invalidate(
        self,
        *,
        tags: Sequence[str] = (),
        keys: Sequence[str] = (),
    ) -> None:
        """Make what is cached under these tags or keys stale if and when this transaction commits.

        On return of the commit no reader with this session's position gets the older value, in any process. Costs one
        round trip.
        """
        if self._takers.invalidator is None:
            raise errors.MisuseError("tx.invalidate: found on a database without a cache; use the `tf.db` of a Tenfold")
        await self._takers.invalidator.invalidate(cast("Transaction", self), tags=tags, keys=keys)

    async def purge(
        self,
        *,
        tags: Sequence[str] = (),
        urls: Sequence[str] = (),
        everything: bool = False,
        soft: bool = False,
    ) -> None:
        """Let every edge forget what carries one of these tags, or these URLs, if and when this transaction commits.

        `soft` lets an edge serve what it has once more while it fetches anew. This session bypasses the edges until
        each has acknowledged. Costs one round trip; without edges nothing. Raises `MisuseError` for what is no tag or
        URL.
        """
        if self._takers.purger is None:
            raise errors.MisuseError("tx.purge: found on a database without a CDN; use the `tf.db` of a Tenfold")
        await self._takers.purger.purge(
            cast("Transaction", self), tags=tags, urls=urls, everything=everything, soft=soft
        )
