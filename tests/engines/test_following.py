"""The runtime waits until every process of the app goes by the bindings as they are."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.topologies import topology
from tenfold import bindings, engines, errors
from tenfold.observation import snapshot
from tenfold.runtime import following, paths, publish, records, seats
from tenfold.topology import layout

pytestmark = pytest.mark.anyio

SECRETS = engines.Secrets(*["secret"] * 11)
WANTED = topology(
    balancer={}, web={"servers": 1, "workers_per_server": 2}, workers={"servers": 1}, sessions={"store": "token"}
)


class Processes:
    """What two web processes and a worker say at `/-/load`; connections meet the web processes in turn."""

    def __init__(self) -> None:
        self.said = {"web-1": ["old", "old"], "worker-1": ["old"]}
        self._turn = 0

    async def answer(self, server: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self._turn += 1
        number = self._turn % len(self.said[server])
        body = json.dumps({"pid": 1 + number, "bindings": self.said[server][number]}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()


@pytest.fixture
async def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> seats.Seats:
    where = paths.Paths(tmp_path / "tenfold.toml")
    where.make()
    store = records.Store(where.records, records.Records(network=77))
    made = seats.Seats(where, store, SECRETS, WANTED)
    publish.write(made, ("database-1",), snapshot.Told(store="token"))
    running = [(made.seat("web-1", "granian"), 2), (made.seat("worker-1", "worker"), 1)]
    monkeypatch.setattr(following, "_ready", lambda _: running)
    return made


@pytest.fixture
async def processes(places: seats.Seats) -> AsyncIterator[Processes]:
    made = Processes()
    servers = []
    for name, engine in (("web-1", "granian"), ("worker-1", "worker")):

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str = name) -> None:
            await made.answer(name, reader, writer)

        seat = places.seat(name, engine)
        servers.append(await asyncio.start_server(answer, seat.address, layout.PORTS[engine]))
    yield made
    for one in servers:
        one.close()
        await one.wait_closed()


async def test_a_process_that_lags_behind_is_named_and_waited_for(places: seats.Seats, processes: Processes) -> None:
    bound = publish.published(places)
    assert bound is not None
    new = bindings.digest(bound)
    processes.said = {"web-1": [new, "old"], "worker-1": [new]}

    assert ("web-1",) == await following.followed(places, 0.3)
    with pytest.raises(errors.EngineFailed, match="the app on web-1 has not read"):
        await following.ensure_followed(places, 0.3)

    waiting = asyncio.create_task(following.followed(places, 10.0))
    await asyncio.sleep(0)
    processes.said["web-1"] = [new, new]
    assert () == await waiting
