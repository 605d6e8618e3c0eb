"""What every engine adapter keeps, on the real engine: started, adopted, stopped, killed, refused, misled.

A case says only what the engine needs around it; every promise is written once, for all of them.
"""

import dataclasses
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

import pytest

from support import databases, fake_engine, seats
from tenfold import bindings, engines
from tenfold.engines import etcd, granian, haproxy, nats, patroni, postgres, powerdns, valkey, varnish
from tenfold.kit import clock, files, process
from tenfold.topology import tiers

pytestmark = pytest.mark.anyio

ENGINES = {one.ENGINE.name: one.ENGINE for one in (etcd, granian, haproxy, nats, patroni, postgres, valkey, varnish)}
ENGINES |= {"powerdns": powerdns.ENGINE, "georoute": powerdns.GEOROUTE, "worker": granian.WORKER}

FAKE = "fake"
"""The tests' own engine keeps the contract too: what is tested with it holds for the others."""

APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""


async def _nothing(site: seats.Site) -> None:
    """An engine that needs nobody."""


async def _make_database(site: seats.Site) -> None:
    await databases.made(site, "database-1")


async def _start_coordination(site: seats.Site) -> None:
    await databases.coordination(site)


async def _launch_other_members(site: seats.Site) -> None:
    """One member alone has no quorum."""
    for number in (2, 3):
        await site.launch(site.seat(f"coordination-{number}", "etcd"))


async def _write_app(site: seats.Site) -> None:
    (site.folder / "served.py").write_text(APP)
    nowhere = bindings.DatabaseNode(name="database-1", host=f"127.{seats.NETWORK}.9.9")
    made = bindings.Bindings(
        service=bindings.Service(name="shop", app="served:app", directory=str(site.folder), secret="ab" * 32),
        database=bindings.Database(
            shards=(bindings.Shard(nodes=(nowhere,)),), name="shop", user="shop", password="none"
        ),
    )
    files.write_atomically(site.folder / "bindings.json", bindings.dump(made))


@dataclass(frozen=True)
class Case:
    """One engine and the least that it needs around it."""

    engine: str
    server: str
    surround: Callable[[seats.Site], Awaitable[None]] = _nothing
    name: str = ""
    """What stands in for the engine; empty: the engine itself."""
    beside: str = ""
    """A process on the same server that it asks as soon as it starts."""

    @property
    def adapter(self) -> engines.Engine:
        return fake_engine.engine(self.engine) if self.name == FAKE else ENGINES[self.engine]

    async def accompany(self, site: seats.Site) -> None:
        """Start what has to run beside it."""
        if self.beside:
            await site.start(site.seat(self.server, self.beside))

    def topology(self) -> tiers.Topology:
        """A shop whose front door is in the tests' network."""
        replicas = 1 if self.engine in ("patroni", "etcd") else 0
        return tiers.Topology.model_validate(
            {
                "service": {
                    "name": "shop",
                    "app": "served:app",
                    "listen": f"127.{seats.NETWORK}.0.1:8080",
                    "domain": "shop.test",
                },
                "dns": {"servers": 1},
                "database": {"placement": "own", "replicas": replicas, "memory": 32 * 1024**2},
                "cache": {"servers": 1},
                "cdn": {"edges": 1},
                "queue": {"servers": 1},
                "workers": {"servers": 1},
            }
        )


CASES = (
    Case("haproxy", "server-1"),
    Case("granian", "server-1", _write_app),
    Case("postgres", "database-1", _make_database),
    Case("patroni", "database-1", _start_coordination),
    Case("etcd", "coordination-1", _launch_other_members),
    Case("valkey", "cache-1"),
    Case("varnish", "edge-1"),
    Case("nats", "queue-1"),
    Case("georoute", "dns-1"),
    Case("powerdns", "dns-1", beside="georoute"),
    Case("worker", "worker-1", _write_app),
    Case("granian", "server-1", name=FAKE),
)


@pytest.fixture(params=CASES, ids=lambda case: case.name or case.engine)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
async def site(case: Case, tmp_path: Path) -> AsyncIterator[seats.Site]:
    async with seats.site(tmp_path, case.topology(), {**ENGINES, case.engine: case.adapter}) as made:
        await case.surround(made)
        await case.accompany(made)
        yield made


async def test_it_starts_is_found_again_and_stops_leaving_its_port_free(case: Case, site: seats.Site) -> None:
    seat, engine = site.seat(case.server, case.engine), case.adapter
    assert not (await engine.probe(seat)).is_ready, "ready before it was started"
    identity = await site.start(seat)
    assert (await engine.probe(seat)).is_ready

    assert identity == site.powered[case.server].find(seat.process.name), "a runtime that comes back would not find it"
    if engine.command(seat).pid_file is not None:
        assert identity == site.adopt(seat)

    assert await site.stop(seat), "it had to be killed"
    assert not (await engine.probe(seat)).is_ready
    assert _is_free(seat)


async def test_killed_it_is_seen_as_such_and_starts_again_on_what_it_left(case: Case, site: seats.Site) -> None:
    seat, engine = site.seat(case.server, case.engine), case.adapter
    identity = await site.start(seat)
    process.send(identity, SIGKILL)
    assert await process.gone(identity, 5)
    assert await clock.until(lambda: _is_unready(engine, seat), seconds=10)

    async def is_started() -> bool:
        """As the supervisor does: again, when what the dead one left behind was in the way at first."""
        try:
            await site.start(seat)
        except seats.NotReadyError:
            return False
        return True

    assert await clock.until(is_started, seconds=30, pause_seconds=0.2)
    assert (await engine.probe(seat)).is_ready


async def test_after_a_power_cut_it_starts_again_on_what_is_left(case: Case, site: seats.Site) -> None:
    seat, engine = site.seat(case.server, case.engine), case.adapter
    await site.start(seat)
    await site.cut(case.server)
    assert not (await engine.probe(seat)).is_ready
    assert _is_free(seat)
    await case.accompany(site)
    await site.start(seat, seconds=60)


async def test_beside_a_stranger_on_its_port_it_is_never_ready(case: Case, site: seats.Site) -> None:
    seat = site.seat(case.server, case.engine)
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind((seat.address, seat.process.port))
        stranger.listen()
        with pytest.raises(seats.NotReadyError) as failure:
            await site.start(seat, seconds=6)
    assert "in use" in str(failure.value) or "cannot bind" in str(failure.value), "its log does not say why"


async def test_with_settings_it_cannot_read_it_ends_and_says_so(case: Case, site: seats.Site) -> None:
    seat, engine = site.seat(case.server, case.engine), case.adapter
    spoiled = dict.fromkeys(engine.render(seat), "]nonsense[\n")
    site.engine_of = {**ENGINES, case.engine: dataclasses.replace(engine, render=lambda _: spoiled)}
    with pytest.raises(seats.NotReadyError):
        await site.start(seat, seconds=15)
    identity = site.running.get((case.server, seat.process.name))  # none, when it was gone before it was seen
    assert identity is None or not identity.is_alive, "it goes on with settings that nobody wrote"
    assert seats.log_of(seat), "it ended without a word"


async def test_what_it_is_started_with_depends_on_its_seat_alone_and_holds_no_password_in_argv(
    case: Case, site: seats.Site
) -> None:
    seat, engine = site.seat(case.server, case.engine), case.adapter
    assert engine.render(seat) == engine.render(seat)
    command = engine.command(seat)
    assert command == engine.command(seat)
    assert engine.locate() is not None
    for one in dataclasses.fields(seat.secrets):
        assert getattr(seat.secrets, one.name) not in " ".join(command.argv), one.name


async def _is_unready(engine: engines.Engine, seat: engines.Seat) -> bool:
    return not (await engine.probe(seat)).is_ready


def _is_free(seat: engines.Seat) -> bool:
    with socket.socket() as mine:
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            mine.bind((seat.address, seat.process.port))
        except OSError:
            return False
    return True
