"""`@tf.cache.cached(...)`: an async function whose results are kept by its arguments.

Called by `cache` when a function is decorated, at import; nothing here does I/O then. What it returns is a coroutine
function still, with the signature it had: frameworks look at that. A hit in this process is one look-up by the
arguments and a comparison of versions; everything else is `reading`'s.
"""

import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from tenfold import errors, request
from tenfold.sdk import db
from tenfold.sdk.cache import fetching, keys, loads, local, native, parts, policy, reading, values

P = ParamSpec("P")
Q = ParamSpec("Q")
R_co = TypeVar("R_co", covariant=True)
Self = TypeVar("Self")


_NAMED = object()
"""Begins what is remembered of a call with names: nobody can give it as an argument."""


class Cached(Protocol[P, R_co]):
    """An async function whose results are cached. For a method the object comes first: `Shop.product.key(shop, 7)`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """The value: kept, or loaded by the function."""

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The key of these arguments: for `tx.invalidate(keys=[product.key(7)])`."""

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """What is kept for these arguments is stale, in every process; a transaction of its own."""

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """The value, loaded now, in the place of what is kept."""

    @overload
    def __get__(self, instance: None, owner: Any) -> "Cached[P, R_co]": ...
    @overload
    def __get__(
        self: "Cached[Concatenate[Self, Q], R_co]", instance: Self, owner: Any
    ) -> Callable[Q, Coroutine[Any, Any, R_co]]: ...


class Recipe:
    """How a function's calls become questions to the cache."""

    def __init__(
        self, function: Callable[..., Awaitable[Any]], pattern: str, rules: policy.Policy, declared: Any
    ) -> None:
        _ensure_async(function)
        self.function = function
        self.policy = rules
        self._signature = inspect.signature(function)
        kinds = self._signature.parameters.values()
        self.names = [one.name for one in kinds]
        self._is_plain = all(one.kind is one.POSITIONAL_OR_KEYWORD for one in kinds)
        self.pattern = keys.Pattern(pattern, self.names)
        self._tags = [keys.Pattern(one, self.names) for one in rules.tags]
        self._declared = declared

    @functools.cached_property
    def codec(self) -> values.Codec:
        """By the function's annotation; looked at when it is first needed, for what it names may come later."""
        return values.of_function(self.function) if self._declared is None else values.codec(self._declared)

    @property
    def is_method(self) -> bool:
        """Whether its first argument is an object that its key says nothing of."""
        used = {field.split(".")[0].split("[")[0] for one in (self.pattern, *self._tags) for field in one.fields}
        return bool(self.names) and self.names[0] in ("self", "cls") and self.names[0] not in used

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The key of a call."""
        return keys.check(self.pattern.fill(self._named(args, kwargs)))

    def ask(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fetching.Ask:
        """A call as a question. Raises `MisuseError` when the arguments do not fit, `TooLarge` for a key too long."""
        named = self._named(args, kwargs)
        key = keys.check(self.pattern.fill(named))
        tags = tuple(dict.fromkeys(keys.check(one.fill(named), "tag") for one in self._tags))
        load = functools.partial(self.function, *args, **kwargs)
        return fetching.Ask(key, self.pattern.text, self.policy, self.codec, tags, load)

    def _named(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if self._is_plain and not kwargs and len(args) == len(self.names):
            return dict(zip(self.names, args, strict=True))
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise errors.MisuseError(
                f"{self.function.__qualname__}{self._signature}: {error}"
                + ("; the object comes first: Shop.product.key(shop, 7)" if self.is_method else "")
            ) from error
        bound.apply_defaults()
        return bound.arguments


def made(recipe: Recipe, road: reading.Reading, database: db.Database) -> Cached[..., Any]:
    """The function that answers in the place of the recipe's."""
    table: local.Table = local.Table()
    slowly = _slow(recipe, road, table)
    quick = _quick_method if recipe.is_method else _quick
    found = functools.wraps(recipe.function)(quick(table, road, database, slowly))

    async def invalidate(*args: Any, **kwargs: Any) -> None:
        await road.invalidate(keys=[recipe.key(args, kwargs)])

    async def refresh(*args: Any, **kwargs: Any) -> Any:
        return await road.refresh(recipe.ask(args, kwargs))

    found.key = lambda *args, **kwargs: recipe.key(args, kwargs)  # type: ignore[attr-defined]
    found.invalidate = invalidate  # type: ignore[attr-defined]
    found.refresh = refresh  # type: ignore[attr-defined]
    return cast("Cached[..., Any]", found)


Slow = Callable[[tuple[Any, ...], dict[str, Any]], Awaitable[Any]]


def _quick(table: local.Table, road: reading.Reading, database: db.Database, slowly: Slow) -> Callable[..., Any]:
    """The way of a hit. Every name in it is a local one, and nothing is called that need not be."""
    find, current, now = table.get, request.current, time.time
    floors, kept_here, tally, shards = road.floors, road.local, road.tally, database.shards

    async def cached(*args: Any, **kwargs: Any) -> Any:
        try:
            kept = find((_NAMED, args, *kwargs.items()) if kwargs else args)
        except TypeError:  # arguments that cannot be hashed
            kept = None
        if kept is not None and kept.version == floors.version and now() < kept.until:
            serving = current() or shards.outside
            if serving.recorder is None and (not serving.is_known or _allows(floors, kept, serving)):
                kept.uses += 1
                tally.local_hits += 1
                if kept_here.touched is not None:
                    kept_here.touched(kept)
                return kept.value if kept.is_live else kept.give()
        return await slowly(args, kwargs)

    return cached


def _quick_method(table: local.Table, road: reading.Reading, database: db.Database, slowly: Slow) -> Callable[..., Any]:
    """The same for a method, whose object is no part of the key: it is neither looked at nor remembered."""
    find, current, now = table.get, request.current, time.time
    floors, kept_here, tally, shards = road.floors, road.local, road.tally, database.shards

    async def cached(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            kept = find((_NAMED, args, *kwargs.items()) if kwargs else args)
        except TypeError:
            kept = None
        if kept is not None and kept.version == floors.version and now() < kept.until:
            serving = current() or shards.outside
            if serving.recorder is None and (not serving.is_known or _allows(floors, kept, serving)):
                kept.uses += 1
                tally.local_hits += 1
                if kept_here.touched is not None:
                    kept_here.touched(kept)
                return kept.value if kept.is_live else kept.give()
        return await slowly((self, *args), kwargs)

    return cached


def _allows(floors: parts.Floors, kept: local.Kept, serving: request.Request) -> bool:
    """Whether a session that has written may have it. A load may not, on this way: it must know what it is made of."""
    if type(serving) is loads.LoadRequest:
        return False
    wanted = serving.seen.by_shard.get(reading.SHARD)
    if wanted is None:
        return True
    if kept.is_tagged:  # at this version it has passed every floor that is known: are all known that matter?
        return floors.is_complete(wanted)
    return floors.allows(kept.entry, wanted)


def _slow(recipe: Recipe, road: reading.Reading, table: local.Table) -> Slow:
    """Every other way. A value that is kept then is found by these arguments the next time."""
    first = 1 if recipe.is_method else 0

    async def slowly(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kept = await road.read(recipe.ask(args, kwargs))
        given = args[first:]
        if native.is_fixed((given, *kwargs.values())):
            road.local.alias(kept, table, (_NAMED, given, *kwargs.items()) if kwargs else given)
        return kept.give()

    return slowly


def _ensure_async(function: Any) -> None:
    name = getattr(function, "__qualname__", repr(function))
    if isinstance(function, classmethod | staticmethod):
        kind = type(function).__name__
        raise errors.MisuseError(f"cache: a {kind} found; write @{kind} above @tf.cache.cached(...), not below it")
    if not inspect.iscoroutinefunction(function):
        raise errors.MisuseError(
            f"cache: {name} is not async, and the cache may have to wait; write `async def "
            f"{name.rpartition('.')[2]}(...)`, with `await asyncio.to_thread(...)` around what blocks"
        )


def ensure_new(known: dict[str, str], pattern: str, function: Callable[..., Any]) -> None:
    """Two functions with one pattern would give each other's values. The same one again (a reload) is no other."""
    name = f"{function.__module__}.{function.__qualname__}"
    if known.setdefault(pattern, name) != name:
        raise errors.MisuseError(
            f"cache: {pattern!r} found at {name}, but it is {known[pattern]}'s; use another pattern"
        )
