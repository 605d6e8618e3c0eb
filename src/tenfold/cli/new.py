"""`tenfold new NAME`: a small complete app in a new folder, ready for `tenfold up`.

The files are those in `scaffold/`, with the service's name put in. The folder appears whole or not at all.
"""

import importlib.util
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from tenfold import errors

NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")

TAKEN = frozenset({"postgres", "replicator", "rewind", "template0", "template1", "tenfold"})
"""Names that PostgreSQL or tenfold have given to a database or a role already."""

SUFFIX = ".template"


@click.command()
@click.argument("name")
def new(name: str) -> None:
    """Scaffold a small complete app named NAME, in a folder of that name. Example: tenfold new my-shop"""
    ensure_name(name)
    folder = Path(name)
    ensure_room(folder)
    make(folder, {"name": name, "port": str(free_port())})
    click.echo(f"Made {folder}/: an app, its migrations, its tests, its topology and its load.\n\nNext:\n  cd {folder}")
    if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("python_multipart") is None:
        click.echo("  pip install -r requirements.txt")
    click.echo("  tenfold dev    to work on it, or\n  tenfold up     to run it as a service")


def ensure_name(name: str) -> None:
    """Raise BadInput unless the name can be that of a service, a folder, a database and a cookie."""
    if not NAME.fullmatch(name):
        raise errors.BadInput(
            f"name: {name!r} found, 1 to 40 lower case letters, digits and dashes expected, a letter first; "
            "try `tenfold new my-shop`"
        )
    if name in TAKEN:
        raise errors.BadInput(f"name: {name!r} found, which the database uses itself; choose another")


def ensure_room(folder: Path) -> None:
    """Raise BadInput unless the folder is missing or empty."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise errors.BadInput(f"{folder}: a file found, nothing or an empty folder expected; choose another name")
    if folder.exists() and any(folder.iterdir()):
        raise errors.BadInput(
            f"{folder}: a folder with files found, nothing or an empty one expected; choose another name"
        )


def make(folder: Path, words: Mapping[str, str]) -> None:
    """Write the scaffold beside its place and move it there, so that a failure leaves nothing half written."""
    try:
        built = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            for path, text in files(words):
                target = built / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
            built.chmod(0o755)
            built.rename(folder)
        except BaseException:
            shutil.rmtree(built, ignore_errors=True)
            raise
    except OSError as error:
        raise errors.BadInput(f"{folder}: cannot be written ({error.strerror}); choose another place") from error


def files(words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Path and text of every file of the scaffold, with `@@word@@` replaced."""
    for path, template in _walk(resources.files("tenfold.cli") / "scaffold", ""):
        text = template.read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(f"@@{word}@@", value)
        yield path.removesuffix(SUFFIX).replace("gitignore", ".gitignore"), text


def free_port(first: int = 8080, last: int = 8099) -> int:
    """A front door that nobody holds right now, so that the new service starts beside an older one."""
    for port in range(first, last + 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    return first


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(SUFFIX):
            yield f"{prefix}{entry.name}", entry
