"""The cookies of one virtual user, kept and sent as a browser does (RFC 6265). Pure: the time is passed in.

Called by `client`. Strict where a forgiving client would hide an app's mistake: a Secure cookie over plain HTTP
is not kept, a `__Host-` cookie must be what its name promises.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

FOR_EVER = float("inf")


@dataclass(frozen=True, slots=True)
class Cookie:
    """One cookie. `expires_at` is in seconds of the clock that the jar is used with."""

    name: str
    value: str
    path: str
    is_secure: bool
    expires_at: float

    def matches(self, path: str, is_secure: bool, now: float) -> bool:
        """Whether it goes with a request for this path."""
        if self.expires_at <= now or (self.is_secure and not is_secure):
            return False
        return self.path in ("/", path) or path.startswith(self.path.rstrip("/") + "/")


class Jar:
    """All cookies of one browser for one service. `now` is wall-clock seconds (`time.time()`)."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._cookies: dict[tuple[str, str], Cookie] = {}

    def header(self, path: str, is_secure: bool, now: float) -> str:
        """The Cookie header for a request, longest paths first; empty without cookies."""
        fitting = [cookie for cookie in self._cookies.values() if cookie.matches(path, is_secure, now)]
        fitting.sort(key=lambda cookie: -len(cookie.path))
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in fitting)

    def take(self, set_cookie: str, path: str, is_secure: bool, now: float) -> None:
        """Keep, replace or delete what one Set-Cookie header says; ignored when a browser would ignore it."""
        pair, *rest = set_cookie.split(";")
        name, separator, value = pair.partition("=")
        name = name.strip()
        said = {key.strip().lower(): text.strip() for key, _, text in (part.partition("=") for part in rest)}
        if not separator or not name or not self._is_allowed(name, said, is_secure):
            return
        scope = said.get("path", "")
        scope = scope if scope.startswith("/") else _folder(path)
        expires_at = _expires_at(said, now)
        self._cookies.pop((name, scope), None)
        if expires_at > now:
            self._cookies[name, scope] = Cookie(name, value.strip(), scope, "secure" in said, expires_at)

    @property
    def host(self) -> str:
        """Whose cookies they are."""
        return self._host

    def __iter__(self) -> Iterator[Cookie]:
        return iter(list(self._cookies.values()))

    def put(self, cookie: Cookie) -> None:
        """Keep a cookie that was kept before."""
        self._cookies[cookie.name, cookie.path] = cookie

    def clear(self) -> None:
        """Forget everything."""
        self._cookies.clear()

    def _is_allowed(self, name: str, said: dict[str, str], is_secure: bool) -> bool:
        domain = said.get("domain", "").lstrip(".").lower()
        if domain and self._host != domain and not self._host.endswith("." + domain):
            return False
        if ("secure" in said or name.startswith(("__Host-", "__Secure-"))) and not ("secure" in said and is_secure):
            return False
        return not name.startswith("__Host-") or (said.get("path") == "/" and not domain)


def _folder(path: str) -> str:
    return path[: path.rfind("/")] or "/"


def _expires_at(said: dict[str, str], now: float) -> float:
    """Max-Age wins over Expires; one that does not parse counts as not said."""
    try:
        if "max-age" in said:
            return now + int(said["max-age"])
        if "expires" in said:
            return parsedate_to_datetime(said["expires"]).timestamp()
    except (ValueError, OverflowError):
        pass
    return FOR_EVER
