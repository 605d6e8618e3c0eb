"""Subjects, payloads, ids and envelopes of messages."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest

from tenfold import errors, position, request
from tenfold.sdk.queue import envelopes, ids, messages, payloads, subjects


@dataclass
class Old:
    name: str


class New(msgspec.Struct):
    name: str
    colour: str = "red"


class Model(pydantic.BaseModel):
    name: str
    at: datetime


AT = datetime(2026, 1, 1)


@pytest.mark.parametrize("subject", ["a", "user.signed_up", "A-1.b_2.C"])
def test_these_are_subjects(subject: str) -> None:
    assert subject == subjects.ensure_subject(subject)


@pytest.mark.parametrize("subject", ["", ".", "a.", ".a", "a..b", "a b", "a.*", ">", "ä", "a\n", "x" * 129, None, 7])
def test_these_are_none(subject: object) -> None:
    with pytest.raises(errors.BadSubject, match="expected"):
        subjects.ensure_subject(subject)


@pytest.mark.parametrize("pattern", ["*", ">", "a.*", "*.b", "a.*.c", "a.>", "*.>"])
def test_these_are_patterns(pattern: str) -> None:
    assert pattern == subjects.ensure_pattern(pattern)


@pytest.mark.parametrize("pattern", ["a*", "a.>.b", ">.a", "a.**", "a.b>"])
def test_these_are_no_patterns(pattern: str) -> None:
    with pytest.raises(errors.BadSubject):
        subjects.ensure_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "subject", "is_meant"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a.b", True),
        ("*.b", "xa.b", True),
        ("a.b", "a_b", False),
        ("*.b", "a_b", False),
    ],
)
def test_a_pattern_means_what_it_means_to_nats(pattern: str, subject: str, is_meant: bool) -> None:
    assert is_meant == subjects.matches(pattern, subject)
    if is_meant:
        assert subjects.overlap(pattern, subject)
        assert subjects.overlap(subject, pattern)


def test_patterns_that_share_no_subject_do_not_overlap() -> None:
    assert not subjects.overlap("a.*", "a.b.c")
    assert not subjects.overlap("a.*.c", "b.>")
    assert not subjects.overlap("a", "a.>")
    assert subjects.overlap("a.*", "*.b")


@pytest.mark.parametrize(
    "payload", [Old("a"), New("a"), Model(name="a", at=AT), {"a": [1, None]}, [1, "b"], "text", 7, 1.5, None, True]
)
def test_a_payload_comes_back_as_what_it_was(payload: Any) -> None:
    wanted = type(payload) if payload is not None else None
    assert payload == payloads.decoder(wanted)(payloads.encode(payload, "here"), "")


def test_a_model_inside_something_else_is_written_too() -> None:
    written = payloads.encode({"models": [Model(name="a", at=AT)]}, "here")
    assert b'{"models":[{"name":"a","at":"2026-01-01T00:00:00"}]}' == written
    assert {"models": [Model(name="a", at=AT)]} == payloads.decoder(dict[str, list[Model]])(written, "")
    with pytest.raises(payloads.PoisonError):
        payloads.decoder(dict[str, list[Model]])(b'{"models":[7]}', "")


def loop() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize("payload", [object(), {"a": object()}, {1, object()}, "\ud800", loop()])
def test_what_cannot_be_written_is_refused_by_its_type(payload: Any) -> None:
    with pytest.raises(errors.NotEncodable, match=f"here: a payload of {type(payload).__name__}"):
        payloads.encode(payload, "here")


@pytest.mark.parametrize("wanted", [Old, New, Model, dict, int])
@pytest.mark.parametrize("data", [b"", b"\xff", b"[", b'["a"]', b'{"name": 7}' * 2, b"[" * 100_000])
def test_poison_is_poison_whatever_was_expected(wanted: Any, data: bytes) -> None:
    with pytest.raises(payloads.PoisonError):
        payloads.decoder(wanted)(data, "")


def test_a_class_that_refuses_its_fields_makes_poison_of_them() -> None:
    @dataclass
    class Picky:
        name: str

        def __post_init__(self) -> None:
            raise KeyError(self.name)

    with pytest.raises(payloads.PoisonError, match="'a'"):
        payloads.decoder(Picky)(b'{"name":"a"}', "")


def test_versions_of_a_payload_are_told_apart_by_name() -> None:
    read = payloads.decoder(Old | New)
    data = b'{"name":"a"}'
    assert Old("a") == read(data, "Old")
    assert New("a") == read(data, "New")
    with pytest.raises(payloads.PoisonError, match="a payload of Newest found, Old or New expected"):
        read(data, "Newest")


def test_ids_are_in_the_order_in_which_they_were_made() -> None:
    made = [ids.fresh() for _ in range(2000)]
    assert made == sorted(made)
    assert 2000 == len(set(made))
    assert {7} == {one.version for one in made}
    assert {"specified in RFC 4122"} == {one.variant for one in made}


def made(**said: Any) -> messages.Envelope:
    usual: dict[str, Any] = {"key": None, "headers": None, "source": "/shop", "most_bytes": 100}
    return envelopes.make("user.signed_up", said.pop("payload", Old("a")), **(usual | said))


def test_an_envelope_says_everything_by_cloudevents_names() -> None:
    with request.serving(request.Request(trace="r-1")):
        one = made(key="7", headers={"Tenant": "blue"})
    parent = one.headers.pop("traceparent")
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", parent)
    assert datetime.fromisoformat(one.headers.pop("ce-time")).tzinfo is not None
    assert one.headers == {
        "ce-specversion": "1.0",
        "ce-id": str(one.id),
        "ce-source": "/shop",
        "ce-type": "user.signed_up",
        "content-type": "application/json",
        "ce-dataschema": "Old",
        "ce-subject": "7",
        "x-request-id": "r-1",
        "tenant": "blue",
    }
    assert (b'{"name":"a"}', "7") == (one.payload, one.key)


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        ({"payload": "x" * 200}, errors.TooLarge, "202 bytes found, at most 100"),
        ({"key": ""}, errors.MisuseError, "the key ''"),
        ({"key": 7}, errors.MisuseError, "the key 7"),
        ({"key": "a\nb"}, errors.MisuseError, "printable"),
        ({"headers": {"ce-id": "x"}}, errors.MisuseError, "'ce-id'"),
        ({"headers": {"Nats-Msg-Id": "x"}}, errors.MisuseError, "nats-"),
        ({"headers": {"a b": "x"}}, errors.MisuseError, "'a b'"),
        ({"headers": {"a": "x\r\ny"}}, errors.MisuseError, "one line"),
        ({"headers": {"a": 7}}, errors.MisuseError, "one line"),
        ({"headers": {"a": "x" * 5000}}, errors.TooLarge, "4096"),
    ],
)
def test_what_cannot_be_said_about_a_message_is_refused(said: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        made(**said)


def test_a_message_tells_when_it_was_published_and_what_its_publisher_had_seen() -> None:
    headers = {"ce-time": "2026-01-01T00:00:00+00:00", "tenfold-position": "0.1.2.AB"}
    one = messages.Message(messages.Envelope(UUID(int=1), "a.b", b"7", headers), 7, 2)
    assert datetime.fromisoformat("2026-01-01T00:00:00+00:00") == one.published_at
    strangers = messages.Message(messages.Envelope(UUID(int=1), "a.b", b"7"), 7, 1)
    assert strangers.published_at.tzinfo is not None
    assert position.Position(0, 1, 2, 0xAB) == one.position[0]
    assert "<Message a.b 00000000-0000-0000-0000-000000000001 attempt 2>" == repr(one)
