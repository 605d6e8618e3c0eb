"""How a traced request looks: one tree from the client to the last statement. Pure, but for the console it is given.

Called by `tenfold trace`. A kind of span that nobody here knows is shown by its own words.
"""

import textwrap
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from tenfold import spans
from tenfold.engines.haproxy import hop
from tenfold.sdk.asgi import tracing
from tenfold.traffic import visit as visits

MOST_WIDTH = 120
TIME_WIDTH = 11
BAR_WIDTH = 22

_WORDS = {
    "client": "{name}",
    "resolve": "look up {name}",
    "connect": "connect to {name}",
    "queue": "queue for {name}",
    "tls": "TLS handshake, {name}",
    "balancer": "balancer {name}",
    "web": "web server {name}",
    "statement": "{name}",
    "classify": "look at the statement",
    "wait": "wait for a {name}",
    "connection": "{name}",
    "transaction": "transaction {name}",
    "begin": "begin, with its token",
    "settle": "settle by the token",
    "run": "tf.db.run({name})",
    "cache": "cache {name}",
    "load": "load {name}",
    "body": "the rest of the body",
    "retry": "again: {name}",
}


def whole(call: visits.Call, visit: visits.Visit) -> spans.Span:
    """Everything that is known of a visit as one tree: the client's own times, and what the service said of itself."""
    root = spans.Span("client", f"{call.method} {call.path}", call.host, "", 0.0, visit.total_ms, list(visit.parts))
    served = _served(visit)
    if served is not None:
        root.children.append(served)
    if visit.answer is not None and visit.total_ms - visit.first_byte_ms >= 1:
        length = visit.total_ms - visit.first_byte_ms
        root.children.append(spans.Span("body", "", "", _ended(visit), visit.first_byte_ms, length, []))
    return root


def request_id(visit: visits.Visit) -> str:
    """By which the logs know the request; empty when nobody gave it one."""
    if visit.answer is None:
        return ""
    return visit.answer.header("x-request-id") or hop.request_id(
        visit.answer.header_values(hop.HEADER.lower().encode())
    )


def show(root: spans.Span, console: Console) -> None:
    """Print it."""
    width = min(console.width, MOST_WIDTH)
    for line in lines(root, width):
        console.print(line, soft_wrap=True)


def lines(root: spans.Span, width: int) -> Iterator[Text]:
    """One line a span, with its time and a bar, and its decision in the lines below it."""
    yield from _lines(root, root.duration_ms, width, "", "")


def _served(visit: visits.Visit) -> spans.Span | None:
    """What the balancer and the web server said, put where it must have happened in the client's time."""
    if visit.answer is None:
        return None
    told = visit.answer.header("tenfold-trace")
    web = spans.decode(told) if told else None
    balancer = hop.spans_of(visit.answer.header_values(hop.HEADER.lower().encode()))
    if balancer is None:
        return None if web is None else web.moved(max(visit.sent_ms, visit.first_byte_ms - web.duration_ms))
    if web is not None:
        innermost = [span for span in balancer.walk() if span.kind == hop.KIND][-1]
        innermost.children.append(web.moved(max(innermost.start_ms, innermost.end_ms - web.duration_ms)))
    return balancer.moved(max(visit.sent_ms, visit.first_byte_ms - balancer.duration_ms))


def _ended(visit: visits.Visit) -> str:
    return "" if visit.is_whole else "it was still coming when the time was over"


def _lines(span: spans.Span, total_ms: float, width: int, first: str, further: str) -> Iterator[Text]:
    room = max(20, width - TIME_WIDTH - BAR_WIDTH - 1)
    yield _headline(span, total_ms, room, first)
    inner = [*span.children]
    below = further + ("│  " if inner or span.omitted else "   ")
    for part in textwrap.wrap(_decision(span), max(30, width - len(below) - 2)):
        yield Text(below, style="dim").append(f"{part}", style="dim italic")
    for child in inner:
        is_last = child is inner[-1] and not span.omitted
        yield from _lines(
            child, total_ms, width, further + ("└─ " if is_last else "├─ "), further + ("   " if is_last else "│  ")
        )
    if span.omitted:
        text = f"and {span.omitted} quicker statements, {span.omitted_ms:.1f} ms together"
        yield Text(f"{further}└─ ", style="dim").append(text, style="dim")


def _headline(span: spans.Span, total_ms: float, room: int, prefix: str) -> Text:
    where = f" → {span.where}" if span.where and span.kind != "client" else ""
    free = room - len(prefix)
    title = _title(span)
    most = max(1, free - len(where))
    cut = (title if len(title) <= most else title[: most - 1] + "…") + where
    line = Text(prefix, style="dim").append(cut.ljust(free), style="bold" if span.kind in ("client", "web") else "")
    line.append(f"{span.duration_ms:8.1f} ms".rjust(TIME_WIDTH))
    return line.append(" ").append(_bar(span, total_ms), style="cyan")


def _title(span: spans.Span) -> str:
    said = _WORDS.get(span.kind, "{name}" if span.kind in span.name else "{kind} {name}")
    return said.format(kind=span.kind, name=span.name).strip()


def _decision(span: spans.Span) -> str:
    if span.kind != "web":
        return span.decision
    database = spans.covered_ms(one for one in span.walk() if one.kind in tracing.DATABASE)
    own = f"{max(0.0, span.duration_ms - database):.1f} ms in the app's own code"
    return f"{span.decision}; {own}" if span.decision else own


def _bar(span: spans.Span, total_ms: float) -> str:
    """Where in the whole it lies."""
    if total_ms <= 0:
        return ""
    begin = min(BAR_WIDTH - 1, int(span.start_ms / total_ms * BAR_WIDTH))
    end = max(begin + 1, round(span.end_ms / total_ms * BAR_WIDTH))
    return " " * begin + "━" * (min(end, BAR_WIDTH) - begin)
