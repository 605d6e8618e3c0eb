"""Writes that end after their response has begun: their position cannot reach the client. Warned about once a place.

Called by `transaction` after each commit. Looks at the stack only when there is something to warn about.
"""

import inspect
import logging
import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from tenfold import request

log = logging.getLogger("tenfold.db")

MOST_PLACES = 100
"""Code that is made at run time must not fill the memory."""

_paths = sysconfig.get_paths()
NOT_THE_APPS = (
    f"{Path(__file__).parents[2]}{os.sep}",
    "<frozen",
    *(_paths[key] for key in ("stdlib", "purelib", "platlib")),
)
"""Where code is that no app's author has written."""

_told: set[tuple[str, int]] = set()


def warn(work: Callable[..., Any] | None) -> None:
    """Say that this write came too late, and the line to write instead. `work` is what `tf.db.run` was given."""
    serving = request.current()
    if serving is None or not serving.has_responded or len(_told) >= MOST_PLACES:
        return
    frame = _apps_own(sys._getframe())
    code = frame.f_code if frame is not None else getattr(inspect.unwrap(work), "__code__", None) if work else None
    place = (code.co_filename, frame.f_lineno if frame is not None else code.co_firstlineno) if code else ("", 0)
    if place in _told:
        return
    _told.add(place)
    name = code.co_name if code else "a function"
    is_dependency = code is not None and bool(code.co_flags & inspect.CO_ASYNC_GENERATOR)
    log.warning(
        "%s:%d in %s: a write has ended after its response had begun: its position cannot reach the client, whose next "
        "read may not see it; %s",
        *(*place, name, _instead(name) if is_dependency else INSTEAD),
    )


INSTEAD = (
    "await it before the response begins; or, if no later request of this client has to see it, put "
    "`with tf.db.session():` around it"
)


def _instead(name: str) -> str:
    return (
        f'a dependency with `yield` ends behind the response: write `Depends({name}, scope="function")` '
        "(FastAPI 0.121 or later), which ends before it"
    )


def _apps_own(frame: FrameType | None) -> FrameType | None:
    """The innermost call in the app's own code."""
    while frame is not None and frame.f_code.co_filename.startswith(NOT_THE_APPS):
        frame = frame.f_back
    return frame
