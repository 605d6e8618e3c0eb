"""`Tenfold`: nothing happens at import, bindings are found or given, changes arrive, misuse is named."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tenfold
from support import asgi
from tenfold import bindings, errors
from tenfold.kit import clock, files
from tenfold.sdk import addresses, service, watch

pytestmark = pytest.mark.anyio

URL = "postgres://app:s%40cret@10.0.0.1/shop"


class Database:
    """`tf.db` without a database: notes what it is told."""

    def __init__(self) -> None:
        self.story: list[Any] = []

    async def start(self, database: bindings.Database, region: str = "home") -> None:
        self.story.append(("start", [node.host for node in database.shards[0].nodes]))

    def update(self, database: bindings.Database) -> None:
        self.story.append(("update", [node.host for node in database.shards[0].nodes]))

    async def stop(self) -> None:
        self.story.append("stop")


def made(**arguments: Any) -> tuple[service.Tenfold, Database]:
    tf, database = service.Tenfold(**arguments), Database()
    tf.db = database  # type: ignore[assignment]
    return tf, database


def write(path: Path, host: str = "10.0.0.1", **changes: Any) -> None:
    node = bindings.DatabaseNode(name="database-1", host=host)
    database = bindings.Database(shards=(bindings.Shard(nodes=(node,)),), name="shop", user="shop", password="pass")
    known = bindings.Service(**{"name": "shop", "secret": "5ec2e7", **changes})
    files.write_atomically(path, bindings.dump(bindings.Bindings(service=known, database=database)))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Bindings that the environment names."""
    path = tmp_path / "bindings.json"
    write(path)
    monkeypatch.setenv(bindings.VARIABLE, str(path))
    return path


@pytest.fixture(autouse=True)
def no_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(bindings.VARIABLE, raising=False)


def test_making_one_reads_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(bindings.VARIABLE, "/nowhere/at/all")
    service.Tenfold()


async def test_the_database_before_the_start_says_what_to_do() -> None:
    with pytest.raises(errors.NotStarted):
        await service.Tenfold(database=URL).db.fetchval("select 1")


async def test_without_bindings_and_without_addresses_it_says_both_ways_out() -> None:
    with pytest.raises(errors.BadBindings, match=r"tenfold up.*Tenfold\(database="):
        await made()[0].start()


async def test_nobody_can_guess_what_cookies_and_tokens_are_signed_with() -> None:
    with pytest.raises(errors.BadBindings, match=r"no secret.*secret=SECRET"):
        await service.Tenfold(database="postgres://app@10.0.0.1/shop").start()


async def test_the_bindings_of_the_environment_are_used(file: Path) -> None:
    tf, database = made()
    async with tf:
        assert "shop" == tf.settings.service.name
        assert [("start", ["10.0.0.1"])] == database.story
    assert "stop" == database.story[-1]


async def test_addresses_that_are_given_win_over_the_bindings(file: Path) -> None:
    tf, database = made(database=["postgres://a:b@10.0.0.8/x", "postgres://a:b@10.0.0.9/x"], request_seconds=3)
    async with tf:
        assert [("start", ["10.0.0.8", "10.0.0.9"])] == database.story
        assert 3 == tf.settings.request_seconds
        assert "shop" == tf.settings.service.name


async def test_processes_with_the_same_addresses_read_each_others_cookies_and_others_do_not() -> None:
    one, same = service.Tenfold(database=URL), service.Tenfold(database=URL)
    other = service.Tenfold(database="postgres://app:other@10.0.0.1/shop")

    assert one.settings.service.secret == same.settings.service.secret
    assert one.settings.service.secret != other.settings.service.secret


async def test_changed_bindings_arrive(file: Path) -> None:
    tf, database = made()
    async with tf:
        write(file, "10.0.0.2", request_seconds=3.0)

        async def has_arrived() -> bool:
            return ("update", ["10.0.0.2"]) in database.story

        assert await clock.until(has_arrived, seconds=10 * watch.LOOK_SECONDS)
        assert 3.0 == tf.settings.request_seconds


async def test_bindings_that_break_leave_the_last_ones(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    tf, database = made()
    async with tf:
        files.write_atomically(file, "{")

        async def is_noticed() -> bool:
            return "the last ones hold" in caplog.text

        assert await clock.until(is_noticed, seconds=10 * watch.LOOK_SECONDS)
        assert "shop" == tf.settings.service.name
        assert [("start", ["10.0.0.1"])] == database.story


async def test_a_second_start_wants_a_second_stop(file: Path) -> None:
    tf, database = made()
    async with tf:
        async with tf:
            pass
        assert "stop" not in database.story
    assert 1 == database.story.count("stop")
    await tf.stop()
    assert 1 == database.story.count("stop")


async def test_a_database_that_fails_to_start_leaves_nothing_behind(file: Path) -> None:
    class Broken(Database):
        async def start(self, database: bindings.Database, region: str = "home") -> None:
            raise OSError("no")

    tf = service.Tenfold()
    tf.db = Broken()  # type: ignore[assignment]
    with pytest.raises(OSError, match="no"):
        await tf.start()

    assert tf._watch is None
    assert tf.inflight.home.loop is None


async def test_wrapping_twice_is_wrapping_once_and_by_two_is_a_mistake() -> None:
    tf = service.Tenfold(database=URL)
    app = tf.wrap(asgi.answer)  # type: ignore[arg-type]

    assert app is tf.wrap(app)
    with pytest.raises(errors.MisuseError, match="another Tenfold"):
        service.Tenfold(database=URL).wrap(app)


async def test_a_wrapped_app_has_the_apps_attributes() -> None:
    from fastapi import FastAPI

    framework = FastAPI(title="shop")
    wrapped = service.Tenfold(database=URL).wrap(framework)
    wrapped.dependency_overrides = {asgi: asgi}

    assert "shop" == wrapped.title
    assert {asgi: asgi} == framework.dependency_overrides


async def test_an_address_is_taken_apart() -> None:
    database = addresses.database([URL, "postgresql://app:s%40cret@[2001:db8::1]:6432/shop"])

    assert ("shop", "app", "s@cret") == (database.name, database.user, database.password)
    assert [("10.0.0.1", 5432), ("2001:db8::1", 6432)] == [(one.host, one.port) for one in database.shards[0].nodes]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://a:sesame@h/x",
        "postgres://h/x",
        "postgres://a:sesame@h",
        "postgres://a:sesame@h:port/x",
        "postgres://a:sesame@h/x?sslmode=require",
        "postgres://a:sesame@[h/x",
    ],
)
async def test_an_address_of_another_form_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(errors.BadBindings, match=r"address 1:.*expected") as caught:
        service.Tenfold(database=[url])
    assert "sesame" not in str(caught.value)


async def test_addresses_of_two_databases_are_refused() -> None:
    with pytest.raises(errors.BadBindings, match="address 2 has another user, password or database name"):
        service.Tenfold(database=["postgres://a:b@h/x", "postgres://a:b@h/y"])


def test_the_command_line_does_not_load_the_sdk() -> None:
    code = "import tenfold, tenfold.errors, sys; sys.exit('tenfold.sdk' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_every_name_that_an_app_imports_is_there() -> None:
    assert all(getattr(tenfold, name) is not None for name in tenfold.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Tenfould'"):
        tenfold.Tenfould  # noqa: B018
