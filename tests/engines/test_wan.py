"""The network between regions, with real connections: it takes its time, keeps the order, and breaks in silence."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from tenfold.kit import clock
from tenfold.wan import network, program

pytestmark = pytest.mark.anyio

NEAR, SEEN = "127.251.1.50", "127.251.16.50"
PORT, NOBODY = 7432, 7433
DELAY_SECONDS = 0.05


@dataclass
class Wan:
    """A network of two regions, and a server in one of them that gives back what it gets."""

    folder: Path
    running: program.Program

    def become(self, **link: object) -> None:
        """The link between the two is like this from now on."""
        road = network.Road(link="a-b", source="b", target="a", listen=SEEN, address=NEAR, ports=(PORT, NOBODY))
        found = network.Network(links=(network.Link(name="a-b", **link),), roads=(road,))
        (self.folder / network.FILE).write_bytes(msgspec.json.encode(found))

    async def followed(self) -> None:
        """It goes by what its files say now."""
        wanted = network.digest((self.folder / network.FILE).read_bytes())
        assert await clock.until(lambda: _is(self.running.digest == wanted), seconds=5)

    async def cut(self, *links: str) -> None:
        """Exactly these links are cut."""
        (self.folder / network.CUTS).write_bytes(msgspec.json.encode(links))
        assert await clock.until(lambda: _is([bool(links)] == [one.is_cut for one in self.links]), seconds=5)

    @property
    def links(self) -> tuple[network.Carried, ...]:
        return self.running.figures().links

    @property
    def way(self) -> network.Direction:
        """What has gone from who asks to who is asked."""
        return next(one for one in self.links[0].directions if one.source == "b")


async def _is(truth: bool) -> bool:
    return truth


@asynccontextmanager
async def wan(folder: Path, **link: object) -> AsyncIterator[Wan]:
    made = Wan(folder, program.Program(folder, "127.251.0.5", 5400))
    made.become(**link)
    server = await asyncio.start_server(_echo, NEAR, PORT)
    running = asyncio.create_task(made.running.run())
    try:
        assert await clock.until(lambda: _is(len(made.running.servers) == 2), seconds=5)
        yield made
    finally:
        running.cancel()
        server.close()
        with suppress(asyncio.CancelledError):
            await running


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def connected(port: int = PORT) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(SEEN, port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_everything_takes_the_delay_each_way_and_a_new_connection_a_round_trip_more(tmp_path: Path) -> None:
    async with wan(tmp_path, delay_seconds=DELAY_SECONDS), connected() as (reader, writer):
        first = await _round_trip(reader, writer)
        second = await _round_trip(reader, writer)

    assert 4 * DELAY_SECONDS <= first
    assert 2 * DELAY_SECONDS <= second < first


async def _round_trip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
    began = time.monotonic()
    writer.write(b"ping")
    assert b"ping" == await reader.readexactly(4)
    return time.monotonic() - began


async def test_jitter_never_changes_the_order_and_half_a_connection_may_close(tmp_path: Path) -> None:
    said = [f"{number:06}".encode() for number in range(2000)]
    async with wan(tmp_path, delay_seconds=0.001, jitter_seconds=0.02), connected() as (reader, writer):
        for one in said:
            writer.write(one)
            await asyncio.sleep(0)
        writer.write_eof()

        assert b"".join(said) == await reader.read(-1)


async def test_connections_share_the_bandwidth(tmp_path: Path) -> None:
    async with wan(tmp_path, bandwidth_bytes=1_000_000), connected() as one, connected() as other:
        began = time.monotonic()
        await asyncio.gather(*(_send(150_000, *pair) for pair in (one, other)))

        assert 0.28 <= time.monotonic() - began


async def _send(size: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(size))
    await reader.readexactly(size)


async def test_a_cut_is_silence_and_after_it_everything_arrives(tmp_path: Path) -> None:
    async with wan(tmp_path) as made, connected() as (reader, writer):
        await _round_trip(reader, writer)
        await made.cut("a-b")
        writer.write(b"late")
        async with connected() as (new_reader, new_writer):
            new_writer.write(b"new!")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readexactly(1), 0.5)
            assert not new_reader.at_eof()

            await made.cut()

            assert b"late" == await asyncio.wait_for(reader.readexactly(4), 5)
            assert b"new!" == await asyncio.wait_for(new_reader.readexactly(4), 5)


async def test_a_connection_that_nobody_takes_is_reset_and_counted(tmp_path: Path) -> None:
    async with wan(tmp_path) as made, connected(NOBODY) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), 5)

        assert (1, 1, 0) == (made.way.opened, made.way.refused, made.way.open)


async def test_links_change_while_they_carry_and_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    async with wan(tmp_path) as made, connected() as (reader, writer):
        await _round_trip(reader, writer)
        made.become(delay_seconds=DELAY_SECONDS)
        await made.followed()
        assert 2 * DELAY_SECONDS <= await _round_trip(reader, writer)

        (tmp_path / network.FILE).write_text("garbage")
        assert await clock.until(lambda: _is(bool(made.running.troubles)), seconds=5)
        assert 2 * DELAY_SECONDS <= await _round_trip(reader, writer)
        assert "network.json" in made.running.figures().troubles[0]


async def test_the_death_of_one_end_reaches_the_other(tmp_path: Path) -> None:
    async with wan(tmp_path, delay_seconds=0.01) as made:
        async with connected() as (reader, writer):
            await _round_trip(reader, writer)
            writer.transport.abort()

        assert await clock.until(lambda: _is(made.way.open == 0), seconds=5)
