"""tf.db has asyncpg.Pool's whole surface: every public name, and every argument of it."""

import inspect
from typing import Any

import asyncpg
import pytest

from tenfold.sdk import db

METHODS = sorted(name for name, one in inspect.getmembers(asyncpg.Pool) if callable(one) and not name.startswith("_"))


def parameters(owner: type, name: str) -> dict[str, inspect.Parameter]:
    """By name, what a method takes besides `self`."""
    method: Any = inspect.getattr_static(owner, name)
    found = dict(inspect.signature(method).parameters)
    found.pop("self")
    return found


def test_asyncpgs_pool_still_has_the_methods_that_apps_know() -> None:
    assert {"acquire", "copy_to_table", "execute", "executemany", "fetch", "fetchrow", "fetchval"} <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_asyncpgs_pool_is_there_and_takes_its_arguments(name: str) -> None:
    theirs, ours = parameters(asyncpg.Pool, name), parameters(db.Database, name)
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in ours.values())

    missing = [one for one in theirs if one not in ours and not takes_any]

    assert [] == missing
