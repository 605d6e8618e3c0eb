"""A cluster's place among the regions: it leads, or it follows another region's. Called by `runtime/crossing`.

Who leads inside a region stays Patroni's decision. Which region leads is never Patroni's: it is the word
`standby_cluster` in the shared configuration, written here and nowhere else. A cluster that has it promotes nobody.

    a planned move   follow(source): Patroni stops the primary cleanly and starts it again as a follower;
                     lead(target) only when the target has everything
    a lost region    lead(target) only when every server of the other is proven dead, or a person takes the loss
    its return       its coordination alone is started; remember_to_follow; then its Patronis

Every function may be called twice. Errors are EngineFailed.
"""

import json

from tenfold import engines, errors
from tenfold.engines import coordination
from tenfold.engines.patroni import admin, rest, settings
from tenfold.kit import clock

FOLLOWING = "standby_cluster"


async def follow(seat: engines.Seat, home: str) -> None:
    """Let this seat's region follow the region `home` from now on. Asks any member; Patroni acts on it within a second.

    A primary here is stopped cleanly first: what it has acknowledged reaches every standby that streams from it.
    """
    async with rest.opened(seat) as api:
        await api.patch({FOLLOWING: settings.followed(seat, home)})


async def lead(seat: engines.Seat) -> None:
    """Let this seat's region have a primary of its own: Patroni promotes its leader within a second.

    Only when no other region has one, nor will: nothing here checks that.
    """
    async with rest.opened(seat) as api:
        await api.patch({FOLLOWING: None})


async def is_following(seat: engines.Seat) -> bool:
    """Whether this seat's region follows another one, or will as soon as Patroni gets to it."""
    async with rest.opened(seat) as api:
        return bool((await api.get("config")).get(FOLLOWING))


async def remember_to_follow(seat: engines.Seat, home: str) -> None:
    """Before any Patroni of a lost region starts: it follows `home`, and nobody holds its leadership.

    Its store alone runs. Without this the former primary would find itself leading in it, and elect itself.
    """
    async with coordination.opened(seat) as store:
        await store.log_in()
        key = f"{settings.folder(seat)}config"

        async def is_written() -> bool:
            entry = await store.entry(key)
            if entry is None:
                return True  # never begun: it is made as a follower
            known = {**json.loads(entry.value), FOLLOWING: settings.followed(seat, home)}
            known.pop("pause", None)
            return await store.replace_unchanged(entry, json.dumps(known))

        if not await clock.until(is_written, seconds=5.0, pause_seconds=0.1):
            raise errors.EngineFailed(f"{key}: changed again and again by others; no Patroni of the region may run")
        await store.delete(settings.leader_key(seat))


async def leader(seat: engines.Seat) -> str:
    """The name of the server that leads this seat's region, as a primary or as its standby leader; or empty."""
    found = await admin.members(seat)
    return next((one.server for one in found if one.role in ("leader", "standby_leader")), "")
