"""The command line: one file a command, thin. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted.

Commands are imported when they are called, so that `tenfold --help` is quick.
"""

import importlib
import sys

import click

from tenfold import errors

COMMANDS = {
    "new": "new",
    "up": "up",
    "down": "down",
    "status": "status",
    "plan": "plan",
    "apply": "apply",
    "grow": "grow",
    "shrink": "grow",
    "migrate": "migrate",
    "load": "load",
    "server": "server",
    "logs": "logs",
    "events": "events",
    "psql": "psql",
    "doctor": "doctor",
    "help": "help",
}
"""Command names, in the order in which `--help` lists them, and the module each lives in."""

ABOUT = {
    "new": "Scaffold a small complete app that runs at once.",
    "up": "Start the service, or take over what runs already.",
    "down": "Stop the service; the data stays.",
    "status": "Servers, processes, roles and what happened last.",
    "plan": "What `apply` or `grow` would do, step by step.",
    "apply": "Make the running service what tenfold.toml says.",
    "grow": "Climb to the next rung of the ladder, live.",
    "shrink": "Go back down a rung, live.",
    "migrate": "Run the schema migrations that have not run.",
    "load": "Send traffic, write the ledger, or verify it.",
    "server": "Cut a server's power, or give it back.",
    "logs": "Show logs of servers and tiers.",
    "events": "What happened, and what happens now.",
    "psql": "Open psql on the primary, or on a server.",
    "doctor": "Which engines are installed, and what is in the way.",
    "help": "The reference of tenfold.toml.",
}


class _Commands(click.Group):
    """Imports a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"tenfold.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_" if cmd_name == "help" else cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(ABOUT.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"{args[0]}: no such command{_nearest(args[0])}; see tenfold --help")
        return super().resolve_command(ctx, args)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--file",
    "-f",
    "file",
    type=click.Path(dir_okay=False),
    envvar="TENFOLD_FILE",
    help="The topology; default: tenfold.toml here or in the nearest folder above.",
)
@click.version_option(package_name="tenfold")
@click.pass_context
def group(ctx: click.Context, file: str | None) -> None:
    """Grow one Python web service from a single server to millions of users, live."""
    ctx.obj = file


def main() -> None:
    """The entry point of the `tenfold` command."""
    try:
        code = group.main(standalone_mode=False)
    except errors.BadInput as error:
        code = _say(str(error), 2)
    except errors.TenfoldError as error:
        code = _say(str(error), 1)
    except OSError as error:  # a full disk, a folder that may not be written: the system's own words say it
        code = _say(str(error), 1)
    except click.exceptions.Abort:
        code = _say("interrupted", 130)
    except click.ClickException as error:
        error.show()
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


def _say(message: str, code: int) -> int:
    click.echo(f"tenfold: {message}", err=True)
    return code


def _nearest(word: str) -> str:
    import difflib  # only for a typo

    close = difflib.get_close_matches(word, COMMANDS, n=1)
    return f", did you mean {close[0]}?" if close else ""
