"""One action for each kind of step. Every action may be carried out twice: it looks before it acts.

`apply` finds the action of a step here; `stop_everything` is `tenfold down`.
"""

from collections.abc import Callable
from typing import Any

from tenfold.planning import steps
from tenfold.runtime import apply
from tenfold.runtime.actions import balancer, cache, database, patroni, process, region, resizing, server, telling
from tenfold.runtime.actions.balancer import ensure_free, ensure_service_is_free
from tenfold.runtime.actions.balancer import sockets as front_doors
from tenfold.runtime.actions.shutdown import stop_everything
from tenfold.runtime.actions.stage import Stage

__all__ = ["Stage", "ensure_free", "ensure_service_is_free", "find", "front_doors", "stop_everything"]

_ACTIONS: dict[type[steps.Step], Callable[[Stage, Any], Any]] = {
    steps.StartServers: server.start,
    steps.RemoveServers: server.remove,
    steps.StartProcesses: process.start,
    steps.StopProcesses: process.stop,
    steps.ReplaceProcesses: process.replace,
    steps.ConfigureBalancer: balancer.configure,
    steps.InitialiseDatabase: database.initialise,
    steps.CopyDatabase: database.copy,
    steps.SwitchDatabase: database.switch,
    steps.UnfenceDatabase: database.unfence,
    steps.DiscardData: database.discard,
    steps.Migrate: database.migrate_schema,
    steps.PublishBindings: telling.publish_bindings,
    steps.FormCache: cache.form,
    steps.MoveSessions: telling.move_sessions,
    steps.DrainQueue: telling.drain_queue,
    steps.TakeOverDatabase: patroni.take_over,
    steps.JoinReplicas: patroni.join,
    steps.SwitchOver: patroni.switch_over,
    steps.RestartReplica: resizing.restart_replica,
    steps.RestartPrimary: resizing.restart_primary,
    steps.ChangeSynchronous: patroni.change_synchronous,
    steps.RemoveReplicas: patroni.remove,
    steps.ReleaseDatabase: patroni.release,
    steps.FollowHome: region.follow,
    steps.MoveHome: region.move,
}


def find(step: steps.Step, stage: Stage) -> apply.Act:
    """What carries out this kind of step on this stage."""
    action = _ACTIONS[type(step)]

    async def act(one: steps.Step) -> None:
        await action(stage, one)

    return act
