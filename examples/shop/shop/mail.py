"""Mail to customers, by SMTP. Called by `welcome`, the queue's subscriber.

`SHOP_SMTP` names the server, as `smtp://USER:PASSWORD@HOST:PORT` (`smtps://` for TLS from the first byte). Without it
mail goes to the shop's own sink (`sink`), over SMTP all the same.
"""

import os
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

import aiosmtplib

SENDER = "Larch & Lantern <hello@shop.test>"

SERVER = os.environ.get("SHOP_SMTP", "")  # noqa: TID251 - the app's own setting, from [service] env

SEND_SECONDS = 10.0

_sink: list[int] = []


def use_sink(port: int) -> None:
    """Send to the sink that listens on this port of the loopback address, as long as no server is configured."""
    _sink[:] = [port]


async def send(to: str, subject: str, text: str, number: str) -> None:
    """Hand the mail to the server, which has taken it on return. A mail of the same number is the same mail again.

    Raises OSError or aiosmtplib.SMTPException when the server does not take it.
    """
    message = EmailMessage()
    message["From"] = SENDER
    message["To"] = to
    message["Subject"] = subject
    message["Message-ID"] = f"<{number}@shop.test>"
    message.set_content(text)
    url = urlsplit(SERVER or f"smtp://127.0.0.1:{_sink[0]}")
    await aiosmtplib.send(
        message,
        hostname=url.hostname,
        port=url.port,
        username=unquote(url.username) if url.username else None,
        password=unquote(url.password) if url.password else None,
        use_tls=url.scheme == "smtps",
        timeout=SEND_SECONDS,
    )
