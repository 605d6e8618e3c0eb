"""Where mail goes when no SMTP server is configured: a small one of the shop's own, which keeps what it gets.

Started by `web` with the app. It listens on a loopback port of its own in each process, and writes to the table
`shop_mail`: look there for the mails that customers would have got. The same mail, sent twice, is one row.
"""

import asyncio
import email
import email.policy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope

from shop import mail
from shop.service import tf


class Sink:
    """Takes every mail (aiosmtpd calls the method by its name)."""

    async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.original_content or b""
        message = email.message_from_bytes(content, policy=email.policy.default)
        body = message.get_body(("plain",))
        await tf.db.execute(
            """insert into shop_mail (number, recipient, subject, body) values ($1, $2, $3, $4)
               on conflict (number) do nothing""",
            str(message["Message-ID"]),
            ", ".join(envelope.rcpt_tos),
            str(message["Subject"]),
            body.get_content() if body is not None else "",
        )
        return "250 OK"


@asynccontextmanager
async def listening() -> AsyncIterator[None]:
    """The sink takes mail, unless a real server is configured."""
    if mail.SERVER:
        yield
        return
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Sink(), hostname="shop.test", loop=loop), "127.0.0.1", 0)
    mail.use_sink(server.sockets[0].getsockname()[1])
    try:
        yield
    finally:
        server.close()
