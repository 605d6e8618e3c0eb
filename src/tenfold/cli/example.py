"""The example that the help of every command ends with.

A line of a command's docstring ends with `Example: tenfold ...`; here it gets the same place in every command's help.
"""

import re

import click

_UNWRAPPED = "\b\n"
"""Before a paragraph that click shall not wrap: an example is to be copied."""

_EXAMPLE = re.compile(r"\s*Example: (tenfold .+?)[ \t]*$", re.MULTILINE)


def placed(command: click.Command) -> click.Command:
    """The command, its example (those of a group's commands, too) moved from the text to the end of the help."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            placed(inner)
    if command.help and (found := _EXAMPLE.search(command.help)):
        command.help = command.help[: found.start()] + command.help[found.end() :]
        command.epilog = f"{_UNWRAPPED}Example: {found[1]}"
    return command


def of(command: click.Command) -> str | None:
    """The example in a command's help, once it is in its place."""
    found = _EXAMPLE.search(command.epilog or "")
    return found[1] if found else None
