"""What happens in the shop, as messages. Published by `accounts` and `orders`, handled by `welcome` and `statistics`.

Each is a promise to whoever listens: fields are added, never taken away.
"""

from dataclasses import dataclass

SIGNED_UP = "user.signed_up"
ORDERED = "order.placed"


@dataclass(frozen=True, slots=True)
class SignedUp:
    """Somebody has made an account."""

    user_id: str
    email: str
    name: str


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order was placed."""

    order_id: str
    user_id: str
    total_cents: int
