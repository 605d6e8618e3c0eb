"""`tenfold run -- CMD`: a command, or a shell, with the app's environment and its database."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from tenfold import bindings, errors
from tenfold.cli import project
from tenfold.runtime import environment, paths, records
from tenfold.runtime.develop import record
from tenfold.topology import layout, load

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""A shell's exit codes for a command that is not there, and for one that may not be run."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def run(ctx: click.Context, command: tuple[str, ...]) -> int:
    """Run a command with the app's environment and database; without one, a shell. Example: tenfold run -- psql

    The database is that of the service; of `tenfold dev`, when only that runs. The exit code is the command's own.
    """
    where = project.where(ctx, needs_file=False)
    env = environment.of_tools(_service(where) or _dev(where) or _nothing(where))
    argv = command or (os.environ.get("SHELL") or "/bin/sh",)
    try:
        os.execvpe(argv[0], argv, env)  # noqa: S606 - becomes the command, with its terminal and its signals
    except FileNotFoundError:
        click.echo(f"tenfold: {argv[0]}: no such command; it is looked for in PATH as the app has it", err=True)
        return NOT_FOUND
    except OSError as error:
        click.echo(f"tenfold: {argv[0]}: cannot be run ({error.strerror})", err=True)
        return NOT_EXECUTABLE


def _service(where: paths.Paths) -> environment.Place | None:
    """The service, when it runs; whether its runtime does, does not matter."""
    if not where.records.exists():
        return None
    known = records.Store.open(where.records).records
    if not any(server.is_alive for server in known.servers.values()):
        return None
    topology = load.parse(known.applied or known.topology, str(where.topology))
    return environment.Place(
        project=where.project,
        topology=topology,
        bindings_file=where.bindings,
        bound=_bound(where.bindings),
        hosts=layout.database_addresses(topology, known.network),
        inherited=_inherited(),
    )


def _dev(where: paths.Paths) -> environment.Place | None:
    """The `tenfold dev` that runs."""
    running = record.read(where)
    if running is None or not where.dev_bindings.exists():
        return None
    return environment.Place(
        project=where.project,
        topology=load.load(where.topology),
        bindings_file=where.dev_bindings,
        bound=_bound(where.dev_bindings),
        hosts=running.hosts,
        inherited=_inherited(),
    )


def _nothing(where: paths.Paths) -> environment.Place:
    raise errors.NotRunning(
        f"{where.project}: nothing runs, so there is no database; start it with: tenfold up -d, or: tenfold dev"
    )


def _bound(path: Path) -> bindings.Database:
    found = bindings.load(path).database
    if found is None:
        raise errors.BadInput(f"{path}: names no database; start it anew with: tenfold up -d")
    return found


def _inherited() -> Mapping[str, str]:
    return dict(os.environ)
