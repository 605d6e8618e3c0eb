"""`tenfold events [-f] [--json]`: what happened, and what happens now. Reads the file: needs no runtime."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import click

from tenfold.cli import output, project, words
from tenfold.runtime import events as journal
from tenfold.runtime import paths
from tenfold.topology import nearest

LOOK_SECONDS = 0.2

LEVELS = ("info", "warning", "error")


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with new events until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--count", "-n", type=click.IntRange(min=0), help="How many past events.  [default: 40]")
@click.option("--since", "since_seconds", type=words.Duration(), help="Only those of the last 30s, 10m, 2h.")
@click.option("--level", type=words.Choice(LEVELS), default="info", show_default=True, help="This level and above.")
@click.option("--server", type=words.Server(), metavar="NAME", help="Only what concerns this server.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only this kind, as --json names it; repeatable.")
@click.pass_context
def events(
    ctx: click.Context,
    /,
    follow: bool,
    as_json: bool,
    count: int | None,
    since_seconds: float | None,
    **chosen: object,
) -> None:
    """What happened, and what happens now. Example: tenfold events --since 10m --level warning"""
    where = project.where(ctx, needs_file=False)
    wanted = _wanted(since_seconds, **chosen)  # type: ignore[arg-type]  # click has made each of its type
    tail = journal.Tail(where.events)
    past = _past(where, wanted, count, [*journal.rotated(where.events), *tail.new()])
    say = _as_json if as_json else _as_text
    for event in past:
        say(event)
    if follow:
        project.run(_follow(tail, wanted, say))
    elif not past and not as_json:
        click.echo(_why_none(where, wanted), err=True)


def _why_none(where: paths.Paths, wanted: _Wanted) -> str:
    """What to say when there is nothing to show; a kind that was never seen may be a slip."""
    seen = {event.kind for event in journal.Tail(where.events).new()}
    hints = [nearest.hint(kind, seen) for kind in wanted.kinds if kind not in seen]
    return f"no such events{hints[0] if hints else ''}" if seen else "no events yet; start with: tenfold up -d"


@dataclass(frozen=True)
class _Wanted:
    """Which events are asked for."""

    since: float
    level: str
    server: str | None
    kinds: tuple[str, ...]

    def holds(self, event: journal.Event) -> bool:
        """Whether this event is one of them."""
        return (
            event.at >= self.since
            and LEVELS.index(event.level) >= LEVELS.index(self.level)
            and (not self.kinds or event.kind in self.kinds)
            and (self.server is None or _concerns(event, self.server))
        )


def _wanted(since_seconds: float | None, level: str, server: str | None, kinds: tuple[str, ...]) -> _Wanted:
    return _Wanted(0.0 if since_seconds is None else time.time() - since_seconds, level, server, kinds)


def _past(where: paths.Paths, wanted: _Wanted, count: int | None, every: list[journal.Event]) -> list[journal.Event]:
    """Past events; `--since` shows all that it names, unless a count is given as well."""
    _ensure_server(where, wanted, every)
    found = [event for event in every if wanted.holds(event)]
    most = count if count is not None else len(found) if wanted.since else 40
    return found[len(found) - min(most, len(found)) :]


def _ensure_server(where: paths.Paths, wanted: _Wanted, every: list[journal.Event]) -> None:
    """A server that is gone has events still; one that never was is a slip."""
    if wanted.server is not None and not any(_concerns(event, wanted.server) for event in every):
        words.ensure_known("server", wanted.server, project.servers(where))


async def _follow(tail: journal.Tail, wanted: _Wanted, say: Callable[[journal.Event], None]) -> None:
    """Until the caller stops, whether runtimes come or go."""
    import asyncio  # late: help and completions do without

    while True:
        for event in filter(wanted.holds, tail.new()):
            say(event)
        await asyncio.sleep(LOOK_SECONDS)


def _as_json(event: journal.Event) -> None:
    import msgspec  # late: help and completions do without

    click.echo(msgspec.json.encode(event).decode())


def _as_text(event: journal.Event) -> None:
    output.event(event)


def _concerns(event: journal.Event, server: str) -> bool:
    return event.subject == server or re.search(rf"(?<![\w-]){re.escape(server)}(?![\w-])", event.text) is not None
