"""What pytest loads: options, the fixtures, and the ends of a run. The entry point `tenfold` of the group `pytest11`.

In an environment with tenfold every pytest run comes by here: nothing is imported before it is needed, and nothing
happens where there is no project.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tenfold.testing import asynchrony, names, project

if TYPE_CHECKING:
    import httpx

    from tenfold.testing import cdn, queue, run, setting
    from tenfold.testing.simulate import Simulate

SETTING: "pytest.StashKey[setting.Setting]" = pytest.StashKey()
RUN: "pytest.StashKey[run.Run | Exception]" = pytest.StashKey()
"""The run; or why it did not start, so that it is not tried for each test again."""


class Hooks:
    """Hooks for conftest.py."""

    @pytest.hookspec
    def pytest_tenfold_template(self, url: str) -> None:
        """Migrate by other means than SQL files: `url` is the address of a database that is to be the template, and
        meanwhile `DATABASE_URL` too.

        Called once a run, after tenfold's own tables and the SQL files. Alembic: command.upgrade(config, "head").
        """


def pytest_addoption(parser: pytest.Parser) -> None:
    for name, text in project.OPTIONS.items():
        parser.addini(name, f"tenfold: {text}", default="")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(Hooks)


def pytest_configure(config: pytest.Config) -> None:
    plugins = config.pluginmanager
    plugins.register(asynchrony, "tenfold-anyio")
    if plugins.has_plugin("asyncio"):
        plugins.register(asynchrony.for_pytest_asyncio(), "tenfold-asyncio")
    found = project.find(config.getini, config.rootpath, config.args)
    if found is None:
        return
    if not plugins.has_plugin("django"):  # pytest-django has a `client` of its own
        plugins.register(names, "tenfold-names")
    if not _is_controller(config):
        _enter(config, found)


def _is_controller(config: pytest.Config) -> bool:
    """Whether this process only hands tests out (pytest-xdist)."""
    return not hasattr(config, "workerinput") and getattr(config.option, "dist", "no") != "no"


def _enter(config: pytest.Config, found: project.Project) -> None:
    from tenfold import bindings  # late: only where there is a project
    from tenfold.testing import setting

    worker: dict[str, str] = getattr(config, "workerinput", {})
    made = setting.Setting(found, worker.get("testrunuid") or setting.new_run(), worker.get("workerid", ""))
    # A DATABASE_URL of the user's own stays until a test asks for a database: it may be for tests that do not.
    made.enter(may_replace_url=not bindings.has_own_url())
    config.stash[SETTING] = made
    config.add_cleanup(made.leave)


@pytest.fixture
def _tenfold_run(request: pytest.FixtureRequest) -> "run.Run":
    """What this process's tests share, started now if this is the first."""
    stash = request.config.stash
    if RUN not in stash:
        stash[RUN] = _start(request.config)
    found = stash[RUN]
    if isinstance(found, Exception):
        pytest.fail(f"tenfold: {found}", pytrace=False)
    return found


def _start(config: pytest.Config) -> "run.Run | Exception":
    from tenfold import errors  # late, as below: this is the first test that needs any of it
    from tenfold.testing import run

    try:
        if SETTING not in config.stash:
            raise project.nothing_found()
        made = run.Run(config.stash[SETTING], lambda url: config.hook.pytest_tenfold_template(url=url))
        config.add_cleanup(made.close)
        made.start()
    except errors.TenfoldError as error:
        return error
    return made


@pytest.fixture
def tenfold_database(_tenfold_run: "run.Run", request: pytest.FixtureRequest) -> "Iterator[run.FreshDatabase]":
    """A fresh, migrated database for this test alone; `DATABASE_URL` and the app's bindings lead to it."""
    with _readable(), _tenfold_run.database(is_rehearsal="tenfold_simulate" in request.fixturenames) as found:
        yield found


@contextmanager
def _readable() -> Iterator[None]:
    """Errors that are for a person to read, without the traceback of the plugin."""
    from tenfold import errors

    try:
        yield
    except errors.TenfoldError as error:
        raise pytest.fail.Exception(f"tenfold: {error}", pytrace=False) from None


@pytest.fixture
def _tenfold_served(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(asynchrony.name_for(request))


@pytest.fixture
def tenfold_app(_tenfold_served: Any) -> Any:
    """The app, wrapped, its lifespan run on the loop of this test."""
    return _tenfold_served.app


@pytest.fixture
def tenfold_new_client(_tenfold_served: Any) -> "Callable[..., httpx.AsyncClient]":
    """Makes clients for the app: each is a user with cookies of their own."""
    made: Callable[..., httpx.AsyncClient] = _tenfold_served.new_client
    return made


@pytest.fixture
def tenfold_client(_tenfold_served: Any) -> "httpx.AsyncClient":
    """An httpx.AsyncClient for the app that keeps its cookies."""
    made: httpx.AsyncClient = _tenfold_served.new_client()
    return made


@pytest.fixture
def tenfold_queue(_tenfold_served: Any) -> "queue.Queue":
    """What the app publishes, and `await queue.drain()` to handle it: subscribers do not start by themselves."""
    from tenfold.testing import queue

    return queue.Queue(_tenfold_served.tf)


@pytest.fixture
def tenfold_cdn(_tenfold_served: Any) -> "Iterator[cdn.Cdn]":
    """What the app purges; no edges are needed for that."""
    from tenfold.testing import cdn

    made = cdn.Cdn(_tenfold_served.tf)
    yield made
    made.close()


@pytest.fixture
def tenfold_simulate(_tenfold_run: "run.Run", tenfold_database: object) -> "Iterator[Simulate]":
    """What production will do to the app. Such a test has a PostgreSQL of its own, which may be killed."""
    from tenfold.testing import simulate

    made = simulate.Simulate(_tenfold_run)
    yield made
    made.ensure_used()
