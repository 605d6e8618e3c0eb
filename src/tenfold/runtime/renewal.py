"""Renewed certificates: noticed, judged, and given to every front door while it serves. No connection ends.

Called by the control loop about once a second, with the time. A bad file changes nothing and is reported once. What
the front doors serve is asked of them each time, so that a runtime that died between two of them is made up for.
"""

import datetime
from dataclasses import dataclass, field
from pathlib import Path

from tenfold import errors
from tenfold.engines.haproxy import admin
from tenfold.kit import certificate as certificates
from tenfold.runtime import certificates as copies
from tenfold.runtime import events, paths
from tenfold.topology import tiers

SETTLED_SECONDS = 3.0
"""How long bad files must stay as they are until they are reported: certificate and key are written one by one."""

Stamp = tuple[tuple[str, int, int, int], ...]
"""Which files were there: path, inode, size and time of change of each."""


@dataclass
class Renewal:
    """What is remembered between two looks: which files were good, and what has been said already."""

    where: paths.Paths
    journal: events.Journal
    _good: Stamp | None = None
    _bad_since: tuple[Stamp, datetime.datetime] | None = None
    _said: set[tuple[object, ...]] = field(default_factory=set)
    _copy: tuple[Stamp, certificates.Certificate | None] | None = None

    async def look(
        self, topology: tiers.Topology, doors: tuple[Path, ...], at: datetime.datetime
    ) -> certificates.Certificate | None:
        """One iteration: every front door serves the newest good certificate. Returns one that was taken over now.

        `doors`: the runtime sockets of the front doors that live. One that does not answer is met again next time.
        """
        tls = topology.service.tls
        if tls is None:
            return None
        copy = self._kept(tls)
        renewed = await self._renew(topology, tls, copy, doors, at)
        served = renewed or copy
        if served is not None:
            self._warn(topology.service, served, at)
            await self._hand_out(tls, served, doors)
        return renewed

    def _kept(self, tls: tiers.Tls) -> certificates.Certificate | None:
        """The copy, parsed again only when its file has changed."""
        stamp = _stamp(self.where.tls / tls.copy_name)
        if self._copy is None or self._copy[0] != stamp:
            self._copy = (stamp, copies.kept(tls, self.where))
        return self._copy[1]

    async def _renew(
        self,
        topology: tiers.Topology,
        tls: tiers.Tls,
        copy: certificates.Certificate | None,
        doors: tuple[Path, ...],
        at: datetime.datetime,
    ) -> certificates.Certificate | None:
        """Take over what is new and good: the front doors first, whose word counts, then the copy on disk."""
        stamp = _stamp(*copies.files_of(topology, self.where))
        if copy is not None and stamp == self._good and not tls.is_self_signed:
            return None
        try:
            wanted = copies.wanted(topology, tls, self.where, at, copy)
        except errors.BadInput as error:
            self._refuse(stamp, str(error), copy, at)
            return None
        if copy is not None and copy.pem == wanted.pem:
            self._good = stamp
            return None
        if complaint := await self._hand_out(tls, wanted, doors):
            self._refuse(stamp, complaint, copy, at)
            return None
        copies.keep(tls, self.where, wanted)
        self._good, self._bad_since = stamp, None
        text = f"the front door serves a new certificate, valid until {certificates.day(wanted.ends)}"
        self.journal.say("certificate_renewed", text)
        return wanted

    async def _hand_out(self, tls: tiers.Tls, found: certificates.Certificate, doors: tuple[Path, ...]) -> str:
        """Every front door that serves another certificate from the copy's file serves this one; else its complaint."""
        file = self.where.tls / tls.copy_name
        for door in doors:
            try:
                served = await admin.certificate(door, file)
            except errors.EngineFailed:
                continue  # it starts or stops just now
            if served in ("", found.fingerprint):
                continue
            try:
                await admin.take_certificate(door, file, found.pem, found.fingerprint)
            except errors.EngineFailed as error:
                return str(error)
        return ""

    def _refuse(
        self, stamp: Stamp, complaint: str, copy: certificates.Certificate | None, at: datetime.datetime
    ) -> None:
        """Say it once, when the files have stayed as they are for a while."""
        if self._bad_since is None or self._bad_since[0] != stamp:
            self._bad_since = (stamp, at)
        if (at - self._bad_since[1]).total_seconds() < SETTLED_SECONDS:
            return
        rest = f"the former certificate serves on, until {certificates.day(copy.ends)}" if copy else "there is no other"
        self._say_once((stamp, complaint), "certificate_refused", f"{complaint}; {rest}")

    def _warn(self, service: tiers.Service, served: certificates.Certificate, at: datetime.datetime) -> None:
        left = served.remaining(at)
        passed = [days for days in copies.WARNED_DAYS if left <= datetime.timedelta(days=days)]
        if passed and passed[-1] == 0:
            text = (
                f"the front door's certificate expired on {certificates.day(served.ends)}: clients refuse it; renew it"
            )
            self._say_once((served.fingerprint, 0), "certificate_expired", text)
        elif passed:
            text = f"the front door's certificate expires on {certificates.day(served.ends)}; renew it"
            self._say_once((served.fingerprint, passed[-1]), "certificate_expires", text)
        if service.domain and not served.covers(service.domain):
            text = f"the certificate is for {', '.join(served.names) or 'no name'}, and not for {service.domain}"
            self._say_once((served.fingerprint, service.domain), "certificate_of_others", text)

    def _say_once(self, what: tuple[object, ...], kind: str, text: str) -> None:
        if what not in self._said:
            self._said.add(what)
            self.journal.say(kind, text, level="warning")


def _stamp(*paths_: Path) -> Stamp:
    """Says whether files are still those that were looked at; of one that is missing, zeros."""
    return tuple(_one(path) for path in paths_)


def _one(path: Path) -> tuple[str, int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (str(path), 0, 0, 0)
    return (str(path), found.st_ino, found.st_size, found.st_mtime_ns)
