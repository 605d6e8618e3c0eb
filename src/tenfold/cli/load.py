"""`tenfold load`: send load and keep a ledger of it, or verify a ledger against the database."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import signal
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from tenfold import bindings, errors
from tenfold.cli import project, trust, vantage, words
from tenfold.runtime import paths
from tenfold.topology import load as load_topology
from tenfold.topology import tiers
from tenfold.traffic import journeys, report, resolving, summary, verify
from tenfold.traffic import load as sending

Result = TypeVar("Result")


@click.command()
@click.option("--rate", type=float, default=50.0, show_default=True, help="Requests a second, over all journeys.")
@click.option("--for", "seconds", type=words.Duration(), default="30s", show_default=True, help="How long: 30s, 2m.")
@click.option("--journeys", "reference", default="load.py", show_default=True, help="FILE[:NAME] or MODULE[:NAME].")
@click.option("--url", help="The front door; default: `listen` in tenfold.toml.")
@click.option("--via-dns", is_flag=True, help="Look the domain up at the service's own name servers, again and again.")
@click.option("--from", "region", metavar="REGION", help="With --via-dns: as clients of this region do.")
@click.option("--ca", type=click.Path(path_type=Path, dir_okay=False), help="Believe certificates of this PEM file.")
@click.option("--insecure", is_flag=True, help="Believe any certificate.")
@click.option("--ledger", "ledger_path", type=click.Path(path_type=Path), help="Where to write the ledger.")
@click.option("--users", type=int, help="Most virtual users at once; default: twice the rate.")
@click.option("--seed", type=int, help="Repeat a run's choices.")
@click.option("--poisson", is_flag=True, help="Random arrivals of that rate instead of even ones.")
@click.option("--verify", "verify_path", type=click.Path(path_type=Path), help="Check this ledger; sends nothing.")
@click.option("--quiet", "-q", "is_quiet", is_flag=True, help="No line a second, only the summary.")
@click.option("--json", "is_json", is_flag=True, help="One JSON document on stdout; progress goes to stderr.")
@click.pass_context
def load(ctx: click.Context, /, verify_path: Path | None, reference: str, is_json: bool, **options: Any) -> int:
    """Send the service's journeys at a constant rate and report what failed, what was repeated and how long it took.

    Latency counts from the moment each request was due, so a server that stalls shows. Every request goes into the
    ledger; `--verify LEDGER` then compares it with the database. Ctrl-C ends a run with its summary and a complete
    ledger. Exit code 0: nothing failed; 1: something did; 2: bad input.

    Example: tenfold load --rate 100 --for 30s
    """
    topology = _topology(ctx)
    plan = journeys.load(reference, topology.parent if topology else Path.cwd())
    if verify_path is not None:
        is_clean = _verify(verify_path, topology, plan, is_json)
    else:
        is_clean = _send(topology, plan, is_json, **options)
    return 0 if is_clean else 1


def _topology(ctx: click.Context) -> Path | None:
    """The project's file; sending load works without one, given --url."""
    chosen: str | None = ctx.find_root().obj
    return project.where(ctx).topology if chosen else paths.find(Path.cwd())


def _verify(path: Path, topology: Path | None, plan: journeys.Plan, is_json: bool) -> bool:
    if topology is None:
        raise errors.BadInput("tenfold.toml: not found here or above; run this in the service's folder")
    bound = bindings.load(paths.Paths(topology).bindings)
    verdict = _run(verify.verify_service(path, bound, plan.checks))
    _print(verdict.to_dict() if is_json else summary.verdict_lines(verdict))
    return verdict.is_clean


def _send(
    topology: Path | None,
    plan: journeys.Plan,
    is_json: bool,
    *,
    url: str | None,
    ledger_path: Path | None,
    is_quiet: bool,
    **options: Any,
) -> bool:
    service = _service(topology)
    path = ledger_path or _ledger_path(topology)
    resolver = _resolver(topology, url, is_via_dns=options.pop("via_dns"), region=options.pop("region"))
    seen = trust.of(topology, service, url, ca=options.pop("ca"), insecure=options.pop("insecure"))
    options |= {"trust": seen.context, "certified_name": seen.name, "service": service.name if service else ""}
    door = vantage.url(service) if resolver and service else url or _front_door(service)
    running = sending.Load(door, plan, ledger_path=path, resolver=resolver, **options)
    found = _run(_watch(running, is_json, is_quiet))
    if is_json:
        _print({**found.to_dict(), "seed": running.seed, "ledger": str(path)})
    else:
        _print(["", *summary.report_lines(found), "", f"ledger       {path} (tenfold load --verify {path})"])
    return found.is_clean


async def _watch(running: sending.Load, is_json: bool, is_quiet: bool) -> report.Report:
    """Run it to its end or to Ctrl-C, with a line a second unless it shall be quiet."""
    if running.resolver is None:
        await trust.ensure(running.origin)
    async with running, _interruptible(running):
        ended = asyncio.create_task(running.wait())
        while not (await asyncio.wait([ended], timeout=1))[0]:
            interval = running.report.take_interval()
            line = summary.progress(running.elapsed_seconds, interval, running.report, running.backlog)
            if not is_quiet:
                click.echo(line, err=is_json)
        await ended
    return running.report


@contextlib.asynccontextmanager
async def _interruptible(running: sending.Load) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.stop)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    import uvloop  # late: help and completions do without

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _resolver(
    topology: Path | None, url: str | None, *, is_via_dns: bool, region: str | None
) -> resolving.Resolver | None:
    """Who says where the domain is, when asked for."""
    if not is_via_dns and region is None:
        return None
    if not is_via_dns:
        raise errors.BadInput(
            "--from: found without --via-dns; add it: where clients are counts for name servers alone"
        )
    if url is not None or topology is None:
        raise errors.BadInput(
            "--via-dns: the domain of tenfold.toml is looked up; leave --url out, run it in the folder"
        )
    return vantage.of(paths.Paths(topology), load_topology.load(topology), region)


def _service(topology: Path | None) -> tiers.Service | None:
    return load_topology.load(topology).service if topology else None


def _front_door(service: tiers.Service | None) -> str:
    if service is None:
        raise errors.BadInput("url: no tenfold.toml here or above; run this in the service's folder, or give --url")
    return service.url


def _ledger_path(topology: Path | None) -> Path:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    state = paths.Paths(topology).state if topology else Path.cwd()
    return (state if state.is_dir() else Path.cwd()) / f"load-{now}.ledger"


def _print(what: dict[str, Any] | list[str]) -> None:
    if isinstance(what, dict):
        import msgspec  # late, as above

        click.echo(msgspec.json.format(msgspec.json.encode(what), indent=2))
    else:
        click.echo("\n".join(what))
