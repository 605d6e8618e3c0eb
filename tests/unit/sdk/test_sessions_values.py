"""What a session may hold, and what is noticed of its changes."""

import datetime
import decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold import errors
from tenfold.sdk import counters
from tenfold.sdk.sessions import csrf, records, sealing, session, values

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


class Visit:
    """A request on which everything may be changed."""

    said: str | None = None

    def ensure_changeable(self, what: str) -> None:
        if self.said:
            raise errors.MisuseError(f"{what}: {self.said}")

    def csrf(self) -> str:
        return "token"


def made(principal: str | None = None, **fields: Any) -> session.Session:
    texts = {name: values.encode(name, value) for name, value in fields.items()}
    return session.Session(Visit(), records.Record(texts, principal, 1.0, 1.0, 2.0))


@given(PLAIN)
def test_what_is_put_in_comes_back_as_it_was(value: Any) -> None:
    found = values.decode(values.encode("x", value))

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"rows": [1, {"price": decimal.Decimal(1)}]}, r"session\['cart'\]\['rows'\]\[1\]\['price'\]: decimal.Decimal"),
        (datetime.datetime.now(datetime.UTC), "isoformat"),
        ((1, 2), r"write list\(...\)"),
        ({1: 2}, r"the key 1 \(int\) found"),
        (float("nan"), "no word for"),
        (2**63, "64 bits"),
        ("\ud800", "cannot be written as JSON"),
        (b"x", "hex"),
        (object(), "keep an id"),
        (errors, "builtins.module"),
    ],
)
def test_what_would_not_come_back_is_refused_where_it_is_put_in(value: Any, words: str) -> None:
    mine = made()

    with pytest.raises(errors.NotEncodable, match=words):
        mine["cart"] = value

    assert not mine
    assert not mine.changes()


def test_what_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(errors.NotEncodable, match="contains itself"):
        made()["a"] = endless


@pytest.mark.parametrize("name", ["", "x" * 129, "a\0b", 7, None, "a\nb", ("a",)])
def test_names_are_short_texts(name: Any) -> None:
    with pytest.raises(errors.NotEncodable, match="printable"):
        made()[name] = 1


def test_changes_in_place_are_noticed_and_reading_is_none() -> None:
    mine = made(cart=[1], seen={"a": {"b": 1}}, name="x")
    assert ([1], 1, "x") == (mine["cart"], mine["seen"]["a"]["b"], mine["name"])
    mine["name"] = "x"
    assert not mine.changes()

    mine["cart"].append(2)
    mine["seen"]["a"]["b"] = 2

    assert records.Changes({"cart": "[1,2]", "seen": '{"a":{"b":2}}'}) == mine.changes()


def test_what_was_put_into_a_list_in_place_is_checked_when_it_is_kept() -> None:
    mine = made(cart=[1])
    mine["cart"].append({7})

    with pytest.raises(errors.NotEncodable, match=r"session\['cart'\]\[1\]: builtins.set"):
        mine.changes()


def test_a_dict_in_every_respect() -> None:
    mine = made(a=1, b=2)
    mine.update(c=3)
    assert 1 == mine.pop("a")
    assert 4 == mine.setdefault("d", 4)
    del mine["b"]
    mine["b"] = 5

    assert {"b": 5, "c": 3, "d": 4} == dict(mine) == mine
    assert (3, True, False, None) == (len(mine), "b" in mine, "a" in mine, mine.get("a"))
    assert records.Changes({"c": "3", "d": "4", "b": "5"}, frozenset({"a"})) == mine.changes()
    assert "Session('b', 'c', 'd')" == repr(mine)
    with pytest.raises(KeyError):
        del mine["a"]
    mine.clear()
    assert records.Changes({}, frozenset({"a", "b"})) == mine.changes()


@pytest.mark.parametrize(
    ("principal", "found"),
    [
        ("u" * 257, r"\(257 characters\) found"),
        ("", "'' found"),
        ("a\0b", r"'a\\x00b' found"),
        ("\ud800", r"'\\ud800' found"),
        (7, "7 found"),
        (None, "None found"),
    ],
)
def test_a_login_as_what_no_store_can_keep_is_refused(principal: Any, found: str) -> None:
    mine = made()

    with pytest.raises(errors.MisuseError, match=rf"session.login: .*{found}, a text of 1 to 256 characters expected"):
        mine.login(principal)
    assert mine.principal is None
    mine.login("ü" * 256)


def test_a_login_keeps_the_visitors_fields_and_not_another_users() -> None:
    mine = made(cart=[1])
    mine.login("user-7")
    assert (False, True, {"cart": [1]}) == (mine.is_over, mine.is_rotated, dict(mine))

    other = made(principal="user-7", cart=[1])
    other.login("user-8")
    assert (True, True, {}, "user-8") == (other.is_over, other.is_rotated, dict(other), other.principal)


def test_a_field_that_somebody_has_spoilt_is_missing_and_counted() -> None:
    before = counters.reading().get("sessions.corrupted", 0)
    mine = session.Session(Visit(), records.Record({"a": "{", "b": "1"}, None, 1.0, 1.0, 2.0))

    assert (None, 1) == (mine.get("a"), mine["b"])
    assert before + 1 == counters.reading()["sessions.corrupted"]


def test_too_much_is_refused_by_the_name_of_the_largest_field() -> None:
    with pytest.raises(errors.TooLarge, match=r"session\['big'\]: 70,003 bytes found in it, and 70,005"):
        records.ensure_fits({"a": "1", "big": "x" * 70_000}, 70_005, records.MOST_BYTES)
    with pytest.raises(errors.TooLarge, match="1,001 fields"):
        records.ensure_fits({str(number): "1" for number in range(1001)}, 5000, records.MOST_BYTES)


def test_a_sealed_session_opens_with_the_secret_it_was_sealed_with_and_no_other() -> None:
    old, new = sealing.Seal(["a" * 64], "shop"), sealing.Seal(["b" * 64, "a" * 64], "shop")
    one, record = records.new_id(), records.Record({"a": "1"}, "user-7", 1.0, 2.0, 3.0)
    text = old.close(one, record)

    for seal in (old, new):
        found = seal.open(text)
        assert found is not None
        assert (one.secret, record) == (found.id.secret, found.sealed)
    assert text != old.close(one, record)
    assert "user-7" not in text
    for stranger in (sealing.Seal(["b" * 64], "shop"), sealing.Seal(["a" * 64], "other")):
        assert stranger.open(text) is None


@given(st.integers(0, 200), st.sampled_from("abcXYZ019-_.=é\n "))
def test_no_change_of_a_sealed_session_opens(where: int, letter: str) -> None:
    seal = sealing.Seal(["a" * 64], "shop")
    text = seal.close(records.Id(b"i" * 32), records.Record({"a": "1"}, None, 1.0, 2.0, 3.0))
    where %= len(text) - 1  # of the last letter some bits mean nothing
    changed = text[:where] + letter + text[where + 1 :]

    assert (changed == text) is (seal.open(changed) is not None)


@given(st.text(max_size=60))
def test_no_made_up_id_or_form_token_passes(text: str) -> None:
    assert records.parse_id(text) is None or records.parse_id(text).text == text  # type: ignore[union-attr]
    assert not csrf.Forms(["a" * 64], "shop").verify(records.new_id(), text)


def test_an_id_shows_itself_to_nobody() -> None:
    one = records.new_id()

    assert 43 == len(one.text)
    assert "Id(...)" == repr(one)
    assert one.text not in repr(records.Ticket(one))
    assert one.secret not in (one.digest, one.digest[:32])


def test_form_tokens_survive_a_change_of_the_secret() -> None:
    one = records.new_id()
    token = csrf.Forms(["a" * 64], "shop").issue(one)

    assert csrf.Forms(["b" * 64, "a" * 64], "shop").verify(one, token)
    assert not csrf.Forms(["b" * 64], "shop").verify(one, token)
    assert not csrf.Forms(["a" * 64], "shop").verify(records.new_id(), token)
