"""Who somebody is: sign-up and login. Called by `pages` and `api`; the login itself is the visitor's session."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shop import events, passwords, refusals
from shop.service import tf
from tenfold import Transaction


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody with an account, as the session remembers it."""

    id: UUID
    email: str
    name: str


async def sign_up(email: str, password: str, name: str) -> Account:
    """Make an account; a mail is on its way and the figures know of it once that is certain. Raises `EmailTaken`."""
    derived = await passwords.derive(password)
    created = await tf.db.run(_create, email, name, derived)
    return Account(UUID(created["id"]), email, name)


async def check(email: str, password: str) -> Account:
    """The account with this password. Raises `WrongPassword`, whichever of the two was wrong."""
    user = await tf.db.reading("primary").fetchrow("select * from shop_user where email = $1", email)
    if user is None:
        await passwords.derive(password)  # takes as long as a wrong password: the time does not tell who has an account
        raise refusals.WrongPassword
    derived = await passwords.derive(password, user["password_salt"], user["password_cost"])
    if not derived.matches(user["password_check"]):
        raise refusals.WrongPassword
    return Account(user["id"], user["email"], user["name"])


async def _create(tx: Transaction, email: str, name: str, derived: passwords.Derived) -> dict[str, Any]:
    user_id = await tx.fetchval(
        """insert into shop_user (email, name, password_cost, password_salt, password_check)
           values ($1, $2, $3, $4, $5) on conflict (email) do nothing returning id""",
        email,
        name,
        derived.cost,
        derived.salt,
        derived.check,
    )
    if user_id is None:
        raise refusals.EmailTaken
    await tx.publish(events.SIGNED_UP, events.SignedUp(str(user_id), email, name), key=str(user_id))
    return {"id": str(user_id)}
