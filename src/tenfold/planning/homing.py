"""The rules for data in more than one region: which region its home is, and how the others follow it.

Called by `planning/plan`: `move` before every other rule for the data, `follow` after them. Regions follow only what
Patroni runs: a database without replicas stays alone.
"""

from dataclasses import replace

from tenfold.observation import snapshot
from tenfold.planning import steps
from tenfold.planning.situation import Situation


def move(now: Situation) -> steps.Step | None:
    """The primary is in the home region. What an earlier move left half done, the same step ends."""
    if not now.is_home or not now.there.databases or not _others(now):
        return None
    if now.primary is not None:
        return _finish(now, now.primary)
    source = next((one for one in _others(now) if one.primary is not None), None)
    if source is not None:
        return _planned(now, source, f"regions.{now.region}.primary is true")
    if all(_is_lost(one) for one in _others(now)) and any(node.is_reachable for node in now.there.databases):
        reason = "every database there is proven to have no power, so none of them is a primary"
        return steps.MoveHome(source=_others(now)[0].region, target=now.region, is_lost=True, reason=reason)
    asked = [one for one in _others(now) if _can_answer(one)]
    if asked and any(_follows(now, name) for name in now.homes):
        return _planned(now, asked[0], "a move was cut short, and nobody takes writes")
    return None


def follow(now: Situation) -> steps.Step | None:
    """Every database away from home follows the home's."""
    home = now.at_home
    if now.is_home or not now.homes or not now.has_coordination or not now.wants_patroni:
        return None
    if home.primary is None or not home.is_managed("patroni") or not home.wants_patroni:
        return None
    missing = tuple(name for name in now.homes if now.has_power(name) and not now.is_streaming(name))
    if not missing:
        return None
    reason = f"{now.region} reads its own copies, and can be the home when {now.home} cannot"
    return steps.FollowHome(region=now.region, home=now.home, servers=missing, reason=reason)


def followers(now: Situation) -> tuple[str, ...]:
    """The databases of other regions that follow the home now: the app is told of them."""
    others = (one for one in now.everywhere.values() if one.region != now.region and one.region in now.topology.regions)
    return tuple(name for one in others for name in one.homes if one.is_streaming(name) or name in now.there.published)


def moved(source: Situation) -> Situation:
    """How the region that was the home is after the move: its databases follow."""
    nodes = (_following(node) for node in source.there.databases)
    return replace(source, there=replace(source.there, databases=tuple(nodes)))


def _following(node: snapshot.DatabaseNode) -> snapshot.DatabaseNode:
    if not node.is_reachable:
        return node
    return replace(node, role="standby", accepts_writes=False, is_fenced=False, is_streaming=True)


def _planned(now: Situation, source: Situation, reason: str) -> steps.MoveHome:
    return steps.MoveHome(source=source.region, target=now.region, reason=reason)


def _finish(now: Situation, primary: snapshot.DatabaseNode) -> steps.Step | None:
    """A primary that holds its writes beside followers elsewhere may have been promoted a moment ago."""
    following = [one for one in _others(now) if any(node.is_reachable for node in one.there.databases)]
    if primary.accepts_writes or not following or not now.is_managed("patroni"):
        return None
    return _planned(now, following[0], "its primary holds its writes since a move that was cut short")


def _others(now: Situation) -> list[Situation]:
    """The other regions that have copies of the data."""
    return [one for one in now.everywhere.values() if one.region != now.region and one.there.databases]


def _is_lost(now: Situation) -> bool:
    return all(now.is_killed(node.server) for node in now.there.databases)


def _can_answer(now: Situation) -> bool:
    """Whether a copy there runs, or can be started: after all went down in the middle of a move none of them may."""
    can_start = now.has_coordination and any(now.has_power(node.server) for node in now.there.databases)
    return can_start or any(node.is_reachable for node in now.there.databases)


def _follows(now: Situation, name: str) -> bool:
    node = now.there.database(name)
    return node is not None and node.is_reachable and node.role == "standby" and now.manager_of(node) == "patroni"
