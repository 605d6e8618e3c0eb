"""`postgres://`, `valkey://`, `nats://` and `edge://` addresses, for servers that the runtime does not run,
as bindings.

Called by `sdk/service`. Pure.
"""

from collections.abc import Sequence
from urllib.parse import SplitResult, unquote, urlsplit

from tenfold import bindings, errors

FORM = "postgres://USER:PASSWORD@HOST[:PORT]/NAME"
CACHE_FORM = "valkey://[USER:PASSWORD@]HOST[:PORT]"
QUEUE_FORM = "nats://USER:PASSWORD@HOST[:PORT]"
EDGE_FORM = "edge://:KEY@HOST[:PORT]"


def database(urls: Sequence[str]) -> bindings.Database:
    """One shard whose nodes are these. Raises BadBindings, whose message never holds the address and its password."""
    parsed = [_parse(number, url) for number, url in enumerate(urls, 1)]
    first = parsed[0]
    for number, other in enumerate(parsed, 1):
        if (other.username, other.password, other.path) != (first.username, first.password, first.path):
            raise errors.BadBindings(
                f"Tenfold(database=...): address {number} has another user, password or database name than address 1; "
                "all addresses are copies of one database, give them the same"
            )
    nodes = tuple(bindings.DatabaseNode(name=_name(one), host=_host(one), port=one.port or 5432) for one in parsed)
    return bindings.Database(
        shards=(bindings.Shard(nodes=nodes),),
        name=unquote(first.path[1:]),
        user=unquote(first.username or ""),
        password=unquote(first.password or ""),
    )


def cache(urls: Sequence[str]) -> bindings.Cache:
    """One Valkey, or the servers of one cluster. Raises BadBindings, whose message never holds the address."""
    parsed = [
        _parse_server("cache", number, url, ("valkey", "redis"), CACHE_FORM) for number, url in enumerate(urls, 1)
    ]
    first = parsed[0]
    for number, other in enumerate(parsed, 1):
        if (other.username, other.password) != (first.username, first.password):
            raise errors.BadBindings(
                f"Tenfold(cache=...): address {number} has another user or password than address 1; all addresses are "
                "servers of one cluster, give them the same"
            )
    return bindings.Cache(
        nodes=tuple(
            bindings.CacheNode(name=f"{_host(one)}:{one.port or 6379}", host=_host(one), port=one.port or 6379)
            for one in parsed
        ),
        user=unquote(first.username or ""),
        password=unquote(first.password or ""),
    )


def queue(urls: Sequence[str]) -> bindings.Queue:
    """One NATS server, or those of one cluster. Raises BadBindings, whose message never holds the address."""
    parsed = [_parse_server("queue", number, url, ("nats",), QUEUE_FORM) for number, url in enumerate(urls, 1)]
    first = parsed[0]
    for number, other in enumerate(parsed, 1):
        if (other.username, other.password) != (first.username, first.password):
            raise errors.BadBindings(
                f"Tenfold(queue=...): address {number} has another user or password than address 1; all addresses are "
                "servers of one cluster, give them the same"
            )
    return bindings.Queue(
        transport="nats",
        nodes=tuple(
            bindings.QueueNode(name=f"{_host(one)}:{one.port or 4222}", host=_host(one), port=one.port or 4222)
            for one in parsed
        ),
        user=unquote(first.username or ""),
        password=unquote(first.password or ""),
        replicas=min(3, len(parsed)),
    )


def cdn(urls: Sequence[str], static: str) -> bindings.Cdn:
    """Edges with one key, and a folder of static files. Raises BadBindings, whose message never holds the address."""
    parsed = [_parse_server("cdn", number, url, ("edge",), EDGE_FORM) for number, url in enumerate(urls, 1)]
    if len({one.password for one in parsed}) > 1 or not all(one.password for one in parsed):
        raise errors.BadBindings(f"Tenfold(cdn=...): no key or several found, one for all edges expected: {EDGE_FORM}")
    return bindings.Cdn(
        nodes=tuple(
            bindings.EdgeNode(name=f"{_host(one)}:{one.port or 6083}", host=_host(one), port=one.port or 6083)
            for one in parsed
        ),
        key=unquote(parsed[0].password or "") if parsed else "",
        static=static,
    )


def _parse_server(option: str, number: int, url: str, schemes: Sequence[str], form: str) -> SplitResult:
    """An address that is a server and nothing more."""
    try:
        parsed = urlsplit(url)
        is_complete = parsed.scheme in schemes and bool(parsed.hostname) and parsed.port != 0
    except ValueError:  # its text holds the address: not for a message
        is_complete = False
    if not is_complete or parsed.path.strip("/") or parsed.query:
        raise errors.BadBindings(f"Tenfold({option}=...): address {number}: another form found, {form} expected")
    return parsed


def _parse(number: int, url: str) -> SplitResult:
    try:
        parsed = urlsplit(url)
        is_complete = parsed.scheme in ("postgres", "postgresql") and all((parsed.hostname, parsed.username))
        is_complete = is_complete and parsed.port != 0
    except ValueError:  # its text holds the address: not for a message
        raise errors.BadBindings(
            f"Tenfold(database=...): address {number}: no address found, {FORM} expected"
        ) from None
    if not is_complete or len(parsed.path) < 2 or parsed.query:
        found = f"the query ?{parsed.query}" if is_complete and parsed.query else "another form"
        raise errors.BadBindings(f"Tenfold(database=...): address {number}: {found} found, {FORM} expected")
    return parsed


def _host(parsed: SplitResult) -> str:
    return parsed.hostname or ""


def _name(parsed: SplitResult) -> str:
    return f"{parsed.hostname}:{parsed.port or 5432}"
