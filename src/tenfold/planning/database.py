"""The rules for the data: power, coordination, one primary in its place, its replicas, the app's bindings, migrations.

Called by `planning/plan` in the order of `RULES`; the first rule that finds work gives the next step. A rule looks at
one situation and returns one step or None. It never relies on what was done before: only on what is there.
"""

from tenfold.observation import snapshot
from tenfold.planning import resizing, steps, telling
from tenfold.planning.situation import Situation


def give_power(now: Situation) -> steps.Step | None:
    """Every wanted server has power; so has every server without which the data cannot be reached."""
    wanted = [server.name for server in now.wanted.servers]
    needed = (*wanted, *_servers_of_the_data(now), *now.needed_caches, *now.needed_queues)
    names = [name for name in dict.fromkeys(needed) if _lacks_power(now, name)]
    if not names:
        return None
    reason = (
        "the topology asks for them" if set(names) <= set(wanted) else "the topology, or the data there, needs them"
    )
    return steps.StartServers(servers=tuple(names), reason=reason)


def _lacks_power(now: Situation, name: str) -> bool:
    return not now.has_power(name) and not now.is_killed(name)


def _servers_of_the_data(now: Situation) -> tuple[str, ...]:
    if now.primary is not None:
        return ()
    return (*now.coordinators, *(node.server for node in now.there.databases))


def start_coordination(now: Situation) -> steps.Step | None:
    """etcd runs wherever Patroni needs it, all at once: only more than half of them become ready."""
    targets = now.missing("etcd", now.coordinators)
    powered = [name for name in now.coordinators if now.has_power(name)]
    if not targets or 2 * len(powered) <= len(now.coordinators):
        return None
    return steps.StartProcesses(targets=targets, reason="Patroni keeps in it who the primary is")


def stop_second_primary(now: Situation) -> steps.Step | None:
    """Of two primaries, the one on the older timeline stops."""
    others = [
        (node.server, "postgres")
        for node in now.there.databases
        if node.role == "primary" and node.is_reachable and node.manager == "postgres" and node != now.primary
    ]
    if not others or now.primary is None:
        return None
    reason = f"{now.primary.server} is the primary on a newer timeline, and two must never write"
    return steps.StopProcesses(targets=tuple(others), reason=reason)


def find_primary(now: Situation) -> steps.Step | None:
    """A primary answers: made, started, or promoted by the end of a switch that was cut short."""
    if now.primary is not None or not now.is_home:
        return None
    if now.holder is None:
        return _initialise(now)
    if now.manager_of(now.holder) == "patroni":
        return _start_members(now)
    server = now.holder.server
    if not now.has_power(server) or now.holder.is_reachable:
        return None
    if _was_cut_short(now, server) and now.target is not None:
        reason = f"a switch from {server} stopped half-way: it has stopped, and {now.target} is not promoted yet"
        return steps.SwitchDatabase(source=server, target=now.target, reason=reason)
    return steps.StartProcesses(targets=((server, "postgres"),), reason="it holds the data")


def _initialise(now: Situation) -> steps.Step | None:
    if now.target is None:
        return None
    return steps.InitialiseDatabase(server=now.target, reason="there is no data yet")


def _start_members(now: Situation) -> steps.Step | None:
    members = [node.server for node in now.there.databases if now.manager_of(node) == "patroni"]
    targets = now.missing("patroni", members)
    if not targets or not now.has_coordination:
        return None
    reason = "they hold the data; together they find out who was the primary"
    return steps.StartProcesses(targets=targets, reason=reason)


def _was_cut_short(now: Situation, source: str) -> bool:
    """Whether the old primary was stopped on purpose, has to go, and a standby is there that has all that it had.

    One that died instead, or was started again and then died, may hold writes that the standby never got.
    """
    server = now.there.server(source)
    process = server.process("postgres") if server else None
    stopped, standby = now.there.database(source), now.there.database(now.target or "")
    return (
        source not in now.homes
        and process is not None
        and process.state == "stopped"
        and standby is not None
        and standby.is_reachable
        and standby.role == "standby"
        and stopped is not None
        and stopped.is_clean
        and stopped.lsn <= standby.lsn
        and standby.server in now.there.published
    )


def let_write_again(now: Situation) -> steps.Step | None:
    """No primary holds its writes, unless the switch they wait for is the next thing to come; nor does a replica of
    Patroni's that was the primary when a switch was cut short, and may be it again."""
    reason = "a switch that was cut short holds its writes"
    if now.primary is not None and not now.primary.accepts_writes and not now.is_ready_to_switch:
        return steps.UnfenceDatabase(server=now.primary.server, reason=reason)
    standbys = (node for node in now.there.databases if node.role == "standby" and node.is_reachable)
    patronis = [node.server for node in standbys if node.is_fenced and node.manager == "patroni"]
    return steps.UnfenceDatabase(server=patronis[0], reason=reason) if patronis else None


def publish(now: Situation) -> steps.Step | None:
    """The app knows what it has to know, before it matters: see `telling`."""
    if not telling.can_be_told(now):
        return None
    names, told = telling.databases(now), telling.told(now)
    if sorted(names) != sorted(now.there.published):
        reason = "it finds out by itself which of them is the primary" if len(names) > 1 else "the primary is there"
    elif told != now.there.told:
        reason = _reason_to_tell(now.there.told, told)
    elif not now.there.is_published:
        reason = "its settings have changed"
    else:
        return None
    region = "" if now.is_home else now.region
    return steps.PublishBindings(databases=names, told=told, region=region, reason=reason)


def _reason_to_tell(last: snapshot.Told, told: snapshot.Told) -> str:
    changed = {
        "the edges keep what may be purged" if set(told.edges) - set(last.edges) else "the edges are used no more": (
            last.edges != told.edges
        ),
        "the cache servers are there" if told.caches else "the cache servers go": last.caches != told.caches,
        _witness_reason(told): last.witnesses != told.witnesses,
        f"sessions go to the {told.store}": last.store != told.store,
        "messages go to the queue servers" if told.transport == "nats" else "messages go to the database": (
            last.transport != told.transport
        ),
        "workers handle messages" if told.handled_by == "workers" else "web servers handle messages": (
            last.handled_by != told.handled_by
        ),
    }
    return "; ".join(reason for reason, is_so in changed.items() if is_so) or "what has moved needs no second look"


def _witness_reason(told: snapshot.Told) -> str:
    if not told.witnesses:
        return "a commit counts where it is made"
    return f"a commit counts when two of {', '.join(told.witnesses)} have it"


def relax_synchronous(now: Situation) -> steps.Step | None:
    """Commits do not wait for replicas when the topology does not say so: before the replicas go."""
    if now.primary is None or not now.there.is_synchronous or now.topology.database.synchronous:
        return None
    reason = "database.synchronous is false, and a commit must not wait for a replica that goes"
    return steps.ChangeSynchronous(is_synchronous=False, reason=reason)


def copy_primary(now: Situation) -> steps.Step | None:
    """A plain primary that has to move is followed by a standby where it moves to."""
    if now.primary is None or now.target is None or not now.is_managed("postgres"):
        return None
    if now.primary.server in now.homes or now.is_streaming(now.target):
        return None
    reason = f"the database moves to {now.target}, and goes on serving while it is copied"
    return steps.CopyDatabase(source=now.primary.server, target=now.target, reason=reason)


def take_over(now: Situation) -> steps.Step | None:
    """Patroni runs the primary when replicas are wanted."""
    if now.primary is None or not now.wants_patroni or not now.is_managed("postgres"):
        return None
    if now.primary.server not in now.homes or not now.has_coordination:
        return None
    return steps.TakeOverDatabase(server=now.primary.server, reason="replicas and failover need Patroni")


def restart_members(now: Situation) -> steps.Step | None:
    """No copy of Patroni's runs without its Patroni."""
    nodes = (now.there.database(name) for name in now.members)
    orphans = [node.server for node in nodes if node and node.is_reachable and now.manager_of(node) == "patroni"]
    targets = now.missing("patroni", orphans)
    if not targets or not now.has_coordination:
        return None
    return steps.StartProcesses(targets=targets, reason="their databases run, and nobody watches over them")


def join_replicas(now: Situation) -> steps.Step | None:
    """Every member follows the primary."""
    if now.primary is None or not now.is_managed("patroni"):
        return None
    missing = [name for name in now.members if name != now.primary.server and now.has_power(name)]
    missing = [name for name in missing if not now.is_streaming(name)]
    if not missing:
        return None
    count = now.topology.database.replicas
    reason = f"database.replicas is {count}" if now.wants_patroni else "the primary moves there"
    return steps.JoinReplicas(servers=tuple(missing), reason=reason)


def require_synchronous(now: Situation) -> steps.Step | None:
    """Commits wait for a replica when the topology says so and one is there."""
    if not now.is_managed("patroni") or now.there.is_synchronous or not now.topology.database.synchronous:
        return None
    if not any(now.is_streaming(name) for name in now.homes):
        return None
    reason = "database.synchronous asks for it: no acknowledged write is lost when a server dies"
    return steps.ChangeSynchronous(is_synchronous=True, reason=reason)


def switch(now: Situation) -> steps.Step | None:
    """A plain primary is on its own server."""
    if not now.is_ready_to_switch or now.primary is None or now.target is None:
        return None
    reason = f"{now.target} has everything that {now.primary.server} has"
    return steps.SwitchDatabase(source=now.primary.server, target=now.target, reason=reason)


def switch_over(now: Situation) -> steps.Step | None:
    """Patroni's primary is on a server that stays."""
    if now.primary is None or not now.is_managed("patroni") or now.primary.server in now.members:
        return None
    target = next((name for name in now.members if now.is_streaming(name)), None)
    if target is None:
        return None
    reason = f"{now.primary.server} is the primary and goes"
    return steps.SwitchOver(source=now.primary.server, target=target, reason=reason)


def remove_replicas(now: Situation) -> steps.Step | None:
    """Only members follow the primary. Not before the app has forgotten the others, and not the last commit witness."""
    if now.primary is None or now.primary.server not in now.members:
        return None
    leaving = [node.server for node in now.there.databases if node.manager == "patroni"]
    leaving = [name for name in leaving if name not in now.members and now.has_power(name)]
    is_last_witness = now.there.is_synchronous and not any(now.is_streaming(name) for name in now.members)
    if not leaving or is_last_witness:
        return None
    return steps.RemoveReplicas(servers=tuple(leaving), reason=f"database.replicas is {now.topology.database.replicas}")


def release(now: Situation) -> steps.Step | None:
    """Plain PostgreSQL runs the primary when no replicas are wanted, also after a takeover that was cut short."""
    if now.primary is None or now.wants_patroni or now.target is None:
        return None
    server = now.primary.server
    is_half_taken = (server, "patroni") in now.unwanted("patroni")
    if not is_half_taken and not now.is_managed("patroni"):
        return None
    if now.is_managed("patroni") and now.members != (server,):
        return None
    return steps.ReleaseDatabase(server=server, reason="without replicas there is nothing to fail over to")


def migrate(now: Situation) -> steps.Step | None:
    """The schema is the one that the code expects, before the code starts."""
    if now.there.is_migrated or now.primary is None:
        return None
    return steps.Migrate(reason="migrations that have not run come before code that expects them")


RULES = (
    give_power,
    start_coordination,
    stop_second_primary,
    find_primary,
    let_write_again,
    publish,
    relax_synchronous,
    resizing.lower_before_copy,
    copy_primary,
    take_over,
    restart_members,
    join_replicas,
    require_synchronous,
    switch,
    switch_over,
    remove_replicas,
    release,
    *resizing.RULES,
    migrate,
)
"""In this order: what comes first must hold before what comes later is looked at."""
