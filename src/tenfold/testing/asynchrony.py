"""The one async fixture, in as many forms as there are ways to run async tests: AnyIO's plugin, and pytest-asyncio's.

Each plugin runs the async fixtures that it knows, on the loop of the test that asks. So there is one fixture for AnyIO,
one for each loop scope of pytest-asyncio, and `name_for` says which of them a test needs. Registered by `plugin`; all
other fixtures are plain ones above it.
"""

from collections.abc import AsyncIterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from tenfold.testing import serving

LOOP_SCOPES: tuple[Literal["function", "class", "module", "package", "session"], ...] = (
    "function",
    "class",
    "module",
    "package",
    "session",
)

NOT_ASYNC = (
    "the fixtures app, client, new_client and tf live on the event loop of an async test. Write `async def`, and mark "
    "the test with @pytest.mark.anyio (AnyIO's plugin is there already) or @pytest.mark.asyncio (pip install "
    "pytest-asyncio). A plain test can have tenfold_database"
)

NOT_ASYNCIO = (
    "AnyIO runs this test on {backend}, and tenfold's SDK runs on asyncio. Put this into conftest.py:\n\n"
    '    @pytest.fixture\n    def anyio_backend():\n        return "asyncio"\n'
)


def name_for(request: pytest.FixtureRequest) -> str:
    """The name of the async fixture that the plugin of this test runs."""
    marker = request.node.get_closest_marker("asyncio")
    if marker is not None and request.config.pluginmanager.has_plugin("asyncio"):
        scope = marker.kwargs.get("loop_scope") or request.config.getini("asyncio_default_test_loop_scope")
        return _name(str(scope or "function"))
    if "anyio_backend" not in request.fixturenames:
        pytest.fail(NOT_ASYNC, pytrace=False)
    backend = request.getfixturevalue("anyio_backend")
    name = backend if isinstance(backend, str) else backend[0]
    if name != "asyncio":
        pytest.fail(NOT_ASYNCIO.format(backend=name), pytrace=False)
    return "_tenfold_served_by_anyio"


@pytest.fixture
async def _tenfold_served_by_anyio(_tenfold_run: Any, tenfold_database: object) -> "AsyncIterator[serving.Served]":
    async for served in _serve(_tenfold_run):
        yield served


def for_pytest_asyncio() -> ModuleType:
    """The same for pytest-asyncio: one a loop scope, because a fixture must run on the loop of its test."""
    import pytest_asyncio  # late: only where it is installed

    made = ModuleType("tenfold.testing.for_pytest_asyncio")  # pytest looks for fixtures in modules and classes
    for scope in LOOP_SCOPES:
        setattr(made, _name(scope), pytest_asyncio.fixture(_made(), name=_name(scope), loop_scope=scope))
    return made


def _made() -> Any:
    async def served(_tenfold_run: Any, tenfold_database: object) -> "AsyncIterator[serving.Served]":
        async for one in _serve(_tenfold_run):
            yield one

    return served


def _name(scope: str) -> str:
    return f"_tenfold_served_by_asyncio_{scope}"


async def _serve(shared: Any) -> "AsyncIterator[serving.Served]":
    from tenfold import errors  # late, as everything that loads more than pytest has loaded already
    from tenfold.testing import serving

    try:
        async with serving.serving(shared) as served:
            yield served
    except errors.BadInput as error:
        raise pytest.fail.Exception(f"tenfold: {error}", pytrace=False) from None
