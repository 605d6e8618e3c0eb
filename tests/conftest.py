"""What every test shares: its neighbours, the event loop, the options `--seed` and `--torture`, and the seed."""

import random
from collections.abc import Iterator
from pathlib import PurePath

import pytest
from xdist.scheduler import LoadScopeScheduling

from support import sockets


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tenfold")
    group.addoption("--seed", type=int, default=None, help="repeat a run whose random choices printed this seed")
    group.addoption("--torture", action="store_true", help="run the long tests too (`make torture`)")


TOGETHER = {
    "databases": ("test_contract", "test_etcd", "test_patroni", "test_postgres"),
    "balancers": ("test_haproxy",),
    "reads": ("test_sdk_reads",),
    "writes": ("test_sdk_writes", "test_sdk_idempotency", "test_lost_commit"),
    "shop": ("test_shop", "test_migrate"),
    "traffic": ("test_traffic",),
    "queue": ("test_queue", "test_worker"),
    "sqlalchemy": ("test_sqlalchemy",),
    "cache": ("test_cache",),
    "puts": ("test_write_back", "test_stampede", "test_shared_cache"),
    "cache servers": ("test_valkey", "test_nats"),
    "sessions": ("test_session", "test_tokens"),
    "freshness": ("test_invalidation", "test_stale_set"),
}
"""Test modules that use the same addresses never run at the same time; every other module is a group of its own."""

LOADS = frozenset(
    f"test_{name}"
    for name in (
        *("autoscaling", "climb", "deploy", "dns", "edges", "failures", "home_moves", "new_tiers_fail", "region_lost"),
        *("regions", "regions_synchronous", "runtime_dies", "tls"),
    )
)
"""Journeys that put a whole service under load: one after the other, for two of them would want more than two cores."""


def _group(nodeid: str) -> str:
    path = PurePath(nodeid.split("::", maxsplit=1)[0])
    if path.parent.name == "journeys" and path.stem in LOADS:
        return "loads"
    return next((name for name, stems in TOGETHER.items() if path.stem.startswith(stems)), path.stem)


class _ByAddresses(LoadScopeScheduling):
    """The modules of a group go to the same worker."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """How tests are given to workers, with `-n` and `--dist loadscope`."""
    return _ByAddresses(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long runs out unless they were asked for; the longest group is the first to begin."""
    items.sort(key=lambda item: _group(item.nodeid) != "loads")
    if config.getoption("--torture"):
        return
    torture = [item for item in items if item.get_closest_marker("torture")]
    if torture:
        config.hook.pytest_deselected(items=torture)
        items[:] = [item for item in items if not item.get_closest_marker("torture")]


def pytest_configure(config: pytest.Config) -> None:
    """One seed a run, printed in the header, so that a failure can be repeated."""
    if config.getoption("--seed") is None:
        config.option.seed = random.SystemRandom().randrange(2**32)


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.getoption('--seed')} (repeat with --seed)"


@pytest.fixture(scope="session", autouse=True)
def no_sockets_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Folders of sockets lie outside pytest's own where its paths are too long for them: they go with the run."""
    yield
    sockets.remove_below(tmp_path_factory.getbasetemp())


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Async tests run on asyncio's own loop: its debug output and its warnings are the clearest."""
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The run's seed."""
    return int(request.config.getoption("--seed"))


@pytest.fixture
def chance(seed: int, request: pytest.FixtureRequest) -> random.Random:
    """Random choices that `--seed` repeats, independent of which other tests run."""
    return random.Random(f"{seed}:{request.node.nodeid}")
