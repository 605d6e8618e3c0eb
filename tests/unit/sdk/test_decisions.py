"""Why a read went where it went, in words."""

from typing import Any

import pytest

from tenfold import position
from tenfold.sdk.db import decisions, levels

OLD, NEW = position.Position(0, 1, 1, 0x10), position.Position(0, 1, 1, 0x20)


def why(**changes: Any) -> str:
    said: dict[str, Any] = {
        "level": levels.SESSION,
        "is_named": False,
        "wanted": OLD,
        "reflects": NEW,
        "is_primary": False,
        "pinned": "",
        "chosen": "database-2",
        "replicas": 2,
        "nodes": 3,
        "waited_milliseconds": None,
    }
    return decisions.why(decisions.Read(**{**said, **changes}))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "a replica (the less busy of 2): it reflects 0.1.1.20, the session needs 0.1.1.10"),
        ({"replicas": 1}, "a replica: it reflects 0.1.1.20, the session needs 0.1.1.10"),
        ({"wanted": None, "replicas": 1}, "a replica: any copy will do, this session has written nothing"),
        (
            {"level": levels.EVENTUAL, "replicas": 1},
            "a replica: any copy will do, the client brought no position",
        ),
        (
            {"level": levels.EVENTUAL, "is_named": True, "replicas": 1},
            "a replica: any copy will do, eventual was asked for",
        ),
        (
            {"level": levels.bounded(0.2), "is_named": True, "replicas": 1},
            "a replica: it misses nothing older than 0.2 s",
        ),
        (
            {"waited_milliseconds": 3.21},
            "a replica: it reflects 0.1.1.20, the session needs 0.1.1.10, after 3.2 ms for it to catch up",
        ),
        ({"pinned": "database-2"}, "pinned: this request has read from database-2 before, it reflects 0.1.1.20"),
        (
            {"pinned": "database-1", "chosen": "database-1", "is_primary": True},
            "pinned: this request has read from database-1 before",
        ),
        (
            {"is_primary": True, "waited_milliseconds": 25.0},
            "the primary: no replica reflects 0.1.1.10, waited 25.0 ms for one",
        ),
        (
            {"is_primary": True},
            "the primary: no replica reflects 0.1.1.10, and waiting for one was in vain a moment ago",
        ),
        (
            {"is_primary": True, "pinned": "database-3"},
            "the primary: database-3, which this request has read from before, is gone or older than 0.1.1.10",
        ),
        ({"is_primary": True, "replicas": 0}, "the primary: no replica is usable now"),
        ({"is_primary": True, "replicas": 0, "nodes": 1}, "the primary: it is the only node"),
        ({"is_primary": True, "level": levels.PRIMARY, "is_named": True}, "the primary: the app asked for it"),
        (
            {"is_primary": True, "must_be_primary": True},
            "the primary: a replica had to cancel this read, replay had removed what it needs",
        ),
    ],
)
def test_a_choice_is_told_in_a_sentence(changes: dict[str, Any], expected: str) -> None:
    assert expected == why(**changes)
