"""Tokens: their order in time, their being the same for the same key, and the messages that insert them."""

import time

import pytest

from tenfold import request
from tenfold.sdk.db import tokens

KEY = request.IdempotencyKey(scope="POST /orders ada", key="k", fingerprint=b"\x01\xff")


def test_fresh_tokens_are_of_version_7_and_follow_the_clock() -> None:
    before = tokens.oldest_of(time.time() - 0.002)
    made = tokens.fresh()
    after = tokens.oldest_of(time.time() + 0.002)

    assert 7 == made.id.version
    assert before < made.id < after
    assert made.fingerprint is None


def test_no_two_fresh_tokens_are_the_same() -> None:
    assert 1000 == len({tokens.fresh().id for _ in range(1000)})


def test_a_keys_token_is_the_same_everywhere_and_sorts_after_all_others() -> None:
    again = request.IdempotencyKey(scope=KEY.scope, key=KEY.key, fingerprint=b"another body")

    assert tokens.of_key(KEY, 0).id == tokens.of_key(again, 0).id
    assert 8 == tokens.of_key(KEY, 0).id.version
    assert tokens.of_key(KEY, 0).id >= tokens.FIRST_WITH_KEY > tokens.fresh().id


@pytest.mark.parametrize(
    "other",
    [
        tokens.of_key(KEY, 1),
        tokens.of_key(request.IdempotencyKey("POST /orders bob", "k", b""), 0),
        tokens.of_key(request.IdempotencyKey("POST /orders ada", "l", b""), 0),
        tokens.of_key(request.IdempotencyKey("POST /orders", "adak", b""), 0),
    ],
)
def test_another_scope_key_or_number_gives_another_token(other: tokens.Token) -> None:
    assert tokens.of_key(KEY, 0).id != other.id


def test_a_transaction_begins_with_its_token_in_one_message() -> None:
    token = tokens.fresh()

    assert f"begin; insert into tenfold.commit (token) values ('{token}')" == tokens.begin(
        token, None, is_deferrable=False
    )
    assert "begin isolation level repeatable read; " in tokens.begin(token, "repeatable_read", is_deferrable=False)


def test_a_read_only_transaction_has_no_token() -> None:
    assert "begin isolation level serializable read only deferrable" == tokens.begin(
        None, "serializable", is_deferrable=True
    )


def test_a_transaction_never_asks_to_be_writable() -> None:
    """A fenced primary refuses writes by `default_transaction_read_only`, which READ WRITE would undo."""
    assert "read write" not in tokens.begin(tokens.fresh(), "serializable", is_deferrable=False)


def test_a_keys_insert_takes_over_only_what_was_voided() -> None:
    message = tokens.begin(tokens.of_key(KEY, 0), None, is_deferrable=False)

    assert "decode('01ff', 'hex')" in message
    assert message.endswith("where seen.is_void")
