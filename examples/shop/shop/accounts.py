"""Who somebody is: sign-up, login, logout. Called by `pages` and `api`."""

import secrets
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shop import passwords, refusals
from shop.service import tf
from tenfold import Transaction

LOGIN_DAYS = 30


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who is logged in, and how many things are in the cart."""

    id: UUID
    email: str
    name: str
    cart_count: int


@dataclass(frozen=True, slots=True)
class Login:
    """A fresh login; `token` goes into the cookie and nowhere else."""

    user_id: str
    email: str
    token: str


async def sign_up(email: str, password: str, name: str) -> Login:
    """Make an account and log it in. Raises `EmailTaken`."""
    derived = await passwords.derive(password)
    created = await tf.db.run(_create_user, email, name, derived, secrets.token_hex(16))
    if created["salt"] != derived.salt.hex():  # this request is a repeat: its account was made the first time
        derived = await passwords.derive(password, bytes.fromhex(created["salt"]), created["cost"])
    return Login(created["id"], email, derived.token(created["nonce"]))


async def log_in(email: str, password: str) -> Login:
    """Check the password and open a login. Raises `WrongPassword`, whichever of the two was wrong."""
    user = await tf.db.reading("primary").fetchrow("select * from shop_user where email = $1", email)
    if user is None:
        await passwords.derive(password)  # takes as long as a wrong password: the time does not tell who has an account
        raise refusals.WrongPassword
    derived = await passwords.derive(password, user["password_salt"], user["password_cost"])
    if not derived.matches(user["password_check"]):
        raise refusals.WrongPassword
    opened = await tf.db.run(_open_login, user["id"], derived, secrets.token_hex(16))
    return Login(str(user["id"]), email, derived.token(opened["nonce"]))


async def log_out(token_digest: bytes) -> None:
    """End a login; one that is over already stays over."""
    await tf.db.run(_close_login, token_digest)


async def find(token_digest: bytes) -> User | None:
    """Who this login belongs to. Read from a replica, as fresh as this browser needs: right after logging in too."""
    row = await tf.db.fetchrow(
        """select u.id, u.email, u.name,
                  (select coalesce(sum(c.quantity), 0) from shop_cart_item c where c.user_id = u.id) as cart_count
           from shop_login l join shop_user u on u.id = l.user_id
           where l.token_digest = $1 and l.expires_at > now()""",
        token_digest,
    )
    return User(row["id"], row["email"], row["name"], row["cart_count"]) if row else None


async def owner(tx: Transaction, token_digest: bytes) -> UUID:
    """The id of whoever is logged in, as the primary knows it now: what a write may rely on. Raises `NotLoggedIn`."""
    user_id: UUID | None = await tx.fetchval(
        "select user_id from shop_login where token_digest = $1 and expires_at > now()", token_digest
    )
    if user_id is None:
        raise refusals.NotLoggedIn
    return user_id


async def _create_user(
    tx: Transaction, email: str, name: str, derived: passwords.Derived, nonce: str
) -> dict[str, Any]:
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
    await _open_login(tx, user_id, derived, nonce)
    return {"id": str(user_id), "cost": derived.cost, "salt": derived.salt.hex(), "nonce": nonce}


async def _open_login(tx: Transaction, user_id: UUID, derived: passwords.Derived, nonce: str) -> dict[str, str]:
    await tx.execute("delete from shop_login where user_id = $1 and expires_at < now()", user_id)
    await tx.execute(
        "insert into shop_login (token_digest, user_id, expires_at) values ($1, $2, now() + make_interval(days => $3))",
        passwords.digest(derived.token(nonce)),
        user_id,
        LOGIN_DAYS,
    )
    return {"nonce": nonce}


async def _close_login(tx: Transaction, token_digest: bytes) -> None:
    await tx.execute("delete from shop_login where token_digest = $1", token_digest)
