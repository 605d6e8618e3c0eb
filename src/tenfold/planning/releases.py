"""Which web server and which worker runs which release, and what share of the requests a canary gets. Pure.

Called by `situation` (to plan), and by `runtime/seats` (to start and to weigh what was planned): the same values give
the same answer, so that a runtime that comes back goes on where the one before stopped.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tenfold.topology import layout

HIGHEST_WEIGHT = 256
"""HAProxy's highest weight; the finest share is one in about 250."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which releases shall serve. Recorded, not in tenfold.toml: it travels beside the topology."""

    current: str = ""
    """What every web server runs that is no canary; empty: nobody knows of releases yet."""
    canary: str = ""
    """The release that is tried out on a share of the requests; empty: none is."""
    percent: float = 0.0
    """That share."""


NOTHING = Wanted()


def assign(wanted: Wanted, place: layout.Layout, running: Mapping[str, str]) -> dict[str, str]:
    """By web or worker server, the release that it shall run. `running`: what they run, or ran last, by server."""
    if not wanted.current:
        return {}
    chosen = canaries(wanted, place, running)
    return {one.name: wanted.canary if one.name in chosen else wanted.current for one in place.apps}


def canaries(wanted: Wanted, place: layout.Layout, running: Mapping[str, str]) -> tuple[str, ...]:
    """The web servers of the default group that shall run the canary, in a stable choice.

    Those that run it already keep it, alive or dead; then the last ones. A server that joins gets the current release.
    """
    if not wanted.canary:
        return ()
    names = [one.name for one in place.web()]
    already = [name for name in names if running.get(name) == wanted.canary]
    others = [name for name in reversed(names) if name not in already]
    return tuple((already + others)[: count(wanted.percent, len(names))])


def count(percent: float, servers: int) -> int:
    """As few servers as carry the share without more requests each than the others have; never all of them."""
    needed = math.ceil(round(servers * percent / 100, 6))
    return max(0, min(servers - 1, needed))


def weights(percent: float, usual: Mapping[str, int], chosen: tuple[str, ...]) -> dict[str, int]:
    """Weights that give the chosen servers together their share, and leave the proportions of the others as they were.

    Empty when there is nobody to share with.
    """
    own = sum(weight for name, weight in usual.items() if name in chosen)
    rest = sum(usual.values()) - own
    if not own or not rest:
        return {}
    factor = percent / (100 - percent) * rest / own
    shares = {name: weight * (factor if name in chosen else 1.0) for name, weight in usual.items()}
    scale = HIGHEST_WEIGHT / max(shares.values())
    return {name: max(1, round(share * scale)) for name, share in shares.items()}
