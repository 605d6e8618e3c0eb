"""The front door's certificate: read from where the topology says or made, checked, and kept as a copy to be served.

Called by `runtime/service` before a change and for `tenfold status`, and by `renewal` while the service runs. Front
doors read the checked copy below `.tenfold/tls/` alone, never a file of the user's: that one may be half written. The
time is passed in; nothing here touches what runs.
"""

import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tenfold import errors
from tenfold.kit import certificate as certificates
from tenfold.kit import files
from tenfold.observation import conditions
from tenfold.runtime import paths
from tenfold.topology import tiers

Json = dict[str, Any]

RENEWED_DAYS = 30
"""With fewer days left, a self-signed certificate is made anew: long before anybody meets an expired one."""

WARNED_DAYS = (14, 3, 0)
"""With fewer days left, a certificate is warned about; 0: it has expired."""


def now() -> datetime.datetime:
    """The wall clock: read once by whoever begins something, and passed on."""
    return datetime.datetime.now(datetime.UTC)


def ensure_usable(topology: tiers.Topology, where: paths.Paths, at: datetime.datetime) -> None:
    """Raise BadInput unless the files that the topology names can be served at that time. Nothing is written."""
    tls = topology.service.tls
    if tls is not None and not tls.is_self_signed:
        _from_files(tls, where, at)


def install(topology: tiers.Topology, where: paths.Paths, at: datetime.datetime) -> None:
    """On return there is a copy that front doors can start with; one that is there and valid stays as it is.

    Raises BadInput when there is none and the user's files are bad.
    """
    tls = topology.service.tls
    if tls is None:
        return
    copy = kept(tls, where)
    if copy is not None and copy.remaining(at) > datetime.timedelta():
        return
    try:
        keep(tls, where, wanted(topology, tls, where, at))
    except errors.BadInput:
        if copy is None:
            raise


def wanted(
    topology: tiers.Topology,
    tls: tiers.Tls,
    where: paths.Paths,
    at: datetime.datetime,
    copy: certificates.Certificate | None = None,
) -> certificates.Certificate:
    """What should be served: what the user's files hold, or of a self-signed one the copy while it is good.

    Raises BadInput when the user's files are bad.
    """
    if not tls.is_self_signed:
        return _from_files(tls, where, at)
    names = _names(topology.service)
    if copy is not None and set(copy.names) == set(names) and copy.remaining(at).days >= RENEWED_DAYS:
        return copy
    return certificates.self_signed(names, at)


def kept(tls: tiers.Tls, where: paths.Paths) -> certificates.Certificate | None:
    """The checked copy, or None when there is none that can be used."""
    try:
        pem = (where.tls / tls.copy_name).read_bytes()
        return certificates.read(pem, pem)
    except (OSError, certificates.CertificateError):
        return None


def files_of(topology: tiers.Topology, where: paths.Paths) -> tuple[Path, ...]:
    """The user's files that the topology names."""
    tls = topology.service.tls
    named = [one for one in (tls.certificate, tls.key) if one] if tls else []
    return tuple(Path(os.path.normpath(where.project.resolve() / one)) for one in named)


def keep(tls: tiers.Tls, where: paths.Paths, found: certificates.Certificate) -> None:
    """Write the copy, atomically and for the owner alone."""
    files.make_private(where.tls)
    files.write_atomically(where.tls / tls.copy_name, found.pem)


def discard_others(topology: tiers.Topology, where: paths.Paths) -> None:
    """Delete copies that the topology does not serve any more: they hold keys."""
    tls = topology.service.tls
    for copy in where.tls.glob("*.pem"):
        if tls is None or copy.name != tls.copy_name:
            copy.unlink(missing_ok=True)


def described(topology: tiers.Topology, where: paths.Paths) -> Json | None:
    """The certificate as `tenfold status` has it; None under plain HTTP."""
    tls = topology.service.tls
    if tls is None:
        return None
    copy = kept(tls, where)
    return {
        "source": "self-signed" if tls.is_self_signed else tls.certificate,
        "names": list(copy.names) if copy else [],
        "ends": copy.ends.isoformat() if copy else "",
        "fingerprint": copy.fingerprint if copy else "",
    }


def troubles(topology: tiers.Topology, where: paths.Paths, at: datetime.datetime) -> Iterator[conditions.Condition]:
    """What is wrong with the certificate that is served, and with the files that the topology names."""
    tls = topology.service.tls
    copy = kept(tls, where) if tls is not None else None
    advice = "" if tls is None or tls.is_self_signed else "; put a renewed one in its place"
    if copy is not None and copy.remaining(at) <= datetime.timedelta():
        text = f"the front door's certificate expired on {certificates.day(copy.ends)}: clients refuse it{advice}"
        yield conditions.Condition("certificate_expired", "error", text)
    elif copy is not None and copy.remaining(at) <= datetime.timedelta(days=WARNED_DAYS[0]):
        text = f"the front door's certificate expires on {certificates.day(copy.ends)}{advice}"
        yield conditions.Condition("certificate_expires", "warning", text)
    try:
        ensure_usable(topology, where, at)
    except errors.BadInput as error:
        yield conditions.Condition("certificate_refused", "warning", f"{error} (the front door keeps what it serves)")


def _names(service: tiers.Service) -> tuple[str, ...]:
    """What a self-signed certificate is for: the domain, and every way to call the front door from this machine."""
    address = service.listen.rpartition(":")[0].strip("[]")
    own = [] if address in ("0.0.0.0", "::") else [address]  # noqa: S104 (compared, not bound)
    return tuple(dict.fromkeys(one for one in (service.domain, "localhost", *own, "127.0.0.1", "::1") if one))


def _from_files(tls: tiers.Tls, where: paths.Paths, at: datetime.datetime) -> certificates.Certificate:
    certificate = _content("certificate", tls.certificate, where)
    key = _content("key", tls.key, where) if tls.key else certificate
    try:
        found = certificates.read(certificate, key)
        certificates.ensure_valid(found, at)
    except certificates.CertificateError as error:
        place = f"{tls.certificate} with {tls.key}" if tls.key else tls.certificate
        raise errors.BadInput(f"{where.topology.name}: service.tls: {place}: {error}") from error
    return found


def _content(key: str, path: str, where: paths.Paths) -> bytes:
    try:
        return (where.project / path).read_bytes()
    except OSError as error:
        text = f"{where.topology.name}: service.tls.{key}: {path} cannot be read ({error.strerror})"
        raise errors.BadInput(f"{text}, a PEM file expected; the path counts from {where.project}") from error
