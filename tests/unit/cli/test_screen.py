"""`tenfold status --watch`: what stands on the screen, at any size, and the figures in few characters."""

import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from support import simulated_steps
from support.topologies import TOPOLOGIES
from tenfold.cli import gauges, output, screen
from tenfold.observation import load
from tenfold.runtime import events, figures, report, traffic

SIZES = [(80, 24), (40, 12), (120, 50), (20, 5), (200, 8)]


def body(*, broken: bool = False) -> Any:
    """The status of a replicated service that carries 120 requests a second."""
    topology = TOPOLOGIES["replicated"]
    snapshot = simulated_steps.serving(topology).look(topology)
    journal = events.Journal(None)
    for number in range(30):
        journal.say("step_done", f"{number}/30 something long enough to be cut somewhere on a narrow screen\nand more")
    web = load.WebLoad(120.0, 0.0, 2.0, 0.0, 1.2, 12.3, 1234.0, 0.1, 1.0, 3, 0, 0, 512, 2, 2)
    door = load.DoorLoad(120.0, 2.0, 0.0, 0.5, 40, 0, 0)
    carried = traffic.Traffic(web, door, {"web-1": web}, {"balancer-1": door})
    made = report.status(snapshot, topology, journal, is_changing=False)
    made["change"] = None
    made = figures.added(made, snapshot, topology, carried, Path("/"))
    made["conditions"] = [
        {"code": "server_killed", "severity": "warning", "text": f"database-{number} was killed", "subject": ""}
        for number in range(9 if broken else 0)
    ]
    return made


def drawn(told: Any, width: int, height: int, note: str = "") -> list[str]:
    console = Console(width=width, height=height, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as captured:
        console.print(screen.draw(told, [1.0, 60.0, 120.0], note, width, height))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_the_screen_says_what_is_carried_and_by_whom() -> None:
    lines = drawn(body(), 100, 40)
    text = "\n".join(lines)

    assert lines[0].startswith("shop   http://")
    assert "rung replicated" in lines[0]
    assert "120 req/s ▁▅█   p50 1.2 ms  p95 12 ms  p99 1.2 s" in lines[1]
    assert "in flight 3   errors 2.0/s   retries 0.5/s   queued 0" in lines[2]
    assert "primary" in text
    assert 2 == text.count("replica ")


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("broken", [False, True])
def test_it_fits_every_terminal(width: int, height: int, broken: bool) -> None:
    lines = drawn(body(broken=broken), width, height)

    assert max(map(len, lines)) <= width
    assert len(lines) <= max(height, 10), "what is less than ten lines is cut by the terminal"


def test_servers_that_do_not_fit_are_counted() -> None:
    lines = drawn(body(), 80, 14)

    assert any(line.startswith("and ") and line.endswith("more: tenfold status") for line in lines)


def test_troubles_leave_room_for_servers_and_are_counted() -> None:
    lines = drawn(body(broken=True), 80, 24)

    assert any("database-0 was killed" in line for line in lines)
    assert any("more of this kind" in line for line in lines)
    assert any(line.startswith("balancer-1") for line in lines)


def test_while_no_runtime_runs_it_says_so() -> None:
    assert "no runtime runs" in drawn(body(), 80, 24, "no runtime runs; what runs keeps serving")[1]


def test_the_step_of_a_change_is_shown() -> None:
    told = {**body(), "change": {"step": "3/7 copy the database", "kind": "copy_database", "seconds": 12.4}}

    assert "▸ 3/7 copy the database (12 s)" == drawn(told, 80, 24)[1]


def test_the_step_is_the_one_that_was_started_last_and_is_not_done() -> None:
    journal = events.Journal(None)
    assert {"step": None, "kind": None, "seconds": None} == figures.change(journal)
    journal.say("step_started", "1/2 start servers", subject="start_servers")
    journal.say("server_started", "server web-1 has power")
    assert ("1/2 start servers", "start_servers") == tuple(figures.change(journal)[name] for name in ("step", "kind"))
    assert 9.0 <= figures.change(journal, time.time() + 10)["seconds"] <= 11.0
    journal.say("step_done", "1/2 start servers", subject="start_servers")
    assert figures.change(journal)["step"] is None


def test_one_line_says_the_same_where_there_is_no_terminal() -> None:
    line = screen.line(body(broken=True), "")

    assert "120 req/s  p50 1.2 ms  p95 12 ms  p99 1.2 s  errors 2.0/s  servers 10/10" in line
    assert "\n" not in line
    assert "! database-0 was killed" in line


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ("-", gauges.rate(None)),
        ("0", gauges.rate(0.0)),
        ("0.3", gauges.rate(0.26)),
        ("1,234", gauges.rate(1234.4)),
        ("0.8 ms", gauges.milliseconds(0.81)),
        ("12 ms", gauges.milliseconds(12.4)),
        ("1.2 s", gauges.milliseconds(1234)),
        ("0 B", gauges.size(0)),
        ("1.5 KiB", gauges.size(1536)),
        ("2.0 GiB", gauges.size(2 * 1024**3)),
        ("▁▁▁", gauges.sparkline([0, 0, 0], 10)),
        ("▅█", gauges.sparkline([9, 1, 2], 2)),
    ],
)
def test_figures_take_few_characters(expected: str, found: str) -> None:
    assert expected == found


def test_the_table_has_the_same_words_as_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    output.status({**body(), "certificate": None})
    text = capsys.readouterr().out

    assert 2 == text.count("replica ")
    assert "standby" not in text
