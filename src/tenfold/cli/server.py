"""`tenfold server kill NAME` and `tenfold server start NAME`: a power cut, and its end."""

import click

from tenfold import errors
from tenfold.cli import output, project, words
from tenfold.runtime import daemon


@click.group()
def server() -> None:
    """Cut a server's power, or give it back. Example: tenfold server kill database-1"""


@server.command()
@click.argument("name", type=words.Server())
@click.pass_context
def kill(ctx: click.Context, name: str) -> None:
    """SIGKILL to everything on the server at once; it stays off. Example: tenfold server kill database-1"""
    where = project.where(ctx, needs_file=False)
    say = output.teller()
    try:
        project.run(project.connect(where).kill_server(name, say))
    except errors.NotRunning:
        project.run(daemon.kill_without_runtime(where, name, say))
    output.console.print(f"{name} has no power; give it back with: tenfold server start {name}")


@server.command()
@click.argument("name", type=words.Server())
@click.pass_context
def start(ctx: click.Context, name: str) -> None:
    """Give a server power and start what ran on it. Example: tenfold server start database-1"""
    where = project.where(ctx, needs_file=False)
    project.run(project.connect(where).start_server(name, output.teller()))
