"""An edge's files: which rule counts for which URL, and that a path cannot say anything else than a path."""

import re
from pathlib import Path
from typing import Any

import pytest

from support import edges, seats
from tenfold import engines
from tenfold.engines.varnish import counters, render, settings


def seat_of(folder: Path, **cdn: Any) -> engines.Seat:
    """The seat of an edge that nobody starts."""
    return seats.of_engine("varnish", folder, edges.topology(**cdn), network=13, subnet=9)[0]


@pytest.mark.parametrize(
    ("path", "url", "is_below"),
    [
        ("/api", "/api", True),
        ("/api", "/api/1", True),
        ("/api", "/api?q=1", True),
        ("/api", "/apiary", False),
        ("/api/", "/api", False),
        ("/api/", "/api/1", True),
        ("/a.b+c/", "/a.b+c/1", True),
        ("/a.b+c/", "/aXbbc/1", False),
        ('/"} evil {"/', "/%22%7D%20evil%20%7B%22/", True),
    ],
)
def test_a_rule_is_for_its_path_and_what_is_below(tmp_path: Path, path: str, url: str, is_below: bool) -> None:
    (rule,) = settings.of(seat_of(tmp_path, path=[{"path": path, "ttl": "1s"}])).rules
    assert is_below is bool(re.match(rule.pattern, url))
    assert '"' not in rule.pattern


def test_of_several_rules_the_longest_path_comes_first(tmp_path: Path) -> None:
    text = render.render(seat_of(tmp_path, path=[{"path": "/a", "ttl": "1s"}, {"path": "/a/b", "ttl": "2s"}]))[
        "keeping.vcl"
    ]
    assert text.index("beresp.ttl = 2.000s") < text.index("beresp.ttl = 1.000s")


def test_what_changes_the_vcl_changes_its_name_and_memory_alone_does_so_as_far_as_the_vcl_speaks_of_it(
    tmp_path: Path,
) -> None:
    names = {render.revision(seat_of(tmp_path, **cdn)) for cdn in ({}, {"grace": "2h"}, {"memory": "128MiB"})}
    assert 3 == len(names)
    assert render.revision(seat_of(tmp_path)) == render.revision(seat_of(tmp_path))


def test_counters_of_nobody_are_none(tmp_path: Path) -> None:
    assert {} == counters.read(tmp_path, ("MAIN",))
    folder = tmp_path / counters.FOLDER
    folder.mkdir()
    for index in ("", "# 1 2\n", "+ gone 0 8 Stat MAIN\n", "+ a b c Stat MAIN\n", "nonsense\n", "- x 0 1 Stat MAIN\n"):
        (folder / counters.INDEX).write_text(index)
        assert {} == counters.read(tmp_path, ("MAIN",)), index
