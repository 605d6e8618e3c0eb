"""The command line: one file a command, thin. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted.

Commands are imported when they are called, and what they import of ours when it is used: `tenfold --help`, a usage
error and a completion are quick.
"""

import os
import sys

import click
from click.shell_completion import CompletionItem

from tenfold import errors
from tenfold.cli import example, lazily
from tenfold.topology import nearest

COMMANDS = {
    "new": "new",
    "init": "init",
    "dev": "dev",
    "run": "run",
    "up": "up",
    "down": "down",
    "status": "status",
    "plan": "plan",
    "apply": "apply",
    "deploy": "deploy",
    "grow": "grow",
    "shrink": "grow",
    "resize": "resize",
    "migrate": "migrate",
    "load": "load",
    "server": "server",
    "wan": "wan",
    "region": "region",
    "logs": "logs",
    "events": "events",
    "trace": "trace",
    "psql": "psql",
    "queue": "queue",
    "cdn": "cdn",
    "dns": "dns",
    "doctor": "doctor",
    "help": "help",
    "completion": "completion",
}
"""Command names, in the order in which `--help` lists them, and the module each lives in."""

ABOUT = {
    "new": "Scaffold a small complete app that runs at once.",
    "init": "Make a service of an existing app: writes tenfold.toml.",
    "dev": "Run the app here, started anew at every change.",
    "run": "Run a command with the app's environment and database.",
    "up": "Start the service, or take over what runs already.",
    "down": "Stop the service; the data stays.",
    "status": "What runs, what it carries, and what is wrong.",
    "plan": "What `apply` or `grow` would do, step by step.",
    "apply": "Make the running service what tenfold.toml says.",
    "deploy": "Put a new release of the app in place, live, or go back.",
    "grow": "Climb to the next rung of the ladder, live.",
    "shrink": "Go back down a rung, live.",
    "resize": "Give servers more or less of processes and memory.",
    "migrate": "Run the schema migrations that have not run.",
    "load": "Send traffic, write the ledger, or verify it.",
    "server": "Cut a server's power, or give it back.",
    "wan": "What lies between regions; cut it, or heal it.",
    "region": "Move the home of the data, or lose a region.",
    "logs": "Show logs of servers and tiers.",
    "events": "What happened, and what happens now.",
    "trace": "Show every hop and decision of one request.",
    "psql": "Open psql on the primary, or on a server.",
    "queue": "What waits for whom, and dead letters.",
    "cdn": "What the edges answer, and what they must forget.",
    "dns": "What each name server answers, and why.",
    "doctor": "Which engines are installed, and what is in the way.",
    "help": "The reference of tenfold.toml.",
    "completion": "The completion script for bash, zsh or fish.",
}


GROUPS = {
    "Develop": ("new", "init", "dev", "run", "migrate", "psql"),
    "Run": ("up", "down", "plan", "apply", "deploy"),
    "Grow": ("grow", "shrink", "resize", "load", "server", "wan", "region"),
    "Look": ("status", "events", "logs", "trace", "queue", "cdn", "dns", "doctor", "help", "completion"),
}
"""How `--help` groups the commands."""


class _ReaderLeftError(Exception):
    """Whoever reads our output has gone (`tenfold events | head`): has enough, and nothing has failed."""


class _Commands(click.Group):
    """Imports a command's module when it is asked for."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # click would end with code 1
            raise _ReaderLeftError from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = lazily.module(f"tenfold.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_" if hasattr(module, f"{cmd_name}_") else cmd_name)
        return example.placed(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, ABOUT[name]) for name in names if name in ABOUT])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = nearest.hint(args[0], COMMANDS)
            raise click.UsageError(f"{args[0]}: no such command{hint or '; see tenfold --help'}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands, without importing any; options as click has them."""
        if incomplete.startswith("-"):
            return super(click.Group, self).shell_complete(ctx, incomplete)
        return [CompletionItem(name, help=ABOUT[name]) for name in COMMANDS if name.startswith(incomplete)]


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
        sys.stdout.flush()
    except (_ReaderLeftError, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
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
