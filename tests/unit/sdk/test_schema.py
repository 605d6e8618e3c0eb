"""tenfold's own tables: whoever changes them gives the change a version, or databases made before never get it."""

import hashlib

from tenfold.sdk.db import schema

RELEASED = (
    "2bb594e38163",
    "e9573e34a43d",
    "e08568fed488",
    "002720694d12",
    "68afdcdfad05",
    "cb08c0aadda1",
    "e7b315d43eee",
    "c8c00d55dc62",
    "c0bc411ae529",
)
"""By version, what its step was."""

FUNCTIONS = "5e18cf2063c6"
"""What every version has made."""


def digest(text: str) -> str:
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:12]


def test_what_an_older_database_already_counts_as_having_is_never_changed() -> None:
    """The observer asks for the version alone: a step that is changed, or a function that joins, would never arrive."""
    assert schema.VERSION == len(schema._STEPS)
    assert RELEASED == tuple(map(digest, schema._STEPS)), "append a step instead, and its digest here"
    assert FUNCTIONS == digest(schema._FUNCTIONS), "append a step that has it instead"
