"""Certificates: what may be served, what is refused and in which words, and what tenfold makes itself."""

import datetime
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from support.certificates import NOW, Authority, Pair, key_pem
from tenfold.kit import certificate

AUTHORITY = Authority(NOW)
GOOD = AUTHORITY.issue()
OTHER = AUTHORITY.issue()


def encrypted(pair: Pair) -> bytes:
    return key_pem(serialization.load_pem_private_key(pair.key, None), b"secret")  # type: ignore[arg-type]


def problem(pem: bytes, key: bytes, now: datetime.datetime = NOW) -> str:
    with pytest.raises(certificate.CertificateError) as refused:
        certificate.ensure_valid(certificate.read(pem, key), now)
    return str(refused.value)


@pytest.mark.parametrize(
    ("pem", "key", "expected"),
    [
        (b"", GOOD.key, "no certificate found"),
        (b"hello", GOOD.key, "no certificate found"),
        (GOOD.key, GOOD.key, "no certificate found"),
        (GOOD.certificate, b"", "no private key found"),
        (GOOD.certificate[:300], GOOD.key, "is the file complete?"),
        (GOOD.certificate[:-100], GOOD.key, "is the file complete?"),
        (GOOD.certificate, GOOD.key[:60], "is the file complete?"),
        (GOOD.certificate.replace(b"M", b"A", 9), GOOD.key, "is the file complete?"),
        (GOOD.certificate, encrypted(GOOD), "an encrypted private key found"),
        (GOOD.certificate, OTHER.key, "the key does not belong to the certificate"),
        (AUTHORITY.pem + GOOD.certificate, GOOD.key, "a chain in the wrong order"),
        (GOOD.certificate + AUTHORITY.pem * 60, GOOD.key, "at most 24576 expected"),
    ],
)
def test_what_cannot_be_served_is_told_in_words(pem: bytes, key: bytes, expected: str) -> None:
    assert expected in problem(pem, key)


def test_no_words_hold_the_key() -> None:
    assert GOOD.key.decode().splitlines()[1] not in problem(OTHER.certificate, GOOD.key) + repr(
        certificate.read(GOOD.certificate, GOOD.key)
    )


def test_a_short_key_is_refused() -> None:
    weak = AUTHORITY.issue(rsa_bits=1024)

    assert "an RSA key of 1024 bits found, 2048 or more expected" in problem(weak.certificate, weak.key)


def test_a_certificate_is_valid_from_its_first_moment_to_its_last() -> None:
    found = certificate.read(GOOD.certificate, GOOD.key)
    second = datetime.timedelta(seconds=1)

    certificate.ensure_valid(found, found.begins)
    certificate.ensure_valid(found, found.ends - second)
    assert "it expired on 2030-08-30" in problem(GOOD.certificate, GOOD.key, found.ends)
    assert "not valid before 2030-05-31" in problem(GOOD.certificate, GOOD.key, found.begins - second)


@pytest.mark.parametrize("arrange", [lambda one: one.combined, lambda one: one.key + one.certificate])
def test_one_file_may_hold_everything(arrange: Callable[[Pair], bytes]) -> None:
    both = arrange(GOOD)

    found = certificate.read(both, both)

    assert certificate.read(GOOD.certificate, GOOD.key) == found
    assert b"\n\n" not in found.pem
    assert found == certificate.read(found.pem, found.pem)


def test_the_names_of_a_certificate_may_have_a_star_for_one_label() -> None:
    wild = AUTHORITY.issue(("*.shop.test", "127.0.0.1"))
    found = certificate.read(wild.certificate, wild.key)

    hosts = ["www.shop.test", "WWW.Shop.test", "127.0.0.1", "shop.test", "a.b.shop.test", "127.0.0.2"]

    assert [True, True, True, False, False, False] == [found.covers(host) for host in hosts]


def test_a_certificate_of_our_own_is_for_its_names_for_a_year_and_can_sign_no_other() -> None:
    found = certificate.self_signed(("shop.test", "127.0.0.1", "::1"), NOW)
    (made,) = x509.load_pem_x509_certificates(found.pem)

    assert ("shop.test", "127.0.0.1", "::1") == found.names
    assert 365 == found.remaining(NOW).days
    assert found.begins < NOW
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert found.fingerprint != certificate.self_signed(found.names, NOW).fingerprint
