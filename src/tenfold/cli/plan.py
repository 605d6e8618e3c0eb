"""`tenfold plan`: what would be done, step by step, and nothing done."""

import click

from tenfold.cli import output, project
from tenfold.runtime import paths
from tenfold.topology import edit, load, rungs


@click.command()
@click.option("--to", "rung", metavar="RUNG", help="Plan a climb to this rung in place of what the file says.")
@click.option("--json", "as_json", is_flag=True, help="The documented form, for programs.")
@click.pass_context
def plan(ctx: click.Context, rung: str | None, as_json: bool) -> None:
    """What `apply` or `grow` would do, step by step. Example: tenfold plan --to replicated"""
    where = project.where(ctx)
    text = project.text(where)
    if rung is not None:
        text = target(text, where, rung)
    load.parse(text, str(where.topology))
    body = project.run(project.connect(where).plan(text))
    if as_json:
        output.as_json(body)
    else:
        output.plan(body)


def target(text: str, where: paths.Paths, name: str) -> str:
    """The file's text at this rung, with its comments."""
    topology = load.parse(text, str(where.topology))
    return edit.apply(text, rungs.edits(topology, rungs.named(name)))
