"""A certificate authority of the tests' own, and files in every state that a user's may be in."""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

NOW = datetime.datetime(2030, 6, 1, 12, tzinfo=datetime.UTC)
"""For tests that are told the time."""

NAMES = ("shop.test", "localhost", "127.0.0.1")


@dataclass(frozen=True)
class Pair:
    """A certificate with its chain, and its key: PEM."""

    certificate: bytes
    key: bytes

    @property
    def combined(self) -> bytes:
        return self.certificate + self.key

    def write(self, folder: Path, name: str = "shop") -> str:
        """Write both files; what tenfold.toml says about them."""
        (folder / f"{name}.pem").write_bytes(self.certificate)
        (folder / f"{name}.key").write_bytes(self.key)
        return f'{{ certificate = "{name}.pem", key = "{name}.key" }}'


class Authority:
    """Signs certificates; `pem` is what a client has to trust."""

    def __init__(self, now: datetime.datetime | None = None) -> None:
        self.now = now or datetime.datetime.now(datetime.UTC)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the tests' authority")])
        made = self._builder(self.name, self.key, -1, 3650)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self.certificate = made.add_extension(usage, critical=True).sign(self.key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        names: Sequence[str] = NAMES,
        *,
        begins_in_days: float = -1,
        ends_in_days: float = 90,
        rsa_bits: int = 0,
        with_chain: bool = True,
    ) -> Pair:
        """A certificate for these names."""
        key: CertificateIssuerPrivateKeyTypes = (
            rsa.generate_private_key(65537, rsa_bits) if rsa_bits else ec.generate_private_key(ec.SECP256R1())
        )
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        builder = self._builder(subject, key, begins_in_days, ends_in_days)
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(one) for one in names]), critical=False)
        signed = builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return Pair(signed + (self.pem if with_chain else b""), key_pem(key))

    def _builder(
        self, subject: x509.Name, key: CertificateIssuerPrivateKeyTypes, begins_in_days: float, ends_in_days: float
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + datetime.timedelta(days=begins_in_days))
            .not_valid_after(self.now + datetime.timedelta(days=ends_in_days))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )


def key_pem(key: CertificateIssuerPrivateKeyTypes, password: bytes = b"") -> bytes:
    """The key as PEM, encrypted when there is a password."""
    encryption: serialization.KeySerializationEncryption = (
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
