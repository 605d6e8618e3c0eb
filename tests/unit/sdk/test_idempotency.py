"""Results under an `Idempotency-Key`: kept as JSON, given back as the function's annotation says."""

import dataclasses
import datetime
import decimal
import uuid
from typing import Any

import msgspec
import pytest

from tenfold import errors, request
from tenfold.sdk.db import idempotency, settle


class Line(msgspec.Struct):
    name: str
    price: decimal.Decimal


@dataclasses.dataclass
class Order:
    id: uuid.UUID
    at: datetime.datetime
    lines: list[Line]


ORDER = Order(
    uuid.UUID(int=1), datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), [Line("tea", decimal.Decimal("2.50"))]
)


async def annotated() -> Order:
    return ORDER


async def maybe() -> uuid.UUID | None:
    return None


async def plain():  # type: ignore[no-untyped-def]
    return ORDER


async def wrong() -> int:
    return 1


async def unresolvable() -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821
    return None


def back(fn: Any, result: Any) -> Any:
    return idempotency.decode(fn, idempotency.encode(fn, result))


def test_an_annotated_result_comes_back_as_it_was() -> None:
    assert ORDER == back(annotated, ORDER)
    assert ORDER.id == back(maybe, ORDER.id)
    assert back(maybe, None) is None


def test_without_an_annotation_it_comes_back_plain() -> None:
    expected = {
        "id": str(ORDER.id),
        "at": "2026-01-02T00:00:00Z",
        "lines": [{"name": "tea", "price": "2.50"}],
    }

    assert expected == back(plain, ORDER)
    assert expected == back(lambda: None, ORDER)


@pytest.mark.parametrize("fn", [wrong, unresolvable])
def test_an_annotation_that_does_not_fit_does_not_lose_the_result(fn: Any) -> None:
    assert ["text"] == back(fn, ["text"])


@pytest.mark.parametrize("result", [object(), {"deep": [lambda: None]}, {(1, 2): 3}, 2**80 * 1j])
def test_what_is_no_json_is_refused_with_its_type(result: Any) -> None:
    with pytest.raises(errors.NotStorable, match=type(result).__name__):
        idempotency.encode(plain, result)


def test_another_fingerprint_is_another_request() -> None:
    key = request.IdempotencyKey("POST /", "k", b"one")

    assert 7 == idempotency.stored(plain, key, settle.Settled(True, None, b"one", b"7"))
    with pytest.raises(errors.KeyReused):
        idempotency.stored(plain, key, settle.Settled(True, None, b"two", b"7"))
