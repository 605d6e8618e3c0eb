"""The mailer: everybody who signs up gets a mail. It takes its time, and no request waits for it."""

from shop import events, mail
from shop.service import tf
from tenfold import Message

TEXT = """Hello {name},

your account at Larch & Lantern is ready. The kettle is on.
"""


@tf.queue.subscriber(events.SIGNED_UP, group="mailer", timeout=30)
async def welcome(message: Message[events.SignedUp]) -> None:
    """Send it. The mail has the message's id as its number: sent twice, it is the same mail again."""
    user = message.payload
    await mail.send(user.email, "Welcome to Larch & Lantern", TEXT.format(name=user.name), str(message.id))
