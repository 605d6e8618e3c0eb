"""What a session costs a request: `python benchmarks/sessions.py [--rounds 9] [--requests 300]`.

Requests of one visitor, one after the other, through the middleware and a bare ASGI app in one process: untouched,
read, and changed, on each store, interleaved, so that what else the machine does hits all alike. A real PostgreSQL that
writes without fsync, and one real Valkey, all on this machine: round trips, no network. Prints medians in microseconds.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import asgi, session_sites, valkey_servers, write_database
from tenfold import Tenfold, bindings
from tenfold.sdk.asgi import protocol

STORES = ("database", "cache", "token", "memory")
WAYS = ("untouched", "read", "changed")
NETWORK = 66


class App:
    """Does to the session what the path says."""

    def __init__(self, tf: Tenfold) -> None:
        self._tf = tf

    async def __call__(self, scope: protocol.Scope, receive: protocol.Receive, send: protocol.Send) -> None:
        path = scope["path"]
        if path != "/untouched":
            session = await self._tf.session(scope)
            if path == "/changed":
                session["count"] = session.get("count", 0) + 1
            else:
                assert session["count"]
        await asgi.answer(send)


async def microseconds(wrapped: protocol.App, way: str, cookie: str, requests: int) -> tuple[float, str]:
    """What one request takes, and the visitor's cookie afterwards."""
    began = time.perf_counter()
    for _ in range(requests):
        answer = await asgi.get(wrapped, f"/{way}", headers=[(b"cookie", cookie.encode())])
        assert answer.status == 200
        given = [one for one in answer.all(b"set-cookie") if one.startswith("shop-session=")]
        cookie = given[0].partition(";")[0] if given else cookie
    return (time.perf_counter() - began) / requests * 1e6, cookie


async def measure(web: session_sites.Web, arguments: argparse.Namespace) -> None:
    wrapped = web.tf.wrap(App(web.tf))
    found: dict[tuple[str, str], list[float]] = {}
    cookies = dict.fromkeys(STORES, "")
    for number in range(arguments.rounds + 1):
        for store in STORES:
            web.use(bindings.Sessions(store=store))
            for way in ("changed", "read", "untouched"):
                taken, cookies[store] = await microseconds(wrapped, way, cookies[store], arguments.requests)
                if number:  # the first round warms up
                    found.setdefault((store, way), []).append(taken)
    print(f"{'microseconds':14}" + "".join(f"{way:>12}" for way in WAYS))
    for store in STORES:
        print(f"{store:14}" + "".join(f"{statistics.median(found[store, way]):12.0f}" for way in WAYS))


async def measure_tokens(tf: Tenfold, arguments: argparse.Namespace) -> None:
    count = arguments.requests
    began = time.perf_counter()
    made = [tf.tokens.issue(f"user-{number}") for number in range(count)]
    issued = time.perf_counter()
    for token in made:
        await tf.tokens.verify(token)
    first = time.perf_counter()
    for token in made:
        await tf.tokens.verify(token)
    again = time.perf_counter()
    took = [(later - earlier) / count * 1e6 for earlier, later in ((began, issued), (issued, first), (first, again))]
    print("tokens, us: issue {:.0f}, verify {:.0f} (first time), {:.0f} (known to the cache)".format(*took))


async def main(arguments: argparse.Namespace, database: bindings.Database, cache: bindings.Cache) -> None:
    async with session_sites.webs(database, cache, "memory") as (web,):
        await measure(web, arguments)
        await measure_tokens(web.tf, arguments)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=300)
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with (
            write_database.running(root, NETWORK) as cluster,
            valkey_servers.running(root / "cache", NETWORK, subnet=14) as servers,
        ):
            uvloop.run(main(said, cluster.bound, servers.bound))
