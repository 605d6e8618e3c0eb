"""The balancer's own part of a request's trace: what it writes into the response, and how that is read back.

The configuration is rendered with `header`, `tenfold trace` reads it with `spans_of`. Pure. A request that waited for a
usable web server has passed the balancer twice, so there are two of these headers: the inner pass comes first.
Source: HAProxy's Configuration Manual 2.8, section 8.2.3 (log-format variables).
"""

from collections.abc import Mapping, Sequence

from tenfold import spans
from tenfold.engines.haproxy import settings
from tenfold.topology import tiers

HEADER = "Tenfold-Hop"

KIND = "balancer"

POLICIES: Mapping[str, str] = {
    "round_robin": "each in its turn",
    "least_connections": "the one with the fewest open requests",
    "weighted_round_robin": "each in its turn, as often as its weight says",
    "weighted_least_connections": "the one with the fewest open requests for its weight",
    "ip_hash": "the one that this client's address always leads to",
    "random": "any one, by chance",
    "fastest": "each in its turn, the quicker ones more often",
}
"""The policies as a newcomer understands them."""

_WAITS: Mapping[str, str] = {
    "queue": "the server had as many requests as it takes: waited for a free place",
    "connect": "retries included",
}
_KEPT_BY_COOKIE = "V"
"""HAProxy's letter for a sticky cookie that named a usable server."""


def header(name: str, policy: tiers.Policy, group: str) -> str:
    """The header's value as HAProxy's log format: `%...` is filled in for each request."""
    fields = {
        "name": name,
        "group": group,
        "policy": policy,
        "route": "%[var(txn.route)]",
        "server": "%s",
        "usable": f"%[nbsrv({settings.backend(group)})]",
        "cookie": "%tsc",
        "retries": "%rc",
        "queue": "%Tw",
        "connect": "%Tc",
        "answer": "%Tr",
        "microseconds": "%[date(0,us),sub(txn.began)]",
        "id": "%ID",
    }
    return "; ".join([KIND, *(f"{key}={value}" for key, value in fields.items())])


def route(path: str) -> str:
    """A route's path so that no letter of it means anything to HAProxy."""
    return path.encode().hex()


def spans_of(headers: Sequence[str]) -> spans.Span | None:
    """The balancer's span from its headers; the answering web server's own span belongs into the innermost one.

    None without any. What does not parse counts as not said: a proxy in between may have changed it.
    """
    found: spans.Span | None = None
    for one in headers:
        hop = _span(_fields(one))
        if found is not None:
            inner = found.moved(max(0.0, hop.duration_ms - found.duration_ms))
            hop.children.append(inner)
        found = hop
    return found


def request_id(headers: Sequence[str]) -> str:
    """The request's id as the balancer logs it; empty when it did not say."""
    return next((said for one in reversed(headers) if (said := _fields(one).get("id", "-")) != "-"), "")


def _fields(text: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in text.split(";"))
    return {key: value for key, equals, value in pairs if equals}


def _span(said: Mapping[str, str]) -> spans.Span:
    total_ms = _number(said, "microseconds") / 1000
    span = spans.Span(KIND, said.get("name", ""), said.get("server", ""), _why(said), duration_ms=total_ms, children=[])
    passed = 0.0
    for kind in ("queue", "connect"):
        milliseconds = _number(said, kind)
        if milliseconds >= 1:
            span.children.append(spans.Span(kind, span.where, "", _WAITS[kind], passed, milliseconds, []))
            passed += milliseconds
    return span


def _why(said: Mapping[str, str]) -> str:
    if said.get("server") == settings.HOLD:
        return "no web server could be used: the request was held until one could"
    if said.get("server", "<NOSRV>") == "<NOSRV>":
        return "no web server was given it"
    parts = [_route(said), _choice(said), _retries(said)]
    return "; ".join(part for part in parts if part)


def _choice(said: Mapping[str, str]) -> str:
    usable = int(_number(said, "usable"))
    if said.get("cookie", "---")[2:3] == _KEPT_BY_COOKIE:
        return "the one that the client's cookie names"
    if usable <= 1:
        return "the only usable web server"
    policy = said.get("policy", "")
    return f"of {usable} {POLICIES.get(policy, 'chosen')} ({policy})"


def _route(said: Mapping[str, str]) -> str:
    group = said.get("group", "")
    try:
        path = bytes.fromhex(said.get("route", "")).decode()
    except ValueError:
        path = ""
    return f"route {path} leads to group {group}" if path else ""


def _retries(said: Mapping[str, str]) -> str:
    """`3`, or `+3` when it was another server in the end."""
    text = said.get("retries", "0")
    count = int(_number({"retries": text.lstrip("+")}, "retries"))
    if not count:
        return ""
    elsewhere = ", and moved to another server" if text.startswith("+") else ""
    return f"tried {count + 1} times{elsewhere}"


def _number(said: Mapping[str, str], key: str) -> float:
    try:
        return max(0.0, float(said.get(key, "0")))
    except ValueError:
        return 0.0
