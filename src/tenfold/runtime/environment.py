"""The app's environment for programs that are not its web servers: what `tenfold run` starts, and `tenfold dev`.

The same names mean the same there: DATABASE_URL, TENFOLD_BINDINGS, and the user's own of `[service] env` and
`env_file`, which win. Values are never logged.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tenfold import bindings
from tenfold.engines import database
from tenfold.engines.granian import settings
from tenfold.topology import tiers

MISLEADING = ("PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE", "PGOPTIONS")
"""Variables of the caller's that would lead libpq elsewhere than we say."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the app is, and which database it has."""

    project: Path
    topology: tiers.Topology
    bindings_file: Path
    bound: bindings.Database
    hosts: Sequence[str]
    """Every address that the database may have."""
    inherited: Mapping[str, str] = field(repr=False)
    """The environment of whoever asked."""

    @property
    def service(self) -> tiers.Service:
        """The app."""
        return self.topology.service

    @property
    def directory(self) -> Path:
        """Where the app is imported from."""
        return (self.project / self.service.directory).resolve()

    @property
    def interpreter(self) -> Path:
        """The app's interpreter."""
        return settings.interpreter(self.project, self.service.python)


def of_app(place: Place) -> dict[str, str]:
    """The caller's environment, with the app's over it: its variables, its database, its interpreter's programs."""
    return {**place.inherited, **_own(place)}


def of_tools(place: Place) -> dict[str, str]:
    """`of_app`, and what libpq reads: psql and pg_dump find the database without an argument.

    Not for the app itself: a second database of its own must not be looked for there.
    """
    inherited = {name: value for name, value in place.inherited.items() if name not in MISLEADING}
    return {**inherited, **_of_libpq(place), **_own(place)}


def _own(place: Place) -> dict[str, str]:
    bound = place.bound
    return {
        bindings.URL_VARIABLE: bindings.database_url(
            place.hosts, bound.user, bound.password, bound.name, place.topology.database.url_scheme
        ),
        **settings.variables(place.project, place.service),
        bindings.VARIABLE: str(place.bindings_file),
        "PATH": _path(place),
        "PYTHONPATH": _joined(str(place.directory), place.inherited.get("PYTHONPATH", "")),
    }


def _of_libpq(place: Place) -> dict[str, str]:
    return {
        "PGHOST": ",".join(place.hosts),
        "PGPORT": str(database.PORT),
        "PGUSER": place.bound.user,
        "PGPASSWORD": place.bound.password,
        "PGDATABASE": place.bound.name,
        "PGTARGETSESSIONATTRS": "read-write",
    }


def _path(place: Place) -> str:
    """The app's interpreter's programs first; PostgreSQL's, as tenfold has them, last."""
    programs = database.program("psql")
    last = str(programs.parent) if programs else ""
    return _joined(str(place.interpreter.parent), place.inherited.get("PATH", os.defpath), last)


def _joined(*parts: str) -> str:
    return os.pathsep.join(part for part in parts if part)
