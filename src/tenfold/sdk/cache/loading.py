"""What a loader may say of the value that it loads: how long it is kept, under which tags, that there is none.

    @tf.cache.cached("rate:{currency}", ttl=60)
    async def rate(currency):
        answer = await bank.rate(currency)
        tf.cache.loading().ttl = answer.seconds_left
        return answer.rate

Called by loaders through `tf.cache.loading()`; read by `reading`. Outside a load it may be said too, and says nothing.
"""

from contextvars import ContextVar

from tenfold import errors
from tenfold.sdk.cache import keys
from tenfold.sdk.cache.policy import MOST_SECONDS, Policy


class Loading:
    """The load that this task is part of."""

    def __init__(self, policy: Policy, tags: tuple[str, ...]) -> None:
        self._ttl = policy.ttl
        self._negative = policy.negative_seconds
        self._stale = policy.stale
        self._tags = tags
        self.is_negative = False
        """Whether it was said that there is nothing."""

    @property
    def ttl(self) -> float:
        """How many seconds it is fresh. 0: it is not kept at all."""
        return self._ttl

    @ttl.setter
    def ttl(self, seconds: float) -> None:
        if not 0 <= seconds <= MOST_SECONDS:
            raise errors.MisuseError(f"cache: ttl = {seconds!r} found, seconds from 0 to 30 days expected")
        self._ttl = seconds

    @property
    def stale(self) -> float:
        """For how many seconds more it is served once it has expired, as `stale=`."""
        return self._stale

    @stale.setter
    def stale(self, seconds: float) -> None:
        if not 0 <= seconds <= MOST_SECONDS:
            raise errors.MisuseError(f"cache: stale = {seconds!r} found, seconds from 0 to 30 days expected")
        self._stale = seconds

    @property
    def tags(self) -> tuple[str, ...]:
        """What makes it stale, besides its key."""
        return self._tags

    def tag(self, *tags: str) -> None:
        """Add tags: of what turned out to be in the value."""
        self._tags = tuple(dict.fromkeys((*self._tags, *keys.check_tags(tags))))
        keys.check_tags(self._tags)

    def negative(self, seconds: float | None = None) -> None:
        """What is returned means that there is nothing: it is kept for a shorter time."""
        self.is_negative = True
        if seconds is not None:
            if not 0 <= seconds <= MOST_SECONDS:
                raise errors.MisuseError(f"cache: negative({seconds!r}) found, seconds from 0 to 30 days expected")
            self._negative = seconds

    def life(self, *, is_negative: bool) -> tuple[float, float]:
        """For how many seconds it is fresh, and for how many more it is of use."""
        if is_negative or self.is_negative:
            return min(self._negative, self._ttl), 0.0
        return self._ttl, self._stale


current: ContextVar[Loading | None] = ContextVar("tenfold_cache_loading", default=None)


def now() -> Loading:
    """What may be said of the value that is being loaded; outside a load it goes nowhere."""
    return current.get() or Loading(Policy(), ())
