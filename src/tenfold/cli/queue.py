"""`tenfold queue`: what waits for which group, and what to do with messages that could not be handled.

It asks the database (and the queue's servers) itself: no runtime is needed, as long as those run.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

import click
from rich import table

from tenfold import bindings, errors
from tenfold.cli import gauges, output, project
from tenfold.sdk.queue import dead_letters, overview, subscriptions

MOST = 200
"""Dead letters that a list shows."""

STALE_SECONDS = 3600.0
"""A group whose code has not been seen for so long is marked."""

AS_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")

Ask = Callable[[Any, bindings.Bindings], Coroutine[Any, Any, Any]]


@click.group(invoke_without_command=True)
@AS_JSON
@click.pass_context
def queue(ctx: click.Context, as_json: bool) -> None:
    """What waits for each group of subscribers, and dead letters. Example: tenfold queue"""
    if ctx.invoked_subcommand is not None:
        return
    found = _asked(ctx, lambda shards, told: overview.look(shards, told.queue, told.service.name))
    if as_json:
        output.as_json(dataclasses.asdict(found))
    else:
        _show(found)


@queue.command()
@click.argument("group", required=False)
@AS_JSON
@click.pass_context
def dead(ctx: click.Context, group: str | None, as_json: bool) -> None:
    """Messages that could not be handled, the newest first. Example: tenfold queue dead mailer"""
    rows = _asked(ctx, lambda shards, _: dead_letters.listed(shards, group, MOST))
    if as_json:
        output.as_json({"dead_letters": [_plain(row) for row in rows]})
        return
    if not rows:
        output.console.print("No dead letters.")
        return
    for row in rows:
        died = row["died_at"].astimezone().strftime("%Y-%m-%d %H:%M:%S")
        key = f" key {row['key']}" if row["key"] else ""
        tries = "1 try" if row["attempts"] == 1 else f"{row['attempts']} tries"
        line = f"{row['id']}  {row['group_name']}  {row['subject']}{key}  {tries}, {died}"
        output.console.print(line, markup=False, soft_wrap=True)
        output.console.print(f"    {row['reason']}", style="dim", markup=False, soft_wrap=True)


@queue.command()
@click.argument("message", type=click.UUID)
@AS_JSON
@click.pass_context
def show(ctx: click.Context, message: UUID, as_json: bool) -> None:
    """All there is about a dead letter. Example: tenfold queue show 0190cf2e-1f5c-7d4e-8d0e-5a4f1c2b3d4e"""
    rows = _asked(ctx, lambda shards, _: dead_letters.shown(shards, message))
    _ensure_found(rows, message)
    plain = [_plain(row) for row in rows]
    if as_json:
        output.as_json({"dead_letters": plain})
        return
    for one in plain:
        for name, value in one.items():
            text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
            output.console.print(f"{name}: {text}", markup=False, soft_wrap=True)


@queue.command()
@click.argument("message", type=click.UUID, required=False)
@click.option("--all", "group", metavar="GROUP", help="All dead letters of this group.")
@click.pass_context
def replay(ctx: click.Context, message: UUID | None, group: str | None) -> None:
    """Let a message, or all of a group, be tried again. Example: tenfold queue replay --all mailer"""
    _ensure_chosen(message, group)
    count = _asked(ctx, lambda shards, _: dead_letters.replay(shards, group, message))
    _ensure_found(count or group, message)
    output.console.print(f"{count} to be tried again; see how it goes: tenfold queue")


@queue.command()
@click.argument("message", type=click.UUID, required=False)
@click.option("--all", "group", metavar="GROUP", help="All dead letters of this group.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_context
def discard(ctx: click.Context, message: UUID | None, group: str | None, yes: bool) -> None:
    """Delete a dead letter, or all of a group. Example: tenfold queue discard --all mailer --yes"""
    _ensure_chosen(message, group)
    if not yes:
        project.confirm(f"Delete {message or f'all dead letters of {group}'} for good?")
    count = _asked(ctx, lambda shards, _: dead_letters.discard(shards, group, message))
    _ensure_found(count or group, message)
    output.console.print(f"{count} deleted")


@queue.command()
@click.argument("group")
@click.option("--subject", help="Only its messages of this subject or pattern.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_context
def forget(ctx: click.Context, group: str, subject: str | None, yes: bool) -> None:
    """Let a group whose code is gone get no more messages. Example: tenfold queue forget old-mailer --yes"""
    if not yes:
        project.confirm(f"Let {group} get no more messages, and delete those that wait for it?")
    count, messages = _asked(ctx, lambda shards, _: subscriptions.forget(shards, group, subject))
    if not count:
        raise errors.BadInput(f"{group}: no such group{f' for {subject}' if subject else ''}; see: tenfold queue")
    output.console.print(f"{group} gets no more messages; {messages} that waited for it are deleted")


def _asked(ctx: click.Context, ask: Ask) -> Any:
    """What the service's database answers."""
    where = project.where(ctx, needs_file=False)
    told = bindings.load(where.bindings)
    if told.database is None:
        raise errors.BadInput(f"{where.bindings}: has no database; start it with: tenfold up -d")
    return project.run(_ask(told.database, told, ask))


async def _ask(bound: bindings.Database, told: bindings.Bindings, ask: Ask) -> Any:
    try:
        async with overview.connected(bound) as shards:
            return await ask(shards, told)
    except errors.StoreUnavailable as error:
        raise errors.NotRunning(f"{error}; is it running? see: tenfold status") from error


def _show(found: overview.Overview) -> None:
    held = f", {found.delayed} of them held back" if found.delayed else ""
    output.console.print(f"transport: {found.transport}   outbox: {found.outbox}{held}")
    if found.missing:
        text = f"What waits on the queue servers is not counted: {found.missing}; see: tenfold status"
        output.console.print(text, style="yellow", markup=False, soft_wrap=True)
    if not found.groups:
        output.console.print("No group has subscribed to anything yet.")
        return
    lines = table.Table(box=None, pad_edge=False, header_style="dim")
    for column in ("group", "subject", "waiting", "in flight", "oldest", "dead", "note"):
        lines.add_column(column, overflow="fold")
    for one in found.groups:
        note = "its code is gone: tenfold queue forget" if one.seen_seconds > STALE_SECONDS else ""
        dead_ = f"[red]{one.dead}[/]" if one.dead else "0"
        oldest = gauges.milliseconds(one.oldest_seconds * 1000) if one.oldest_seconds else ""
        lines.add_row(one.group, one.subject, str(one.waiting), str(one.in_flight), oldest, dead_, note)
    output.console.print(lines)


def _plain(row: Any) -> dict[str, Any]:
    """A row as JSON has it."""
    plain = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a record iterates over its values
    plain["group"] = plain.pop("group_name")
    plain["id"], plain["died_at"] = str(row["id"]), row["died_at"].isoformat()
    if "payload" in plain:
        plain["headers"] = json.loads(row["headers"])
        try:
            plain["payload"] = json.loads(row["payload"])
        except ValueError:
            plain["payload"] = row["payload"].decode("utf-8", "backslashreplace")
    return plain


def _ensure_chosen(message: UUID | None, group: str | None) -> None:
    if (message is None) == (group is None):
        raise errors.BadInput("queue: one message's id or --all GROUP expected; see: tenfold queue dead")


def _ensure_found(found: object, message: UUID | None) -> None:
    if not found:
        raise errors.BadInput(f"{message}: no such dead letter; see: tenfold queue dead")
