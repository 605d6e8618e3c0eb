"""What goes through the edges, counted by balancers: how the counters are named in the configuration, and read back.

The configuration is rendered with the names, `admin.edge_counts` reads the tables. Pure. Two tables: `edges` has what
edges have answered, by edge, path and whether it was a hit; `origin` what they have fetched, by edge and path.
Source: HAProxy's Configuration Manual 2.8, section 11.1 (stick-table), Management Guide, `show table`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

HEADER = "Tenfold-Edge"
"""The request's header by which an edge says who fetches."""

HIT, FORWARDED, FETCHED = "hit", "fwd", "fetch"
"""What became of a request at an edge: answered from what it keeps, or asked for; and what was asked for."""

TABLES = ("edges", "origin")
"""The tables' names, which are those of the backend and of the frontend that count."""

SIZE = 8192
"""How many counters a table has room for: 8 edges, 2 outcomes, and more paths than anybody writes down."""


@dataclass(frozen=True, slots=True)
class Count:
    """One counter: how many answers, and how many bytes of them, heads included."""

    edge: str
    path: str
    """Of the topology; empty: any other."""
    outcome: str
    requests: int
    out_bytes: int


def word(path: str) -> str:
    """A path so that no letter of it means anything to HAProxy."""
    return path.encode().hex()


def read(answer: str) -> Iterator[Count]:
    """The counters in an answer to `show table`; lines that are none are passed over."""
    for line in answer.splitlines():
        fields = dict(_pairs(line))
        parts = fields.get("key", "").split(":")
        if len(parts) == 3:
            edge, outcome, path = parts
            requests, out_bytes = int(fields.get("gpc0", "0")), int(fields.get("bytes_out_cnt", "0"))
            yield Count(edge, bytes.fromhex(path).decode(), outcome, requests, out_bytes)


def total(counts: Iterable[Count]) -> Mapping[tuple[str, str, str], tuple[int, int]]:
    """The counters of several balancers as one: by edge, path and outcome, the requests and the bytes."""
    found: dict[tuple[str, str, str], tuple[int, int]] = {}
    for one in counts:
        place = (one.edge, one.path, one.outcome)
        requests, out_bytes = found.get(place, (0, 0))
        found[place] = (requests + one.requests, out_bytes + one.out_bytes)
    return found


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    for part in line.split(" "):
        name, equals, value = part.partition("=")
        if equals:
            yield name, value
