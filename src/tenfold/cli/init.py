"""`tenfold init`: makes a service of an existing ASGI app, by one file beside it. Changes no code.

Finds the app by reading its sources (`adopt`), tries in a process of its own that it imports, writes tenfold.toml. It
writes nothing when anything is unclear or wrong.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from tenfold import bindings, errors
from tenfold.cli import project
from tenfold.cli.adopt import candidates, sources, surroundings, writing
from tenfold.kit import process
from tenfold.runtime import interpreters
from tenfold.topology import load, tiers

TRY_SECONDS = 60.0
"""How long the app may take to be imported."""

SHOWN_LINES = 25

_TRIAL = """
import os, sys
from tenfold import errors
from tenfold.sdk import hosting
try:
    hosting.load()
except errors.TenfoldError as error:
    sys.exit(str(error))
sys.stdout.flush()
os._exit(0)
"""
"""Ends at once when the app is there, whatever threads it has begun."""

LOOKED_FOR = "an object of FastAPI, Starlette, Litestar, Quart, Django (get_asgi_application) or another ASGI framework"


@click.command()
@click.option("--app", "app", metavar="MODULE:NAME", default="", help="The application; NAME() for a factory.")
@click.option("--python", metavar="PATH", default="", help="The app's interpreter; default: .venv beside it, or ours.")
@click.option("--force", is_flag=True, help="Overwrite an existing tenfold.toml.")
@click.option("--no-check", "is_unchecked", is_flag=True, help="Do not try whether the app imports.")
def init(app: str, python: str, force: bool, is_unchecked: bool) -> None:
    """Make a service of the existing ASGI app in this folder: writes tenfold.toml. Example: tenfold init

    Changes no code. Run `tenfold up` afterwards.
    """
    here = Path.cwd()
    target = here / "tenfold.toml"
    if target.exists() and not force:
        raise errors.BadInput(f"{target}: exists already, nothing is changed; overwrite it with: tenfold init --force")
    read = sources.read(here)
    chosen = _named(app, here, read) if app else _found(candidates.find(read), read, here)
    beside = surroundings.look(here, chosen.source.directory, python, read)
    text = writing.topology(chosen.target, chosen.source.directory, beside, is_factory=chosen.is_factory)
    project.run(_check(here, load.parse(text, str(target)), is_unchecked))
    writing.write_topology(target, text)
    is_ignored = writing.write_ignored(here)
    _say(chosen, beside, is_ignored)


def _found(known: list[candidates.Candidate], read: list[sources.Source], here: Path) -> candidates.Candidate:
    """The one application; of several, the one that a person at the terminal chooses."""
    if not known:
        older = candidates.find_wsgi(read)
        aside = f"; {older} is WSGI: give tenfold an ASGI wrapper of it (asgiref's WsgiToAsgi)" if older else ""
        raise errors.BadInput(
            f"{here}: no ASGI application found in {len(read)} Python files{aside}. Looked for {LOOKED_FOR} at module "
            "level, tf.wrap(...), and functions that return one; name it: tenfold init --app MODULE:NAME"
        )
    if len(known) == 1:
        return known[0]
    lines = [f"  {number}. {_described(one, here)}" for number, one in enumerate(known, 1)]
    listed = f"{len(known)} applications found:\n" + "\n".join(lines)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise errors.BadInput(f"{here}: {listed}\nchoose one: tenfold init --app {_written(known[0])}")
    click.echo(listed)
    number: int = click.prompt("Which one is the service?", type=click.IntRange(1, len(known)), default=1)
    return known[number - 1]


def _named(app: str, here: Path, read: list[sources.Source]) -> candidates.Candidate:
    """What `--app` names; where it is imported from is found out."""
    module, _, name = app.partition(":")
    is_called = name.endswith("()")
    name = name.removesuffix("()")
    if not module or not name:
        raise errors.BadInput(f"--app: {app!r} found, MODULE:NAME expected, such as shop.web:app")
    source = next((one for one in read if one.module == module), None)
    if source is None:
        source = _outside(module, here)
    is_factory = is_called or any(
        one.is_factory and one.name == name for one in candidates.find([source]) if one.source is source
    )
    return candidates.Candidate(source, name, "as you said", is_factory=is_factory)


def _outside(module: str, here: Path) -> sources.Source:
    """A module that was not read: in a folder that is left out, or installed."""
    import ast  # only here: an empty module stands for one that nobody reads

    directory = "src" if (here / "src" / module.partition(".")[0]).exists() else "."
    return sources.Source(here / f"{module}.py", module, directory, ast.Module(body=[], type_ignores=[]))


async def _check(here: Path, topology: tiers.Topology, is_unchecked: bool) -> None:
    """The interpreter can run tenfold, and the app imports there. Raises BadInput."""
    service = topology.service
    if warning := await interpreters.ensure(here, service):
        click.echo(f"warning: {warning}", err=True)
    if is_unchecked:
        return
    said = await _trial(here, topology)
    if said:
        lines = said.splitlines()
        shown = "\n".join([*(["..."] if len(lines) > SHOWN_LINES else []), *lines[-SHOWN_LINES:]])
        inside = (here / "__init__.py").exists()
        above = f"This folder is a package: tenfold init belongs above it, in {here.parent}.\n" if inside else ""
        raise errors.BadInput(
            f"{service.app or service.factory} was found, and cannot be started:\n\n{shown}\n\n{above}"
            "It gets no variables of this shell: those that it needs go into .env. "
            "Nothing is written. Correct it and run tenfold init again, choose another app with --app MODULE:NAME, "
            "or write the file as it is with --no-check"
        )


async def _trial(here: Path, topology: tiers.Topology) -> str:
    """Load the app as a web server does, in a process of its own; what is wrong, or nothing."""
    service = topology.service
    from tenfold.engines.granian import settings  # late: the engines load more than help needs

    python = str(settings.interpreter(here, service.python))
    scheme = topology.database.url_scheme
    placeholder = bindings.database_url(["127.0.0.1"], "nobody", "none", service.name, scheme)
    env = {
        bindings.URL_VARIABLE: placeholder,
        **settings.variables(here, service),
        bindings.APP_VARIABLE: service.app,
        bindings.FACTORY_VARIABLE: service.factory,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    directory = await asyncio.to_thread((here / service.directory).resolve)
    finished = await process.run([python, "-c", _TRIAL], env=env, directory=directory, timeout_seconds=TRY_SECONDS)
    return "" if finished.code == 0 else finished.output.strip() or f"ended with code {finished.code}"


def _say(chosen: candidates.Candidate, beside: surroundings.Surroundings, is_ignored: bool) -> None:
    click.echo(f"Found {_described(chosen, Path.cwd())}.")
    if beside.python:
        click.echo(f"It runs with {beside.python}.")
    click.echo(f"Wrote tenfold.toml{', and .tenfold/ into .gitignore' if is_ignored else ''}.")
    for note in beside.notes:
        click.echo(f"Note: {note}.")
    click.echo("\nNext:\n  tenfold up     to run it as a service, or\n  tenfold dev    to work on it")


def _described(one: candidates.Candidate, here: Path) -> str:
    path = one.source.path
    place = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{_written(one)} ({one.what}{', made by a function' if one.is_factory else ''}, {place})"


def _written(one: candidates.Candidate) -> str:
    return f"{one.target}()" if one.is_factory else one.target
