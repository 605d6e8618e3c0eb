"""tenfold grows one Python web service from a single server to millions of users: what an app imports.

    from tenfold import Tenfold
    tf = Tenfold()

`current()` is the request that this task serves. `Message` is what subscribers get; `Discard` and `Retry` they may
raise; `Put` is what a write-back's flush gets. `errors` holds every exception. Names are looked up when they are first
used, so that the command line does not load the SDK, nor an app the command line.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenfold import errors as errors
    from tenfold.request import Request as Request
    from tenfold.request import current as current
    from tenfold.sdk.cache.flushing import Put as Put
    from tenfold.sdk.db.transaction import Transaction as Transaction
    from tenfold.sdk.queue.messages import Discard as Discard
    from tenfold.sdk.queue.messages import Message as Message
    from tenfold.sdk.queue.messages import Retry as Retry
    from tenfold.sdk.service import Tenfold as Tenfold
    from tenfold.sdk.sessions.session import Session as Session

__all__ = ["Discard", "Message", "Put", "Request", "Retry", "Session", "Tenfold", "Transaction", "current", "errors"]

_HOMES = {
    "Discard": "tenfold.sdk.queue.messages",
    "Message": "tenfold.sdk.queue.messages",
    "Retry": "tenfold.sdk.queue.messages",
    "Put": "tenfold.sdk.cache.flushing",
    "Request": "tenfold.request",
    "current": "tenfold.request",
    "Session": "tenfold.sdk.sessions.session",
    "Tenfold": "tenfold.sdk.service",
    "Transaction": "tenfold.sdk.db.transaction",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tenfold' has no attribute {name!r}")
    import importlib  # late, as everything here

    return getattr(importlib.import_module(_HOMES[name]), name)
