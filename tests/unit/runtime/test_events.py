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


HALF = b'{"at":1,"kind":"server_c'


def test_an_event_after_half_a_line_is_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"at":1.0,"kind":"first","text":"whole"}\n' + HALF)

    journal = events.Journal(path)
    journal.say("third", "after the crash")

    assert ["first", "third"] == [event.kind for event in events.Tail(path).new()]
    assert ["first", "third"] == [event.kind for event in journal.recent]
    assert 3 == len(path.read_bytes().splitlines())


def test_a_new_runtime_remembers_what_the_former_one_said(tmp_path: Path) -> None:
    former = events.Journal(tmp_path / "events.jsonl")
    for number in range(events.MOST_RECENT + 10):
        former.say("tick", str(number))

    assert list(former.recent) == list(events.Journal(tmp_path / "events.jsonl").recent)


def test_a_tail_gives_whole_lines_as_they_come_and_begins_again_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = events.Tail(path)
    assert [] == tail.new()

    path.write_bytes(b'{"at":1,"kind":"a","text":""}\n' + HALF)
    assert ["a"] == [event.kind for event in tail.new()]
    with path.open("ab") as file:
        file.write(b'ut","text":""}\nno event\n')
    assert ["server_cut"] == [event.kind for event in tail.new()]
    path.write_bytes(b'{"at":2,"kind":"b","text":""}\n')
    assert ["b"] == [event.kind for event in tail.new()]
    path.unlink()
    assert [] == tail.new()


def test_rotated_files_are_read_oldest_first(tmp_path: Path) -> None:
    for name, kind in (("events.jsonl.1", "newer"), ("events.jsonl.2", "older"), ("events.jsonl", "newest")):
        (tmp_path / name).write_text(f'{{"at":1,"kind":"{kind}","text":""}}\n')

    assert ["older", "newer"] == [event.kind for event in events.rotated(tmp_path / "events.jsonl")]
