"""`tenfold apply`: make the running service what tenfold.toml says."""

import click

from tenfold.cli import output, project
from tenfold.runtime import paths
from tenfold.topology import load


@click.command()
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_context
def apply(ctx: click.Context, yes: bool) -> None:
    """Make the running service what tenfold.toml says. Example: tenfold apply --yes"""
    where = project.where(ctx)
    text = project.text(where)
    load.parse(text, str(where.topology))
    project.run(shown(where, text, yes))


async def shown(where: paths.Paths, text: str, yes: bool, *, is_climb: bool = False) -> bool:
    """Show the plan, ask, apply. False when there was nothing to do. A climb writes the file, and keeps the release."""
    client = project.connect(where)
    body = await client.plan(text, keeps_release=is_climb)
    output.plan(body)
    if not body["steps"] and not body["has_new_settings"] and not is_climb:
        return False
    if not yes:
        project.confirm("Apply?")
    done = await client.apply(text, output.teller(), writes_file=is_climb, keeps_release=is_climb)
    output.console.print(f"[bold green]done[/] in {done['steps']} steps")
    return True
