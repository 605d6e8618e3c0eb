"""`tenfold grow` and `tenfold shrink`: edit tenfold.toml, show the plan, apply it live, rung by rung."""

from __future__ import annotations

import time

import click

from tenfold import errors
from tenfold.cli import apply, output, project, words
from tenfold.kit import clock
from tenfold.runtime import paths, records
from tenfold.topology import edit, load, rungs, tiers

SETTLE_SECONDS = 15.0


@click.command()
@click.option("--to", "rung", type=words.Rung(), metavar="RUNG", help="Climb until this rung; default: the next one.")
@click.option("--skip", type=words.Rung(), multiple=True, metavar="RUNG", help="Leave a rung out; may be repeated.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_context
def grow(ctx: click.Context, rung: str | None, skip: tuple[str, ...], yes: bool) -> None:
    """Climb to the next rung of the ladder, live. Example: tenfold grow --to replicated --yes"""
    where = project.where(ctx)
    topology = load.parse(project.text(where), str(where.topology))
    skipped = tuple(rungs.named(name) for name in skip)
    road = rungs.climb(topology, rungs.named(rung) if rung else None, skipped)
    _say_notes(road.notes)
    project.run(_walk(where, road.rungs, skipped, yes))


@click.command()
@click.option("--to", "rung", type=words.Rung(), metavar="RUNG", help="Go down to this rung; default: the one below.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_context
def shrink(ctx: click.Context, rung: str | None, yes: bool) -> None:
    """Go back down a rung, live. Example: tenfold shrink --to single --yes"""
    where = project.where(ctx)
    topology = _now(where)
    road = rungs.descend(topology, rungs.named(rung) if rung else None)
    _say_notes(road.notes)
    project.run(_walk(where, road.rungs, (), yes))


async def _walk(where: paths.Paths, road: tuple[rungs.Rung, ...], skipped: tuple[rungs.Rung, ...], yes: bool) -> None:
    """One rung after the other: each is a whole plan, verified before the next begins."""
    if not road:
        rung = rungs.rung_of(load.parse(project.text(where), str(where.topology)))
        output.console.print(f"Nothing to do: tenfold.toml is on rung {rung.number}, {rung.name}.")
    for rung in road:
        output.console.rule(f"{rung.number}. {rung.name}: {rung.adds}")
        changed = edit.apply(project.text(where), rungs.edits(_now(where), rung, skipped))
        started = time.monotonic()
        await apply.shown(where, changed, yes, is_climb=True)
        await _verify(where)
        output.console.print(
            f"now on rung {rung.number}, [bold]{rung.name}[/], after {time.monotonic() - started:.1f} s"
        )


def _now(where: paths.Paths) -> tiers.Topology:
    """The file's topology, with the numbers of servers that autoscaling has decided on."""
    topology = load.parse(project.text(where), str(where.topology))
    return topology.decided(records.Store.open(where.records).records.decided) if where.records.exists() else topology


async def _verify(where: paths.Paths) -> None:
    """What was asked for is there: every server runs, every process is ready, and nothing had to be left alone.

    A server that is on its way because the load asks for it, or too busy to say that it is ready, gets some time.
    """
    trouble = ""

    async def is_well() -> bool:
        nonlocal trouble
        trouble = await _trouble(where)
        return not trouble

    if not await clock.until(is_well, seconds=SETTLE_SECONDS, pause_seconds=0.5):
        raise errors.RuntimeFailure(f"applied, but not all is well: {trouble}; see: tenfold status")


async def _trouble(where: paths.Paths) -> str:
    client = project.connect(where)
    body = await client.status()
    bad = [
        f"{one['name']} on {server['name']} is {one['state']} ({one['detail']})"
        for server in body["servers"]
        for one in server["processes"]
        if one["state"] != "ready" and one["is_wanted"]
    ]
    bad += (await client.plan(project.text(where), keeps_release=True))["notes"]
    return "; ".join(bad + [f"{name} is not there" for name in body["missing"]])


def _say_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        output.console.print(f"[yellow]{note}[/]")
