"""The fixture `queue` as users meet it: pytest in their project, with an app that publishes and subscribes."""

from pathlib import Path

import pytest

from support import inner_pytest

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

SUBSCRIBERS = """

from dataclasses import dataclass
from tenfold import Message, Transaction

@dataclass
class Written:
    text: str

handled = []

@tf.queue.subscriber("note.written", group="copies", transaction=True)
async def copy(message: Message[Written], tx: Transaction):
    if message.payload.text == "bad":
        raise ValueError("a bad note")
    await tx.execute("insert into note (text) values ($1)", "copy of " + message.payload.text)
    await tx.publish("note.copied", {"text": message.payload.text}, delay=3600)

@tf.queue.subscriber("note.*", group="lines")
async def line(message: Message):
    handled.append(message.subject)

async def insert(tx, text):
    await tx.execute("insert into note (text) values ($1)", text)
    await tx.publish("note.written", Written(text), key=text)
    if text == "undone":
        raise RuntimeError
"""

TESTS = (
    inner_pytest.BACKEND
    + """
import asyncio
from datetime import timedelta
import web

pytestmark = pytest.mark.anyio

@pytest.mark.parametrize("number", range(2))
async def test_what_is_published_waits_for_the_test(client, tf, queue, number):
    web.handled.clear()
    assert 201 == (await client.post("/notes", content="milk")).status_code
    with pytest.raises(RuntimeError):
        await client.post("/notes", content="undone")
    assert [("note.written", web.Written("milk"), "milk")] == [(m.subject, m.payload, m.key) for m in queue.published]
    await asyncio.sleep(0.3)
    assert ["from the migration", "milk"] == (await client.get("/notes")).json()
    done = await queue.drain()
    assert [("copies", web.Written("milk")), ("lines", {"text": "milk"})] == [(m.group, m.payload) for m in done]
    assert ["from the migration", "milk", "copy of milk"] == (await client.get("/notes")).json()
    assert ["note.written"] == web.handled
    assert [] == await queue.drain(until=timedelta(minutes=59))
    assert ["note.copied"] == [m.subject for m in await queue.drain(until=timedelta(minutes=61))]
    assert ["note.written", "note.copied"] == [m.subject for m in queue.published]

async def test_what_a_handler_raises_is_raised_here(client, tf, tenfold_queue):
    await client.post("/notes", content="bad")
    with pytest.raises(ValueError, match="a bad note") as caught:
        await tenfold_queue.drain()
    assert "note.written" in caught.value.__notes__[0] and "try 1" in caught.value.__notes__[0]
    assert ["lines"] == [m.group for m in await tenfold_queue.drain()]
    with pytest.raises(ValueError) as caught:
        await tenfold_queue.drain(until=timedelta(seconds=2))
    assert "try 2" in caught.value.__notes__[0]
"""
)


async def test_a_users_tests_handle_messages_when_they_say_so(tmp_path: Path) -> None:
    inner_pytest.make(tmp_path, TESTS)
    app = tmp_path / "web.py"
    kept = app.read_text()
    start = kept.index("async def insert(")
    end = kept.index("async def write(")
    app.write_text(kept[:start] + SUBSCRIBERS + "\n" + kept[end:])
    ended = await inner_pytest.run(tmp_path)
    assert 0 == ended.code, ended.output
    assert 3 == len(ended.tests("PASSED"))
