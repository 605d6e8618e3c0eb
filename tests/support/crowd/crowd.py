"""A service whose every page takes a fifth of a second, but for a long one, and no processor time; a message takes half
a second, so that one worker of two at a time has more to do than it can."""

import asyncio
import json
from typing import Any

from tenfold import Message, Tenfold, Transaction

SLEEP_SECONDS = 0.2
LONG_SECONDS = 0.75
MESSAGE_SECONDS = 0.5

tf = Tenfold()


@tf.queue.subscriber("job.asked", group="jobs", transaction=True)
async def work(message: Message[dict[str, str]], tx: Transaction) -> None:
    await asyncio.sleep(MESSAGE_SECONDS)
    await tx.execute("insert into job (reference) values ($1)", message.payload["reference"])


async def page(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    if scope["method"] == "POST":
        reference = json.loads((await receive())["body"])["reference"]
        await tf.db.run(ask, reference)
    else:
        await asyncio.sleep(LONG_SECONDS if scope["path"] == "/long" else SLEEP_SECONDS)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"done\n"})


async def ask(tx: Transaction, reference: str) -> None:
    await tx.publish("job.asked", {"reference": reference})


app = tf.wrap(page)
