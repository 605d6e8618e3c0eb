"""Cookies in a file, in the form that curl and browsers' tools share: seven fields a line, parted by tabs.

Called by `tenfold trace --cookies`. Lines of other hosts are kept as they are.
"""

from pathlib import Path

from tenfold import errors
from tenfold.traffic import cookies

_NEVER = "0"
"""Expires with the browser: for a file, never."""


def load(path: Path, jar: cookies.Jar, host: str) -> None:
    """Put the file's cookies for this host into the jar. A file that is not there holds none."""
    for name, value, scope, is_secure, expires_at in _rows(path, host):
        jar.put(cookies.Cookie(name, value, scope, is_secure, expires_at))


def save(path: Path, jar: cookies.Jar, host: str) -> None:
    """Write the jar's cookies for this host in the place of those in the file, 0600: they may log somebody in."""
    kept = [line for line in _lines(path) if _host(line) != host]
    for cookie in jar:
        expires = _NEVER if cookie.expires_at == cookies.FOR_EVER else str(int(cookie.expires_at))
        secure = "TRUE" if cookie.is_secure else "FALSE"
        kept.append("\t".join((host, "FALSE", cookie.path, secure, expires, cookie.name, cookie.value)))
    try:
        path.touch(mode=0o600)
        path.write_text("\n".join(["# Netscape HTTP Cookie File", *kept, ""]))
    except OSError as error:
        raise errors.BadInput(f"{path}: cookies cannot be written ({error.strerror})") from error


def _rows(path: Path, host: str) -> list[tuple[str, str, str, bool, float]]:
    found = []
    for line in _lines(path):
        fields = line.removeprefix("#HttpOnly_").split("\t")
        if len(fields) != 7 or not fields[4].isdigit():
            raise errors.BadInput(
                f"{path}: {line[:40]!r} found, seven fields parted by tabs expected, as curl -c writes them"
            )
        if _host(line) == host:
            expires_at = cookies.FOR_EVER if fields[4] == _NEVER else float(fields[4])
            found.append((fields[5], fields[6], fields[2], fields[3] == "TRUE", expires_at))
    return found


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise errors.BadInput(f"{path}: cookies cannot be read: {error}") from error
    return [one for one in lines if one.strip() and (not one.startswith("#") or one.startswith("#HttpOnly_"))]


def _host(line: str) -> str:
    return line.removeprefix("#HttpOnly_").split("\t")[0].lstrip(".")
