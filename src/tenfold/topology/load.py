"""Turns the text of `tenfold.toml` into a topology, or into all of its problems at once.

Called by the CLI and the runtime. `load` reads the one file; nothing else is looked at.
"""

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import pydantic
from pydantic_core import ErrorDetails

from tenfold import errors
from tenfold.topology import problems, ranges, tiers, units, validate

STAND_IN = {"name": "service"}
"""In place of required values that are missing, so that the rules for everything else can be checked."""


def load(path: Path) -> tiers.Topology:
    """The topology in this file. Raises BadTopology with every problem, or BadInput when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise errors.BadInput(f"{path}: not found; make a service with: tenfold new NAME") from error
    except (OSError, UnicodeDecodeError) as error:
        raise errors.BadInput(f"{path}: cannot be read as text: {error}") from error
    return parse(text, str(path))


def parse(text: str, source: str = "tenfold.toml") -> tiers.Topology:
    """The topology that the text describes. Raises BadTopology with every problem, in the order of the file."""
    document = _document(text, source)
    topology, details = _models(document)
    found = [problems.describe(detail, document) for detail in details]
    bad = [problems.path_of(problems.suspect(detail["loc"], detail["type"])) for detail in details]
    found += validate.problems_of(topology, bad)
    if found:
        raise errors.BadTopology(source, problems.in_file_order(found, document))
    return topology


def _document(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise errors.BadTopology(source, (_syntax_problem(text, error),)) from error


def _syntax_problem(text: str, error: tomllib.TOMLDecodeError) -> errors.Problem:
    """Where the text stops being TOML; the parser says so at the end of its message (and at the end of the text)."""
    match = re.search(r"^(.*) \(at line (\d+), column (\d+)\)$", str(error), re.DOTALL)
    what, line, column = match.groups() if match else (str(error), text.count("\n") + 1, 1)
    what = str(what).removesuffix(" (at end of document)")
    return errors.Problem(f"line {line}, column {column}", "a syntax error", "TOML", f"the parser says: {what}")


def _models(document: dict[str, Any]) -> tuple[tiers.Topology, list[ErrorDetails]]:
    """The models of everything that is right, field by field, and a finding for everything that is not."""
    try:
        return tiers.Topology.model_validate(document, context=units.FROM_FILE), []
    except pydantic.ValidationError as error:
        details = _plain(error.errors(include_url=False))
    pruned = copy.deepcopy(document)
    for detail in sorted(details, key=lambda one: [str(part) for part in one["loc"]], reverse=True):
        _prune(pruned, detail["loc"])
    return _rest(pruned), details


def _plain(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """The findings with paths as the file has them: without the word for what a value was taken for."""
    words = (ranges.NUMBER, ranges.RANGE)
    return [{**one, "loc": tuple(part for part in one["loc"] if part not in words)} for one in details]


def _prune(document: Any, location: problems.Location) -> None:
    section, last = problems.value_at(document, location[:-1]), location[-1]
    if isinstance(section, dict):
        section.pop(last, None)
    elif isinstance(section, list) and isinstance(last, int) and last < len(section):
        del section[last]


def _rest(document: dict[str, Any]) -> tiers.Topology:
    """A topology of the fields that are right; where a required one is missing, its section stands aside."""
    document["service"] = {**STAND_IN, **document.get("service", {})}
    if not document.get("regions", True):
        del document["regions"]
    try:
        return tiers.Topology.model_validate(document, context=units.FROM_FILE)
    except pydantic.ValidationError as error:
        for detail in _plain(error.errors()):
            section = detail["loc"][:2] if detail["loc"][0] == "service" else detail["loc"][:1]
            _prune(document, section)
    return tiers.Topology.model_validate(document, context=units.FROM_FILE)
