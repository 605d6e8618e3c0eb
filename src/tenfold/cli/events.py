"""`tenfold events [-f] [--json]`: what happened, and what happens now."""

import time

import click
import msgspec

from tenfold.cli import output, project
from tenfold.runtime import events as journal


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on with new events until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--count", "-n", default=40, show_default=True, help="How many past events.")
@click.pass_context
def events(ctx: click.Context, follow: bool, as_json: bool, count: int) -> None:
    """What happened, and what happens now. Example: tenfold events -f"""
    where = project.where(ctx, needs_file=False)

    def say(event: journal.Event) -> None:
        if as_json:
            click.echo(msgspec.json.encode(event).decode())
        else:
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at))
            output.console.print(f"{at} {event.level:<7} {event.text}", markup=False, soft_wrap=True)

    if follow:
        project.run(project.connect(where).follow(say))
    elif where.events.exists():
        for line in where.events.read_bytes().splitlines()[-count:]:
            say(msgspec.json.decode(line, type=journal.Event))
