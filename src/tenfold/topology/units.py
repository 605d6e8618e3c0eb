"""Durations, sizes and shares as people write them in `tenfold.toml`: `"90ms"`, `"10s"`, `"512MiB"`, `"10%"`.

Used by the models of `tiers`. In a file a number without a unit is an error; programs may give plain numbers.
"""

import re
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+|%)\s*")

FROM_FILE = {"from_file": True}
"""The validation context of a file: numbers need their unit."""


def seconds(text: str) -> float | None:
    """The duration, or None when the text is not one."""
    return _quantity(text, SECONDS)


def size_bytes(text: str) -> int | None:
    """The size in bytes, or None when the text is not one, or not a whole number of bytes."""
    found = _quantity(text, BYTES)
    return int(found) if found is not None and found == int(found) else None


def size(count: int) -> str:
    """A number of bytes as a file would say it: `"64MiB"`."""
    unit = next((one for one in ("GiB", "MiB", "KiB") if count and count % BYTES[one] == 0), "B")
    return f"{count // BYTES[unit]}{unit}"


def percent(text: str) -> float | None:
    """The percentage, or None when the text is not one."""
    return _quantity(text, {"%": 1.0})


def _quantity(text: str, units: dict[str, float] | dict[str, int]) -> float | None:
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in units:
        return None
    return float(match[1]) * units[match[2]]


def _read_seconds(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str) and (read := seconds(value)) is not None:
        return read
    if isinstance(value, str) or _is_from_file(info):
        raise PydanticCustomError("duration", 'a duration with its unit (ms, s, m, h, d) such as "90ms" or "10s"')
    return float(value) if isinstance(value, int) else value


def _read_bytes(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str) and (read := size_bytes(value)) is not None:
        return read
    if isinstance(value, str) or _is_from_file(info):
        raise PydanticCustomError("size", 'a size with its unit (kB, MB, GB, KiB, MiB, GiB) such as "512MiB"')
    return value


def _read_percent(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str) and (read := percent(value)) is not None:
        return read
    if isinstance(value, str) or _is_from_file(info):
        raise PydanticCustomError("percent", 'a percentage in quotes, such as "10%"')
    return value


def _read_degrees(value: object) -> object:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _is_from_file(info: ValidationInfo) -> bool:
    return bool(info.context and info.context.get("from_file"))


Seconds = Annotated[float, BeforeValidator(_read_seconds)]
Bytes = Annotated[int, BeforeValidator(_read_bytes)]
Percent = Annotated[float, BeforeValidator(_read_percent)]
Degrees = Annotated[float, BeforeValidator(_read_degrees)]
"""A whole number will do."""
