"""What production will do to an app, in its own tests: `simulate.failover()` and its siblings, with the real engines.

Made by `plugin` for tests that ask for it; such tests have a PostgreSQL of their own (`stage`). Everything is undone at
the end of the test.
"""

import pytest

from tenfold import errors
from tenfold.kit import clock
from tenfold.testing import run, serving, wire

SEEN_SECONDS = 30.0
"""How long the app may take to find a new standby."""


class Simulate:
    """Await its methods while the app's requests go on."""

    def __init__(self, shared: run.Run) -> None:
        self._run = shared
        self._losses: list[wire.Loss] = []

    async def failover(self) -> None:
        """Kill the primary as a power cut would, and promote its standby. On return the new one accepts writes.

        The standby has every commit that was acknowledged, as with `[database] synchronous = true`. Connections to the
        old primary are reset; what is written meanwhile waits, or fails, as the app has it.
        """
        await self._show_standby()
        await self._run.backstage.ask(self._fail_over())

    async def replica_lag(self, seconds: float | None = None) -> None:
        """From now on a standby answers reads, and shows each commit only `seconds` later; None: never."""
        if seconds is not None and seconds <= 0:
            raise errors.BadInput(
                f"replica_lag: {seconds} found, seconds above 0 expected; without any it stands still"
            )
        await self._show_standby()
        await self._run.backstage.ask(self._run.stage.lag(seconds))

    async def lost_commit(self, *, committed: bool = True) -> None:
        """The connection of the next COMMIT is cut before its answer has come: after the server has committed or, with
        `committed=False`, before the COMMIT has reached it.

        If nothing commits until the end of the test, the test fails: it would prove nothing.
        """
        loss = wire.Loss(committed)
        self._losses.append(loss)
        self._run.losses.waiting.append(loss)

    def ensure_used(self) -> None:
        """Fail the test if something that it asked for did not happen."""
        if unused := [one for one in self._losses if not one.has_happened]:
            pytest.fail(
                f"simulate.lost_commit(): {len(unused)} of {len(self._losses)} did not happen: no COMMIT came after "
                "it. Does the app write, and through tf.db or DATABASE_URL?",
                pytrace=False,
            )

    async def _show_standby(self) -> None:
        await self._run.backstage.ask(self._run.stage.show_standby())
        self._run.publish_stage()
        if self._run.served is not None and self._run.served.tf.given_database is None:
            await self._until_read_from(self._run.served)

    async def _until_read_from(self, served: serving.Served) -> None:
        """The app looks for new bindings, and at new nodes, a few times a second."""
        database, standby = served.tf.db, self._run.stage.nodes[-1].name

        async def look() -> bool:
            with database.session() as session:
                await database.reading("eventual").fetchval("select 1")
                return session.pinned[0] == standby

        if not await clock.until(look, seconds=SEEN_SECONDS, pause_seconds=0.02):
            raise errors.EngineFailed(f"the app did not read from its standby within {SEEN_SECONDS:g} s")

    async def _fail_over(self) -> None:
        await self._run.stage.fail_over()
        self._run.lead_to_stage()
