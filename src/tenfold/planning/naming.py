"""The rules for name servers: they start when there is somewhere to send clients to, and hear first of what will go.

Called by `planning/plan` after the rules of `serving`. What they answer is not planned: they see by themselves which
regions are up.
"""

from tenfold.planning import regions, steps
from tenfold.planning.situation import Situation


def start_programs(now: Situation) -> steps.Step | None:
    """The program that knows the regions runs before PowerDNS, which asks it at once."""
    targets = now.missing("georoute", now.name_servers)
    if not targets or not now.is_served:
        return None
    return steps.StartProcesses(targets=targets, reason="front doors are open: there is somewhere to send clients to")


def start_name_servers(now: Situation) -> steps.Step | None:
    """Name servers answer; each is asked only by who was told of it."""
    ready = [name for name in now.name_servers if now.runs(name, "georoute")]
    targets = now.missing("powerdns", ready)
    if not targets:
        return None
    return steps.StartProcesses(targets=targets, reason="the program beside each of them knows where to send clients")


def tell_programs(now: Situation) -> steps.Step | None:
    """The programs know the regions that there shall be."""
    targets = now.outdated("georoute", now.name_servers)
    if not targets:
        return None
    return steps.ReplaceProcesses(targets=targets, reason="what is answered, or for how long, has changed")


def replace_name_servers(now: Situation) -> steps.Step | None:
    """Name servers run with the wanted settings, one after the other: resolvers ask the others meanwhile."""
    targets = now.outdated("powerdns", now.name_servers)
    if not targets:
        return None
    return steps.ReplaceProcesses(targets=targets, reason="their settings have changed")


def before_departure(found: regions.Views) -> tuple[str, steps.Step] | None:
    """Before a region goes, no name server that stays sends anybody there."""
    staying = regions.staying(found)
    if len(staying) == len(found):
        return None
    told = ((name, tell_programs(regions.seen(found, name))) for name in staying)
    return next(((name, step) for name, step in told if step), None)


def stop_name_servers(now: Situation) -> steps.Step | None:
    """An unwanted name server stops, PowerDNS before the program that it asks."""
    targets = now.unwanted("powerdns") or now.unwanted("georoute")
    return steps.StopProcesses(targets=targets, reason="nobody is to ask them any more") if targets else None


RULES = (start_programs, start_name_servers, tell_programs, replace_name_servers, stop_name_servers)
