"""How PostgreSQL is started and stopped, and its one-shot programs. Called by the runtime. Pure."""

from signal import SIGINT

from tenfold import engines
from tenfold.engines import database
from tenfold.engines.postgres import settings

_ENVIRONMENT = {"LC_ALL": "C"}


def command(seat: engines.Seat) -> engines.Command:
    """The server. SIGINT is its fast shutdown: open transactions end, standbys receive everything, then it stops.

    The starting and stopping times leave room for replaying and writing a checkpoint's worth of WAL.
    """
    data = settings.data_directory(seat)
    configuration = database.configuration_directory(seat) / "postgresql.conf"
    return engines.Command(
        argv=(settings.program("postgres"), "-D", str(data), "-c", f"config_file={configuration}"),
        env=_ENVIRONMENT,
        stop_signal=SIGINT,
        grace_seconds=60.0,
        start_seconds=60.0,
        pid_file=data / "postmaster.pid",
    )


def initialise(seat: engines.Seat) -> engines.Command:
    """initdb into the partial folder: see `admin.begin_copy` and `admin.finish_copy`."""
    return engines.Command(
        argv=(
            settings.program("initdb"),
            *("-D", str(settings.partial_directory(seat))),
            *("-U", database.SUPERUSER, "--auth=scram-sha-256"),
            f"--pwfile={database.configuration_directory(seat) / settings.PASSWORD_FILE}",
            *(f"--{option}" for option in database.INITDB_OPTIONS),
        ),
        env=_ENVIRONMENT,
        start_seconds=60.0,
    )


def base_backup(seat: engines.Seat, source: engines.Seat) -> engines.Command:
    """pg_basebackup from `source` into the partial folder, with the WAL it needs.

    The slot keeps the source's WAL until the standby streams: make it first (`admin.create_slot`).
    """
    return engines.Command(
        argv=(
            settings.program("pg_basebackup"),
            *("-D", str(settings.partial_directory(seat))),
            *("-h", source.address, "-p", str(database.PORT), "-U", database.REPLICATOR, "--no-password"),
            *("--wal-method=stream", "--checkpoint=fast"),
            f"--slot={database.slot_name(seat.server.name)}",
        ),
        env={**_ENVIRONMENT, "PGPASSFILE": str(settings.passfile(seat)), "PGSSLMODE": "disable"},
        start_seconds=6 * 3600.0,
    )


def control_data(seat: engines.Seat) -> engines.Command:
    """pg_controldata: what the cluster says of itself while it does not run (`admin.parse_control_data`)."""
    return engines.Command(
        argv=(settings.program("pg_controldata"), "-D", str(settings.data_directory(seat))), env=_ENVIRONMENT
    )


def psql(seat: engines.Seat, *arguments: str) -> engines.Command:
    """psql as the app's role, in the service's database. The password is in the environment, never in argv."""
    name = seat.topology.service.name
    return engines.Command(
        argv=(settings.program("psql"), "-h", seat.address, "-U", name, "-d", name, *arguments),
        env={"PGPASSWORD": seat.secrets.app, "PGSSLMODE": "disable", "PGAPPNAME": "tenfold psql"},
        start_seconds=24 * 3600.0,
    )
