"""`tenfold down`: stop everything; `--delete-data` deletes the state folder too."""

import shutil

import click

from tenfold import errors
from tenfold.cli import output, project
from tenfold.kit import address
from tenfold.runtime import daemon, paths
from tenfold.runtime.develop import record


@click.command()
@click.option("--delete-data", is_flag=True, help="Delete .tenfold as well: databases, logs, passwords.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_context
def down(ctx: click.Context, delete_data: bool, yes: bool) -> None:
    """Stop the service; the data stays, and `tenfold up` finds it. Example: tenfold down"""
    where = project.where(ctx, needs_file=False)
    if delete_data and record.read(where) is not None:
        raise errors.BadInput(f"{where.project}: tenfold dev runs here, and its data would go too; end it first")
    if delete_data and not yes:
        project.confirm(f"Delete {where.state} with all data of this service?")
    if where.state.exists():
        project.run(_down(where))
    if delete_data and where.state.exists():
        address.release_all(where.state, address.claims_folder())
        shutil.rmtree(where.run, ignore_errors=True)
        shutil.rmtree(where.state)
        output.console.print(f"deleted {where.state}")


async def _down(where: paths.Paths) -> None:
    say = output.teller()
    try:
        await project.connect(where).down(say)
    except errors.NotRunning:
        await daemon.down_without_runtime(where, say)
    output.console.print("stopped; the data stays in .tenfold")
