"""`tenfold dev`: the app in the foreground, with the newest code and a database of its own."""

import os
import sys

import click
from rich.markup import escape

from tenfold import errors
from tenfold.cli import output, project
from tenfold.runtime.develop import session


@click.command()
@click.option("--listen", metavar="ADDRESS:PORT", default="", help="The front door; default: `listen` in tenfold.toml.")
@click.pass_context
def dev(ctx: click.Context, listen: str) -> None:
    """Run the app here, one process, started anew at every change. Example: tenfold dev

    Its database is its own, kept in .tenfold/dev; the service that `tenfold up` runs is never touched. breakpoint()
    works; Ctrl-C ends it.
    """
    where = project.where(ctx)
    is_terminal = sys.stdout.isatty()
    wish = session.Wish(
        where=where,
        listen=_address(listen),
        inherited=dict(os.environ),
        say=lambda text: output.console.print(f"[dim]{escape(text)}[/]", soft_wrap=True),
        complain=lambda text: output.console.print(text, style="yellow", markup=False, soft_wrap=True),
        colours=is_terminal and "NO_COLOR" not in os.environ,
    )
    project.run(session.run(wish))


def _address(listen: str) -> str:
    """`address:port`; a port alone is one on this machine."""
    if not listen:
        return ""
    host, _, port = listen.rpartition(":")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise errors.BadInput(f"--listen: {listen!r} found, ADDRESS:PORT expected, such as 127.0.0.1:8081")
    return f"{host or '127.0.0.1'}:{port}"
