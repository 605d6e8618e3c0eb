"""`tenfold help topology`: the reference of tenfold.toml, section by section, with comments."""

import click

from tenfold.cli import words
from tenfold.topology import reference


@click.group(name="help")
def help_() -> None:
    """The reference of tenfold.toml. Example: tenfold help topology"""


@help_.command()
@click.argument("section", type=words.Section(), required=False)
def topology(section: str | None) -> None:
    """Print a commented example of every section, or of one. Example: tenfold help topology database"""
    sections = [section] if section else reference.SECTIONS
    for name in sections:
        click.echo(reference.text(name))
