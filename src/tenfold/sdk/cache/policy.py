"""How long a cached value may be used, and when it is loaded anew: one frozen value, said in one place. Pure.

Made from the arguments of `cached`, `loader`, `get_or_load` and `set`; asked by `reading` and `loads`. Durations are
seconds; times come from the caller.
"""

import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypedDict

from tenfold import errors

DEFAULT_TTL = 300.0
"""How long a value is fresh when nobody has said it: nothing is ever kept for ever."""

DEFAULT_NEGATIVE = 10.0
"""How long it is kept that something is not there, at most, when nobody has said it."""

MOST_SECONDS = 30 * 86400.0
"""The longest life of an entry."""

CERTAIN = 14.0
"""So many costs before the end, at `early` 1, the chance of loading early is one in a million."""


class Use(Enum):
    """What may be done with an entry now."""

    FRESH = "fresh"
    AHEAD = "fresh, and it is time to load it anew"
    STALE = "expired, and still good while it is loaded anew"
    DEAD = "expired"


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules for one key, or for all keys of a pattern."""

    ttl: float = DEFAULT_TTL
    """How long it is fresh."""
    stale: float = 0.0
    """For how long after that the old value is served: while it is loaded anew behind, and when that fails."""
    negative: float | None = None
    """How long it is kept that there is nothing (`None`, `NotFound`). None: as `ttl`, at most 10 s. 0: not at all."""
    early: float = 0.0
    """XFetch's beta: above 0 each read may load anew before the end, the likelier the nearer, and the longer a load
    takes; 1 is the usual. Many processes then do not meet at the end. Source: Vattani, Chierichetti, Lowenstein:
    Optimal probabilistic cache stampede prevention (VLDB 2015)."""
    ahead: float = 0.0
    """From this fraction of `ttl` on the first read loads it anew behind: 0.8, say. 0: not before the end."""
    timeout: float | None = None
    """How long a load may take; a stale value is served then, or `DeadlineExceeded` raised. None: until the request's
    own deadline."""
    soft_timeout: float = 0.0
    """How long a read waits for the new value while there is a stale one. 0: it takes the stale one at once."""
    tags: tuple[str, ...] = ()
    """What makes it stale: names, or format strings of the arguments, such as `product:{pid}`."""
    version: str = ""
    """Part of where it is kept: another version does not see the values of this one. For values of a new form."""
    shared: bool = False
    """Whether all callers of a process get the same object, which they promise never to change."""

    @property
    def negative_seconds(self) -> float:
        """How long it is kept that there is nothing."""
        return min(self.ttl, DEFAULT_NEGATIVE) if self.negative is None else self.negative


class Rules(TypedDict, total=False):
    """A policy as the arguments of a call."""

    ttl: float | None
    stale: float | None
    negative: float | None
    early: float | None
    ahead: float | None
    timeout: float | None
    soft_timeout: float | None
    tags: Sequence[str]
    version: str | int
    shared: bool
    type: Any
    """What values are, when no annotation says it: they come back as that."""


def of(**said: object) -> Policy:
    """A policy from a call's arguments; those that are None were not given. Raises `MisuseError`, which names all
    that is wrong with them."""
    given = {name: value for name, value in said.items() if value is not None and name != "type"}
    _ensure_known(given)
    if isinstance(given.get("tags"), str):
        raise errors.MisuseError(f"cache: tags={given['tags']!r} found, a list expected: tags=[{given['tags']!r}]")
    given["tags"] = tuple(_strings(given.get("tags", ())))
    given["version"] = str(given.get("version", ""))
    made = Policy(**given)  # type: ignore[arg-type]
    wrong = [f"{name}={found!r} found, {expected} expected" for name, found, expected in _wrong(made)]
    if wrong:
        raise errors.MisuseError("cache: " + "; ".join(wrong))
    return made


def known(**said: object) -> Policy:
    """As `of`, remembered: for what each call says anew. Without tags, which differ from key to key."""
    try:
        return _known(tuple(said.items()))
    except TypeError:  # something that cannot be hashed: `of` will say what it thinks of it
        return of(**said)


@functools.lru_cache(maxsize=1024)
def _known(said: tuple[tuple[str, object], ...]) -> Policy:
    return of(**dict(said))


def _ensure_known(given: dict[str, object]) -> None:
    unknown = given.keys() - Rules.__annotations__.keys()
    if unknown:
        raise errors.MisuseError(
            f"cache: {', '.join(sorted(unknown))}= found, {', '.join(Rules.__annotations__)} expected"
        )


def use(policy: Policy, *, made_at: float, fresh_until: float, dies_at: float, cost: float, now: float) -> Use:
    """What may be done with an entry now. Draws lots when `early` asks for it."""
    if now >= dies_at:
        return Use.DEAD
    if now >= fresh_until:
        return Use.STALE
    if policy.ahead and now >= made_at + policy.ahead * (fresh_until - made_at):
        return Use.AHEAD
    if policy.early and now - cost * policy.early * math.log(1.0 - random.random()) >= fresh_until:  # noqa: S311
        return Use.AHEAD
    return Use.FRESH


def carefree_until(policy: Policy, *, made_at: float, fresh_until: float, cost: float) -> float:
    """Until when `use` surely says FRESH, or all but surely where lots are drawn."""
    until = fresh_until
    if policy.ahead:
        until = min(until, made_at + policy.ahead * (fresh_until - made_at))
    if policy.early:
        until = min(until, fresh_until - CERTAIN * cost * policy.early)
    return until


def _strings(tags: object) -> Sequence[str]:
    if not isinstance(tags, list | tuple | set | frozenset) or not all(isinstance(one, str) for one in tags):
        raise errors.MisuseError(f'cache: tags={tags!r} found, a list of strings expected: tags=["product:{{pid}}"]')
    return tuple(tags)


def _wrong(policy: Policy) -> list[tuple[str, object, str]]:
    found: list[tuple[str, object, str]] = []
    for name, is_right, expected in (
        ("ttl", _within(policy.ttl, 0.001), "seconds above 0, at most 30 days"),
        ("stale", _within(policy.stale, 0), "seconds from 0, at most 30 days"),
        ("negative", policy.negative is None or _within(policy.negative, 0), "seconds from 0, at most 30 days"),
        ("early", _within(policy.early, 0, 100), "a factor from 0 (off; 1 is usual)"),
        ("ahead", _within(policy.ahead, 0, 0.999), "a fraction of ttl, below 1 (0 is off)"),
        ("timeout", policy.timeout is None or _within(policy.timeout, 0.001), "seconds above 0"),
        ("soft_timeout", _within(policy.soft_timeout, 0), "seconds from 0"),
    ):
        if not is_right:
            found.append((name, getattr(policy, name), expected))
    return found


def _within(value: object, least: float, most: float = MOST_SECONDS) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
