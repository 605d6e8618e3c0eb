"""The login cookie, as FastAPI dependencies. Called by `pages` and `api`."""

from typing import Annotated

from fastapi import Depends, Request, Response

from shop import accounts, passwords, refusals
from shop.service import LOGIN_COOKIE


def remember(request: Request, response: Response, token: str) -> None:
    """Set the cookie. Over plain HTTP it cannot be Secure: browsers would drop it."""
    response.set_cookie(
        LOGIN_COOKIE,
        token,
        max_age=accounts.LOGIN_DAYS * 86400,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )


def forget(request: Request, response: Response) -> None:
    """Take the cookie back."""
    response.delete_cookie(LOGIN_COOKIE, httponly=True, samesite="lax", secure=request.url.scheme == "https")


def digest(request: Request) -> bytes:
    """The digest of the cookie's token, not looked up: writes look it up on the primary. Raises `NotLoggedIn`."""
    token = request.cookies.get(LOGIN_COOKIE)
    if not token:
        raise refusals.NotLoggedIn
    return passwords.digest(token)


async def visitor(request: Request) -> accounts.User | None:
    """Whoever looks at a page, or None when nobody is logged in."""
    token = request.cookies.get(LOGIN_COOKIE)
    return await accounts.find(passwords.digest(token)) if token else None


async def user(found: Annotated[accounts.User | None, Depends(visitor)]) -> accounts.User:
    """Whoever is logged in. Raises `NotLoggedIn`."""
    if found is None:
        raise refusals.NotLoggedIn
    return found


Digest = Annotated[bytes, Depends(digest)]
Visitor = Annotated[accounts.User | None, Depends(visitor)]
User = Annotated[accounts.User, Depends(user)]
