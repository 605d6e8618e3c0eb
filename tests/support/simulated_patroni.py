"""What the Patronis of the simulated world do by themselves: elect, follow another region, start databases again.

Called by `simulated_world` at each moment, and by the steps that start a database. Patroni's own source is the model:
it starts a standby with no fewer connections than pg_controldata names, and ends one that has paused for want of them.
"""

from typing import TYPE_CHECKING

from tenfold.observation import snapshot

if TYPE_CHECKING:
    from support.simulated_world import Copy, World

READY, STARTING = snapshot.ProcessState.READY, snapshot.ProcessState.STARTING

MOMENTS_OF_A_RESTART = 2


def restart(world: "World") -> None:
    """Patroni ends the restarts that it has begun, whoever asked; it restarts a standby that has paused."""
    for copy in world.copies.values():
        if copy.is_patronis and world.runs(copy.server, "patroni"):
            copy.is_restarting |= copy.is_paused
            copy.moments_away += copy.is_restarting
            if copy.moments_away > MOMENTS_OF_A_RESTART:
                start(world, copy)


def start(world: "World", copy: "Copy") -> None:
    """What Patroni starts as a standby has no fewer connections than its files say; a leader has what is shared."""
    copy.is_clean = False
    is_leader = copy.is_restarting and not copy.is_standby
    least = 0 if is_leader else copy.logged
    memory, connections = world.shared_size(copy.server)
    copy.size = (memory, max(connections, least))
    copy.logged = copy.logged if copy.is_standby else copy.size[1]
    copy.is_restarting, copy.is_paused, copy.moments_away = False, False, 0


def elect(world: "World") -> None:
    for server in world.running_or_starting("etcd"):
        world.servers[server].processes["etcd"] = READY if world.has_coordination(world.region_of(server)) else STARTING
    for region in dict.fromkeys(world.region_of(copy.server) for copy in world.copies.values()):
        if world.following.get(region):
            _demote(world, region)
        else:
            _elect_in(world, region)


def _demote(world: "World", region: str) -> None:
    """The primary of a region that follows another one is stopped cleanly, and is a standby when it comes back."""
    for copy in world.members(region):
        if world.has_coordination(region) and world.is_up(copy) and not copy.is_standby:
            world.stop_copy(copy.server)
            copy.is_standby, copy.is_clean = True, False


def _elect_in(world: "World", region: str) -> None:
    if any(one.is_restarting and not one.is_standby for one in world.members(region)):
        return  # its Patroni still holds the key
    members = [copy for copy in world.members(region) if world.is_up(copy)]
    for copy in members:
        copy.is_standby |= copy.writes < world.acknowledged  # it never held the leader's key with these
    leaders = [copy for copy in members if not copy.is_standby]
    if world.has_coordination(region) and members and len(leaders) != 1:
        chosen = max(members, key=lambda copy: (copy.writes, not copy.is_standby, copy.timeline))
        if chosen.writes < world.acknowledged:
            return  # Patroni waits for one that was synchronous
        if chosen.is_standby:
            chosen.timeline = max(copy.timeline for copy in world.copies.values()) + 1
            chosen.logged, chosen.epoch = chosen.size[1], world.epoch
        for copy in members:
            copy.is_standby = copy is not chosen
