"""The folder of static files: what a path means in it, what its content's name is, and what is kept of it in memory.

Called by `cdn` (for `url`) and `serving`. It reads nothing outside the folder, and no file whose name begins with a
dot.
"""

import gzip
import hashlib
import mimetypes
import os
import re
import stat
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

DIGEST_CHARACTERS = 12
"""48 bits of SHA-256: enough to tell apart what one service ever served under one name."""

NAMED = re.compile(r"(?P<stem>.+)\.(?P<digest>[0-9a-f]{12})(?P<suffix>\.[^./]+)?")
"""A name that changes with its content: `logo.DIGEST.png`."""

MOST_KEPT_BYTES = 2 * 1024**2
"""A larger file is read from the disk each time, and never compressed."""

MEMORY_BYTES = 32 * 1024**2
"""What one process keeps of all files, the longest unused goes first."""

MOST_DIGESTS = 4096

COMPRESSED = re.compile(
    r"text/.*|image/svg\+xml|application/(javascript|json|xml|wasm|manifest\+json|.*\+(json|xml))|font/(ttf|otf)"
)
WORTH = 0.9
"""What does not shrink to this is served as it is."""

TYPES = {
    ".avif": "image/avif",
    ".css": "text/css",
    ".js": "text/javascript",
    ".map": "application/json",
    ".mjs": "text/javascript",
    ".otf": "font/otf",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
"""Where the system's list is missing or of another opinion; without it, a browser told `nosniff` would refuse."""


class _Memory:
    """What is kept of small files, by content: of many releases and names only once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[bytes, bytes]] = OrderedDict()
        self._size = 0

    def get(self, digest: str) -> tuple[bytes, bytes] | None:
        found = self._kept.get(digest)
        if found is not None:
            self._kept.move_to_end(digest)
        return found

    def keep(self, digest: str, body: bytes, compressed: bytes) -> None:
        if digest not in self._kept:
            self._kept[digest] = (body, compressed)
            self._size += len(body) + len(compressed)
        while self._size > MEMORY_BYTES:
            _, gone = self._kept.popitem(last=False)
            self._size -= len(gone[0]) + len(gone[1])


@dataclass(frozen=True, slots=True)
class Found:
    """One file as it is now."""

    path: Path
    size: int
    modified: int
    """Unix time."""
    digest: str
    """Of its content, in full."""
    is_fixed: bool
    """Whether it was asked for by the name of this very content."""

    @property
    def media_type(self) -> str:
        """Its content type, with the encoding of text."""
        guessed = mimetypes.guess_type(self.path.name)[0]
        found = TYPES.get(self.path.suffix.lower()) or guessed or "application/octet-stream"
        return f"{found}; charset=utf-8" if found.startswith("text/") else found

    @property
    def is_compressible(self) -> bool:
        """Whether it may shrink."""
        return self.size <= MOST_KEPT_BYTES and bool(COMPRESSED.fullmatch(self.media_type.partition(";")[0]))


class Folder:
    """The static files of one release, and of those that lie beside it."""

    def __init__(self, root: Path, others: tuple[Path, ...] = ()) -> None:
        """`others`: folders whose subfolders may hold other releases' roots: looked through when a name is unknown."""
        self.root = root
        self._others = others
        self._digests: OrderedDict[tuple[str, int, int, int], str] = OrderedDict()
        self._memory = _Memory()

    def fixed_name(self, name: str) -> str | None:
        """The name of this file's content as it is now; None when there is no such file. Reads it, once."""
        found = self._look(self.root, name.lstrip("/"))
        if found is None:
            return None
        stem, dot, suffix = found.path.name.rpartition(".")
        digest = found.digest[:DIGEST_CHARACTERS]
        last = f"{stem}.{digest}.{suffix}" if dot and stem else f"{found.path.name}.{digest}"
        return "/".join((*name.lstrip("/").split("/")[:-1], last))

    def find(self, name: str) -> Found | None:
        """The file that is asked for by this name. Of a name with a digest: the very content, of whatever release."""
        named = NAMED.fullmatch(name)
        if named is not None:
            plain = named["stem"] + (named["suffix"] or "")
            for root in (self.root, *self._beside()):
                found = self._look(root, plain, named["digest"])
                if found is not None:
                    return found
        return self._look(self.root, name)

    def body(self, found: Found) -> tuple[bytes, bytes] | None:
        """Its content and that compressed (empty: not worth it); None when it is too large to be kept, or has changed.

        Reads and compresses at the first time: for a thread.
        """
        if found.size > MOST_KEPT_BYTES:
            return None
        kept = self._memory.get(found.digest)
        if kept is None:
            body = found.path.read_bytes()
            if hashlib.sha256(body).hexdigest() != found.digest:
                return None
            compressed = gzip.compress(body, 9, mtime=0) if found.is_compressible else b""
            kept = (body, compressed if len(compressed) < WORTH * len(body) else b"")
            self._memory.keep(found.digest, *kept)
        return kept

    def is_kept(self, found: Found) -> bool:
        """Whether `body` needs no reading."""
        return self._memory.get(found.digest) is not None

    def _beside(self) -> list[Path]:
        """The same folder of the releases that are kept, the newest first."""
        found = [root for folder in self._others for root in folder.glob(f"*/{self._relative}") if root != self.root]
        return sorted(found, key=_age)

    @property
    def _relative(self) -> Path:
        """Where the folder is inside a release."""
        parents = [folder for folder in self._others if self.root.is_relative_to(folder)]
        return Path(*self.root.relative_to(parents[0]).parts[1:]) if parents else Path(self.root.name)

    def _look(self, root: Path, name: str, digest: str = "") -> Found | None:
        path = _inside(root, name)
        if path is None:
            return None
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                return None
            content = self._digest(path, status)
        except OSError:
            return None
        if not content.startswith(digest):
            return None
        return Found(path, status.st_size, int(status.st_mtime), content, bool(digest))

    def _digest(self, path: Path, status: os.stat_result) -> str:
        key = (str(path), status.st_ino, status.st_mtime_ns, status.st_size)
        known = self._digests.get(key)
        if known is None:
            with path.open("rb") as file:
                known = hashlib.file_digest(file, "sha256").hexdigest()
            self._digests[key] = known
            if len(self._digests) > MOST_DIGESTS:
                self._digests.popitem(last=False)
        return known


def _inside(root: Path, name: str) -> Path | None:
    """The file of this name, links followed; None when it would be outside the folder, or is a hidden one."""
    parts = name.split("/")
    if any(not part or part.startswith(".") or "\\" in part or "\0" in part for part in parts):
        return None
    try:
        path = Path(os.path.realpath(root / name))
        home = Path(os.path.realpath(root))
    except (OSError, ValueError):
        return None
    is_hidden = path.is_relative_to(home) and any(part.startswith(".") for part in path.relative_to(home).parts)
    return path if path.is_relative_to(home) and not is_hidden else None


def _age(root: Path) -> float:
    try:
        return -root.stat().st_mtime
    except OSError:
        return 0.0
