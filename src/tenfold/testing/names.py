"""The fixtures' short names, registered only where there is a project: other plugins have a `client` too."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from tenfold import Tenfold
    from tenfold.testing.cdn import Cdn
    from tenfold.testing.queue import Queue
    from tenfold.testing.simulate import Simulate


@pytest.fixture
def app(tenfold_app: Any) -> Any:
    """The app, wrapped, its lifespan run."""
    return tenfold_app


@pytest.fixture
def tf(tenfold_app: Any) -> "Tenfold":
    """The app's Tenfold, started: `tf.db` is this test's database."""
    found: Tenfold = tenfold_app.service
    return found


@pytest.fixture
def client(tenfold_client: "httpx.AsyncClient") -> "httpx.AsyncClient":
    """An httpx.AsyncClient for the app that keeps its cookies."""
    return tenfold_client


@pytest.fixture
def new_client(tenfold_new_client: "Callable[..., httpx.AsyncClient]") -> "Callable[..., httpx.AsyncClient]":
    """`new_client()`: another user, with cookies of their own. Takes httpx.AsyncClient's arguments."""
    return tenfold_new_client


@pytest.fixture
def cdn(tenfold_cdn: "Cdn") -> "Cdn":
    """`cdn.purged` lists what the app has purged."""
    return tenfold_cdn


@pytest.fixture
def queue(tenfold_queue: "Queue") -> "Queue":
    """`await queue.drain()` handles what the app has published, `queue.published` lists it."""
    return tenfold_queue


@pytest.fixture
def simulate(tenfold_simulate: "Simulate") -> "Simulate":
    """`await simulate.failover()`, `.replica_lag(0.5)`, `.lost_commit()`: what production will do."""
    return tenfold_simulate
