"""Whether the app's interpreter can run it: looked at before anything is started.

Called by the runtime before `up` and `apply`, by `tenfold dev` and `tenfold init`. It runs the interpreter for a
moment; it never imports the app, and changes nothing.
"""

import asyncio
from importlib import metadata
from pathlib import Path

import msgspec

from tenfold import errors
from tenfold.engines.granian import settings
from tenfold.kit import process
from tenfold.topology import tiers

OLDEST = (3, 11)

LOOK_SECONDS = 20.0

_QUESTION = """
import importlib, json, sys
found = {"version": list(sys.version_info[:3]), "missing": "", "tenfold": ""}
if sys.version_info >= (3, 11):
    for name in ("tenfold.sdk.hosting", "granian"):
        try:
            importlib.import_module(name)
        except Exception as error:
            found["missing"] = f"{name} ({type(error).__name__}: {error})"
            break
    try:
        from importlib import metadata
        found["tenfold"] = metadata.version("tenfold")
    except Exception:
        pass
print("\\n" + json.dumps(found))
"""


class Answer(msgspec.Struct):
    """What an interpreter says of itself."""

    version: tuple[int, int, int]
    missing: str
    tenfold: str


async def ensure(project: Path, service: tiers.Service) -> str:
    """Raises BadInput, with the line to type, unless `service.python` can run the app. Returns a warning, or nothing.

    tenfold's own interpreter, which is the default, is not asked.
    """
    if not service.python:
        return ""
    path = settings.interpreter(project, service.python)
    answer = await _ask(path)
    if answer.version[:2] < OLDEST:
        raise _bad(path, f"is Python {_dotted(answer.version)}", "3.11 or newer", "make a newer environment")
    if answer.missing:
        found = f"cannot import {answer.missing}"
        raise _bad(path, found, "an interpreter that has tenfold", f"type: {install(path)}")
    own = metadata.version("tenfold")
    if answer.tenfold != own:
        return (
            f"service.python: {path} has tenfold {answer.tenfold or '?'}, this is tenfold {own}; "
            f"type: {path} -m pip install tenfold=={own}"
        )
    return ""


def install(path: Path) -> str:
    """The line that installs tenfold for an interpreter."""
    return f"{path} -m pip install tenfold"


async def _ask(path: Path) -> Answer:
    if not await asyncio.to_thread(path.exists):
        raise _bad(path, "is not there", "an interpreter or a virtual environment", "correct it, or make one there")
    try:
        finished = await process.run([str(path), "-c", _QUESTION], timeout_seconds=LOOK_SECONDS)
    except OSError as error:
        raise _bad(path, f"does not run ({error.strerror})", "an interpreter", "correct it") from error
    try:
        return msgspec.json.decode(finished.output.strip().splitlines()[-1], type=Answer)
    except (IndexError, msgspec.DecodeError) as error:
        said = finished.output.strip()[-300:] or f"code {finished.code}"
        raise _bad(path, f"does not run as Python does: {said}", "Python 3.11 or newer", "correct it") from error


def _bad(path: Path, found: str, expected: str, advice: str) -> errors.BadInput:
    return errors.BadInput(f"service.python: {path} {found}; {expected} expected; {advice}")


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))
