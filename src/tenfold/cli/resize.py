"""`tenfold resize`: more or less of what there is, live: edit tenfold.toml, show the plan, apply it."""

from __future__ import annotations

import click

from tenfold.cli import apply, output, project, words
from tenfold.topology import edit, load, sizes


@click.command()
@click.argument("sizes_", metavar="[NAME=VALUE]...", nargs=-1, type=words.SizeWord())
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_context
def resize(ctx: click.Context, sizes_: tuple[str, ...], yes: bool) -> None:
    """Give servers more or less: processes, memory, connections. Without arguments: what there is now.

    Example: tenfold resize web.workers_per_server=2 database.memory=256MiB --yes
    """
    where = project.where(ctx)
    text = project.text(where)
    topology = load.parse(text, str(where.topology))
    if not sizes_:
        output.sizes(sizes.of(topology))
        return
    changed = edit.apply(text, sizes.changes(sizes_, topology))
    if changed == text:
        click.echo("tenfold.toml says so already; what it says comes true with: tenfold apply")
        return
    load.parse(changed, str(where.topology))
    project.run(apply.shown(where, changed, yes, is_climb=True))
