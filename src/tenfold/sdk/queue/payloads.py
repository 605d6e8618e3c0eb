"""Payloads to JSON and back: dataclasses, pydantic models, msgspec structs, dicts, lists and scalars. Pure.

Used by `envelopes` to write and by `subscribers` to read. Never pickle: what is read was written by anybody.
"""

from collections.abc import Callable
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from msgspec import inspect

from tenfold import errors

Decode = Callable[[bytes, str], Any]
"""Gets the payload's bytes and the name of its class; raises `PoisonError`."""


class PoisonError(Exception):
    """A payload that is not what a subscriber expects. Never leaves `sdk/queue`."""


def encode(payload: Any, where: str) -> bytes:
    """The payload as JSON. Raises `NotEncodable`, which names the type that cannot be written down."""
    try:
        return _encode(payload)
    except (TypeError, ValueError, RecursionError) as error:
        raise errors.NotEncodable(
            f"{where}: a payload of {type(payload).__name__} found that cannot be written as JSON ({error}); give a "
            "dataclass, a pydantic model, a msgspec.Struct, or a dict, list or scalar of such"
        ) from error


def schema(payload: Any) -> str:
    """The name of the payload's class: what tells versions apart; empty for dicts, lists and scalars."""
    kind = type(payload)
    return "" if kind.__module__ == "builtins" else kind.__name__


def decoder(wanted: Any) -> Decode:
    """How to read payloads of a type, or of the classes of a union, each by its name. Raises TypeError for no type."""
    names = _classes(wanted)
    if len(names) < 2:
        only = _reader(wanted)
        return lambda data, _: only(data)
    readers = {name: _reader(one) for name, one in names.items()}

    def by_name(data: bytes, name: str) -> Any:
        if name not in readers:
            raise PoisonError(f"a payload of {name or 'no class'} found, {' or '.join(readers)} expected")
        return readers[name](data)

    return by_name


def _encode(payload: Any) -> bytes:
    if hasattr(type(payload), "__pydantic_serializer__") and hasattr(payload, "model_dump_json"):
        text: str = payload.model_dump_json()
        return text.encode()
    return msgspec.json.encode(payload, enc_hook=_inner)


def _inner(value: Any) -> Any:
    """A pydantic model inside something else."""
    if hasattr(type(value), "__pydantic_serializer__") and hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"an object of {type(value).__name__}")


def _outer(wanted: Any, value: Any) -> Any:
    """A pydantic model inside something else, read."""
    if _is_model(wanted):
        return wanted.model_validate(value)
    raise ValueError(f"a {getattr(wanted, '__name__', wanted)} cannot be read")


def _is_model(wanted: Any) -> bool:
    return isinstance(wanted, type) and hasattr(wanted, "__pydantic_validator__")


def _classes(wanted: Any) -> dict[str, Any]:
    """The classes of a union by name; nothing for any other type."""
    if get_origin(wanted) not in (Union, UnionType):
        return {}
    return {one.__name__: one for one in get_args(wanted) if isinstance(one, type) and one.__module__ != "builtins"}


def _reader(wanted: Any) -> Callable[[bytes], Any]:
    if _is_model(wanted):
        read: Callable[[bytes], Any] = wanted.model_validate_json
    elif isinstance(inspect.type_info(wanted), inspect.CustomType):
        raise TypeError("JSON has no form for it")
    else:
        read = msgspec.json.Decoder(wanted, dec_hook=_outer).decode

    def guarded(data: bytes) -> Any:
        try:
            return read(data)
        except Exception as error:  # a class may raise anything about its fields
            raise PoisonError(" ".join(str(error).split())[:300] or type(error).__name__) from error

    return guarded
