"""Which processes work in a folder: to see that nothing is left behind there."""

from pathlib import Path

from tenfold.kit import process


def running_in(*folders: Path) -> list[process.Identity]:
    """Those whose working directory is one of the folders, or below it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                where = (entry / "cwd").readlink()
            except OSError:
                continue  # it has ended, or is not ours to see
            if any(where.is_relative_to(one) for one in folders) and (identity := process.identify(int(entry.name))):
                found.append(identity)
    return found
