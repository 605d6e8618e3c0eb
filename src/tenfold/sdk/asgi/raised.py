"""Errors that a framework answers by itself: which one a 500 of Django's stands for.

Called by `lifespan`. Most frameworks let an error pass on to the server, or send their 500 while they handle it, so
`exchange` sees it. Django does neither, but it has a signal.
"""

import sys
from typing import Any

from tenfold import request
from tenfold.sdk.asgi import exchange


def listen() -> None:
    """Hear of the errors in Django's views, if this process has loaded Django. Twice is once."""
    signals = sys.modules.get("django.core.signals")
    if signals is not None:
        signals.got_request_exception.connect(_note, dispatch_uid="tenfold")


def _note(*_: Any, **__: Any) -> None:
    """Django calls this in a thread, with the request's context, while it handles the error."""
    serving = request.current()
    if isinstance(serving, exchange.Exchange):
        serving.raised = sys.exception()
