"""Tokens that were not signed by this service, or not for this purpose, are refused with the reason."""

import base64
import json
from typing import Any

import pytest

from tenfold import bindings, errors
from tenfold.sdk.asgi import answers
from tenfold.sdk.tokens import tokens

pytestmark = pytest.mark.anyio


class Nothing:
    """No revocations."""

    async def find(self, names: Any) -> list[None]:
        return [None for _ in names]


def made(secret: str = "ab" * 32, *former: str, service: str = "shop") -> tokens.Tokens:
    one = tokens.Tokens(None, None)  # type: ignore[arg-type]
    one.update(bindings.Service(name=service, secret=secret, former_secrets=former))
    one.revocations = Nothing()  # type: ignore[assignment]
    return one


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


TOKENS = made()
GOOD = TOKENS.issue("user-7", audience="api", claims={"scope": ["read"]})
HEAD, BODY, SIGNATURE = GOOD.split(".")
KID = json.loads(base64.urlsafe_b64decode(HEAD + "=="))["kid"]

GARBAGE = {
    "nothing": "",
    "text": "hello",
    "dots": "....",
    "no algorithm": f"{part({'alg': 'none', 'kid': KID})}.{BODY}.",
    "our public key as a password": f"{part({'alg': 'HS256', 'kid': KID})}.{BODY}.{SIGNATURE}",
    "another kid": f"{part({'alg': 'Ed25519', 'kid': 'f' * 16})}.{BODY}.{SIGNATURE}",
    "no kid": f"{part({'alg': 'Ed25519'})}.{BODY}.{SIGNATURE}",
    "a kid that is no text": f"{part({'alg': 'Ed25519', 'kid': [1]})}.{BODY}.{SIGNATURE}",
    "a header that is no object": f"{part([1])}.{BODY}.{SIGNATURE}",
    "other claims": f"{HEAD}.{part({'sub': 'admin', 'exp': 9e9})}.{SIGNATURE}",
    "another signature": f"{HEAD}.{BODY}.{'A' * len(SIGNATURE)}",
    "no signature": f"{HEAD}.{BODY}.",
    "huge": GOOD + "A" * 10_000,
    "not ASCII": "é" + GOOD,
    "another service's": made(service="other").issue("user-7", audience="api"),
    "another secret's": made("cd" * 32).issue("user-7", audience="api"),
}


@pytest.mark.parametrize("token", GARBAGE.values(), ids=GARBAGE)
async def test_what_this_service_has_not_signed_is_forged(token: str) -> None:
    with pytest.raises(errors.BadToken) as caught:
        await TOKENS.verify(token, audience="api")

    assert "forged" == caught.value.reason
    assert token[:20] not in str(caught.value) or not token


async def test_a_good_one_says_what_it_was_given() -> None:
    found = await TOKENS.verify(GOOD, audience="api")

    assert ("user-7", "api", {"scope": ["read"]}) == (found.subject, found.audience, found.claims)
    assert 3600.0 == pytest.approx(found.expires_at - found.issued_at)


async def test_for_another_audience_or_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    late = TOKENS.issue("user-7", life=5)
    with pytest.raises(errors.BadToken, match="'api' found as its audience, '' expected") as caught:
        await TOKENS.verify(GOOD)
    assert "audience" == caught.value.reason

    now = tokens.time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now + 6)
    with pytest.raises(errors.BadToken) as caught:
        await TOKENS.verify(late)
    assert "expired" == caught.value.reason


async def test_a_former_secret_verifies_and_signs_nothing_new() -> None:
    renewed = made("cd" * 32, "ab" * 32)

    assert "user-7" == (await renewed.verify(GOOD, audience="api")).subject
    with pytest.raises(errors.BadToken):
        await TOKENS.verify(renewed.issue("user-7"))


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        ({"subject": ""}, errors.MisuseError, "a text expected"),
        ({"subject": "u", "life": 0}, errors.MisuseError, "up to 400 days"),
        ({"subject": "u", "claims": {"exp": 1}}, errors.MisuseError, r"\['exp'\] found"),
        ({"subject": "u", "claims": {"a": object()}}, errors.NotEncodable, "no JSON"),
        ({"subject": "u", "claims": {"a": "x" * 9000}}, errors.TooLarge, "8,192 at most"),
    ],
)
def test_what_cannot_be_issued(wrong: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        TOKENS.issue(**wrong)


def test_a_bad_token_is_answered_401() -> None:
    answer = answers.to(errors.BadToken("token: x", reason="expired"))

    assert answer is not None
    assert 401 == answer.status
    assert (b"www-authenticate", b'Bearer error="invalid_token"') in answer.headers
    assert b'"reason": "expired"' in answer.body
