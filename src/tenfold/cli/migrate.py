"""`tenfold migrate`: run the schema migrations that have not run."""

import click

from tenfold.cli import output, project


@click.command()
@click.pass_context
def migrate(ctx: click.Context) -> None:
    """Run the schema migrations that have not run, once, on the primary. Example: tenfold migrate"""
    where = project.where(ctx)
    project.run(project.connect(where).migrate(output.teller()))
    output.console.print("the schema is as the migrations say")
