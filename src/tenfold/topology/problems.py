"""What is wrong with a file's values, in words: pydantic's findings turned into ours.

Called by `load`. Nothing here decides what is allowed: `tiers` does, and `validate` for rules across fields.
"""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

import tomlkit
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from tenfold import errors
from tenfold.topology import nearest, tiers, units

Location = tuple[str | int, ...]

NOT_BUILT = {
    "metrics": "the metrics store (rung 11)",
    "sharding": "sharding (rung 12)",
}
"""Names that the design knows and this version cannot honour yet, with what they will bring."""

RENAMED = {("web", "workers"): "workers_per_server", ("web_groups", "workers"): "workers_per_server"}
"""By section and key, what a key is called by now."""

EXPECTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text in quotes",
    "model_type": "a section",
    "model_attributes_type": "a section",
    "dict_type": "a section",
    "tuple_type": "an array",
}


def describe(error: ErrorDetails, document: Mapping[str, Any]) -> errors.Problem:
    """One finding of pydantic as a problem of the file."""
    location, kind = error["loc"], error["type"]
    if kind == "extra_forbidden":
        return _unknown(location)
    if kind == "missing":
        return _missing(location)
    found = "a value" if location[:2] == ("service", "env") else as_toml(value_at(document, location))
    return errors.Problem(path_of(location), found, _expected(error), _advice(error))


def suspect(location: Location, kind: str) -> Location:
    """Which field a finding is about: a key that is not known may be a slip for one that is."""
    close = _meant(location) if kind == "extra_forbidden" else None
    return (*location[:-1], close) if close else location


def value_at(document: Any, location: Location) -> Any:
    """What the file says at this place, or None."""
    for part in location:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return None
    return document


def path_of(location: Location) -> str:
    """`database.replicas`, `balancer.route[0].path`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def as_toml(value: object) -> str:
    """A value as it would stand in the file, shortened."""
    if isinstance(value, Mapping):
        return "a section"
    if isinstance(value, list | tuple):
        return "an array"
    if value is None:
        return "nothing"
    text: str = tomlkit.item(value).as_string()
    return text if len(text) <= 60 else f"{text[:57]}..."


def in_file_order(problems: Iterable[errors.Problem], document: Mapping[str, Any]) -> tuple[errors.Problem, ...]:
    """The problems in the order in which their keys stand in the file; a missing key stands at its section's end."""
    order = {path: number for number, path in enumerate(_paths(document, ""))}
    return tuple(sorted(problems, key=lambda problem: _rank(problem.path, order)))


def _unknown(location: Location) -> errors.Problem:
    path = path_of(location)
    brings = NOT_BUILT.get(".".join(str(part) for part in (location[0], location[-1])) if location[1:] else path)
    word = "section" if len(location) == 1 else "key"
    if brings:
        name = f"[{path}]" if word == "section" else str(location[-1])
        return errors.Problem(path, name, f"no such {word}", f"{brings} is not built yet; remove it")
    close = _meant(location)
    advice = f"did you mean {close}?" if close else f"remove it, or see: tenfold help topology {location[0]}"
    known = ", ".join(sorted(keys_at(location[:-1])))
    return errors.Problem(path, f"an unknown {word}", f"one of {known}", advice)


def _meant(location: Location) -> str | None:
    """The key that was probably meant by one that is not known."""
    key = str(location[-1])
    return RENAMED.get((str(location[0]), key)) or nearest.name(key, keys_at(location[:-1]))


def _missing(location: Location) -> errors.Problem:
    if len(location) == 1:
        return errors.Problem(path_of(location), "no such section", f"[{location[0]}]", "see: tenfold help topology")
    section = path_of(location[:-1])
    return errors.Problem(path_of(location), "nothing", "a value", f"add {location[-1]} = ... to [{section}]")


def _expected(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    if error["loc"] == ("service", "tls"):
        return '"self-signed", or { certificate = "PATH", key = "PATH" }'
    match error["type"]:
        case "string_too_short":
            return "a text that is not empty"
        case "greater_than_equal":
            return f"{_limit(error, context['ge'])} or more"
        case "greater_than":
            return f"more than {context['gt']:g}"
        case "less_than_equal":
            return f"{_limit(error, context['le'])} or less"
        case "literal_error":
            expected = str(context["expected"]).replace("'", '"')
            return expected.replace("True", "true").replace("False", "false")
        case kind:
            return EXPECTED.get(kind, error["msg"])


SIZES = ("memory", "local_memory", "storage", "message_size")


def _limit(error: ErrorDetails, limit: float) -> str:
    """A limit as it would stand in the file: with the unit that the key has."""
    key = error["loc"][-1]
    if key in SIZES:
        return f'"{units.size(int(limit))}"'
    return f'"{limit:g}s"' if key == "life" else f"{limit:g}"


def _advice(error: ErrorDetails) -> str:
    location, found = error["loc"], error["input"]
    if error["type"] == "literal_error" and isinstance(found, str):
        model = _model_at(location[:-1])
        choices = _literals(model, str(location[-1])) if model else ()
        return nearest.hint(found, choices).removeprefix("; ")
    if location == ("service", "tls") and isinstance(found, str):
        return nearest.hint(found, ("self-signed",)).removeprefix("; ")
    if error["type"] in ("int_type", "bool_type", "float_type") and isinstance(found, str):
        return "take the quotes away" if _is_bare(found) else ""
    return ""


def _is_bare(text: str) -> bool:
    return text.isdigit() or text in ("true", "false")


def _literals(model: type[BaseModel], key: str) -> tuple[str, ...]:
    annotation = next((field.annotation for name, field in model.model_fields.items() if name == key), None)
    return tuple(one for part in (annotation, *get_args(annotation)) for one in get_args(part) if isinstance(one, str))


def keys_at(location: Location) -> tuple[str, ...]:
    """The keys that the file may have in this section."""
    model = _model_at(location)
    return tuple(field.alias or name for name, field in model.model_fields.items()) if model else ()


def _model_at(location: Location) -> type[BaseModel] | None:
    model: type[BaseModel] | None = tiers.Topology
    is_named = False
    for part in location:
        if is_named or isinstance(part, int):
            is_named = False
            continue
        field = model.model_fields.get(str(part)) if model else None
        model = _model_in(field.annotation) if field else None
        is_named = field is not None and getattr(field.annotation, "__origin__", None) is dict
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)


def _paths(value: Any, path: str) -> Iterable[str]:
    if path:
        yield path
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _paths(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _paths(inner, f"{path}[{number}]")
    if path:
        yield f"{path} end"


def _rank(path: str, order: Mapping[str, int]) -> int:
    if path in order:
        return order[path]
    while path:
        path = path.rpartition(".")[0] if not path.endswith("]") else path.rpartition("[")[0]
        if path in order:
            return order[f"{path} end"]
    return len(order)
