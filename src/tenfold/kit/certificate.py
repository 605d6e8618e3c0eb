"""A certificate and its key for a TLS server: judged before they are used, or made (self-signed).

Called by whoever puts one into service. Knows nothing of tenfold, reads no file and no clock: bytes and the time are
passed in. Private keys never appear in a message.
"""

import datetime
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SELF_SIGNED_DAYS = 365
"""Browsers refuse certificates that are valid for much longer."""

BACKDATED = datetime.timedelta(hours=1)
"""A self-signed certificate is valid from a little earlier on: clocks differ."""

MOST_BYTES = 24 * 1024
"""Certificate, chain and key together: what a server takes over while it runs has a bound (HAProxy: one buffer)."""

SMALLEST_RSA_BITS = 2048


class CertificateError(ValueError):
    """A certificate that cannot be served; the text says what was found, what was expected, and what to do."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that matches its key."""

    pem: bytes
    """Certificate, chain and key, written anew, without a blank line. Secret."""
    names: tuple[str, ...]
    """The host names and addresses it is for."""
    fingerprint: str
    """SHA-1 of the certificate in upper case hex, as servers and browsers show it; names it, protects nothing."""
    begins: datetime.datetime
    ends: datetime.datetime

    def __repr__(self) -> str:
        return f"Certificate({self.fingerprint})"

    def remaining(self, now: datetime.datetime) -> datetime.timedelta:
        """How long it is still valid; negative when it has expired."""
        return self.ends - now

    def covers(self, host: str) -> bool:
        """Whether it is for this host name or address (RFC 6125: `*` stands for one label, the first)."""
        wanted = host.lower()
        return any(name.lower() in (wanted, f"*.{wanted.partition('.')[2]}") for name in self.names)


def read(certificate: bytes, key: bytes) -> Certificate:
    """The certificate in a PEM, with the key in another or the same. Whether it is valid now: `ensure_valid`.

    The first certificate is the server's, the others its chain. Raises CertificateError.
    """
    chain = _certificates(certificate)
    private = _private_key(key)
    _ensure_matching(chain, private)
    _ensure_strong(chain[0], private)
    pem = b"".join([*(one.public_bytes(serialization.Encoding.PEM) for one in chain), _key_pem(private)])
    if len(pem) > MOST_BYTES:
        raise CertificateError(f"{len(pem)} bytes found, at most {MOST_BYTES} expected; leave the root certificate out")
    leaf = chain[0]
    name = fingerprint(leaf.public_bytes(serialization.Encoding.DER))
    return Certificate(pem, _names(leaf), name, leaf.not_valid_before_utc, leaf.not_valid_after_utc)


def ensure_valid(found: Certificate, now: datetime.datetime) -> None:
    """Raise CertificateError unless the certificate is valid now."""
    if now >= found.ends:
        raise CertificateError(f"it expired on {day(found.ends)}; renew it")
    if now < found.begins:
        text = f"it is not valid before {found.begins:%Y-%m-%d %H:%M} UTC; take the right one, or set the clock"
        raise CertificateError(text)


def self_signed(names: Sequence[str], now: datetime.datetime) -> Certificate:
    """A new certificate for these host names and addresses, which no authority has signed, valid for a year.

    It is no authority itself: whoever trusts it trusts this one server, and its key can sign no other certificate.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(one) for one in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    made = builder.sign(key, hashes.SHA256())
    return read(made.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def fingerprint(der: bytes) -> str:
    """The SHA-1 of a certificate's DER form in upper case hex."""
    return hashlib.sha1(der, usedforsecurity=False).hexdigest().upper()


def day(moment: datetime.datetime) -> str:
    """A date for people."""
    return f"{moment:%Y-%m-%d}"


def _certificates(pem: bytes) -> list[x509.Certificate]:
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise CertificateError("no certificate found, PEM expected (a text with BEGIN CERTIFICATE)")
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise CertificateError("a damaged certificate found; is the file complete?") from error
    if len(found) < pem.count(b"-----BEGIN CERTIFICATE-----"):
        raise CertificateError("a certificate that breaks off found; is the file complete?")
    return found


def _private_key(pem: bytes) -> PrivateKeyTypes:
    if b"PRIVATE KEY-----" not in pem:
        raise CertificateError("no private key found, PEM expected (a text with BEGIN PRIVATE KEY); name its file")
    try:
        return serialization.load_pem_private_key(_block(pem), password=None)
    except TypeError as error:  # what `cryptography` raises for a key that wants a password
        text = "an encrypted private key found, a plain one expected; decrypt it: openssl pkey -in KEY -out PLAIN"
        raise CertificateError(text) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError("a damaged private key found; is the file complete?") from error


def _block(pem: bytes) -> bytes:
    """The key's own lines, of a file that may hold certificates too (and `EC PARAMETERS` before the key)."""
    lines = pem.splitlines()
    first = next(number for number, line in enumerate(lines) if line.strip().endswith(b"PRIVATE KEY-----"))
    return b"\n".join(lines[first:]) + b"\n"


def _ensure_matching(chain: Sequence[x509.Certificate], key: PrivateKeyTypes) -> None:
    wanted = _public_bytes(key.public_key())
    if _public_bytes(chain[0].public_key()) == wanted:
        return
    if any(_public_bytes(one.public_key()) == wanted for one in chain[1:]):
        raise CertificateError("a chain in the wrong order found, the server's own certificate expected first")
    raise CertificateError("the key does not belong to the certificate; give the key it was issued for")


def _ensure_strong(leaf: x509.Certificate, key: PrivateKeyTypes) -> None:
    """What today's clients refuse anyway, and TLS libraries may refuse to load."""
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < SMALLEST_RSA_BITS:
        raise CertificateError(f"an RSA key of {key.key_size} bits found, {SMALLEST_RSA_BITS} or more expected")
    used = leaf.signature_hash_algorithm
    if isinstance(used, hashes.SHA1 | hashes.MD5):
        raise CertificateError(f"a signature by {used.name} found, SHA-256 or better expected; have it issued anew")


def _key_pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public_bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(str(one.value) for one in found if isinstance(one, x509.DNSName | x509.IPAddress))


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
