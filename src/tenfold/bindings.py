"""What the runtime tells an app: endpoints and secrets, in one file that it rewrites and the SDK watches.

Written by `runtime/publish`, read by `sdk`. Together with `cli/` the only reader of the environment.
The file holds passwords: 0600, replaced atomically, never logged.
"""

import hashlib
import hmac
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import msgspec

from tenfold import errors

VARIABLE = "TENFOLD_BINDINGS"
"""The environment variable that names the bindings file."""

SERVER_VARIABLE = "TENFOLD_SERVER"
"""The environment variable that names the server a process runs on: for the app to show or to log."""

RELEASE_VARIABLE = "TENFOLD_RELEASE"
"""The environment variable with the version of the release a web server runs: for the app to show or to log."""

APP_VARIABLE = "TENFOLD_APP"
"""The environment variable with the application, `module:attribute`, of a process whose web group has its own."""

FACTORY_VARIABLE = "TENFOLD_FACTORY"
"""The environment variable with the application factory, in the place of `TENFOLD_APP`."""

ROLE_VARIABLE = "TENFOLD_ROLE"
"""The environment variable that makes a process of the app a worker: `worker`. Absent: it serves requests."""

IMPORTS_VARIABLE = "TENFOLD_IMPORTS"
"""The environment variable that names the modules a worker imports besides the app: for the app to show or to log."""

URL_VARIABLE = "DATABASE_URL"
"""The environment variable with the database's address, for code that does not use the SDK."""


class DatabaseNode(msgspec.Struct, frozen=True, kw_only=True):
    """One PostgreSQL: a primary or a replica, which one is for the SDK's own probes to find out."""

    name: str
    host: str
    port: int = 5432
    region: str = "home"


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes that hold one shard, and its epoch."""

    number: int = 0
    epoch: int = 1
    nodes: tuple[DatabaseNode, ...] = ()


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the database, and the defaults that the topology sets."""

    shards: tuple[Shard, ...]
    name: str
    user: str
    password: str
    pool_size: int = 20
    """Connections that one web process may open to one node."""
    unknown_client: str = "eventual"
    """The consistency of a read by a client that brought no position."""
    witnesses: tuple[str, ...] = ()
    """Two regions or more: a commit counts when one of them that is not the primary's has it, too. Empty: at once."""


class CacheNode(msgspec.Struct, frozen=True, kw_only=True):
    """One Valkey: a primary or a replica, which one is for the SDK to ask the cluster."""

    name: str
    host: str
    port: int = 6379


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """The cache: what each process keeps itself, and the servers that all share."""

    nodes: tuple[CacheNode, ...] = ()
    """Empty: there is no shared cache, each process has its own alone. More than one: a cluster."""
    user: str = "app"
    password: str = ""
    eviction: str = "lru"
    """What the servers forget first when they are full: `lru`, `lfu` or `fifo`."""
    local_bytes: int = 32 * 1024**2
    """What one process keeps itself, in bytes."""
    local_entries: int | None = None
    """How many values one process keeps itself; None: as many as fit into `local_bytes`."""
    local_eviction: str = "s3fifo"
    """What a process forgets first: `lru`, `lfu`, `fifo` or `s3fifo`."""


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """Where the sessions of the service's users are."""

    store: str = "database"
    """`database`, `cache`, `token` or `memory`."""
    former: tuple[str, ...] = ()
    """Stores that sessions may still be in while the service moves from them to `store`, in the order to ask them."""
    life_seconds: float = 30 * 86400.0
    """How long a session lives after its last change or renewal."""
    is_eager: bool = False
    """Whether every request loads its session before the app sees it."""


class QueueNode(msgspec.Struct, frozen=True, kw_only=True):
    """One NATS server."""

    name: str
    host: str
    port: int = 4222
    region: str = ""
    """Empty: there is one region."""


class QueueRegion(msgspec.Struct, frozen=True, kw_only=True):
    """The queue servers of another region, which keep a copy of the messages."""

    name: str
    domain: str
    """The name of their JetStream."""
    nodes: tuple[QueueNode, ...] = ()
    """At the addresses where the region that is told meets them."""


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """How messages travel."""

    transport: str = "postgres"
    """`postgres` or `nats`."""
    former: str = ""
    """The transport that may still hold messages while the service moves from it; empty: none."""
    nodes: tuple[QueueNode, ...] = ()
    """Those of the home region."""
    domain: str = ""
    """The name of the JetStream of the region that is told, whoever is home; empty: its servers have none."""
    mirrors: tuple[QueueRegion, ...] = ()
    """The queue servers of all regions but the one that is told."""
    user: str = "app"
    password: str = ""
    replicas: int = 1
    """On how many servers a message is before it counts as published."""
    storage_bytes: int = 1024**3
    """What each NATS server keeps of messages at most; when it is full publishers are refused."""
    handled_by: str = "web"
    """Which processes run the subscribers: `web` (in their spare time) or `workers`."""
    concurrency: int = 64
    """Messages that one process handles at once, all subscribers together."""
    most_bytes: int = 1024 * 1024
    """The largest message, in bytes."""
    imports: tuple[str, ...] = ()
    """Modules that workers import besides the app: subscribers register on import."""


class EdgeNode(msgspec.Struct, frozen=True, kw_only=True):
    """One edge of the content delivery network: where it takes purges."""

    name: str
    host: str
    port: int = 6083
    region: str = "home"


class Cdn(msgspec.Struct, frozen=True, kw_only=True):
    """The edges before the web servers, and the static files that they keep."""

    nodes: tuple[EdgeNode, ...] = ()
    """Every edge, of every region, that may hold something; empty: there are none."""
    key: str = ""
    """What a purge must say in the header Tenfold-Key."""
    static: str = ""
    """The folder of static files, relative to the folder that the app is imported from; empty: none."""
    static_path: str = "/static/"
    """The path that they are served below."""


class HomeDoor(msgspec.Struct, frozen=True, kw_only=True):
    """One balancer of the home region: where it takes requests that came to another region."""

    name: str
    host: str
    port: int = 8082


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """The service and its app. Exactly one of `app` and `factory` is set (`module:attribute`)."""

    name: str
    app: str = ""
    factory: str = ""
    directory: str = "."
    secret: str = ""
    """Signs cookies; hex, 32 bytes."""
    former_secrets: tuple[str, ...] = ()
    """Secrets from before, newest first: what they have signed or sealed still counts, nothing new is."""
    request_seconds: float = 10.0
    """How long a request may take until its response starts."""
    max_requests: int = 512
    """Requests that one web process works on at once; more are answered 503 early."""
    most_waiting: int = 0
    """Before that, requests that may wait at the process's door for a place; 0: none."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses whose X-Forwarded-* headers are believed: the balancers'."""


class Bindings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an app needs to know about where it runs."""

    version: int = 1
    """The form of this file."""
    service: Service
    database: Database | None = None
    cdn: Cdn = Cdn()
    cache: Cache = Cache()
    sessions: Sessions = Sessions()
    queue: Queue = Queue()
    region: str = "home"
    """Where the app is."""
    home: str = "home"
    """The region where writes go."""
    home_doors: tuple[HomeDoor, ...] = ()
    """Where that region takes a request that turns out to write here; empty: this is the home."""


def private_key(secret: str) -> str:
    """What the runtime says in the header Tenfold-Key, to be shown a web process's private pages (`/-/load`).

    It opens nothing else: the debug key, which developers have, is another one.
    """
    return _key(secret, b"tenfold private pages")


def debug_key(secret: str) -> str:
    """What a request must say in the header Tenfold-Debug to get its own trace back. Never logged."""
    return _key(secret, b"tenfold debug header")


def is_key(said: bytes, key: str) -> bool:
    """Whether this is the key that was said; takes as long for a wrong one as for the right one."""
    return hmac.compare_digest(said, key.encode())


def _key(secret: str, purpose: bytes) -> str:
    """A key for one purpose, from which nobody can tell the service's secret."""
    return hmac.digest(secret.encode(), purpose, hashlib.sha256).hex()


def path_from_environment() -> Path | None:
    """The bindings file named by the environment, or None outside the runtime."""
    value = os.environ.get(VARIABLE)
    return Path(value) if value else None


def server_from_environment() -> str:
    """The name of the server that this process runs on; empty outside the runtime."""
    return os.environ.get(SERVER_VARIABLE, "")


def release_from_environment() -> str:
    """The version of the release that this process runs, in the folder of that name; empty: the files as they stand."""
    return os.environ.get(RELEASE_VARIABLE, "")


def is_worker() -> bool:
    """Whether this process handles messages, and no requests."""
    return os.environ.get(ROLE_VARIABLE) == "worker"


def has_own_url() -> bool:
    """Whether the environment has a `DATABASE_URL` that is not the runtime's."""
    return bool(os.environ.get(URL_VARIABLE)) and not os.environ.get(VARIABLE)


def app_from_environment() -> tuple[str, str]:
    """This process's own application and factory (`module:attribute`); both empty: the service's."""
    return os.environ.get(APP_VARIABLE, ""), os.environ.get(FACTORY_VARIABLE, "")


def load(path: Path) -> Bindings:
    """The bindings in the file. Raises `BadBindings` when it is missing or not of this form."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Bindings)
    except OSError as error:
        raise errors.BadBindings(f"{path}: cannot be read ({error.strerror}); is `tenfold up` running?") from error
    except msgspec.DecodeError as error:
        raise errors.BadBindings(
            f"{path}: {error} found, bindings of version 1 expected; run `tenfold up` to write it anew"
        ) from error


def dump(bindings: Bindings) -> bytes:
    """The file's content for these bindings."""
    return msgspec.json.format(msgspec.json.encode(bindings), indent=2)


def digest(bindings: Bindings) -> str:
    """A short name of these bindings, by which a process says which ones it goes by. Tells nobody what they hold."""
    return hashlib.sha256(dump(bindings)).hexdigest()[:16]


def database_url(hosts: Sequence[str], user: str, password: str, name: str, scheme: str = "postgresql") -> str:
    """The database's address for libraries other than the SDK: whichever of the hosts takes writes now.

    This form, with the hosts in the query, is the one that libpq (psql, psycopg), asyncpg, both SQLAlchemy dialects and
    dj-database-url all read. They try the hosts in their order, at each new connection. Holds the password: never for
    a message or a log.
    """
    user, password, name = (quote(part, safe="") for part in (user, password, name))
    ports = ",".join(["5432"] * len(hosts))
    query = f"host={','.join(hosts)}&port={ports}&target_session_attrs=read-write"
    return f"{scheme}://{user}:{password}@/{name}?{query}"
