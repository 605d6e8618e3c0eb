"""What the pytest plugin says when something is wrong, and that it keeps out of the way where it is not wanted."""

from pathlib import Path

import pytest

from support import inner_pytest

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

ONE = (
    inner_pytest.BACKEND
    + """
@pytest.mark.anyio
async def test_it(client):
    pass
"""
)


async def test_no_project_is_found(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(tenfold_database):\n    pass\n")
    ended = await inner_pytest.run(tmp_path)
    assert ["test_it"] == ended.tests("ERROR"), ended.output
    assert "no app found: there is no tenfold.toml at or above what is tested" in ended.output


async def test_an_app_that_does_not_import_says_where(tmp_path: Path) -> None:
    inner_pytest.make(tmp_path, ONE)
    (tmp_path / "web.py").write_text("import nowhere\n")
    ended = await inner_pytest.run(tmp_path)
    assert "web:app does not import: ModuleNotFoundError: No module named 'nowhere'" in ended.output
    assert 'web.py", line 1' in ended.output
    assert "importlib" not in ended.output


async def test_a_migration_that_fails_says_which(tmp_path: Path) -> None:
    inner_pytest.make(tmp_path, ONE)
    (tmp_path / "migrations" / "20260103000000_bad.sql").write_text(
        "-- migrate:up\nselect nonsense;\n-- migrate:down\n"
    )
    ended = await inner_pytest.run(tmp_path)
    assert "20260103000000_bad.sql: " in ended.output
    assert 'column "nonsense" does not exist' in ended.output
    assert "During handling" not in ended.output
    assert not inner_pytest.left_behind(tmp_path)


async def test_a_bad_topology_shows_all_its_problems(tmp_path: Path) -> None:
    inner_pytest.make(tmp_path, ONE)
    (tmp_path / "tenfold.toml").write_text(inner_pytest.TOPOLOGY + '[web]\nservers = "many"\nnonsense = 1\n')
    ended = await inner_pytest.run(tmp_path)
    assert "web.servers" in ended.output
    assert "web.nonsense" in ended.output


async def test_a_startup_that_fails_shows_its_traceback(tmp_path: Path) -> None:
    inner_pytest.make(tmp_path, ONE)
    app = inner_pytest.APP.replace("select count(*) from note", "select nonsense from note")
    (tmp_path / "web.py").write_text(app)
    ended = await inner_pytest.run(tmp_path)
    assert "the app's startup failed" in ended.output
    assert 'column "nonsense" does not exist' in ended.output


async def test_an_app_that_names_another_database_is_kept_from_it(tmp_path: Path) -> None:
    inner_pytest.make(tmp_path, ONE)
    app = inner_pytest.APP.replace("Tenfold()", 'Tenfold(database="postgres://shop:secret@127.0.0.1:1/shop")')
    (tmp_path / "web.py").write_text(app)
    ended = await inner_pytest.run(tmp_path)
    assert "names another database than this test's" in ended.output
    assert "secret" not in ended.output.replace("postgres://shop:secret", "")


async def test_nothing_is_loaded_and_nothing_happens_where_there_is_no_project(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import os, sys\n"
        "def test_it():\n"
        "    assert 'tenfold.testing.plugin' in sys.modules\n"
        "    heavy = {'asyncpg', 'aiohttp', 'pydantic', 'httpx', 'msgspec', 'tenfold.sdk', 'tenfold.runtime'}\n"
        "    assert set() == heavy & set(sys.modules)\n"
        "    assert 'mine' == os.environ['DATABASE_URL']\n"
        "    assert 'TENFOLD_BINDINGS' not in os.environ\n"
        "def test_wrong_client(client):\n"
        "    pass\n"
    )
    ended = await inner_pytest.run(tmp_path, DATABASE_URL="mine")
    assert ["test_it"] == ended.tests("PASSED"), ended.output
    assert "fixture 'client' not found" in ended.output


async def test_a_database_of_ones_own_is_left_alone_until_one_is_asked_for(tmp_path: Path) -> None:
    tests = """
    import os
    def test_mine():
        assert "mine" == os.environ["DATABASE_URL"]
    def test_ours(tenfold_database):
        assert tenfold_database.url == os.environ["DATABASE_URL"]
    """
    inner_pytest.make(tmp_path, tests)
    ended = await inner_pytest.run(tmp_path, DATABASE_URL="mine")
    assert ["test_mine", "test_ours"] == ended.tests("PASSED"), ended.output
