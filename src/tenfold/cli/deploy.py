"""`tenfold deploy`: put a new release of the app in place, live; try it on a share of the requests; go back."""

from __future__ import annotations

import time
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from tenfold.cli import output, project, words
from tenfold.runtime import deploy as asking
from tenfold.runtime import paths
from tenfold.topology import load, units


class Share(click.ParamType[float]):
    """A percentage from 0% (no canary) to 99%."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = units.percent(value) if isinstance(value, str) else None
        if found is None or not (found == 0 or 1 <= found <= 99):
            self.fail(f'{value!r} found, a percentage from 1% to 99% expected, or 0% for no canary, such as "10%"')
        return found


@click.command()
@click.option("--version", "version", metavar="NAME", help="The new release's name; default: the next number.")
@click.option("--canary", type=Share(), metavar="SHARE", help="Give it this share of the requests for now: 10%.")
@click.option("--promote", is_flag=True, help="Give the canary everything.")
@click.option("--rollback", is_flag=True, help="Go back: end the canary, or put the release before in place.")
@click.option("--to", type=words.Release(), metavar="VERSION", help="With --rollback: the release to go back to.")
@click.option("--status", is_flag=True, help="Which releases serve, and how they do. Changes nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --status: the documented form, for programs.")
@click.pass_context
def deploy(ctx: click.Context, /, *, status: bool, as_json: bool, **wanted: Any) -> None:
    """Put a release of the code as it is now in place, web server by web server, without a failed request.

    Its migrations run first. A release that does not start leaves the old one serving. Example: tenfold deploy
    """
    ensure_one_wish(status=status, as_json=as_json, **wanted)
    where = project.where(ctx)
    if status:
        project.run(_status(where, as_json=as_json))
        return
    text = project.text(where)
    asked = asking.Request(
        topology=text,
        version=wanted["version"] or "",
        canary=wanted["canary"],
        promotes=wanted["promote"],
        rolls_back=wanted["rollback"],
        to=wanted["to"] or "",
    )
    if asked.is_new:
        load.parse(text, str(where.topology))
    project.run(_deploy(where, asked))


def ensure_one_wish(
    *, version: str | None, canary: float | None, promote: bool, rollback: bool, to: str | None, **reading: bool
) -> None:
    """Raises UsageError for options that do not go together."""
    is_new = version is not None or canary is not None
    wishes = [is_new, promote, rollback, reading["status"]]
    if sum(wishes) > 1:
        raise click.UsageError("one of --promote, --rollback and --status expected, or --version and --canary")
    if to is not None and not rollback:
        raise click.UsageError(f"--to {to}: goes with --rollback")
    if reading["as_json"] and not reading["status"]:
        raise click.UsageError("--json: goes with --status")


async def _deploy(where: paths.Paths, asked: asking.Request) -> None:
    started = time.monotonic()
    done = await project.connect(where).deploy(asked, output.teller())
    if not done["steps"]:
        output.console.print(f"Nothing to do: release {done['release']} is what is wanted, and serves.")
        return
    output.console.print(
        f"[bold green]{_outcome(done)}[/] after {time.monotonic() - started:.1f} s   {_next(done, asked)}"
    )


def _outcome(done: dict[str, Any]) -> str:
    if done["canary"]:
        return f"release {done['canary']} gets {done['percent']:g}% of the requests"
    return f"release {done['release']} serves"


def _next(done: dict[str, Any], asked: asking.Request) -> str:
    if done["canary"]:
        return "look: tenfold deploy --status, then: tenfold deploy --promote, or --rollback"
    return "migrations are not undone" if asked.rolls_back else "back with: tenfold deploy --rollback"


async def _status(where: paths.Paths, *, as_json: bool) -> None:
    body = await project.connect(where).releases()
    if as_json:
        output.as_json(body)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("release", "", "made", "web servers", "requests", "errors", "response"):
        table.add_column(column)
    serving = {one["release"]: one for one in body["serving"]}
    for version in reversed(body["kept"]):
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(body["made_at"][version]))
        table.add_row(escape(version), _part(version, body), at, *_doings(serving.get(version)))
    output.console.print(table)


def _part(version: str, body: dict[str, Any]) -> str:
    parts = {body["former"]: "former", body["current"]: "[green]current[/]"}
    return f"[yellow]canary {body['percent']:g}%[/]" if version == body["canary"] else parts.get(version, "")


def _doings(one: dict[str, Any] | None) -> tuple[str, ...]:
    if one is None:
        return ("", "", "", "")
    milliseconds = one["response_milliseconds"]
    response = "" if milliseconds is None else f"{milliseconds:g} ms"
    return (", ".join(one["servers"]), str(one["requests"]), str(one["errors"]), response)
