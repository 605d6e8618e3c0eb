"""What an edge has for a request, beside its trace: a traced request itself goes to a web server, past all edges.

Called by `tenfold trace`. The edge is asked for what it keeps alone (RFC 9111, 5.2.1.7): no web server hears of that.
"""

import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from tenfold.traffic import visit as visits

DEBUG = "tenfold-debug"

KEPT_ALONE = ("Cache-Control", "only-if-cached")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the edge that this request would go by said."""

    name: str
    """Empty: such a request goes by no edge."""
    has_answer: bool = False
    age_seconds: int | None = None
    fresh_seconds: int | None = None
    """For how long its answer is fresh still; 0: it is stale, and serves while a new one is fetched."""
    cache_status: str = ""

    def as_json(self) -> dict[str, Any]:
        """As `tenfold trace --json` has it."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.name:
            return "edges: such a request goes to a web server past them"
        if not self.has_answer:
            return f"edges: {self.name} keeps no answer to this; without the debug key it would ask a web server"
        fresh = f", fresh for {self.fresh_seconds} s more" if self.fresh_seconds else ", stale by now"
        age = "" if self.age_seconds is None else f", {self.age_seconds} s old{fresh}"
        return f"edges: {self.name} keeps an answer to this{age}; without the debug key it would be served"


def question(call: visits.Call) -> visits.Call | None:
    """What an edge is asked; None: requests of this kind go by no edge."""
    names = {name.lower() for name, _ in call.headers}
    if call.method not in ("GET", "HEAD") or call.body or "upgrade" in names:
        return None
    kept = tuple(pair for pair in call.headers if pair[0].lower() not in (DEBUG, "cache-control"))
    return replace(call, method="HEAD", headers=(*kept, KEPT_ALONE))


def read(status: int, cache_status: str, age: str) -> Seen:
    """The edge's answer; without a word of it a web server gave that."""
    name = cache_status.partition(";")[0].strip()
    if not re.search(r";\s*hit\b", cache_status):
        return Seen(name, cache_status=cache_status) if status == 504 else Seen("", cache_status=cache_status)
    fresh = re.search(r";\s*ttl=(-?\d+)", cache_status)
    age_seconds = int(age) if age.isdecimal() else None
    return Seen(name, True, age_seconds, max(0, int(fresh[1])) if fresh else None, cache_status)


async def ask(call: visits.Call, timeout_seconds: float) -> Seen | None:
    """What the edge of this request keeps for it; None when there was no answer at all."""
    asked = question(call)
    if asked is None:
        return Seen("")
    visit = await visits.pay(asked, timeout_seconds)
    if visit.answer is None:
        return None
    return read(visit.answer.status, visit.answer.header("cache-status"), visit.answer.header("age"))
