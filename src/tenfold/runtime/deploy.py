"""`tenfold deploy`: which releases shall serve after it. Called by `runtime/service`, which then makes it so.

A new release is made here; nothing else is done, and nothing that serves is touched.
"""

import msgspec

from tenfold import errors
from tenfold.planning import releases
from tenfold.runtime.releases import Shelf
from tenfold.topology import layout, tiers


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. Of the topology only the app, its variables and `[deploy]` count."""

    topology: str
    """The text of tenfold.toml."""
    version: str = ""
    """The name of the new release; empty: the next number."""
    canary: float | None = None
    """The percentage of the requests that the new release gets for now; None: as `[deploy] canary` says."""
    promotes: bool = False
    """The canary gets everything."""
    rolls_back: bool = False
    """The canary goes, or the release before serves again."""
    to: str = ""
    """The release to go back to; empty: the one before."""

    @property
    def is_new(self) -> bool:
        """Whether a release is asked for of what the files hold; otherwise it is one that is kept."""
        return not (self.promotes or self.rolls_back)


async def releases_for(
    asked: Request, shelf: Shelf, topology: tiers.Topology, applied: tiers.Topology
) -> releases.Wanted:
    """The releases that shall serve. `applied` is the topology that does. Raises BadInput for what cannot be."""
    if asked.rolls_back:
        return _rolled_back(asked.to, shelf)
    if asked.promotes:
        return _promoted(shelf)
    return await _released(asked, shelf, topology, applied)


def ensure_canary_fits(wanted: releases.Wanted, topology: tiers.Topology) -> None:
    """A canary needs a web server of the default group, and those who go on without it another one."""
    servers = len(layout.layout(topology).web())
    if wanted.canary and servers < 2:
        raise errors.BadInput(
            f"release {wanted.canary} is a canary, and {servers} web server found, 2 or more expected; first end it "
            "with: tenfold deploy --promote, or: tenfold deploy --rollback"
        )


async def _released(asked: Request, shelf: Shelf, topology: tiers.Topology, applied: tiers.Topology) -> releases.Wanted:
    now = shelf.wanted
    if now.canary:
        raise errors.BadInput(
            f"release {now.canary} is a canary for {now.percent:g}% of the requests; first end it with: "
            "tenfold deploy --promote, or: tenfold deploy --rollback"
        )
    if await shelf.serves(topology):
        return now
    percent = topology.deploy.canary_percent if asked.canary is None else asked.canary
    servers = len(layout.layout(applied).web())
    if percent and servers < 2:
        raise errors.BadInput(
            f"a canary: {servers} web server found, 2 or more expected, for one of them goes on as it is; "
            "get more with: tenfold grow --to balanced, or deploy to all at once with: tenfold deploy --canary 0%"
        )
    version = await shelf.make(topology, asked.version)
    return releases.Wanted(now.current, version, percent) if percent else releases.Wanted(version)


def _rolled_back(to: str, shelf: Shelf) -> releases.Wanted:
    now = shelf.wanted
    if now.canary and not to:
        return releases.Wanted(now.current)
    version = to or shelf.find(now.current).former
    if not version:
        raise errors.BadInput(f"release {now.current}: none found before it, there is nothing to go back to")
    return releases.Wanted(shelf.find(version).version)


def _promoted(shelf: Shelf) -> releases.Wanted:
    if not shelf.wanted.canary:
        raise errors.BadInput(
            "no canary found, there is nothing to promote; make one with: tenfold deploy --canary 10%"
        )
    return releases.Wanted(shelf.wanted.canary)
