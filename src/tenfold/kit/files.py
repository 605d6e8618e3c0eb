"""Files that must never be seen half written, and folders whose sockets fit into a socket address.

Called by whoever writes state. Knows nothing of tenfold.
"""

import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

LONGEST_SOCKET_PATH = 107
"""Bytes that fit into `sockaddr_un.sun_path` with its closing NUL (unix(7))."""


OWNER = "owner"
"""The file in a short folder of sockets that names whose it is."""


def write_atomically(path: Path, content: bytes | str, mode: int = 0o600) -> None:
    """Replace the file: after a crash it holds the old content or the new, never a part.

    The content is on disk before the name is (fsync, then rename, then fsync of the folder).
    """
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_twice(path: Path, content: bytes) -> None:
    """`write_atomically`, and then a copy beside it (`state.json.copy`) for a person to put back."""
    write_atomically(path, content)
    write_atomically(copy_of(path), content)


def copy_of(path: Path) -> Path:
    """Where `write_twice` keeps the copy."""
    return path.with_name(f"{path.name}.copy")


def write_if_changed(path: Path, content: str, mode: int = 0o600) -> bool:
    """`write_atomically` unless the file holds just that; True when it was written."""
    if path.exists() and path.read_text() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content, mode)
    return True


def remove_tree(folder: Path) -> None:
    """Delete a folder: at once for whoever looks (a rename), then its content. Twice is once.

    After a crash nothing half deleted stands under the old name; what was left aside goes at the next call.
    """
    aside = folder.with_name(f".removed-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def socket_folder(wanted: Path) -> Path:
    """`wanted`, or a short folder in its place when socket paths below it would be too long.

    The same `wanted` always gives the same folder. Whether it exists is the caller's care (`make_socket_folder`).
    """
    if len(os.fsencode(wanted)) <= LONGEST_SOCKET_PATH - 40:
        return wanted
    digest = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"{_short_prefix()}{digest}"


def make_socket_folder(wanted: Path) -> Path:
    """Make and return the `socket_folder`, private. What it holds belongs to the folder that `wanted` is in.

    A short folder names its owner; those of ours whose owner is gone are removed here, for nobody else would.
    """
    folder = socket_folder(wanted)
    make_private(folder)
    if folder != wanted:
        write_if_changed(folder / OWNER, str(wanted.parent.absolute()))
        for owner, sockets in owned_socket_folders():
            if sockets != folder and not owner.exists():
                shutil.rmtree(sockets, ignore_errors=True)
    return folder


def owned_socket_folders() -> list[tuple[Path, Path]]:
    """The short folders of ours, each after its owner; one without a readable owner is passed by."""
    found = []
    for sockets in Path(tempfile.gettempdir()).glob(f"{_short_prefix()}*"):
        with suppress(OSError):  # somebody else's, or removed while we looked
            if sockets.lstat().st_uid == os.getuid() and not sockets.is_symlink():
                found.append((Path((sockets / OWNER).read_text()), sockets))
    return found


def make_private(folder: Path) -> None:
    """On return the folder exists and only its owner may enter. Raises PermissionError when that is somebody else."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder}: belongs to another user; remove it")
    folder.chmod(0o700)


def _short_prefix() -> str:
    return f"tenfold-{os.getuid()}-"


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
