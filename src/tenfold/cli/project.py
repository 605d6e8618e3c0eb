"""What every command begins with: the project's paths, its topology's text, and a client of its runtime."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from tenfold import errors
from tenfold.runtime import client, paths, records

Result = TypeVar("Result")


def where(ctx: click.Context, *, needs_file: bool = True) -> paths.Paths:
    """The project of this call. Raises BadInput when there is no tenfold.toml.

    `needs_file` false: a service that was started is enough, should somebody have deleted its file meanwhile.
    """
    chosen: str | None = ctx.find_root().obj
    found = Path(chosen).resolve() if chosen else paths.find(Path.cwd())
    if found is not None and found.is_file():
        return paths.Paths(found)
    started = paths.find_state(found.parent if found else Path.cwd())
    if started is None or (found is not None and started != found):
        place = chosen or f"{Path.cwd()} and the folders above"
        raise errors.BadInput(
            f"tenfold.toml: not found in {place}; go to a project, or name it with --file; for an app that is there "
            "already make one with: tenfold init; a new app begins with: tenfold new NAME"
        )
    if needs_file:
        raise errors.BadInput(
            f"{started}: gone, and a service was started with it; "
            f"put it back: cp {paths.Paths(started).applied} {started}"
        )
    return paths.Paths(started)


def text(project: paths.Paths) -> str:
    """The topology's text."""
    try:
        return project.topology.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.BadInput(f"{project.topology}: cannot be read as UTF-8 text: {error}") from error


def connect(project: paths.Paths) -> client.Client:
    """A client of the project's runtime; whether one runs shows at the first call."""
    return client.Client(project.control)


def servers(project: paths.Paths) -> list[str]:
    """The names of the servers that are recorded, whether a runtime runs or not."""
    return sorted(records.Store.open(project.records).records.servers)


def confirm(question: str) -> None:
    """Return when a person agrees; a no ends the command. Raises BadInput when nobody is there to answer."""
    try:
        agrees = click.confirm(question)
    except click.exceptions.Abort as error:
        if sys.stdin.isatty():
            raise
        click.echo(err=True)
        raise errors.BadInput("nobody is there to answer; to go ahead without a question add: --yes") from error
    if not agrees:
        click.echo("left as it is")
        raise click.exceptions.Exit(1)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's work. Ctrl-C ends it with exit code 130."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt as error:
        raise click.exceptions.Abort from error
