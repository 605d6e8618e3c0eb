"""Journeys: what users do, written as one coroutine each. Found in the service's `load.py`.

Called by `load` and the command line. Importing a journeys file runs the service's own code, and only that.
"""

import importlib
import importlib.util
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, overload

from tenfold import errors

if TYPE_CHECKING:
    from tenfold.traffic.user import User

Steps = Callable[["User"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Journey:
    """One thing users do. `weight`: how often, compared with the other journeys."""

    name: str
    weight: float
    steps: Steps

    async def __call__(self, user: "User") -> None:
        await self.steps(user)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a journeys file says: the journeys, and by kind of write the query that counts it."""

    journeys: Sequence[Journey]
    checks: Mapping[str, str] = field(default_factory=dict)


@overload
def journey(steps: Steps) -> Journey: ...
@overload
def journey(*, weight: float = 1.0) -> Callable[[Steps], Journey]: ...
def journey(steps: Steps | None = None, *, weight: float = 1.0) -> Journey | Callable[[Steps], Journey]:
    """Make a coroutine function a journey: `@journey` or `@journey(weight=3)`."""
    if not weight > 0:
        raise errors.MisuseError(f"journey: weight {weight!r} found, a number above 0 expected")

    def made(function: Steps) -> Journey:
        return Journey(function.__name__, weight, function)

    return made if steps is None else made(steps)


def load(reference: str, directory: Path) -> Plan:
    """The plan in `load.py`, `load.py:buy`, `shop.load` or `shop.load:JOURNEYS`, looked for below `directory`.

    Without an attribute: every journey of the module. `CHECKS` of the module are the checks. Raises `BadInput`
    when there is nothing of that name, when it cannot be imported, or when it holds no journey.
    """
    name, _, attribute = reference.partition(":")
    module = _load_module(name, directory)
    found = getattr(module, attribute, None) if attribute else list(vars(module).values())
    listed = [found] if isinstance(found, Journey) else found
    journeys = [one for one in listed if isinstance(one, Journey)] if isinstance(listed, list | tuple) else []
    if not journeys:
        raise errors.BadInput(f"{reference}: no journey found; write one as `@journey async def buy(user): ...`")
    return Plan(tuple(dict.fromkeys(journeys)), _checks(module, name))


def _load_module(name: str, directory: Path) -> ModuleType:
    path = directory / name
    is_file = name.endswith(".py") or "/" in name
    if is_file and not path.is_file():
        raise errors.BadInput(f"{path}: no such file; write your journeys there, or name another with --journeys")
    folder = str((path.parent if is_file else directory).resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)  # the file may import its neighbours, as a script does
    try:
        return _run_file(path) if is_file else importlib.import_module(name)
    except Exception as error:  # the service's own code: it may raise anything
        raise errors.BadInput(f"{name}: cannot be imported: {type(error).__name__}: {error}") from error


def _run_file(path: Path) -> ModuleType:
    name = f"tenfold_journeys_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and type hints look their module up by name
    spec.loader.exec_module(module)
    return module


def _checks(module: ModuleType, name: str) -> dict[str, str]:
    checks = getattr(module, "CHECKS", {})
    if not isinstance(checks, dict) or not all(isinstance(part, str) for pair in checks.items() for part in pair):
        raise errors.BadInput(f"{name}: CHECKS is not a dict of kinds of writes and the queries that count them")
    return checks
