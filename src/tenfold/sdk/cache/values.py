"""Values written down and read back: what is kept in the cache is bytes, never a pickle.

Called by `loads` and `cache`. A `Codec` is made once for a declared type: the annotation of a cached function, or
`type=` of a call. What comes out is of that type again; without a type, what the value was made of (`native`).
"""

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from tenfold import errors
from tenfold.sdk.cache import native

MOST_BYTES = 1024 * 1024
"""The largest value that is kept, written down."""

NOT_FOUND = b"\xc1"
"""Begins the entry of something that is not there. MessagePack never uses this byte."""

UNREADABLE = (msgspec.DecodeError, ValueError, TypeError, RecursionError)
"""What bytes raise that were written for another type, by an older release, or that were damaged."""


class Codec(Protocol):
    """How values of one type are written down and read back."""

    def encode(self, value: Any) -> bytes:
        """The value as bytes. Raises `NotEncodable`."""

    def decode(self, data: bytes) -> Any:
        """A new value from its bytes. Raises one of `UNREADABLE`."""

    def is_fixed(self, value: Any) -> bool:
        """Whether nobody can change this value: then all may have the same object."""


class Untyped:
    """Values of no declared type."""

    encode = staticmethod(native.encode)
    decode = staticmethod(native.decode)
    is_fixed = staticmethod(native.is_fixed)


class Typed:
    """Values of a declared type: dataclasses, Structs, pydantic models, TypedDicts, and what is made of them."""

    def __init__(self, declared: Any) -> None:
        self._declared = declared
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_written)
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(declared, dec_hook=_read)
        self._is_fixed = is_fixed_type(declared)
        self._is_open = "typing.Any" in str(declared) or any(one is Any for one in _reachable(declared, set()))

    def encode(self, value: Any) -> bytes:
        """Also looks whether it is what was declared: what would not come back is refused when it goes in."""
        try:
            data = self._encoder.encode(value)
            found = self._decoder.decode(data)
        except errors.NotEncodable:
            raise
        except (*UNREADABLE, msgspec.MsgspecError, OverflowError) as error:
            raise errors.NotEncodable(
                f"cache: {type(value).__module__}.{type(value).__qualname__} found where "
                f"{_shown(self._declared)} was declared: {error}; return what the annotation says"
            ) from error
        if type(found) is not type(value) and _has_fields(type(value)):
            raise errors.NotEncodable(
                f"cache: {type(value).__qualname__} found where {_shown(self._declared)} was declared: it would come "
                f"back as {type(found).__qualname__}; declare {type(value).__qualname__}"
            )
        if self._is_open and found != value:
            raise errors.NotEncodable(
                f"cache: a {_shown(self._declared)} found that comes back as another one: where `Any` is declared only "
                "None, bool, numbers, str, list and dict come back as they were; declare what is there"
            )
        return data

    def decode(self, data: bytes) -> Any:
        """A new value of the declared type."""
        return self._decoder.decode(data)

    def is_fixed(self, _: Any) -> bool:
        """Known of the type, for every value of it."""
        return self._is_fixed


UNTYPED: Codec = Untyped()

_CONTAINERS = (dict, list, tuple, set, frozenset)


def codec(declared: Any) -> Codec:
    """How to write values of this type; `Any` (or None for no declaration): by what they are.

    Raises `NotEncodable` for a type that cannot be read back from bytes.
    """
    try:
        return _codec(declared)
    except TypeError:  # a type that cannot be hashed is looked at each time
        return _codec.__wrapped__(declared)


@functools.lru_cache(maxsize=1024)
def _codec(declared: Any) -> Codec:
    if declared is None or isinstance(declared, typing.TypeVar) or _is_plain(declared):
        return UNTYPED
    try:
        return Typed(declared)
    except (TypeError, ValueError, NameError) as error:
        raise errors.NotEncodable(
            f"cache: {_shown(declared)} was declared, which cannot be read back from bytes: {error}; declare a "
            "dataclass, a msgspec.Struct, a pydantic model or plain types"
        ) from error


def of_function(function: Callable[..., Any]) -> Codec:
    """By the annotation of what it returns. Looked at late: annotations may name what is defined further down."""
    try:
        declared = typing.get_type_hints(function).get("return", Any)
    except (NameError, TypeError) as error:
        raise errors.NotEncodable(
            f"cache: the annotations of {function.__qualname__} cannot be resolved: {error}; import what they name, "
            "or give type="
        ) from error
    return codec(types.NoneType if declared is type(None) else declared)


def not_found(error: errors.NotFound) -> bytes:
    """That something is not there, in its loader's words."""
    return NOT_FOUND + str(error).encode(errors="replace")


def reason(data: bytes) -> str | None:
    """Why it is not there, if these are the bytes of `not_found`."""
    return data[1:].decode(errors="replace") if data.startswith(NOT_FOUND) else None


def given(decode: Callable[[bytes], Any], data: bytes) -> Any:
    """The value in these bytes. Raises `errors.NotFound` when they say that there is none."""
    said = reason(data)
    if said is not None:
        raise errors.NotFound(said)
    return decode(data)


def is_fixed_type(declared: Any, above: tuple[Any, ...] = ()) -> bool:
    """Whether no value of this type can be changed, nor anything in it. `above`: the types that it is a part of."""
    if declared in above:
        return True
    above = (*above, declared)
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin in (typing.Union, types.UnionType, tuple, frozenset):
        return all(one is Ellipsis or is_fixed_type(one, above) for one in arguments)
    if origin is typing.Literal:
        return True
    if origin is typing.Annotated:
        return is_fixed_type(arguments[0], above)
    if not isinstance(declared, type):
        return False
    if declared in native.FIXED or issubclass(declared, enum.Enum):
        return True
    return _is_frozen(declared) and all(is_fixed_type(one, above) for one in _fields(declared))


def _is_frozen(declared: type) -> bool:
    if issubclass(declared, msgspec.Struct):
        return declared.__struct_config__.frozen
    if dataclasses.is_dataclass(declared):
        return bool(declared.__dataclass_params__.frozen)  # type: ignore[attr-defined]
    return bool(_is_model(declared) and declared.model_config.get("frozen"))  # type: ignore[attr-defined]


def _fields(declared: type) -> list[Any]:
    """The types of its fields; one that nobody can resolve counts as changeable."""
    try:
        hints = typing.get_type_hints(declared)
    except (NameError, TypeError):
        return [list]
    if _is_model(declared):
        return [field.annotation for field in declared.model_fields.values()]  # type: ignore[attr-defined]
    return [hint for hint in hints.values() if typing.get_origin(hint) is not typing.ClassVar]


def _is_plain(declared: Any) -> bool:
    """Whether it is made of nothing but what tells by itself what it is: then it is written without its type."""
    origin = typing.get_origin(declared)
    if origin in _CONTAINERS or origin in (typing.Union, types.UnionType):
        return all(one is Ellipsis or _is_plain(one) for one in typing.get_args(declared))
    return declared in _CONTAINERS or declared in native.FIXED or declared in (Any, object)


def _reachable(declared: Any, seen: set[Any]) -> list[Any]:
    """The types that values of this type are made of."""
    if declared in seen:
        return []
    seen.add(declared)
    inner = list(typing.get_args(declared)) or (_fields(declared) if _has_fields(declared) else [])
    return [declared, *(one for part in inner for one in _reachable(part, seen))]


def _has_fields(declared: Any) -> bool:
    return isinstance(declared, type) and (
        dataclasses.is_dataclass(declared) or issubclass(declared, msgspec.Struct) or _is_model(declared)
    )


def _is_model(declared: Any) -> bool:
    """A pydantic model, told without importing pydantic, which an app may not have."""
    return isinstance(declared, type) and hasattr(declared, "model_validate_json") and hasattr(declared, "model_fields")


def _written(value: Any) -> Any:
    """What msgspec does not know: pydantic's models go by their own JSON, which they can read again in strict mode."""
    if _is_model(type(value)):
        return value.model_dump_json(round_trip=True, by_alias=True)
    native.encode(value)  # raises, and says where
    raise errors.NotEncodable(f"cache: {type(value).__module__}.{type(value).__qualname__} found inside a value")


def _read(declared: Any, data: Any) -> Any:
    if _is_model(declared):
        return declared.model_validate_json(data)
    raise TypeError(f"{_shown(declared)} is no type that can be read back")


def _shown(declared: Any) -> str:
    return declared.__qualname__ if isinstance(declared, type) and not typing.get_args(declared) else str(declared)
