"""`tenfold psql [SERVER]`: psql of the installed PostgreSQL, on the primary or on a server, as the app's role."""

from __future__ import annotations

import os
from typing import Any

import click

from tenfold import bindings, errors
from tenfold.cli import project, status, words


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--server",
    "-s",
    type=words.Server(process="postgres"),
    metavar="NAME",
    help="A database server; default: the primary.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def psql(ctx: click.Context, server: str | None, arguments: tuple[str, ...]) -> None:
    """Open psql on the primary, or on a server; the rest goes to psql. Example: tenfold psql -c 'select 1'"""
    where = project.where(ctx, needs_file=False)
    told = bindings.load(where.bindings)
    if told.database is None:
        raise errors.BadInput(f"{where.bindings}: has no database; start it with: tenfold up -d")
    chosen = server or _primary(project.run(status.look(where)))
    nodes = {one.name: one for one in told.database.shards[0].nodes}
    words.ensure_known("database server", chosen, nodes)
    node = nodes[chosen]
    from tenfold.engines.postgres import settings  # late: it loads drivers, and help does without

    program = settings.program("psql")
    environment = {**os.environ, "PGPASSWORD": told.database.password}
    argv = [program, "-h", node.host, "-p", str(node.port), "-U", told.database.user, "-d", told.database.name]
    os.execve(program, [*argv, *arguments], environment)  # noqa: S606 - becomes psql, with its terminal


def _primary(body: dict[str, Any]) -> str:
    """The server of the primary; of two, the one on the newer timeline."""
    nodes = [one["database"] for one in body["servers"] if one["database"]]
    primaries = [node for node in nodes if node["role"] == "primary" and node["is_reachable"]]
    if all(server["state"] == "stopped" for server in body["servers"]):
        raise errors.NotRunning("nothing runs, so there is no database; start it with: tenfold up -d")
    if not primaries:
        raise errors.RuntimeFailure("no database server is primary now; see: tenfold status")
    return str(max(primaries, key=lambda node: node["timeline"])["server"])
