"""`tenfold load` as a person runs it: a process of its own, its output, its exit code, its end by a signal."""

import json
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from support import postgres_cluster
from support.bad_server import BadServer, Seen, answer
from tenfold import bindings
from tenfold.kit import clock
from tenfold.traffic import ledger, verify

pytestmark = pytest.mark.anyio

TENFOLD = [sys.executable, "-c", "from tenfold import cli; cli.main()"]
JOURNEYS = """
from tenfold.traffic import User, Write, journey

@journey
async def order(user: User) -> None:
    write = Write("order")
    await user.post("/orders", json={"reference": write.reference}, write=write)
    user.sees(write, (await user.get("/orders")).json())

CHECKS = {"order": "select reference, count(*) from shop_order where reference = any($1::uuid[]) group by 1"}
"""


@dataclass
class Project:
    folder: Path
    server: BadServer

    async def tenfold(self, *argv: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a command run in the project."""
        done = await anyio.run_process([*TENFOLD, *argv], cwd=self.folder, check=False)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    async def begin(self, *argv: str) -> anyio.abc.Process:
        return await anyio.open_process([*TENFOLD, *argv], cwd=self.folder)


@pytest.fixture
async def project(tmp_path: Path) -> AsyncIterator[Project]:
    async with BadServer("127.67.3.1").serving() as server:
        (tmp_path / "load.py").write_text(JOURNEYS)
        listen = f"{server.address}:{server.port}"
        (tmp_path / "tenfold.toml").write_text(f'[service]\nname = "shop"\napp = "shop:app"\nlisten = "{listen}"\n')
        yield Project(tmp_path, server)


async def test_a_clean_run_ends_with_a_summary_a_ledger_and_exit_code_0(project: Project) -> None:
    code, output, problems = await project.tenfold("load", "--rate", "100", "--for", "2200ms", "--ledger", "run.ledger")

    assert (0, "") == (code, problems)
    assert "answered" in output.splitlines()[0]
    assert "requests     220 in 2." in output
    assert "failed       0" in output
    assert "latency from the moment each request was due" in output
    assert "tenfold load --verify run.ledger" in output
    assert 220 == len(project.server.requests)
    assert "shop" == header_of(project.folder / "run.ledger").service


async def test_without_a_name_the_ledger_lies_beside_the_state(project: Project) -> None:
    (project.folder / ".tenfold").mkdir()

    code, output, _ = await project.tenfold("load", "--rate", "50", "--for", "200ms")

    assert 0 == code
    [path] = (project.folder / ".tenfold").glob("load-*.ledger")
    assert str(path) in output


async def test_failures_are_shown_and_give_exit_code_1(project: Project) -> None:
    async def refuse(_: Seen) -> bytes | None:
        return answer(503)

    project.server.rule = refuse
    code, output, _ = await project.tenfold("load", "--rate", "50", "--for", "200ms")

    assert 1 == code
    assert "failed       10\n  status 503: 10\n    POST /orders" in output


async def test_an_own_write_that_was_not_seen_gives_exit_code_1(project: Project) -> None:
    async def hide(seen: Seen) -> bytes | None:
        return answer(200, []) if seen.method == "GET" else None

    project.server.rule = hide
    code, output, _ = await project.tenfold("load", "--rate", "50", "--for", "200ms", "--users", "2")

    assert 1 == code
    assert "failed       0" in output
    assert "0 missing" not in output


async def test_json_is_one_document_and_progress_goes_elsewhere(project: Project) -> None:
    code, output, problems = await project.tenfold(
        "load", "--json", "--rate", "50", "--for", "1200ms", "--seed", "5", "--poisson", "--ledger", "run.ledger"
    )

    figures = json.loads(output)
    assert 0 == code
    assert "answered" in problems
    assert 40 < figures["requests"] < 80
    assert (0, 5, "run.ledger") == (figures["failed"], figures["seed"], figures["ledger"])
    assert {"count", "p50", "p90", "p99", "p99.9", "max"} == set(figures["latency_seconds"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--rate", "0"], "rate: 0.0 found"),
        (["--rate", "fast"], "not a valid float"),
        (["--for", "30"], "a number with its unit"),
        (["--journeys", "missing.py"], "no such file"),
        (["--journeys", "load.py:sell"], "no journey found"),
        (["--url", "ftp://shop.test"], "http://HOST:PORT expected"),
        (["--ledger", "load.py"], "never overwritten"),
        (["--verify", "load.py"], "bindings"),
    ],
)
async def test_bad_input_is_explained_and_gives_exit_code_2(project: Project, argv: list[str], message: str) -> None:
    code, _, problems = await project.tenfold("load", "--for", "100ms", *argv)

    assert 2 == code
    assert message in problems
    assert "Traceback" not in problems


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_ends_with_a_summary_and_a_complete_ledger(project: Project, number: signal.Signals) -> None:
    async with await project.begin("load", "--rate", "100", "--for", "60s", "--ledger", "run.ledger") as process:
        await until_requests(project.server, 30)
        process.send_signal(number)
        assert process.stdout is not None
        output = b"".join([part async for part in process.stdout]).decode()
        code = await process.wait()

    assert 0 == code
    assert "requests     " in output
    reader = ledger.Reader(project.folder / "run.ledger")
    records = list(reader.records())
    assert reader.end is not None
    assert "interrupted" == reader.end.how
    assert len(project.server.requests) == sum(isinstance(one, ledger.Request) for one in records)


async def test_a_killed_runs_ledger_holds_all_but_the_last_moment(project: Project) -> None:
    async with await project.begin("load", "--rate", "200", "--for", "60s", "--ledger", "run.ledger") as process:
        await until_requests(project.server, 200)
        process.kill()
        await process.wait()

    evidence = verify.gather(project.folder / "run.ledger")
    assert not evidence.is_complete
    assert evidence.requests >= len(project.server.requests) - 100


async def test_verify_compares_with_the_database_of_the_bindings(project: Project, tmp_path: Path) -> None:
    async with postgres_cluster.cluster(tmp_path / "pg", 67, replicas=0) as cluster:
        await cluster.primary.script(
            f"create table shop_order (reference uuid not null); grant all on shop_order to {postgres_cluster.USER}"
        )
        write_bindings(project.folder, cluster.bound)
        await project.tenfold("load", "--rate", "50", "--for", "300ms", "--ledger", "run.ledger")
        orders = [reference for _, reference in project.server.orders]

        values = ",".join(f"('{reference}')" for reference in orders)
        await cluster.primary.script(f"insert into shop_order values {values}")
        code, output, _ = await project.tenfold("load", "--verify", "run.ledger")
        assert 0 == code
        assert "verdict: every acknowledged write is there exactly once" in output

        await cluster.primary.script(f"delete from shop_order where reference = '{orders[0]}'")
        await cluster.primary.script(f"insert into shop_order values ('{orders[1]}')")
        code, output, _ = await project.tenfold("load", "--verify", "run.ledger")
        assert 1 == code
        assert "verdict: VIOLATED: 1 lost, 1 doubled, 0 own writes not seen" in output
        code, output, _ = await project.tenfold("load", "--verify", "run.ledger", "--json")
        assert 1 == code
        assert ([orders[0]], [orders[1]]) == (
            json.loads(output)["kinds"][0]["lost"],
            json.loads(output)["kinds"][0]["doubled"],
        )

        (project.folder / "torn.ledger").write_bytes((project.folder / "run.ledger").read_bytes()[:-200])
        (project.folder / "garbage.ledger").write_bytes(b"\x00\x01garbage\n" * 9)
        code, output, _ = await project.tenfold("load", "--verify", "torn.ledger")
        assert "the run was killed: its ledger has no closing record, and its last line is torn" in output
        code, output, problems = await project.tenfold("load", "--verify", "garbage.ledger")
        assert 2 == code
        assert "garbage.ledger:1: " in problems


async def until_requests(server: BadServer, count: int) -> None:
    async def has_arrived() -> bool:
        return len(server.requests) >= count

    assert await clock.until(has_arrived, seconds=20, pause_seconds=0.01)


def header_of(path: Path) -> ledger.Header:
    reader = ledger.Reader(path)
    list(reader.records())
    assert reader.header is not None
    return reader.header


def write_bindings(folder: Path, database: bindings.Database) -> None:
    (folder / ".tenfold").mkdir()
    bound = bindings.Bindings(service=bindings.Service(name="shop"), database=database)
    (folder / ".tenfold" / "bindings.json").write_bytes(bindings.dump(bound))
