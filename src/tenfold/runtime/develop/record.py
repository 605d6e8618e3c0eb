"""Whose `tenfold dev` runs in a project: written by `session`, read by `tenfold run`. Holds no secret."""

import os
from collections.abc import Sequence

import msgspec

from tenfold.kit import files, process
from tenfold.runtime import paths

NAME = "running.json"


class Running(msgspec.Struct, frozen=True):
    """A `tenfold dev` that runs, or ran when it was killed."""

    owner: process.Identity
    hosts: tuple[str, ...]
    """The addresses of its database."""


def write(where: paths.Paths, hosts: Sequence[str]) -> None:
    """From now on this process is the project's `tenfold dev`."""
    owner = process.identify(os.getpid())
    assert owner is not None
    files.write_atomically(where.dev / NAME, msgspec.json.encode(Running(owner, tuple(hosts))))


def remove(where: paths.Paths) -> None:
    """It is not any more."""
    (where.dev / NAME).unlink(missing_ok=True)


def read(where: paths.Paths) -> Running | None:
    """The `tenfold dev` that runs now."""
    try:
        found = msgspec.json.decode((where.dev / NAME).read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None
    return found if found.owner.is_alive else None
