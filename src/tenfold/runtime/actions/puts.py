"""What an app has put and waits on cache servers to be flushed: brought home into the database before they go.

Called by the actions that stop and remove servers. The app was told before that it has these servers no more.
"""

from collections.abc import Iterable

from tenfold import bindings, errors
from tenfold.runtime import following, publish
from tenfold.runtime.actions.stage import Stage
from tenfold.sdk.cache import moving

MOVE_SECONDS = 20.0


async def bring_home(stage: Stage, servers: Iterable[str]) -> None:
    """Every put that these cache servers hold is in the database.

    Raises EngineFailed when a process of the app has not read yet that it leaves them, and when all of them run and it
    cannot be done. With one of them dead the others may never be whole again: then an event says that puts may be lost,
    and the way down is free.
    """
    records = stage.supervisor.store.records
    known = {name: records.servers[name] for name in servers if name in records.servers}
    with_cache = {name: one for name, one in known.items() if "valkey" in one.processes}
    running = [name for name, one in with_cache.items() if one.processes["valkey"].is_alive]
    bound = publish.published(stage.seats)
    if not running or bound is None or bound.database is None:
        return
    await following.ensure_followed(stage.seats)  # who does not yet might put once more, after we have looked
    nodes = tuple(
        bindings.CacheNode(name=name, host=with_cache[name].spec.address(records.network)) for name in running
    )
    cache = bindings.Cache(nodes=nodes, password=stage.seats.secrets.cache)
    try:
        count = await moving.move(bound.database, cache, MOVE_SECONDS)
    except errors.StoreUnavailable as error:
        if len(running) == len(with_cache):
            raise errors.EngineFailed(f"the cache servers cannot stop yet: {error}") from error
        stage.journal.say("puts_left", f"puts may be left on cache servers that stop: {error}", level="warning")
    else:
        if count:
            stage.journal.say("puts_moved", f"{count} puts were moved from the cache servers to the database")
