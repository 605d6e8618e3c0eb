"""Calls a view again when the database went away under it. Only for views that may run twice."""

import functools
import time
from collections.abc import Callable
from typing import Any

from django.db import InterfaceError, InternalError, OperationalError, connections

SECONDS = 8.0
"""Less than the service's request_timeout, so that the last answer is still the view's."""

PAUSE_SECONDS = 0.1
READ_ONLY = "25006"
"""What a server says to a write when it is no primary any more."""


def repeated(view: Callable[..., Any]) -> Callable[..., Any]:
    """The view, called again for up to `SECONDS` while its database is away."""

    @functools.wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        until = time.monotonic() + SECONDS
        while True:
            try:
                return view(*args, **kwargs)
            except (OperationalError, InterfaceError, InternalError) as error:
                if not _is_away(error) or time.monotonic() > until:
                    raise
            connections.close_all()
            time.sleep(PAUSE_SECONDS)

    return wrapper


def _is_away(error: Exception) -> bool:
    return not isinstance(error, InternalError) or getattr(error.__cause__, "sqlstate", "") == READ_ONLY
