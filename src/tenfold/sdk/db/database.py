"""`tf.db`: the database as an app sees it. asyncpg.Pool's whole surface, and the ways to more.

Made by `sdk/service`, one a `Tenfold`; it owns the nodes, the probes and the pools. It decides nothing: routing is
`reads`' and `routing`'s, exactly-once is the write half's.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import asyncpg

from tenfold import bindings, errors, request
from tenfold.kit import clock
from tenfold.sdk.db import access, connect, deadline, handout, levels, nodes, pool, primary, run, tokens, transaction

CLOSE_SECONDS = 60.0
"""How long `close` waits for connections in use."""


class Way(access.Access):
    """One way to the data: a level, options, a shard. Made by the methods below; cheap, may be kept."""

    def __init__(
        self,
        shards: primary.Shards,
        level: levels.Level | None,
        options: transaction.Options,
        hooks: handout.Hooks,
    ) -> None:
        super().__init__(shards, level, options, hooks)
        self._level = level

    def reading(self, level: levels.Level | str, seconds: float | None = None) -> "Way":
        """Reads at this level: `"primary"`, `"session"`, `"eventual"`, or `"bounded"` with `seconds`.

        A level that is named wins over the session's. Within one request reads stay on one copy, except at
        `primary`. Writes are the same at every level. Raises `MisuseError` for another word.
        """
        return Way(self._shards, levels.parse(level, seconds), self._options, self._hooks)

    def options(
        self,
        *,
        isolation: tokens.Isolation | None = None,
        readonly: bool | None = None,
        deferrable: bool | None = None,
        timeout: float | None = None,
    ) -> "Way":
        """With an isolation level for transactions, and `timeout` seconds for the whole of each call."""
        said = {"isolation": isolation, "readonly": readonly, "deferrable": deferrable, "timeout": timeout}
        changes: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        return Way(self._shards, self._level, replace(self._options, **changes), self._hooks)

    def at(self, key: Any) -> "Way":
        """The shard that holds this key. (There is one shard so far, whatever the key.)"""
        hash(key)  # a key that cannot be hashed will have no shard either
        return Way(self._shards, self._level, replace(self._options, shard=0), self._hooks)

    def everywhere(self) -> "Everywhere":
        """Every shard at once."""
        return Everywhere(
            [
                Way(self._shards, self._level, replace(self._options, shard=number), self._hooks)
                for number in sorted(self._shards.by_number)
            ]
        )

    def transaction(
        self,
        *,
        isolation: tokens.Isolation | None = None,
        readonly: bool | None = None,
        deferrable: bool | None = None,
        timeout: float | None = None,
    ) -> transaction.Transaction:
        """`async with tf.db.transaction() as tx:` on the primary; see `Transaction` for what it promises."""
        way = self.options(isolation=isolation, readonly=readonly, deferrable=deferrable, timeout=timeout)
        self._shards.shard(way._options.shard)
        return transaction.Transaction(self._shards, way._options)

    async def run(self, fn: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        """What `fn(tx, *args, **kwargs)` returns, committed exactly once, through failovers; see `run.run`."""
        self._shards.shard(self._options.shard)
        return await run.run(self._shards, fn, args, kwargs, self._options)


class Everywhere:
    """The same statement on every shard, at the same time."""

    def __init__(self, ways: list[Way]) -> None:
        self._ways = ways

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Any]:
        """All shards' rows, one shard after the other. No single snapshot: each shard answers for itself."""
        answers = await asyncio.gather(*(way.fetch(query, *args, timeout=timeout) for way in self._ways))
        return [row for rows in answers for row in rows]

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> list[str]:
        """Every shard's status. Each shard commits for itself: an error of one undoes nothing on the others."""
        return list(await asyncio.gather(*(way.execute(query, *args, timeout=timeout) for way in self._ways)))


class Database(Way):
    """`tf.db`. Takes asyncpg's `init=`, `setup=`, `reset=` and connection arguments (`statement_cache_size=`, `ssl=`).

    `init(connection)` runs once on every new connection (type codecs, say), `setup` and `reset` around every use.
    Before `start` every call raises `NotStarted`.
    """

    def __init__(
        self,
        *,
        init: connect.Init | None = None,
        setup: handout.Hook | None = None,
        reset: handout.Hook | None = None,
        **connect_arguments: Any,
    ) -> None:
        self._connector = connect.Connector(init, connect_arguments)
        shards = primary.Shards(self._connector)
        super().__init__(shards, None, transaction.Options(), handout.Hooks(setup, reset))
        self._beside: list[Database] = []

    @property
    def shards(self) -> primary.Shards:
        """The nodes, the pools and the way to a primary, for what is built on `tf.db`."""
        return self._shards

    def beside(self, *, init: connect.Init | None = None, **connect_arguments: Any) -> "Database":
        """Another set of connections to the same nodes, with an `init` of its own: starts and ends with this one.

        What is written on either is seen by the session's reads on both.
        """
        made = Database(init=init, **connect_arguments)
        made.shards.outside = self._shards.outside
        made.shards.takers = self._shards.takers
        made.shards.connector.region = self._connector.region
        self._beside.append(made)
        if self._shards.is_started:
            made.shards.watch(self._connector.database)
        return made

    async def start(self, database: bindings.Database, region: str = "home") -> None:
        """Watch the nodes and connect. A database that is down does not make it fail; calls wait for it.

        `region` is where this process runs: reads go to replicas there as long as they are fresh enough.
        """
        self._connector.region = region
        for one in self._beside:
            one.shards.connector.region = region
            one.shards.watch(database)
        await self._shards.start(database)

    def update(self, database: bindings.Database) -> None:
        """Follow changed bindings without disturbing what runs: nodes join and leave, a password may be new."""
        for one in (self, *self._beside):
            one.shards.update(database)

    async def stop(self) -> None:
        """Close everything at once. Twice is once; `start` may follow."""
        await asyncio.gather(*(one.shards.stop() for one in (self, *self._beside)))

    @contextmanager
    def session(self) -> Iterator[request.Request]:
        """`with tf.db.session():` gives a script what a request has: it reads what it wrote, from one copy."""
        with request.serving(request.Request(is_known=True)) as serving:
            yield serving

    async def connect(self, *_: Any, **arguments: Any) -> "asyncpg.Connection[Any]":
        """A new connection to the current primary, the caller's own to close: SQLAlchemy's `async_creator`.

        Waits for a primary up to the request's deadline (else 10 s), then raises `NoPrimary`. It closes itself when
        another node becomes the primary. What a COMMIT on it has written is part of the session's position. Nothing is
        repeated and no lost answer is settled on it.
        """
        until = deadline.limits(arguments.pop("timeout", None)).wait
        return await self._shards.connect(self._options.shard, until, arguments)

    def get_size(self) -> int:
        """Connections open now, to all nodes."""
        return sum(one.opened for one in self._pools())

    def get_idle_size(self) -> int:
        """Connections open and unused now."""
        return sum(len(one.free) for one in self._pools())

    def get_min_size(self) -> int:
        """0: connections are opened when they are needed."""
        return 0

    get_init_size = get_min_size

    def get_max_size(self) -> int:
        """Connections that may be open at once, to all nodes."""
        return sum(one.size for one in self._pools())

    async def expire_connections(self) -> None:
        """Replace every connection: the unused now, the others when they come back."""
        for one in self._pools():
            one.expire()

    def set_connect_args(self, dsn: str | None = None, **connect_arguments: Any) -> None:
        """Other connection arguments for new connections. Where the nodes are the bindings say: no `dsn`, no `host`."""
        named = [name for name in ("host", "port") if name in connect_arguments]
        if dsn is not None or named:
            raise errors.MisuseError(
                "set_connect_args: an address found; the nodes' addresses come from the bindings: "
                "give user=, password=, ssl=, server_settings=, ..."
            )
        self._connector.arguments = connect_arguments

    def is_closing(self) -> bool:
        """Whether it is closed, or not started."""
        return not self._shards.is_started

    async def close(self) -> None:
        """Wait until no connection is in use (60 s at most), then close everything."""

        async def is_idle() -> bool:
            return not any(one.busy for one in self._pools())

        await clock.until(is_idle, seconds=CLOSE_SECONDS, pause_seconds=0.02)
        await self.stop()

    def terminate(self) -> None:
        """Close every connection at once, also those in use. The probes end with `stop` or `close`."""
        for one in self._pools():
            one.retire()
            one.terminate()

    def _nodes(self) -> Iterator[nodes.Node]:
        return (node for shard in self._shards.by_number.values() for node in shard.nodes.values())

    def _pools(self) -> list[pool.Pool]:
        return [node.pool for node in self._nodes()]


for _name, _method in inspect.getmembers(Database, inspect.iscoroutinefunction):
    if not _name.startswith("_"):
        _method.__qualname__ = f"tf.db.{_name}"  # Python says: coroutine 'tf.db.execute' was never awaited
