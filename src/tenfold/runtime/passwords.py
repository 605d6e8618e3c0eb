"""The service's generated passwords: made once, kept in a 0600 file, handed to engines as a value."""

import dataclasses
import secrets
from pathlib import Path

import msgspec

from tenfold import engines, errors
from tenfold.kit import files


def load_or_make(path: Path) -> engines.Secrets:
    """The secrets in the file; missing ones are generated (32 random bytes, hex) and saved.

    Raises RuntimeFailure when the file cannot be understood: new passwords would lock the service out.
    """
    try:
        known = msgspec.json.decode(path.read_bytes(), type=dict[str, str]) if path.exists() else {}
    except msgspec.DecodeError as error:
        raise errors.RuntimeFailure(
            f"{path}: {error} found, an object of passwords expected; the database was made with them. "
            f"Put the file's copy back: cp {files.copy_of(path)} {path}"
        ) from error
    names = [field.name for field in dataclasses.fields(engines.Secrets)]
    complete = {name: known.get(name) or secrets.token_hex(32) for name in names}
    if complete != known:
        files.write_twice(path, msgspec.json.format(msgspec.json.encode(complete)))
    return engines.Secrets(**complete)
