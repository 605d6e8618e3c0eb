"""`tenfold logs [SERVER|TIER] [-f]`: the logs of servers and tiers."""

from __future__ import annotations

from pathlib import Path

import click

from tenfold import errors
from tenfold.cli import output, project, words
from tenfold.runtime import paths, records

FIRST_LINES = 40


@click.command()
@click.argument("name", type=words.Server(tiers=True), metavar="[SERVER|TIER]", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until Ctrl-C.")
@click.pass_context
def logs(ctx: click.Context, name: str | None, follow: bool) -> None:
    """Show the logs of a server, of a tier, or of all. Example: tenfold logs web -f"""
    where = project.where(ctx, needs_file=False)
    project.run(_show(_chosen(where, name), follow))


def _chosen(where: paths.Paths, name: str | None) -> list[Path]:
    known = records.Store.open(where.records).records.servers
    if name == "runtime":
        return [where.log]
    if not known:
        raise errors.NotRunning("there are no logs yet; start the service with: tenfold up -d")
    if name is not None:
        tiers = {record.spec.tier for record in known.values()}
        tiers |= {one.tier for record in known.values() for one in record.spec.processes}
        processes = {one for record in known.values() for one in record.processes}
        words.ensure_known("server or tier", name, [*sorted(known), *sorted(tiers | processes), "runtime"])
    return [
        log for server, record in sorted(known.items()) for log in sorted((where.server(server) / "log").glob("*.log"))
        if name in (None, server, record.spec.tier, log.stem, _tier(record, log.stem))
    ]  # fmt: skip


def _tier(record: records.ServerRecord, process: str) -> str:
    """Whose job this process does: a server that does several has logs of several tiers."""
    return next((one.tier for one in record.spec.processes if one.name == process), record.spec.tier)


async def _show(files: list[Path], follow: bool) -> None:
    import asyncio  # late: help and completions do without

    offsets = {file: _tail_offset(file) for file in files}
    while True:
        for file in files:
            offsets[file] = _print_from(file, offsets[file])
        if not follow:
            return
        await asyncio.sleep(0.3)


def _print_from(file: Path, offset: int) -> int:
    """Print whole lines after `offset`; the new offset. A rotated file begins again."""
    if not file.exists():
        return 0
    with file.open("rb") as opened:
        size = file.stat().st_size
        opened.seek(offset if offset <= size else 0)
        content = opened.read()
    whole = content[: content.rfind(b"\n") + 1]
    for line in whole.decode(errors="replace").splitlines():
        output.console.print(f"{file.parts[-3]}/{file.stem} | {line}", markup=False, soft_wrap=True)
    return (offset if offset <= size else 0) + len(whole)


def _tail_offset(file: Path) -> int:
    """Where the last lines begin."""
    if not file.exists():
        return 0
    content = file.read_bytes()[-64 * 1024 :]
    lines = content.splitlines(keepends=True)[-FIRST_LINES:]
    return file.stat().st_size - sum(len(line) for line in lines)
