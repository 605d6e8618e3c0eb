"""The shop's journeys against the real shop: granian, a primary, and a replica that may lag."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import postgres_cluster, shop_service
from tenfold import bindings, traffic
from tenfold.kit import clock, enclosure
from tenfold.traffic import connection, cookies, journeys, verify

pytestmark = pytest.mark.anyio

NETWORK = 11
ADDRESS, PORT = "127.11.4.1", 8000
KINDS = {"account", "order"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module, whose shop it owns."""
    return "asyncio"


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[postgres_cluster.Cluster]:
    folder = tmp_path_factory.mktemp("shop")
    async with postgres_cluster.cluster(folder, NETWORK, replicas=1) as cluster:
        await shop_service.migrated(cluster)
        shop_service.write_bindings(folder / "bindings.json", cluster.bound)
        machine = await enclosure.make("test-traffic-shop", folder / "machine.log")
        try:
            await start_granian(machine, folder)
            yield cluster
        finally:
            await machine.cut()


async def start_granian(machine: enclosure.Enclosure, folder: Path) -> None:
    """The shop's web server, ready on return."""
    log = folder / "granian.log"
    env = {**os.environ, "TENFOLD_BINDINGS": str(folder / "bindings.json"), "SHOP_PASSWORD_COST": "8"}
    argv = [sys.executable, "-m", "granian", "shop.web:app", "--interface", "asgi", "--host", ADDRESS]
    argv += ["--port", str(PORT), "--working-dir", str(shop_service.FOLDER)]
    await machine.spawn("web", argv, env=env, log=log, directory=shop_service.FOLDER)

    async def answers() -> bool:
        opened = await connection.open_connection(connection.Origin("http", ADDRESS, PORT))
        if isinstance(opened, connection.Failure):
            return False
        opened.close()
        return True

    assert await clock.until(answers, seconds=20), log.read_text()


async def test_the_shop_keeps_every_write_and_shows_each_session_its_own(
    cluster: postgres_cluster.Cluster, tmp_path: Path
) -> None:
    await cluster.replicas[0].delay_replay(300)
    plan = journeys.load("load.py", shop_service.FOLDER)
    path = tmp_path / "run.ledger"

    async with traffic.Load(f"http://{ADDRESS}:{PORT}", plan, rate=60, seconds=6, users=8, ledger_path=path) as load:
        await load.wait()

    report = load.report
    assert {} == report.failures
    assert report.own_reads > 10
    bound = bindings.Bindings(service=bindings.Service(name="shop"), database=cluster.bound)
    verdict = await verify.verify_service(path, bound, plan.checks)
    assert KINDS == {one.kind for one in verdict.kinds}
    assert verdict.is_clean, verdict
    assert {"sign up", "order", "add to cart", "catalogue page", "product page"} <= set(report.by_name)
    assert report.by_name["sign up"].count < 0.05 * report.requests


async def test_the_journeys_do_find_stale_reads_when_a_browser_forgets_its_positions(
    cluster: postgres_cluster.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.replicas[0].delay_replay(300)
    take = cookies.Jar.take

    def without_positions(jar: cookies.Jar, header: str, path: str, is_secure: bool, now: float) -> None:
        if not header.startswith("shop-pos-"):
            take(jar, header, path, is_secure, now)

    monkeypatch.setattr(cookies.Jar, "take", without_positions)
    plan = journeys.load("load.py:buy", shop_service.FOLDER)

    async with traffic.Load(f"http://{ADDRESS}:{PORT}", plan, rate=60, seconds=3, users=8) as load:
        await load.wait()

    old_carts = load.report.failures.get(connection.Reason.WRONG)
    assert load.report.stale_reads + (old_carts.count if old_carts else 0) > 0
    assert not load.report.is_clean
