"""What stands beside an app: its environment, a .env file, migrations, a free port, a name. Called by `init`.

Looks at files; runs nothing, changes nothing.
"""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tenfold import bindings, errors
from tenfold.cli import new
from tenfold.cli.adopt.sources import Source
from tenfold.engines.granian import settings
from tenfold.topology import tiers

ENVIRONMENTS = (".venv", "venv", "env", ".env")

MIGRATIONS = ("migrations", "db/migrations", "database/migrations", "sql/migrations", "sql", "db")

SCHEME = re.compile(rb"postgresql\+[a-z0-9]+(?=://)")

SETTINGS = (".env", ".env.*", "*.env", "*.env.*", "alembic.ini", "docker-compose*.y*ml", "compose*.y*ml")
"""Files that may say how the address of the database begins."""

_MIGRATION = re.compile(r"\d+.*\.sql")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What goes to tenfold.toml beside the app itself; empty where the default will do."""

    name: str
    port: int
    python: str = ""
    env_file: str = ""
    migrations: str = ""
    url_scheme: str = ""
    notes: tuple[str, ...] = ()
    """What a person should know before `tenfold up`."""


def look(project: Path, directory: str, python: str, sources: list[Source]) -> Surroundings:
    """Everything beside the app in `directory`. `python`: the interpreter that was asked for; empty: look for one."""
    env_file, notes = _env_file(project)
    chosen = python or environment(project)
    return Surroundings(
        name=name_of(project),
        port=new.free_port(),
        python=chosen,
        env_file=env_file,
        migrations=_migrations(project, directory),
        url_scheme=_url_scheme(project, sources),
        notes=(*notes, *_tools(project, directory)),
    )


def name_of(project: Path) -> str:
    """The folder's name, as a service can have it."""
    name = re.sub(r"[^a-z0-9]+", "-", project.name.lower()).strip("-")[:40].strip("-")
    name = name if name[:1].isalpha() else f"app-{name}".strip("-")[:40].strip("-")
    return f"{name}-app" if name in new.TAKEN else name


def environment(project: Path) -> str:
    """The virtual environment beside the app, relative to it, when another one runs tenfold; else empty."""
    for name in ENVIRONMENTS:
        folder = project / name
        if (folder / "pyvenv.cfg").is_file() and (folder / "bin" / "python").exists():
            return "" if Path(sys.prefix).resolve() == folder.resolve() else f"{name}/bin/python"
    return ""


def _env_file(project: Path) -> tuple[str, list[str]]:
    path = project / ".env"
    if not path.is_file():
        return "", []
    try:
        found = settings.read_env_file(path)
    except errors.BadInput as error:
        return "", [f".env is left out: {error}"]
    if reserved := [name for name in found if name.startswith(settings.RESERVED)]:
        return "", [f".env is left out: {', '.join(reserved)} in it are names of tenfold's own"]
    if bindings.URL_VARIABLE in found:
        said = f".env sets {bindings.URL_VARIABLE}, so the app goes on using that database"
        return ".env", [f"{said}; to use tenfold's, take the line out"]
    return ".env", []


def _migrations(project: Path, directory: str) -> str:
    """A folder of dbmate's files, relative to the code's; empty: there is none, or it is where tenfold looks anyway."""
    home = project / directory
    for root in dict.fromkeys((home, project)):
        for name in MIGRATIONS:
            folder = root / name
            if _is_dbmate(folder):
                path = Path(os.path.relpath(folder, home)).as_posix()
                return "" if path == "migrations" else path
    return ""


def _is_dbmate(folder: Path) -> bool:
    files = [one for one in folder.glob("*.sql") if _MIGRATION.fullmatch(one.name)] if folder.is_dir() else []
    return bool(files) and all("migrate:up" in one.read_text(errors="replace") for one in files)


def _url_scheme(project: Path, sources: list[Source]) -> str:
    """`postgresql+asyncpg`, when the app says of its database's address that it begins so, and always the same: in its
    code, or in the files that hold its settings."""
    texts = [path.read_bytes() for path in [one.path for one in sources] + _settings(project)]
    known = {one.encode() for one in get_args(tiers.UrlScheme)}
    found = {hit for text in texts for hit in SCHEME.findall(text)} & known
    replaces = any(b'"postgresql://"' in text for text in texts)
    return next(iter(found)).decode() if len(found) == 1 and not replaces else ""


def _settings(project: Path) -> list[Path]:
    """Where the address of an app's database stands when it is not in the code."""
    return [path for pattern in SETTINGS for path in sorted(project.glob(pattern)) if path.is_file()]


def _tools(project: Path, directory: str) -> list[str]:
    """How the tools that make the app's tables are run."""
    notes = []
    if (project / "alembic.ini").is_file():
        notes.append("after `tenfold up -d`, make the tables with: tenfold run -- alembic upgrade head")
    manage = Path(directory) / "manage.py"
    if (project / manage).is_file():
        notes.append(f"after `tenfold up -d`, make the tables with: tenfold run -- python {manage.as_posix()} migrate")
    return notes
