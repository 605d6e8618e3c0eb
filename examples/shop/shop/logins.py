"""Who is at the other end, as FastAPI dependencies: the visitor's session, and whoever is logged in with it.

Called by `pages` and `api`.
"""

from typing import Annotated
from uuid import UUID

from fastapi import Depends

from shop import accounts, refusals
from shop.service import tf
from tenfold import Session

Visit = Annotated[Session, Depends(tf.session)]
"""The visitor's session, logged in or not."""


def log_in(session: Session, account: accounts.Account) -> None:
    """From now on this visitor is somebody. The session gets another id: one from before the login is worth nothing."""
    session.login(str(account.id))
    session["email"], session["name"] = account.email, account.name


def visitor(session: Visit) -> accounts.Account | None:
    """Whoever looks at a page, or None when nobody is logged in."""
    if session.principal is None:
        return None
    return accounts.Account(UUID(session.principal), session["email"], session["name"])


def user(found: Annotated[accounts.Account | None, Depends(visitor)]) -> accounts.Account:
    """Whoever is logged in. Raises `NotLoggedIn`."""
    if found is None:
        raise refusals.NotLoggedIn
    return found


Visitor = Annotated[accounts.Account | None, Depends(visitor)]
User = Annotated[accounts.Account, Depends(user)]
