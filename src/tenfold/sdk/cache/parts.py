"""What the parts of the cache promise each other: the floors that say what is stale, and the servers that all share.

`floors.Floors` and `shared.Shared` are these; `loads` and `cache` are written against them. No code of its own.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from tenfold import position, request
from tenfold.sdk.cache.entries import Entry
from tenfold.sdk.cache.leases import Lease


class Verdict(Enum):
    """What the floors say of an entry, for a session that wants to see everything up to a position."""

    FRESH = "fresh"
    STALE = "a floor has passed it"
    """For everybody and for ever: who keeps it may forget it."""
    OLDER = "it is older than what this session has written"
    """It has no tags, so nobody knows whether that write concerns it. Others may have it."""
    BEHIND = "the floors are not known as far as this session has come"
    """`reach` helps; then judge again."""
    UNTRUSTED = "the news of what is stale do not come in"
    """`reach` helps, if the database can be asked; then judge again."""

    @property
    def is_blind(self) -> bool:
        """Whether the floors could not say."""
        return self is Verdict.BEHIND or self is Verdict.UNTRUSTED


class Floors(Protocol):
    """Up to where what is cached under a tag or a key is stale."""

    version: int
    """Rises with every floor that is raised, and when trust is lost. An entry that was judged FRESH for a session
    without a position is still so while `version` is what it was before that judgement."""

    @property
    def is_trusted(self) -> bool:
        """Whether every floor that was raised anywhere arrives here. Without: every judgement is UNTRUSTED."""

    def slots_of(self, key: str, tags: Sequence[str]) -> tuple[int, ...]:
        """The slot of the key, then those of the tags: the same in every process."""

    def judge(self, entry: Entry, wanted: position.Position | None) -> Verdict:
        """Whether a session that has come to `wanted` may have this entry. Sync and quick."""

    def allows(self, entry: Entry, wanted: position.Position | None) -> bool:
        """Whether `judge` says FRESH."""

    def is_complete(self, wanted: position.Position) -> bool:
        """Whether every floor is known that a session at `wanted` may know of."""

    async def reach(self, wanted: position.Position | None, until: float) -> bool:
        """Learn the floors up to `wanted` (None: only regain trust). False when that did not work until `until`."""

    async def stamp(self, serving: request.Request, until: float) -> position.Position | None:
        """Pin this request's reads to a node that has all it has `seen`, and say how far that node has come.

        Every later read of the request sees at least as much. None when no node says so.
        """

    async def invalidate(self, *, tags: Sequence[str], keys: Sequence[str]) -> None:
        """Make what is cached under these stale, outside a transaction; on return it is so in every process."""


class Shared(Protocol):
    """The entries that all processes share, on the cache's servers. Trouble there is a miss, counted, no error."""

    @property
    def is_there(self) -> bool:
        """Whether there are servers at all. Without, nothing below may be called."""

    async def get(self, key: str, until: float) -> Entry | None:
        """The entry of a key, or None."""

    async def find(self, key: str, until: float, is_usable: Callable[[Entry], bool]) -> Entry | Lease | None:
        """An entry that is usable, or else the lease to load it.

        While another process has the lease it waits, and is woken by what comes of it. None: the servers do not
        answer, or `until` (`loop.time()`) has come; the caller then loads without a lease.
        """

    async def lease(self, key: str) -> Lease | None:
        """The right to load a key whose entry is still there; None when another process has it, or on trouble."""

    async def set(self, key: str, entry: Entry, lease: Lease | None) -> bool:
        """Keep the entry until it dies. A lease ends with it, and whoever waits is woken.

        False when it was not kept: the lease was voided meanwhile by a `delete`, or the servers do not answer.
        """

    async def give_back(self, lease: Lease) -> None:
        """The load came to nothing: the next who waits gets the lease at once."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Forget these, and void their leases: what is being loaded now is not kept."""
