"""`tenfold plan`: what would be done, step by step, and nothing done."""

import click

from tenfold.cli import output, project, words
from tenfold.topology import edit, load, rungs


@click.command()
@click.option(
    "--to", "rung", type=words.Rung(), metavar="RUNG", help="Plan a climb to this rung in place of what the file says."
)
@click.option("--json", "as_json", is_flag=True, help="The documented form, for programs.")
@click.pass_context
def plan(ctx: click.Context, rung: str | None, as_json: bool) -> None:
    """What `apply` or `grow` would do, step by step. Example: tenfold plan --to replicated"""
    where = project.where(ctx)
    text = project.text(where)
    topology = load.parse(text, str(where.topology))
    if rung is not None:
        to = rungs.named(rung)
        for note in rungs.climb(topology, to).notes:
            click.echo(note, err=True)
        text = edit.apply(text, rungs.edits(topology, to))
    body = project.run(project.connect(where).plan(text, keeps_release=rung is not None))
    if as_json:
        output.as_json(body)
    else:
        output.plan(body)
