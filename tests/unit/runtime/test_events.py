"""The journal: one JSON object a line, live to followers, and never in the way of the work."""

import asyncio
import json
from pathlib import Path

import pytest

from tenfold.runtime import events

pytestmark = pytest.mark.anyio


async def test_each_event_is_one_line_of_json(tmp_path: Path) -> None:
    journal = events.Journal(tmp_path / "events.jsonl")

    journal.say("step_done", "1/2 start\nservers", subject="web-1", level="warning", seconds=1.23456)
    journal.say("server_cut", "web-1 has no power")

    first, second = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert ("step_done", "1/2 start\nservers", "web-1", "warning", 1.235) == tuple(
        first[name] for name in ("kind", "text", "subject", "level", "seconds")
    )
    assert {"at", "kind", "text"} == set(second)


async def test_every_follower_gets_what_happens_from_now_on() -> None:
    journal = events.Journal(None)
    journal.say("before", "nobody listens yet")
    followers = [journal.follow() for _ in range(2)]
    nexts = [asyncio.ensure_future(anext(one)) for one in followers]
    await asyncio.sleep(0)

    journal.say("now", "both hear it")

    assert ["now", "now"] == [(await one).kind for one in nexts]
    for one in followers:
        await one.aclose()


async def test_a_follower_that_does_not_keep_up_loses_the_oldest() -> None:
    journal = events.Journal(None)
    follower = journal.follow()
    first = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)

    for number in range(1500):
        journal.say("tick", str(number))

    assert "500" == (await first).text
    assert "501" == (await anext(follower)).text
    await follower.aclose()


async def test_only_the_latest_events_are_kept_in_memory() -> None:
    journal = events.Journal(None)
    for number in range(300):
        journal.say("tick", str(number))

    assert ["100", "299"] == [journal.recent[0].text, journal.recent[-1].text]


async def test_a_journal_that_cannot_be_written_does_not_stop_the_work(tmp_path: Path) -> None:
    heard: list[events.Event] = []
    journal = events.Journal(tmp_path / "no-such-folder" / "events.jsonl")
    journal.listeners.append(heard.append)

    journal.say("disk_full", "still told")

    assert ["still told"] == [event.text for event in heard]
