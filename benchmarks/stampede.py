"""Many processes, one cold key, one second of work: `python benchmarks/stampede.py [--rounds 3]`.

4 processes with 25 tasks each ask for the same key at once, by tf.cache.get_or_load and by cashews with `lock=True`,
turn by turn on the same server. Prints how often the loader ran, how long the last caller waited, and how many
commands the server was asked in all.

Needs `pip install -r benchmarks/requirements.lock`.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import cache_process, postgres_cluster, valkey_servers
from tenfold import bindings
from tenfold.sdk.db import schema

PROCESSES, TASKS, SECONDS = 4, 25, 1.0

OWN = {"info", "auth", "config|resetstat", "ping"}


async def rival(url: str, key: str) -> None:
    """One process of cashews': as `cache_process.py load`."""
    from cashews import cache

    cache.setup(url)
    await cache.ping()

    @cache(ttl="60s", key="{key}", lock=True)
    async def load(key: str) -> str:
        print("loading", flush=True)
        await asyncio.sleep(SECONDS)
        return f"loaded {key}"

    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    began = time.monotonic()
    answers = await asyncio.gather(*(load(key) for _ in range(TASKS)))
    print(f"{'|'.join(set(answers))} {time.monotonic() - began:.3f}", flush=True)
    await asyncio.Event().wait()


@asynccontextmanager
async def cashews(url: str, key: str) -> AsyncIterator[cache_process.Other]:
    """One of its processes."""
    pipe = asyncio.subprocess.PIPE
    argv = (sys.executable, __file__, "--rival", url, key)
    made = cache_process.Other(
        await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, start_new_session=True)
    )
    try:
        yield made
    finally:
        made.kill()
        await made.process.wait()


async def measure(others: list[cache_process.Other], server: valkey_servers.Server) -> tuple[int, float, int]:
    """Loads, the last caller's seconds, commands."""
    for one in others:
        assert await one.line() == "ready"
    await asyncio.sleep(0.5)
    await server.ask("CONFIG", "RESETSTAT")
    for one in others:
        one.say("go")
    loads, last = 0, 0.0
    for one in others:
        while (said := await one.line()) == "loading":
            loads += 1
        last = max(last, float(said.rpartition(" ")[2]))
    rows = (await server.ask("INFO", "commandstats")).splitlines()
    counts = [row.split(":", 1) for row in rows if row.startswith("cmdstat_")]
    asked = sum(
        int(rest.split("calls=")[1].split(",")[0]) for name, rest in counts if name.removeprefix("cmdstat_") not in OWN
    )
    return loads, last, asked


async def main(rounds: int, network: int) -> None:
    """Start a database and a server, measure, print."""
    seen: dict[str, list[tuple[int, float, int]]] = {"tf.cache": [], "cashews": []}
    with tempfile.TemporaryDirectory(prefix="tenfold-bench-") as name:
        folder = Path(name)
        async with (
            postgres_cluster.cluster(folder, network, 0) as cluster,
            valkey_servers.started(folder / "cache", network) as servers,
        ):
            await cluster.primary.script(schema.statements(postgres_cluster.USER))
            service = bindings.Service(name="shop")
            bound = bindings.Bindings(service=service, database=cluster.bound, cache=servers.bound)
            server = servers.servers[0]
            url = f"redis://{valkey_servers.USER}:{valkey_servers.PASSWORD}@{server.host}:{valkey_servers.PORT}"
            for number in range(rounds):
                key = f"cold:{number}"
                role = ("load", key, str(TASKS), str(SECONDS))
                async with AsyncExitStack() as stack:
                    enter = stack.enter_async_context
                    ours = [await enter(cache_process.started(folder, bound, *role)) for _ in range(PROCESSES)]
                    seen["tf.cache"].append(await measure(ours, server))
                async with AsyncExitStack() as stack:
                    theirs = [await stack.enter_async_context(cashews(url, key)) for _ in range(PROCESSES)]
                    seen["cashews"].append(await measure(theirs, server))
    print(f"{'':12}{'loads':>8}{'last caller':>14}{'commands':>12}")
    for name, rows in seen.items():
        loads, last, asked = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{name:12}{loads:>8.0f}{last:>12.3f} s{asked:>12.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--network", type=int, default=63, help="the second number of 127.N.0.0/16")
    parser.add_argument("--rival", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rival:
        uvloop.run(rival(*arguments.rival))
    else:
        uvloop.run(main(arguments.rounds, arguments.network))
