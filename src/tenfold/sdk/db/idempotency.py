"""What a `run` under an `Idempotency-Key` keeps for the request's repeats, and how a repeat gets it back. Pure.

Called by `run`. The result is kept as JSON. Under a key the caller always gets what JSON makes of it, the first time
as well as in a repeat, so that a handler cannot work once and fail in the repeat: dates and times (ISO 8601), UUIDs
and decimals come back as strings, tuples and sets as lists, records, dataclasses and msgspec structs as dicts. If the
function's annotation says what it returns (`-> Order`, `-> datetime`), they come back as that.
"""

import inspect
import typing
from collections.abc import Callable
from typing import Any

import asyncpg
import msgspec

from tenfold import errors, request
from tenfold.sdk.db.settle import Settled


def encode(fn: Callable[..., Any], result: Any) -> bytes:
    """The result as JSON. Raises `NotStorable` when it is none."""
    try:
        return msgspec.json.encode(result, enc_hook=_plain)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        name = getattr(fn, "__qualname__", repr(fn))
        raise errors.NotStorable(
            f"tf.db.run({name}): under an Idempotency-Key the result is kept as JSON for a repeat of the request; "
            f"{type(result).__name__} found ({error}); nothing was written; "
            "return plain values, such as the new row's id"
        ) from error


def decode(fn: Callable[..., Any], data: bytes) -> Any:
    """What `encode` kept, in the type that `fn`'s annotation names, or plain where JSON cannot fill that type."""
    try:
        wanted = typing.get_type_hints(inspect.unwrap(fn)).get("return", Any)
        return msgspec.json.decode(data, type=wanted)
    except (NameError, AttributeError, TypeError, ValueError, msgspec.MsgspecError):
        return msgspec.json.decode(data)


def stored(fn: Callable[..., Any], key: request.IdempotencyKey, row: Settled) -> Any:
    """The first request's result for a repeat. Raises `KeyReused` when the first was another request."""
    if row.fingerprint != key.fingerprint:
        raise errors.KeyReused(
            "Idempotency-Key: a key found that another request was made with before; "
            "use a new key for every new request, and the same one only to repeat a request unchanged"
        )
    return decode(fn, row.result or b"null")


def _plain(value: Any) -> Any:
    if isinstance(value, asyncpg.Record):
        return dict(value)
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} is no JSON")
