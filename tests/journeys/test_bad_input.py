"""What goes wrong at a user's hands: a clear error that says what to do, the right exit code, nothing left running.

Each test drives the real command line in a project of its own. `code` 2 is bad input, 1 is anything else that failed.
"""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import project
from tenfold.kit import clock, process

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


async def refused(shop: project.Project, *words: str, code: int) -> str:
    """The output of a command that must end with this exit code, in words and not in a traceback."""
    finished = await shop.try_tenfold(*words)
    assert finished.code == code, f"tenfold {' '.join(words)} ended with {finished.code}:\n{finished.output}"
    assert "Traceback" not in finished.output
    return finished.output


async def status_of_front_page(shop: project.Project) -> int:
    def ask() -> int:
        with urllib.request.urlopen(shop.url, timeout=10) as answer:
            return int(answer.status)

    return await asyncio.to_thread(ask)


# before anything runs


async def test_every_mistake_in_the_topology_is_reported_at_once(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        (shop.folder / "tenfold.toml").write_text(
            '[service]\nname = "Sh op"\nlisten = "nowhere"\n'
            '[web]\nservers = "2"\n[databse]\n[database]\nsynchronous = true\n[cdm]\n'
        )
        for command in ("up", "grow", "load"):
            said = await refused(shop, command, code=2)
            for path in ("service.name", "service.listen", "service.app", "web.servers", "databse", "cdm"):
                assert f"tenfold.toml: {path}: " in said
        assert not (shop.folder / ".tenfold").exists()


WRONG_WORDS = {
    ("grwo",): "did you mean grow?",
    ("grow", "--to", "replcated"): "did you mean replicated?",
    ("grow", "--skip", "nothing"): "the rungs are single, database",
    ("plan", "--to", "nothing"): "the rungs are single, database",
    ("server", "kill", "web-9"): "server web-9: not found",
    ("help", "topology", "databse"): "did you mean database?",
    ("load", "--for", "10"): "a number with its unit",
    ("load", "--verify", "nowhere.ledger"): "name a ledger file",
    ("load", "--verify", "tenfold.toml"): "tenfold.toml:1: ",
    ("new", "Bad_Name"): "try `tenfold new my-shop`",
    ("--file", "nowhere.toml", "status"): "tenfold new",
}


async def test_a_wrong_word_is_answered_with_the_right_ones(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        (shop.folder / ".tenfold").mkdir()
        (shop.folder / ".tenfold" / "bindings.json").write_text('{"service": {"name": "shop"}}')
        answers = await asyncio.gather(*(refused(shop, *words, code=2) for words in WRONG_WORDS))
        for (words, said), answer in zip(WRONG_WORDS.items(), answers, strict=True):
            assert said in answer, words


async def test_an_app_that_does_not_import_leaves_nothing_running(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        shop.edit(r"\A", "raise RuntimeError('at import')\n", "shop/web.py")
        said = await refused(shop, "up", "-d", code=1)
        assert "shop.web:app does not import: RuntimeError: at import" in said
        assert "data stays" in said
        await project.ensure_gone(shop.folder)


async def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        with socket.create_server(("127.0.0.1", int(shop.listen.rpartition(":")[2]))):
            said = await refused(shop, "up", "-d", code=1)
        assert f"service.listen: {shop.listen} found in use by another program" in said
        assert "ss -ltnp" in said
        assert "power" not in said
        await project.ensure_gone(shop.folder)


async def test_a_missing_engine_comes_with_the_command_that_installs_it(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        shop.edit(r"^\[database\]", "[database]\nreplicas = 1")
        finished = await process.run(
            [sys.executable, "-m", "tenfold.cli", "up", "-d"],
            env={"PATH": str(path_without("etcd", tmp_path / "bin"))},
            directory=shop.folder,
        )
        assert finished.code == 1
        assert "etcd: not installed, install it with: apt-get install etcd-server" in finished.output
        await project.ensure_gone(shop.folder)


def path_without(program: str, folder: Path) -> Path:
    """A folder with links to all programs but one."""
    folder.mkdir()
    for place in os.environ["PATH"].split(":"):
        for one in Path(place).glob("*"):
            if one.name != program and not (folder / one.name).is_symlink():
                (folder / one.name).symlink_to(one)
    return folder


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small file system")
async def test_a_full_disk_is_named_and_nothing_is_left_running(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=24) as disk:
        async with project.shop(disk) as shop:
            said = await refused(shop, "up", "-d", code=1)
            assert "No space left on device" in said
            await project.ensure_gone(shop.folder)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not let root mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


# while it runs


async def test_code_that_does_not_start_leaves_the_old_code_serving(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        before = shop.alive()
        async with shop.load(rate=20) as load:
            shop.edit(r"\A", "raise RuntimeError('at import')\n", "shop/web.py")
            said = await refused(shop, "apply", "--yes", code=1)
            assert "RuntimeError: at import" in said
            assert before == shop.alive()
        assert not load.report.failures
        assert load.report.requests > 10


async def test_a_change_that_fails_after_the_data_has_moved_goes_back_with_it(tmp_path: Path) -> None:
    """Undoing means moving the data once more: the primary that was left behind must not be started beside it.

    A climb goes well with the same broken code in the folder: web servers run the release that serves.
    """
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        text = (shop.folder / "tenfold.toml").read_text()
        async with shop.load(rate=20) as load:
            shop.edit(r"\A", "raise RuntimeError('at import')\n", "shop/web.py")
            shop.edit(r"^\[database\]$", '[database]\nplacement = "own"')
            said = await refused(shop, "apply", "--yes", code=1)
            assert "the service is as it was before" in said
            assert ["server-1"] == [server["name"] for server in (await shop.status())["servers"]]
            (shop.folder / "tenfold.toml").write_text(text)
            await shop.tenfold("grow", "--yes")
            assert "database" == (await shop.status())["rung"]

            text = (shop.folder / "tenfold.toml").read_text()
            (shop.folder / ".tenfold/releases/1/shop/web.py").write_text("raise RuntimeError('torn')")
            said = await refused(shop, "grow", "--yes", code=1)
            assert "RuntimeError: torn" in said
            assert "the service is as it was before" in said
            assert text == (shop.folder / "tenfold.toml").read_text()
        assert not load.report.failures
        await shop.tenfold("load", "--verify", str(shop.ledger))


async def test_a_migration_that_fails_leaves_the_schema_and_the_service_as_they_were(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        bad = shop.folder / "migrations" / "20300101000000_bad.sql"
        bad.write_text("-- migrate:up\ncreate table half_done (id int);\nselect nonsense;\n-- migrate:down\n")
        for command in (("apply", "--yes"), ("migrate",)):
            said = await refused(shop, *command, code=1)
            assert f"{bad}: " in said
            assert 'column "nonsense" does not exist' in said
            assert "nothing of this file was done; correct the file, and try again" in said
        assert "absent" in await shop.tenfold(
            "psql", "-tc", "select coalesce(to_regclass('half_done')::text, 'absent')"
        )
        assert 200 == await status_of_front_page(shop)


async def test_a_second_up_starts_nothing_twice_and_broken_files_can_be_put_right(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        before, runtime = shop.alive(), shop.runtime_pid()
        assert f"a runtime runs already (pid {runtime})" in await refused(shop, "up", code=1)
        await shop.tenfold("up", "-d")
        assert (before, runtime) == (shop.alive(), shop.runtime_pid())

        shop.kill_runtime()
        assert "start it with: tenfold up -d" in await refused(shop, "plan", code=1)
        for name, commands in (("state.json", ("status", "down")), ("secrets.json", ("down",))):
            file = shop.folder / ".tenfold" / name
            file.write_text('{"torn')
            put_back = f"cp {file}.copy {file}"
            for words in (("up", "-d"), *((one,) for one in commands)):
                assert put_back in await refused(shop, *words, code=1)
            await process.run(put_back.split())
        assert 200 == await status_of_front_page(shop)
        await shop.tenfold("up", "-d")  # over the dead runtime's socket and lock file
        assert before == shop.alive()


async def test_a_deleted_topology_can_be_put_back_and_the_service_stopped(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        file = shop.folder / "tenfold.toml"
        text = file.read_text()
        file.unlink()
        said = await refused(shop, "apply", "--yes", code=2)
        assert "single" == (await shop.status())["rung"]
        assert 200 == await status_of_front_page(shop)
        await process.run(said[said.index("cp ") :].split())
        assert text == file.read_text()
        assert "Nothing to do" in await shop.tenfold("apply", "--yes")
        file.unlink()
        await shop.tenfold("down")
        await project.ensure_gone(shop.folder)
        file.write_text(text)


async def test_a_command_line_killed_in_the_middle_of_up_is_followed_by_one_that_succeeds(
    tmp_path: Path, chance: random.Random
) -> None:
    async with project.shop(tmp_path) as shop:
        begun = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tenfold.cli", "up", "-d"),
            cwd=shop.folder,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await asyncio.sleep(chance.uniform(0.3, 2.5))  # to die somewhere on the way
        if begun.returncode is None:
            begun.send_signal(signal.SIGKILL)
        await begun.wait()

        async def is_up() -> bool:
            finished = await shop.try_tenfold("up", "-d")
            assert finished.code == 0 or "another change is being applied" in finished.output, finished.output
            return finished.code == 0

        assert await clock.until(is_up, seconds=30, pause_seconds=0.2)
        assert 200 == await status_of_front_page(shop)


async def test_after_a_power_cut_in_the_middle_of_a_move_the_newer_copy_of_the_data_is_used(tmp_path: Path) -> None:
    """Two copies say that they were the primary; the file asks for the server of the older one."""
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        text = (shop.folder / "tenfold.toml").read_text()
        data = shop.folder / ".tenfold/servers/server-1/data/postgres"
        climb = asyncio.create_task(shop.try_tenfold("grow", "--yes"))
        await happened(shop, "step_done", "switch the primary")
        shop.kill_runtime()
        await climb
        assert data.exists(), "the runtime died too late for this test: the old copy was deleted already"
        await shop.tenfold("psql", "-c", "create table written_after_the_move (id int)")
        await shop.tenfold("down")
        (shop.folder / "tenfold.toml").write_text(text)
        await shop.tenfold("up", "-d")
        assert ["server-1"] == [server["name"] for server in (await shop.status())["servers"]]
        await shop.tenfold("psql", "-c", "select * from written_after_the_move")


async def happened(shop: project.Project, kind: str, title: str) -> None:
    """Wait for an event of this kind with this in its text."""
    events = shop.folder / ".tenfold" / "events.jsonl"

    async def look() -> bool:
        return any(title in line and f'"{kind}"' in line for line in events.read_text().splitlines())

    assert await clock.until(look, seconds=60, pause_seconds=0.002)
