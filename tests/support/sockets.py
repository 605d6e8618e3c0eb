"""What a run of tests leaves beside its own folder: the short folders of sockets. Called by conftest at its end."""

import shutil
from pathlib import Path

from tenfold.kit import files


def below(folder: Path) -> list[Path]:
    """The short folders of services and engines that lie below this folder."""
    return [sockets for owner, sockets in files.owned_socket_folders() if owner.is_relative_to(folder)]


def remove_below(folder: Path) -> None:
    """On return there are none."""
    for sockets in below(folder):
        shutil.rmtree(sockets, ignore_errors=True)
