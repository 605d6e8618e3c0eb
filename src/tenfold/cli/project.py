"""What every command begins with: the project's paths, its topology's text, and a client of its runtime."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from tenfold import errors
from tenfold.runtime import client, paths

Result = TypeVar("Result")


def where(ctx: click.Context) -> paths.Paths:
    """The project of this call. Raises BadInput when there is no tenfold.toml."""
    chosen: str | None = ctx.find_root().obj
    found = Path(chosen).resolve() if chosen else paths.find(Path.cwd())
    if found is None or not found.is_file():
        place = chosen or f"{Path.cwd()} and the folders above"
        raise errors.BadInput(
            f"tenfold.toml: not found in {place}; go to a project, name it with --file, or begin one with: tenfold new"
        )
    return paths.Paths(found)


def text(project: paths.Paths) -> str:
    """The topology's text."""
    try:
        return project.topology.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.BadInput(f"{project.topology}: cannot be read as UTF-8 text: {error}") from error


def connect(project: paths.Paths) -> client.Client:
    """A client of the project's runtime; whether one runs shows at the first call."""
    return client.Client(project.control)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's work. Ctrl-C ends it with exit code 130."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt as error:
        raise click.exceptions.Abort from error
