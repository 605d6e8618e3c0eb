"""`tenfold init` finds the app by reading: whatever framework, layout and way of making it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from tenfold import cli
from tenfold.cli import init
from tenfold.cli.adopt import candidates, sources, surroundings, writing
from tenfold.topology import load

FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"


def project(folder: Path, **files: str) -> Path:
    """Files by path, `__` for a slash."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/').replace('/init', '/__init__')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def found(folder: Path) -> list[tuple[str, str]]:
    """Targets, with parentheses for a factory, and the folder that they are imported from."""
    known = candidates.find(sources.read(folder))
    return [(f"{one.target}()" if one.is_factory else one.target, one.source.directory) for one in known]


@pytest.mark.parametrize(
    "text",
    [
        FASTAPI,
        "import fastapi\napp = fastapi.FastAPI(title='x')\n",
        "import fastapi as fa\napp: fa.FastAPI = fa.FastAPI()\n",
        "from starlette.applications import Starlette as S\napp = S(routes=[])\n",
        "from litestar import Litestar\napp = Litestar([])\n",
        "from quart import Quart\napp = Quart(__name__)\n",
        "from django.core.asgi import get_asgi_application\napp = get_asgi_application()\n",
        "from fastapi import FastAPI\nclass Mine(FastAPI):\n    pass\napp = Mine()\n",
        "try:\n    from fastapi import FastAPI\nexcept ImportError:\n    raise\nif True:\n    app = FastAPI()\n",
        "async def app(scope, receive, send):\n    pass\n",
        "class App:\n    async def __call__(self, scope, receive, send):\n        pass\napp = App()\n",
    ],
)
def test_an_app_of_any_framework_is_found(tmp_path: Path, text: str) -> None:
    assert [("main:app", ".")] == found(project(tmp_path, main=text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{FASTAPI}app = tf.wrap(app)\n", "main:app"),
        (f"{FASTAPI}served = CORSMiddleware(app, allow_origins=['*'])\n", "main:served"),
        (f"{FASTAPI}from sqladmin import Admin\nadmin = Admin(app, engine)\n", "main:app"),
        (f"{FASTAPI}api = FastAPI()\napp.mount('/api', api)\n", "main:app"),
        ("from fastapi import FastAPI\ndef create_app() -> FastAPI:\n    ...\n", "main:create_app()"),
        ("from fastapi import FastAPI\ndef make(debug=False):\n    x = FastAPI()\n    return x\n", "main:make()"),
        ("from fastapi import FastAPI\ndef create():\n    return FastAPI()\napp = create()\n", "main:app"),
        ("from fastapi import FastAPI\ndef create() -> 'FastAPI':\n    ...\napp = create()\n", "main:app"),
    ],
)
def test_of_what_belongs_together_the_outermost_is_taken(tmp_path: Path, text: str, expected: str) -> None:
    assert [(expected, ".")] == found(project(tmp_path, main=text))


@pytest.mark.parametrize(
    "text",
    [
        "from flask import Flask\napp = Flask(__name__)\n",
        "from fastapi import FastAPI\ndef create(settings) -> FastAPI:\n    ...\n",
        "from fastapi import APIRouter\napp = APIRouter()\n",
        f"if __name__ == '__main__':\n    {FASTAPI.splitlines()[0]}\n    app = FastAPI()\n",
        "this is no Python",
    ],
)
def test_what_is_none_is_not_found(tmp_path: Path, text: str) -> None:
    assert [] == found(project(tmp_path, main=text))


def test_layouts_tell_where_an_app_is_imported_from(tmp_path: Path) -> None:
    shop = {"shop__init": "", "shop__web": "from .models import x\n" + FASTAPI, "shop__models": ""}
    layouts = {
        "flat": (shop, ("shop.web:app", ".")),
        "src": ({f"src__{name}": text for name, text in shop.items()}, ("shop.web:app", "src")),
        "package": ({"shop__init": FASTAPI}, ("shop:app", ".")),
        "namespace": ({"app__main": "from app.db import x\n" + FASTAPI, "app__db": ""}, ("app.main:app", ".")),
        "script": ({"backend__main": "import db\n" + FASTAPI, "backend__db": ""}, ("main:app", "backend")),
        "django": (
            {"manage": "", "site__init": "", "site__asgi": "import django.core.asgi as a\n"
             "application = a.get_asgi_application()\n", "site__wsgi": ""},
            ("site.asgi:application", "."),
        ),
    }  # fmt: skip
    for name, (files, expected) in layouts.items():
        assert (name, [expected]) == (name, found(project(tmp_path / name, **files)))


def test_tests_examples_and_environments_are_left_out(tmp_path: Path) -> None:
    made = project(
        tmp_path, main=FASTAPI, tests__main=FASTAPI, test_main=FASTAPI, conftest=FASTAPI, examples__app=FASTAPI,
        migrations__app=FASTAPI, mine__lib__app=FASTAPI,
    )  # fmt: skip
    (made / "mine" / "pyvenv.cfg").touch()
    (made / ".hidden").mkdir()
    (made / ".hidden" / "app.py").write_text(FASTAPI)

    assert [("main:app", ".")] == found(made)


def test_the_likeliest_of_several_comes_first(tmp_path: Path) -> None:
    made = project(tmp_path, worker=FASTAPI, tools__admin=FASTAPI, main=FASTAPI)

    assert ["main:app", "worker:app", "tools.admin:app"] == [target for target, _ in found(made)]


def test_a_factory_in_another_module_makes_the_app(tmp_path: Path) -> None:
    made = project(
        tmp_path,
        shop__init="",
        shop__factory="from fastapi import FastAPI\ndef create_app() -> FastAPI:\n    return FastAPI()\n",
        shop__asgi="from .factory import create_app\napp = create_app()\n",
    )

    assert [("shop.asgi:app", ".")] == found(made)


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("shop", "shop"),
        ("My Shop_2", "my-shop-2"),
        ("2026", "app-2026"),
        ("postgres", "postgres-app"),
        ("übung", "bung"),
    ],
)
def test_the_folder_gives_the_name(folder: str, expected: str) -> None:
    assert expected == surroundings.name_of(Path("/somewhere") / folder)


def test_what_is_written_loads_and_says_what_was_found(tmp_path: Path) -> None:
    made = project(tmp_path / "shop", src__shop__init=FASTAPI + "url = 'postgresql+asyncpg://localhost/x'\n")
    (made / "sql").mkdir()
    (made / "sql" / "1_a.sql").write_text("-- migrate:up\nselect 1;\n-- migrate:down\n")
    (made / ".env").write_text("DATABASE_URL=postgres://elsewhere/x\n")
    read = sources.read(made)
    beside = surroundings.look(made, "src", "", read)
    topology = load.parse(writing.topology("shop:app", "src", beside, is_factory=False))

    assert ("shop", "shop:app", "src") == (topology.service.name, topology.service.app, topology.service.directory)
    assert (".env", "../sql") == (topology.service.env_file, topology.database.migrations)
    assert "postgresql+asyncpg" == topology.database.url_scheme
    assert "goes on using that database" in beside.notes[0]
    assert "elsewhere" not in writing.topology("shop:app", "src", beside, is_factory=False)


@pytest.mark.parametrize("name", [".env", ".env.example", "alembic.ini", "docker-compose.yml"])
def test_the_scheme_of_the_database_is_read_where_the_settings_are(tmp_path: Path, name: str) -> None:
    made = project(tmp_path, main=FASTAPI)
    (made / name).write_text("DATABASE_URL=postgresql+asyncpg://shop@db/shop\n")

    assert "postgresql+asyncpg" == surroundings.look(made, ".", "", sources.read(made)).url_scheme


def test_the_state_folder_is_ignored_once(tmp_path: Path) -> None:
    assert not writing.write_ignored(tmp_path), "no repository"
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*.pyc")

    assert writing.write_ignored(tmp_path)
    assert not writing.write_ignored(tmp_path)
    assert "*.pyc\n.tenfold/\n" == (tmp_path / ".gitignore").read_text()


def test_several_apps_and_none_are_said_with_the_option_to_write(tmp_path: Path) -> None:
    made = project(tmp_path, main=FASTAPI, other=FASTAPI)
    read = sources.read(made)
    with pytest.raises(init.errors.BadInput, match=r"2 applications found(.|\n)*main:app(.|\n)*--app main:app"):
        init._found(candidates.find(read), read, made)
    with pytest.raises(init.errors.BadInput, match=r"no ASGI application found in 0 Python files(.|\n)*--app MODULE"):
        init._found([], [], made)
    older = sources.read(project(tmp_path / "old", main="from flask import Flask\napp = Flask('x')\n"))
    with pytest.raises(init.errors.BadInput, match=r"Flask .* is WSGI"):
        init._found([], older, made)


def test_a_package_is_told_from_the_folder_that_it_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project(tmp_path, shop__init="", shop__web="from . import nothing\n" + FASTAPI)
    monkeypatch.chdir(made / "shop")

    found = CliRunner().invoke(cli.group, ["init"])

    assert f"tenfold init belongs above it, in {made}." in str(found.exception)
    assert not (made / "shop" / "tenfold.toml").exists()
