"""What can be asked of etcd while it runs. Called by the runtime after etcd became ready. Twice is once."""

from tenfold import engines, errors
from tenfold.engines import coordination
from tenfold.kit import clock


async def enable_auth(seat: engines.Seat) -> None:
    """On return the store asks everyone for the generated password. Safe while the other servers do the same.

    Raises EngineFailed when that is not reached within 10 s.
    """
    async with coordination.opened(seat) as store:

        async def is_enabled() -> bool:
            """Another server may come first at any point: what it did is refused here, and seen at the next look."""
            try:
                return await store.log_in() or await _enable(store, seat.secrets.etcd)
            except coordination.Refused as refused:
                return _pass(refused)

        if not await clock.until(is_enabled, seconds=10.0, pause_seconds=0.1):
            raise errors.EngineFailed(f"etcd on {seat.server.name}: passwords could not be turned on within 10 s")


async def is_protected(seat: engines.Seat) -> bool:
    """Whether the store refuses who brings no password."""
    async with coordination.opened(seat) as store:
        try:
            await store.entry("/")
        except coordination.Refused as refused:
            return refused.code in (coordination.INVALID_ARGUMENT, coordination.UNAUTHENTICATED)
        return False


async def _enable(store: coordination.Store, password: str) -> bool:
    users = (await store.call("auth/user/list")).get("users", [])
    if coordination.USER not in users:
        await store.call("auth/user/add", {"name": coordination.USER, "password": password})
    await store.call("auth/user/grant", {"user": coordination.USER, "role": "root"})
    await store.call("auth/enable")
    return await store.log_in()


def _pass(refused: coordination.Refused) -> bool:
    """Refusals that another server's progress explains; a wrong password among them stays one, until the deadline."""
    if refused.code in (
        coordination.INVALID_ARGUMENT,
        coordination.FAILED_PRECONDITION,
        coordination.UNAUTHENTICATED,
    ):
        return False
    raise refused
