"""Where the app under test is, as far as that can be told without loading anything. Called by `plugin` in every run.

Reads `tenfold.toml` as plain TOML and judges nothing: `topology` does, once a fixture needs it.
"""

import dataclasses
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenfold import errors

if TYPE_CHECKING:
    from tenfold.topology import tiers

OPTIONS = {
    "tenfold_app": "the ASGI application, MODULE:ATTRIBUTE (default: [service] app of tenfold.toml)",
    "tenfold_factory": "a callable that returns it, MODULE:ATTRIBUTE (default: [service] factory)",
    "tenfold_directory": "the folder of tenfold.toml, or of the app where there is none (default: the nearest "
    "tenfold.toml at or above what is tested)",
    "tenfold_migrations": "the folder of SQL migrations (default: [database] migrations)",
}
"""pytest's options in its configuration file."""

FILE = "tenfold.toml"

NOTHING_FOUND = (
    "no app found: there is no tenfold.toml at or above what is tested. Make one (`tenfold init`), or say in pytest's "
    'configuration where the app is: tenfold_app = "shop.web:app", and tenfold_directory if it is not in pytest\'s '
    "root folder"
)


@dataclass(frozen=True, slots=True)
class Project:
    """One service. Everything is as it was written; paths are absolute."""

    file: Path | None
    """Its tenfold.toml."""
    directory: Path
    """Where the app is imported from."""
    name: str
    app: str = ""
    """Set only by pytest's options, as are the next two."""
    factory: str = ""
    migrations: str = ""
    env: tuple[tuple[str, str], ...] = ()
    """`[service] env`."""
    env_file: str = ""
    url_scheme: str = "postgresql"
    """`[database] url_scheme`."""

    def topology(self) -> "tiers.Topology":
        """The whole file, checked, with pytest's options in it. Raises BadInput with every problem."""
        from tenfold.topology import load, tiers  # late: loads pydantic

        bare = tiers.Topology(service=tiers.Service(name=self.name))
        found = bare if self.file is None else load.load(self.file)
        said: dict[str, str] = {"app": self.app, "factory": self.factory} if self.app or self.factory else {}
        service = found.service.model_copy(update={**said, "directory": str(self.directory)})
        database = found.database.model_copy(update={"migrations": self.migrations} if self.migrations else {})
        return found.model_copy(update={"service": service, "database": database})

    def migrations_folder(self, topology: "tiers.Topology") -> Path:
        """Where the SQL files are; it need not exist."""
        return self.directory / topology.database.migrations


def find(option: Callable[[str], str], root: Path, arguments: Iterable[str]) -> Project | None:
    """The project that pytest's options name, else that of the nearest tenfold.toml; None where there is neither."""
    said = option("tenfold_directory")
    folder = root / said if said else None
    file = _file_in(folder) if folder else _nearest(arguments)
    app, factory, migrations = (option(f"tenfold_{name}") for name in ("app", "factory", "migrations"))
    if file is None and folder is None and not app and not factory:
        return None
    found = Project(None, (folder or root).absolute(), "app") if file is None else _read(file)
    return dataclasses.replace(found, app=app, factory=factory, migrations=migrations)


def _nearest(arguments: Iterable[str]) -> Path | None:
    """The tenfold.toml at or above the first argument (`tests/test_x.py::test_y`) that has one."""
    for argument in arguments:
        start = Path(argument.partition("::")[0]).absolute()
        for folder in (start, *start.parents):
            if (file := _file_in(folder)) is not None:
                return file
    return None


def _file_in(folder: Path) -> Path | None:
    return folder / FILE if (folder / FILE).is_file() else None


def _read(file: Path) -> Project:
    """What the import of the app depends on. A file that cannot be read is judged later, when it is needed."""
    try:
        said = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        said = {}
    service, database = _section(said, "service"), _section(said, "database")
    env = service.get("env", {})
    return Project(
        file=file.absolute(),
        directory=(file.parent / str(service.get("directory", "."))).resolve(),
        name=str(service.get("name", "app")),
        env=tuple((name, value) for name, value in env.items() if isinstance(value, str)),
        env_file=str(service.get("env_file", "")),
        url_scheme=str(database.get("url_scheme", "postgresql")),
    )


def _section(said: dict[str, Any], name: str) -> dict[str, Any]:
    found = said.get(name, {})
    return found if isinstance(found, dict) else {}


def environment(found: Project) -> dict[str, str]:
    """The app's variables: the `env_file`'s, and over them those of `env`. Raises BadInput for a bad file."""
    merged: dict[str, str] = {}
    if found.env_file and found.file is not None:
        from tenfold.engines.granian import settings  # late: loads the runtime's world

        merged.update(settings.read_env_file(found.file.parent / found.env_file))
    merged.update(found.env)
    return {name: value for name, value in merged.items() if not name.startswith("TENFOLD_")}


def nothing_found() -> errors.BadInput:
    """The error of a fixture that was asked for where there is no project."""
    return errors.BadInput(NOTHING_FOUND)
