"""`tf.cache` as an app sees it. Made by `sdk/service`, one a `Tenfold`.

It puts the parts together and speaks the app's words; what it promises is decided by `reading`, `floors`, `shared`.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, Unpack, cast

from tenfold import bindings, errors, position, request
from tenfold.sdk import counters, db
from tenfold.sdk.cache import cached as recipes
from tenfold.sdk.cache import (
    fetching,
    floors,
    keys,
    loading,
    local,
    policy,
    reading,
    readthrough,
    shared,
    through,
    values,
    write_back,
)
from tenfold.sdk.valkey import client

P = ParamSpec("P")
R = TypeVar("R")
Value = TypeVar("Value")

MOST_MISSED = 1024
"""So many misses of one request are remembered, for the `set` that may follow."""


class Cache:
    """Values kept to be read again: in this process, and where there are cache servers, in those for all.

    Nobody gets a value that is older than what their session has written, or than an invalidation that was
    acknowledged. Durations are seconds. `ttl`, `stale`, `negative`, `early`, `ahead`, `timeout`, `soft_timeout`,
    `tags`, `version` and `shared` mean the same everywhere: see `policy.Policy`.
    """

    def __init__(self, database: db.Database, servers: client.Client) -> None:
        bound = bindings.Cache()
        self._database = database
        self._local = local.Local(bound.local_bytes, bound.local_eviction)
        self._floors = floors.Floors(database, servers)
        self._shared = shared.Shared(servers)
        self._reading = reading.Reading(database, self._local, self._floors, self._shared)
        self._write_backs = write_back.WriteBacks(database, servers)
        self._loaders = readthrough.Loaders()
        self._patterns: dict[str, str] = {}
        self._take_back: Callable[[], None] | None = None

    async def start(self, bound: bindings.Cache) -> None:
        """Begin to follow what becomes stale. Neither database nor servers need to answer."""
        self._local.resize(bound.local_bytes, bound.local_eviction, bound.local_entries)
        self._local.start()
        if self._take_back is None:
            self._take_back = counters.source(self._counts)
        self._shared.start()
        await self._floors.start()
        self._write_backs.start()

    def update(self, bound: bindings.Cache) -> None:
        """Follow changed bindings."""
        self._local.resize(bound.local_bytes, bound.local_eviction, bound.local_entries)
        self._floors.update()

    async def stop(self) -> None:
        """End the loads, and forget everything. Twice is once."""
        await self._write_backs.stop()
        await self._reading.loads.stop()
        self._shared.stop()
        await self._floors.stop()
        self._local.stop()
        if self._take_back is not None:
            self._take_back()
            self._take_back = None

    def cached(
        self, pattern: str, **rules: Unpack[policy.Rules]
    ) -> Callable[[Callable[P, Awaitable[R]]], "recipes.Cached[P, R]"]:
        """Keep what an async function returns, by its arguments.

            @tf.cache.cached("product:{pid}", ttl=60, tags=["product:{pid}"])
            async def product(pid: int) -> Product: ...

        The pattern and the tags name arguments; two calls with one key are one call. What comes back is of the
        annotated type. `product.key(7)`, `product.invalidate(7)` and `product.refresh(7)` do what they say. Raises
        `MisuseError` where it is written, for a function that is not async, or a pattern that cannot be filled.
        """
        found = policy.of(**rules)

        def decorate(function: Callable[P, Awaitable[R]]) -> recipes.Cached[P, R]:
            recipe = recipes.Recipe(function, pattern, found, rules.get("type"))
            recipes.ensure_new(self._patterns, pattern, function)
            return cast("recipes.Cached[P, R]", recipes.made(recipe, self._reading, self._database))

        return decorate

    def loader(
        self, pattern: str, **rules: Unpack[policy.Rules]
    ) -> Callable[[Callable[P, Awaitable[R]]], "recipes.Cached[P, R]"]:
        """As `cached`, and `read` finds it: read-through for every key of the pattern.

        All that the function needs must be in the pattern; texts of a key become what its annotations say.
        """
        decorate = self.cached(pattern, **rules)

        def register(function: Callable[P, Awaitable[R]]) -> recipes.Cached[P, R]:
            made = decorate(function)
            self._loaders.add(recipes.Recipe(function, pattern, policy.Policy(), None), made)
            return made

        return register

    async def read(self, key: str) -> Any:
        """The value of a key, loaded by the loader whose pattern it fits. Raises `MisuseError` when there is none."""
        return await self._loaders.read(keys.check(key))

    async def get(self, key: str, default: Any = None, *, version: str | int = "", type: Any = None) -> Any:
        """What is kept under the key; `default` when nothing is, or nothing that this session may have.

        After a miss, what the same request then reads and hands to `set` is stamped as of now: so it can neither
        undo an invalidation that comes in between, nor be served after one.
        """
        kept = await self._reading.peek(self._ask(key, version=version, type=type))
        if kept is None:
            self._note(key)
            return default
        return default if values.reason(kept.entry.packed) is not None else kept.give()

    async def set(
        self,
        key: str,
        value: Any,
        **rules: Unpack[policy.Rules],
    ) -> None:
        """Keep a value. Raises `NotEncodable`, `TooLarge`.

        Without a `get` of the key in the same request the value counts as read just now; if it was read earlier, and
        became stale since, that is not noticed. `get_or_load` has no such gap.
        """
        ask = self._ask(key, **rules)
        bounds = self._missed().pop(key, None) or self._reading.bounds()
        await self._reading.put(ask, value, self._reading.stamp(bounds))

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[], Awaitable[Value]],
        **rules: Unpack[policy.Rules],
    ) -> Value:
        """The value of a key, loaded by `await loader()` if it must be: once, however many ask at the same time.

        Raises what the loader raises, `DeadlineExceeded`, `Overloaded`. The loader runs in a request of its own: it
        goes on for others when its first caller leaves.
        """
        _ensure_loader(loader)
        ask = self._ask(key, loader, **rules)
        return cast(Value, (await self._reading.read(ask)).give())

    async def write_through(
        self,
        key: str,
        work: Callable[..., Awaitable[Value]],
        *args: Any,
        **rules: Unpack[policy.Rules],
    ) -> Value:
        """What `work(tx, *args)` returns: committed exactly once as by `tf.db.run`, and cached.

        What was kept under the key and the tags is stale with the commit. The value is kept unless somebody else
        has written meanwhile; then the next read loads. Raises what `tf.db.run` raises, and `NotEncodable` or
        `TooLarge` for a value that cannot be kept: nothing is written then. What goes wrong with the cache after the
        commit is not raised.
        """
        ask = self._ask(key, **rules)
        value, commit = await through.write(self._database, work, args, ask)
        slots = self._floors.slots_of(key, ask.tags)
        at = await through.stamp(self._database, slots, commit)
        if at is not None:
            await self._reading.put(ask, value, at)
        return cast(Value, value)

    def write_back(
        self,
        name: str,
        *,
        flush: Callable[..., Awaitable[None]],
        most: int = 500,
        seconds: float = 1.0,
        durable: write_back.Durable = "replica",
        type: Any = None,
    ) -> write_back.WriteBack:
        """Puts that return once they are durable and reach the database in batches: `await it.put(key, value)`.

        `flush(tx, puts)` gets up to `most` of them, about every `seconds`, in a transaction of its own in whichever
        process; each put (`key`, `value`, `id`) is in exactly one that commits. A put is durable when a cache server
        and its replica have it (`durable="disk"`: on their disks, which takes up to a second), or the database, where
        puts go while no server can keep them. Values are of `type`, or of plain types.
        """
        return self._write_backs.make(name, flush=flush, most=most, seconds=seconds, durable=durable, type=type)

    async def delete(self, *these: str) -> None:
        """Forget these keys, in every process; what is being loaded for them now is not kept. As `invalidate`."""
        checked = [keys.check(key) for key in these]
        await self._reading.invalidate(keys=checked)
        if self._shared.is_there:
            await self._shared.delete(checked)

    async def invalidate(self, *, tags: Sequence[str] = (), keys: Sequence[str] = ()) -> None:
        """Make what is kept under these tags or keys stale, in every process, in a transaction of its own.

        With a change of the database write `await tx.invalidate(...)` instead: with the change, or not at all.
        Raises what `tf.db.run` raises, `InsideTransaction`.
        """
        await self._reading.invalidate(tags=tags, keys=keys)

    @staticmethod
    def loading() -> loading.Loading:
        """What a loader says of the value that it loads: `.ttl`, `.stale`, `.tag(...)`, `.negative()`."""
        return loading.now()

    def clear(self) -> None:
        """Forget what this process keeps itself. Not what the servers keep, nor other processes: that is for tags."""
        self._local.clear()

    def limit_loads(self, at_once: int, waiting: int) -> None:
        """So many loads of this process run at once, and so many wait; more get `Overloaded`."""
        self._reading.loads.at_once, self._reading.loads.most_waiting = at_once, waiting

    def _ask(
        self, key: str, load: Callable[[], Awaitable[Any]] | None = None, **rules: Unpack[policy.Rules]
    ) -> fetching.Ask:
        name = keys.check(key).partition(":")[0]
        tags = tuple(dict.fromkeys(keys.check_tags(rules.pop("tags", ()))))
        found = policy.known(**rules)
        return fetching.Ask(key, name, found, values.codec(rules.get("type")), tags, load)

    def _note(self, key: str) -> None:
        """Remember how far the nodes had come when this request missed the key."""
        missed = self._missed()
        if len(missed) >= MOST_MISSED:
            del missed[next(iter(missed))]
        missed[key] = self._reading.bounds()

    def _missed(self) -> dict[str, dict[str, position.Position]]:
        serving = request.current() or self._database.shards.outside
        if serving.missed is None:
            serving.missed = {}
        return serving.missed

    def _counts(self) -> Mapping[str, int]:
        kept = self._local
        return {
            **self._reading.tally.counts(),
            "cache.local_bytes": kept.bytes,
            "cache.local_entries": kept.count,
            "cache.local_evictions": kept.evictions,
            "cache.local_expirations": kept.expirations,
        }


def _ensure_loader(loader: Any) -> None:
    if inspect.iscoroutine(loader):
        loader.close()
        raise errors.MisuseError("cache: a coroutine found as the loader; give the function: `lambda: load(7)`")
    if not callable(loader):
        raise errors.MisuseError(f"cache: {loader!r} found as the loader, an async function expected")
