"""Private pages of a web process: `/-/load`, for the runtime.

Called by `wrap`. Whoever asks must know the service's key; to all others there is no such page. The front door refuses
the path as well.
"""

import json
import os
import time
from typing import Any

from tenfold import bindings
from tenfold.sdk import counters
from tenfold.sdk.asgi import answers, inflight, protocol

KEY = b"tenfold-key"


def load(scope: protocol.Scope, tracker: inflight.InFlight) -> answers.Answer:
    """What this process carries now, and has carried in the last ten seconds."""
    secret = tracker.settings.service.secret
    said = next((value for name, value in scope["headers"] if name == KEY), b"")
    if not secret or not bindings.is_key(said, bindings.private_key(secret)):
        return answers.text(404, "not found")
    body = json.dumps(_reading(tracker), separators=(",", ":")).encode()
    return answers.Answer(200, body, ((b"content-type", b"application/json"),))


def _reading(tracker: inflight.InFlight) -> dict[str, Any]:
    working = tracker.working
    return {
        "version": 1,
        "pid": os.getpid(),
        "bindings": tracker.settings.digest,
        "in_flight": len(working),
        "waiting_for_primary": sum(one.is_waiting for one in working),
        "streams": len(tracker.entered) - len(working),
        "max_requests": tracker.settings.max_requests,
        "at_door": len(tracker.door),
        **tracker.meter.reading(time.monotonic()),
        "queue": tracker.messages(),
        "counts": counters.reading(),
    }
