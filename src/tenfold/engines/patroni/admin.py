"""What can be asked of Patroni while it runs, and of the coordination store about it. Called by `runtime/actions`.

The orders in which the runtime asks (`postgres.` is the other adapter's admin):

    take over     etcd is ready; prepare_take_over, start Patroni beside the running PostgreSQL, forget the process
                  `postgres` (it runs on as Patroni's), is_leader
    more copies   start Patroni on each new server (clear_after_power_cut went before); is_streaming for each
    switch over   postgres.checkpoint(leader), switch_over
    other memory  resize, until_restart_pending, restart; see `planning/resizing` for the order
    a dead leader the server is cut and *proven dead*; release_leader_key
    fewer copies  set_synchronous(False) when too few stay; stop Patroni on each; forget_members on the leader
    let go        no replicas any more; prepare_release, stop Patroni (PostgreSQL runs on), finish_release,
                  postgres.drop_slots, render postgres, postgres.reload, adopt PostgreSQL by its pid file

Every function may be called twice. Errors are EngineFailed with the server's name.
"""

import json
import shutil
from dataclasses import dataclass
from typing import Any

import asyncpg

from tenfold import engines, errors
from tenfold.engines import coordination, database
from tenfold.engines.patroni import rest, settings
from tenfold.kit import clock

_WAIT_SECONDS = 15.0
"""Members look at changes at least once in `loop_wait` (1 s); more than that means trouble."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member as the cluster sees it."""

    server: str
    role: str
    """`leader`, `replica`, `sync_standby`, `quorum_standby`."""
    state: str
    """`running`, `streaming`, `creating replica`, `stopped`, ..."""
    timeline: int
    lag_bytes: int


# Before and after a process runs


def clear_after_power_cut(seat: engines.Seat) -> None:
    """Remove the lock file of the dead PostgreSQL, and the copy of the primary that the cut left unfinished.

    Patroni takes a half copy for broken data and waits for a person. A half one is told by what base backups write
    first (backup_label) and last (pg_control).
    """
    database.clear_lock_of_dead_server(seat)
    data = database.data_directory(seat)
    if database.holds_data(seat) or not data.exists():
        return
    if (data / "backup_label").exists() or not (data / "PG_VERSION").exists():
        shutil.rmtree(data)


async def configure(seat: engines.Seat) -> None:
    """Make the members' shared configuration what the topology asks for, but for `synchronous_mode` and `pause`.

    What is kept for regions that are not wanted any more is dropped, by Patroni within a second. The number of
    connections stays, see `resize`: members may be starting, with their primary ahead of them.
    """
    await _configure(seat, None)


async def resize(seat: engines.Seat, max_connections: int) -> None:
    """`configure`, connections included: for when whoever must have them first restarts next, or has them already."""
    await _configure(seat, max_connections)


async def _configure(seat: engines.Seat, max_connections: int | None) -> None:
    wanted = settings.dynamic(seat)
    async with rest.opened(seat) as api:

        async def is_there() -> bool:
            """A new cluster has a configuration as soon as it has a leader."""
            return "ttl" in await api.get("config")

        if not await clock.until(is_there, seconds=_WAIT_SECONDS, pause_seconds=0.1):
            raise errors.EngineFailed(f"Patroni on {seat.server.name}: no leader was found in {_WAIT_SECONDS:g} s")
        found = await api.get("config")
        parameters = wanted["postgresql"]["parameters"]
        parameters["max_connections"] = str(
            max_connections or _known_connections(found) or parameters["max_connections"]
        )
        gone = dict.fromkeys(settings.region_slots(found) - wanted["slots"].keys())
        if gone or not _contains(found, wanted):
            await api.patch({**wanted, "slots": {**wanted["slots"], **gone}})


async def members(seat: engines.Seat) -> tuple[Member, ...]:
    """All members, as this one sees them."""
    async with rest.opened(seat) as api:
        answer = await api.get("cluster")
    return tuple(_member(one) for one in answer.get("members", []))


async def leader(seat: engines.Seat) -> str:
    """The name of the leading server as this member sees it, or an empty string."""
    return next((one.server for one in await members(seat) if one.role == "leader"), "")


async def is_leader(seat: engines.Seat) -> bool:
    """Whether this server's Patroni holds the leader key and its PostgreSQL is the primary."""
    async with rest.opened(seat) as api:
        answer = await api.get("patroni")
    return bool(
        answer.get("role") == "primary" and answer.get("state") == "running" and await leader(seat) == seat.server.name
    )


async def is_streaming(seat: engines.Seat) -> bool:
    """Whether this server's copy takes connections and receives from the primary."""
    async with rest.opened(seat) as api:
        answer = await api.get("patroni")
    return bool(answer.get("state") == "running" and answer.get("replication_state") == "streaming")


# Changes of who leads


async def switch_over(seat: engines.Seat, source: str, target: str, seconds: float = 60.0) -> None:
    """Move the leadership from `source` to `target`. Done on return. Asks any member.

    Raises EngineFailed when `target` may not lead (it lags, or is not synchronous where that is asked for).
    """
    if await leader(seat) == target:
        return
    async with rest.opened(seat, timeout_seconds=seconds) as api:
        await api.post("switchover", {"leader": source, "candidate": target})


async def release_leader_key(seat: engines.Seat) -> bool:
    """Take the leadership from this server, which is *proven dead*, so that a replica takes over now, not after the
    key's time to live. True when it led.

    One transaction that compares value and revision: a leader elected meanwhile keeps its key. Asks the store alone.
    """
    async with coordination.opened(seat) as store:
        await store.log_in()
        entry = await store.entry(settings.leader_key(seat))
        if entry is None or entry.value != seat.server.name:
            return False
        return await store.delete_unchanged(entry)


# Settings that PostgreSQL takes when it starts


async def until_restart_pending(seat: engines.Seat) -> None:
    """Returns when this server's Patroni has seen settings that wait for a restart: after `configure`."""
    async with rest.opened(seat) as api:

        async def is_pending() -> bool:
            return bool((await api.get("patroni")).get("pending_restart"))

        if not await clock.until(is_pending, seconds=_WAIT_SECONDS, pause_seconds=0.05):
            raise errors.EngineFailed(
                f"Patroni on {seat.server.name}: has seen no settings that need a restart in {_WAIT_SECONDS:g} s"
            )


async def restart(seat: engines.Seat, seconds: float = 120.0) -> None:
    """Restart this server's PostgreSQL; it takes connections on return. A leader stays the leader meanwhile.

    A replica that commits wait for is struck off their list first, when there is another one.
    """
    async with rest.opened(seat, timeout_seconds=seconds) as api:
        await api.post("restart", {"timeout": int(seconds)})


# Synchronous replication


async def set_synchronous(seat: engines.Seat, is_synchronous: bool) -> None:
    """Let commits wait for a replica, any one of them, or no longer. In force on return.

    While no replica is there commits do not wait: Patroni then takes the names out by itself. Asks the leader. That
    they wait no longer only its PostgreSQL can say: Patroni shows the wish at once and tells PostgreSQL later.
    """
    async with rest.opened(seat) as api:
        await api.patch({"synchronous_mode": "quorum" if is_synchronous else False})

    async def is_in_force() -> bool:
        if not is_synchronous:
            return not await _waits_for_replicas(seat)
        found = await members(seat)
        replicas = [one for one in found if one.role != "leader" and one.state in ("running", "streaming")]
        waiting = [one for one in found if one.role in ("sync_standby", "quorum_standby")]
        return bool(waiting) == bool(replicas)

    if not await clock.until(is_in_force, seconds=_WAIT_SECONDS, pause_seconds=0.2):
        raise errors.EngineFailed(
            f"Patroni on {seat.server.name}: synchronous mode did not change in {_WAIT_SECONDS:g} s"
        )


async def _waits_for_replicas(seat: engines.Seat) -> bool:
    try:
        connection = await asyncpg.connect(
            host=seat.address,
            port=database.PORT,
            user=database.SUPERUSER,
            password=seat.secrets.superuser,
            database="postgres",
            ssl=False,
            timeout=3.0,
        )
        try:
            return bool(await connection.fetchval("show synchronous_standby_names", timeout=3.0))
        finally:
            connection.terminate()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = str(error) or type(error).__name__
        raise errors.EngineFailed(f"PostgreSQL on {seat.server.name} ({seat.address}): {reason}") from error


# From and to PostgreSQL alone


def prepare_take_over(seat: engines.Seat) -> None:
    """Before Patroni starts beside a running PostgreSQL: what an earlier Patroni remembered there is forgotten."""
    (database.data_directory(seat) / "patroni.dynamic.json").unlink(missing_ok=True)


async def prepare_release(seat: engines.Seat) -> None:
    """On return commits wait for nobody, and stopping Patroni leaves PostgreSQL running."""
    await set_synchronous(seat, False)
    await pause(seat)


async def finish_release(seat: engines.Seat) -> None:
    """After Patroni stopped: it leaves nothing behind, neither in the folder nor in the coordination store."""
    prepare_take_over(seat)
    async with coordination.opened(seat) as store:
        await store.log_in()
        await store.delete_below(settings.folder(seat))


async def pause(seat: engines.Seat) -> None:
    """Stop Patroni's deciding: no failover, and PostgreSQL outlives it. Known to this member on return."""
    async with rest.opened(seat) as api:
        await api.patch({"pause": True})

        async def is_known() -> bool:
            return bool((await api.get("patroni")).get("pause", False))

        if not await clock.until(is_known, seconds=_WAIT_SECONDS, pause_seconds=0.1):
            raise errors.EngineFailed(f"Patroni on {seat.server.name}: did not notice the pause in {_WAIT_SECONDS:g} s")


async def resume(seat: engines.Seat) -> None:
    """Let Patroni decide again, whether a member runs now or not. It notices within its loop, a second.

    A release that was cut short leaves the pause behind. Paused, Patroni elects nobody when the primary dies, and
    starts no PostgreSQL after `down`.
    """
    async with coordination.opened(seat) as store:
        await store.log_in()
        entry = await store.entry(f"{settings.folder(seat)}config")
        known = json.loads(entry.value) if entry else {}
        if entry is not None and known.pop("pause", None):
            await store.replace_unchanged(entry, json.dumps(known))


# Members that leave


async def forget_members(seat: engines.Seat, servers: tuple[str, ...]) -> None:
    """After their Patronis stopped: their entries and their replication slots are gone on return. Asks the leader.

    Patroni keeps the slot of a member that is away for half an hour, unless it is told that it keeps none: it is told
    so for a moment.
    """
    slots = {database.slot_name(server) for server in servers}
    async with coordination.opened(seat) as store, rest.opened(seat) as api:
        await store.log_in()
        for server in servers:
            await store.delete(f"{settings.folder(seat)}members/{server}")
        await api.patch({"member_slots_ttl": 0})
        try:

            async def are_forgotten() -> bool:
                entry = await store.entry(f"{settings.folder(seat)}status")
                status = json.loads(entry.value) if entry else {}
                return slots.isdisjoint([*status.get("retain_slots", []), *(status.get("slots") or {})])

            is_done = await clock.until(are_forgotten, seconds=_WAIT_SECONDS, pause_seconds=0.2)
        finally:
            await api.patch({"member_slots_ttl": settings.dynamic(seat)["member_slots_ttl"]})
    if not is_done:
        raise errors.EngineFailed(f"Patroni on {seat.server.name}: still keeps slots of {', '.join(servers)}")


def _member(one: dict[str, Any]) -> Member:
    lag = one.get("lag", 0)
    return Member(
        server=str(one["name"]),
        role=str(one["role"]),
        state=str(one["state"]),
        timeline=int(one.get("timeline", 0)),
        lag_bytes=lag if isinstance(lag, int) else -1,
    )


def _known_connections(found: dict[str, Any]) -> int:
    return int(found.get("postgresql", {}).get("parameters", {}).get("max_connections", 0))


def _contains(found: object, wanted: object) -> bool:
    """Whether everything that is wanted is there, whatever else is."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_contains(found.get(key), value) for key, value in wanted.items())
    return found == wanted
