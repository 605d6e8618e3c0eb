"""Models and sessions for the tests of SQLAlchemy: a Tenfold on a cluster's nodes, and its `Sessions`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import JSON
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from support import postgres_cluster
from tenfold import Tenfold, bindings
from tenfold.kit import clock
from tenfold.sdk.db import schema
from tenfold.sqlalchemy import Sessions


class Base(DeclarativeBase):
    """The tests' models."""


class Effect(Base):
    """Something that must happen once."""

    __tablename__ = "effect"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Account(Base):
    """Something that must not go below zero."""

    __tablename__ = "account"

    name: Mapped[str] = mapped_column(primary_key=True)
    balance: Mapped[int]
    notes: Mapped[dict[str, Any] | None] = mapped_column(JSON)


TABLES = f"""
create table effect (id bigint generated always as identity primary key, name text not null);
create table account (name text primary key, balance bigint not null check (balance >= 0), notes json);
alter table effect owner to {postgres_cluster.USER};
alter table account owner to {postgres_cluster.USER};
"""


async def prepare(cluster: postgres_cluster.Cluster) -> None:
    """Make tenfold's schema and the tables."""
    await cluster.primary.script(schema.statements(postgres_cluster.USER))
    await cluster.primary.script(TABLES)
    await cluster.until_caught_up()


@asynccontextmanager
async def started(bound: bindings.Database, **options: Any) -> AsyncIterator[tuple[Tenfold, Sessions]]:
    """A Tenfold that sees all of these nodes, and sessions on it."""
    tf = Tenfold(
        database=[
            f"postgres://{bound.user}:{bound.password}@{node.host}:{node.port}/{bound.name}"
            for node in bound.shards[0].nodes
        ]
    )
    sessions = Sessions(tf, **options)
    async with tf:

        async def sees_all() -> bool:
            shards = [one.shards.shard(0) for one in (tf.db, sessions._database)]
            return all(
                one.writable is not None and len(one.readable) == len(bound.shards[0].nodes) - 1 for one in shards
            )

        assert await clock.until(sees_all, seconds=10, pause_seconds=0.01)
        yield tf, sessions


async def add(session: AsyncSession, name: str) -> str:
    """One effect, by the ORM."""
    session.add(Effect(name=name))
    await session.flush()
    return name


async def names(server: postgres_cluster.Server) -> list[str]:
    """Every effect that is there."""
    return await server.sql("select array_agg(name order by id) from effect", database="shop") or []
