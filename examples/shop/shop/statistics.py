"""The shop's figures by day. Each message counts once: its effect and its acknowledgement are one commit."""

from shop import events
from shop.service import tf
from tenfold import Message, Transaction


@tf.queue.subscriber(events.SIGNED_UP, group="statistics", transaction=True)
async def count_account(message: Message[events.SignedUp], tx: Transaction) -> None:
    """One more account on the day of the sign-up."""
    await tx.execute(
        """insert into shop_day (day, accounts) values ($1, 1)
           on conflict (day) do update set accounts = shop_day.accounts + 1""",
        message.published_at.date(),
    )


@tf.queue.subscriber(events.ORDERED, group="statistics", transaction=True)
async def count_order(message: Message[events.Ordered], tx: Transaction) -> None:
    """One more order, and what it brought."""
    await tx.execute(
        """insert into shop_day (day, orders, revenue_cents) values ($1, 1, $2)
           on conflict (day) do update
           set orders = shop_day.orders + 1, revenue_cents = shop_day.revenue_cents + excluded.revenue_cents""",
        message.published_at.date(),
        message.payload.total_cents,
    )
