"""The copy that is served: made, kept, renewed in time, and never replaced by a file that is bad."""

import datetime
from dataclasses import replace
from pathlib import Path

import pytest

from support import frontdoor
from support.certificates import NOW, Authority, Pair
from tenfold import errors
from tenfold.kit import certificate
from tenfold.observation import conditions as observed
from tenfold.runtime import certificates, events, paths, renewal
from tenfold.topology import load, tiers

AUTHORITY = Authority(NOW)
DAY = datetime.timedelta(days=1)
SECOND = datetime.timedelta(seconds=1)

pytestmark = pytest.mark.anyio


@pytest.fixture
def where(tmp_path: Path) -> paths.Paths:
    made = paths.Paths(tmp_path / "tenfold.toml")
    made.make()
    return made


def topology(tls: str = '"self-signed"', domain: str = "shop.test") -> tiers.Topology:
    return load.parse(f'[service]\nname = "shop"\napp = "a:b"\ndomain = "{domain}"\ntls = {tls}\n')


def kept(wanted: tiers.Topology, where: paths.Paths) -> certificate.Certificate:
    assert wanted.service.tls is not None
    found = certificates.kept(wanted.service.tls, where)
    assert found is not None
    return found


def fingerprint(pair: Pair) -> str:
    return certificate.read(pair.certificate, pair.key).fingerprint


def conditions(wanted: tiers.Topology, where: paths.Paths, at: datetime.datetime) -> list[observed.Condition]:
    return list(certificates.troubles(wanted, where, at))


class Watched:
    """The control loop's part, without a front door."""

    def __init__(self, wanted: tiers.Topology, where: paths.Paths) -> None:
        self.wanted, self.where = wanted, where
        self.journal = events.Journal(None)
        self.renewal = renewal.Renewal(where, self.journal)

    async def look(self, *moments: datetime.datetime) -> list[str]:
        """Look at these times; the kinds of the events that came of it."""
        self.journal.recent.clear()
        for moment in moments:
            await self.renewal.look(self.wanted, (), moment)
        return [one.kind for one in self.journal.recent]


def test_engines_and_runtime_mean_the_same_file(tmp_path: Path) -> None:
    wanted = topology()
    seat = frontdoor.seat(tmp_path, frontdoor.topology(service=wanted.service))

    where = paths.Paths(tmp_path / "tenfold.toml")

    assert wanted.service.tls is not None
    assert where.tls / wanted.service.tls.copy_name == replace(seat, bindings=where.bindings).certificate


def test_a_certificate_of_our_own_is_for_everything_that_reaches_the_front_door(where: paths.Paths) -> None:
    certificates.install(topology(), where, NOW)

    assert ("shop.test", "localhost", "127.0.0.1", "::1") == kept(topology(), where).names
    assert 0o600 == (where.tls / "self-signed.pem").stat().st_mode & 0o777
    assert 0o700 == where.tls.stat().st_mode & 0o777


def test_a_certificate_of_our_own_is_kept_over_restarts(where: paths.Paths) -> None:
    certificates.install(topology(), where, NOW)
    first = kept(topology(), where)
    certificates.install(topology(), where, NOW + 300 * DAY)

    assert first == kept(topology(), where)


async def test_a_certificate_of_our_own_is_renewed_when_a_month_is_left(where: paths.Paths) -> None:
    certificates.install(topology(), where, NOW)
    watched = Watched(topology(), where)

    assert [] == await watched.look(NOW, NOW + 334 * DAY)
    assert ["certificate_renewed"] == await watched.look(NOW + 336 * DAY, NOW + 336 * DAY + SECOND)
    assert 365 == kept(topology(), where).remaining(NOW + 336 * DAY).days


async def test_a_certificate_of_our_own_follows_the_domain_and_comes_back_when_it_is_deleted(
    where: paths.Paths,
) -> None:
    certificates.install(topology(), where, NOW)
    watched = Watched(topology(domain="other.test"), where)

    assert ["certificate_renewed"] == await watched.look(NOW, NOW + SECOND)
    assert kept(topology(), where).covers("other.test")
    (where.tls / "self-signed.pem").unlink()
    assert ["certificate_renewed"] == await watched.look(NOW + SECOND)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda folder: (folder / "shop.pem").unlink(), "service.tls.certificate: shop.pem cannot be read"),
        (lambda folder: (folder / "shop.key").unlink(), "service.tls.key: shop.key cannot be read"),
        (lambda folder: (folder / "shop.pem").write_text("hello"), "shop.pem with shop.key: no certificate found"),
        (lambda folder: AUTHORITY.issue(ends_in_days=-0.5).write(folder), "it expired on 2030-06-01; renew it"),
        (lambda folder: AUTHORITY.issue(begins_in_days=1).write(folder), "it is not valid before 2030-06-02 12:00 UTC"),
    ],
    ids=["certificate", "key", "text", "expired", "not yet valid"],
)
async def test_files_that_are_bad_are_refused_before_a_change_and_change_nothing_while_it_serves(
    where: paths.Paths, break_it: object, words: str
) -> None:
    good = AUTHORITY.issue()
    wanted = topology(good.write(where.project))
    certificates.install(wanted, where, NOW)
    watched = Watched(wanted, where)
    await watched.look(NOW)

    break_it(where.project)  # type: ignore[operator]

    with pytest.raises(errors.BadInput, match=r"tenfold\.toml: service\.tls") as refused:
        certificates.ensure_usable(wanted, where, NOW)
    assert words in str(refused.value)
    assert [] == await watched.look(NOW + SECOND, NOW + 2 * SECOND), "it may be about to be written"
    assert ["certificate_refused"] == await watched.look(*(NOW + n * SECOND for n in range(3, 20)))
    assert fingerprint(good) == kept(wanted, where).fingerprint
    (condition,) = conditions(wanted, where, NOW)
    assert ("certificate_refused", "warning") == (condition.code, condition.severity)
    assert words in condition.text


async def test_a_renewal_that_writes_the_certificate_before_its_key_is_never_half_taken(where: paths.Paths) -> None:
    old, new = AUTHORITY.issue(), AUTHORITY.issue()
    wanted = topology(old.write(where.project))
    certificates.install(wanted, where, NOW)
    watched = Watched(wanted, where)
    await watched.look(NOW)

    (where.project / "shop.pem").write_bytes(new.certificate)
    assert [] == await watched.look(NOW + SECOND, NOW + 2 * SECOND)
    assert fingerprint(old) == kept(wanted, where).fingerprint
    (where.project / "shop.key").write_bytes(new.key)
    assert ["certificate_renewed"] == await watched.look(NOW + 3 * SECOND, NOW + 4 * SECOND)
    assert fingerprint(new) == kept(wanted, where).fingerprint
    assert [] == conditions(wanted, where, NOW)


async def test_an_end_that_comes_is_told_some_days_before_and_when_it_has_come(where: paths.Paths) -> None:
    wanted = topology(AUTHORITY.issue(ends_in_days=20).write(where.project))
    certificates.install(wanted, where, NOW)
    watched = Watched(wanted, where)

    told = {day: await watched.look(NOW + day * DAY, NOW + day * DAY + SECOND) for day in (0, 5, 7, 10, 17, 18, 21, 22)}

    codes = {day: [one.code for one in conditions(wanted, where, NOW + day * DAY)] for day in (0, 7, 21)}
    assert {0: [], 7: ["certificate_expires"], 21: ["certificate_expired", "certificate_refused"]} == codes
    expected = {7: ["certificate_expires"], 17: ["certificate_expires"], 21: ["certificate_expired"]}
    assert expected == {day: kinds for day, kinds in told.items() if kinds}


async def test_a_certificate_for_another_domain_is_told_once(where: paths.Paths) -> None:
    wanted = topology(AUTHORITY.issue(("www.shop.test",)).write(where.project))
    certificates.install(wanted, where, NOW)

    assert ["certificate_of_others"] == await Watched(wanted, where).look(NOW, NOW + SECOND)


def test_a_service_that_starts_again_has_its_copy_though_the_files_are_bad(where: paths.Paths) -> None:
    good = AUTHORITY.issue()
    wanted = topology(good.write(where.project))
    certificates.install(wanted, where, NOW)
    (where.project / "shop.pem").write_text("half")

    certificates.install(wanted, where, NOW + 100 * DAY)

    assert fingerprint(good) == kept(wanted, where).fingerprint


def test_a_first_start_with_bad_files_is_refused(where: paths.Paths) -> None:
    with pytest.raises(errors.BadInput, match="cannot be read"):
        certificates.install(topology('{ certificate = "no.pem" }'), where, NOW)

    assert not where.tls.exists()


def test_another_source_has_another_copy_until_the_change_is_done(where: paths.Paths) -> None:
    files = topology(AUTHORITY.issue().write(where.project))
    certificates.install(topology(), where, NOW)
    certificates.install(files, where, NOW)

    assert 2 == len(list(where.tls.iterdir()))
    certificates.discard_others(files, where)
    assert [files.service.tls.copy_name if files.service.tls else ""] == [one.name for one in where.tls.iterdir()]
