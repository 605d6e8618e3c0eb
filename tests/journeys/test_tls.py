"""A service under TLS: it climbs, changes its certificate and renews it, under load. Nothing fails, nothing is lost."""

import asyncio
import os
import signal
import ssl
import uuid
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from support import project
from support.certificates import Authority
from tenfold.kit import certificate, clock

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(280)]


async def test_a_service_under_tls_climbs_and_renews_its_certificate_under_load(tmp_path: Path) -> None:
    authority = Authority()
    async with project.shop(tmp_path) as shop:
        shop.edit(r"^listen = .*$", f'listen = "{shop.listen}"\ntls = "self-signed"')
        assert f"ready https://{shop.listen}" in await shop.tenfold("up", "-d")
        shop.trust = ssl.create_default_context(cafile=str(shop.folder / ".tenfold" / "tls" / "self-signed.pem"))
        shop.trust.load_verify_locations(cadata=authority.pem.decode())
        async with shop.load(rate=60) as load:
            await shop.tenfold("grow", "--to", "replicated", "--yes")
            files = authority.issue(("127.0.0.1",))
            shop.edit(r"^tls = .*$", f"tls = {files.write(shop.folder)}")
            await shop.tenfold("apply", "--yes")
            assert await shown(shop) == fingerprint(files.combined)

            await ensure_refused(shop, authority)
            renewed = authority.issue(("127.0.0.1",))
            shop.kill_runtime()
            renewed.write(shop.folder)
            await shop.tenfold("up", "-d")
            assert await clock.until(lambda: _shows(shop, fingerprint(renewed.combined)), seconds=20)
            before = shop.alive()
        await shop.ensure_nothing_lost(load.report)

        assert before == shop.alive(), "something was restarted for a certificate"
        assert fingerprint(renewed.combined) == (await shop.status())["certificate"]["fingerprint"]
        events = (shop.folder / ".tenfold" / "events.jsonl").read_text()
        assert 1 == events.count('"certificate_refused"')
        assert 1 == events.count('"certificate_renewed"')
        assert "Nothing to do" in await shop.tenfold("plan"), "a renewed certificate is taken for new code"
        assert not list((shop.folder / ".tenfold" / "releases").rglob("*.key"))
        await ensure_opens_again_with_the_copy(shop)
        print(f"under TLS: {load.report.total.to_dict()}, repeated {load.report.repeated}")


async def test_cookies_are_secure_exactly_when_the_request_came_by_https(tmp_path: Path) -> None:
    """The shop's login, and the positions of the SDK. The same service goes to https and back while it runs."""
    async with project.shop(tmp_path) as shop:
        await shop.tenfold("up", "-d")
        assert {"shop-session": False, "shop-pos": False} == await cookies_of_a_sign_up(shop)

        shop.edit(r"^listen = .*$", f'listen = "{shop.listen}"\ntls = "self-signed"')
        await shop.tenfold("apply", "--yes")
        copy = shop.folder / ".tenfold" / "tls" / "self-signed.pem"
        shop.trust = ssl.create_default_context(cafile=str(copy))
        assert {"shop-session": True, "shop-pos": True} == await cookies_of_a_sign_up(shop)
        assert "https://" in await shop.tenfold("status")
        await ensure_load_checks_the_certificate(shop)

        shop.edit(r"^tls = .*$", "")
        await shop.tenfold("apply", "--yes")
        shop.trust = None
        assert {"shop-session": False, "shop-pos": False} == await cookies_of_a_sign_up(shop)
        assert not copy.exists(), "a key that nobody needs was left"


async def ensure_refused(shop: project.Project, authority: Authority) -> None:
    """A certificate that is bad is refused in words, and told once while it lies there; the old one serves on."""
    served = await shown(shop)
    other = authority.issue(("127.0.0.1",))
    (shop.folder / "shop.key").write_bytes(other.key)
    for command in (("plan",), ("apply", "--yes")):
        refused = await shop.try_tenfold(*command)
        assert (2, 1) == (refused.code, refused.output.count("the key does not belong to the certificate")), refused

    async def is_told() -> bool:
        return "certificate_refused" in (shop.folder / ".tenfold" / "events.jsonl").read_text()

    assert await clock.until(is_told, seconds=20)
    for command in ("status", "doctor"):
        assert "the key does not belong" in await shop.tenfold(command)
    assert served == await shown(shop)


async def ensure_opens_again_with_the_copy(shop: project.Project) -> None:
    """A balancer that dies while the user's file is half written comes back with the certificate it had."""
    served, before = await shown(shop), shop.alive()["balancer-1/haproxy"]
    path = shop.folder / "shop.pem"
    path.write_bytes(path.read_bytes()[:300])
    os.kill(before, signal.SIGKILL)

    async def is_back() -> bool:
        doors = [one["server"] for one in (await shop.status())["balancers"]]
        return "balancer-1" in doors and shop.alive().get("balancer-1/haproxy", before) != before

    assert await clock.until(is_back, seconds=30)
    assert served == await shown(shop)


async def ensure_load_checks_the_certificate(shop: project.Project) -> None:
    """Without a word `tenfold load` believes the service's own certificate, and no other."""
    short = ("load", "--rate", "20", "--for", "1s", "--quiet")
    await shop.tenfold(*short)
    stranger = shop.folder / "stranger.pem"
    stranger.write_bytes(Authority().pem)

    refused = await shop.try_tenfold(*short, "--ca", str(stranger))

    assert 2 == refused.code
    assert "is not believed" in refused.output
    await shop.tenfold(*short, "--url", f"https://localhost:{shop.listen.rpartition(':')[2]}", "--insecure")


async def cookies_of_a_sign_up(shop: project.Project) -> Mapping[str, bool]:
    """By cookie (a position's slot left out), whether it is Secure. Asking for HTTP/2 changes `shop.trust`."""
    verify = shop.trust if shop.trust is not None else True
    async with httpx.AsyncClient(verify=verify, base_url=shop.url, http2=True) as client:
        person = {"name": "Eve", "email": f"{uuid.uuid4()}@shop.test", "password": "correct horse battery"}
        answer = await client.post("/api/signup", json=person)
    assert 201 == answer.status_code, answer.text
    assert "HTTP/1.1" == answer.http_version if shop.trust is None else "HTTP/2" == answer.http_version
    cookies = [one.partition("=") for one in answer.headers.get_list("set-cookie")]
    return {name.rstrip("0123456789").rstrip("-"): "; Secure" in rest for name, _, rest in cookies}


async def shown(shop: project.Project) -> str:
    """The fingerprint that new connections are shown: the same each time, whichever balancer answers."""
    host, _, port = shop.listen.rpartition(":")
    seen = set()
    for _ in range(12):
        _, writer = await asyncio.open_connection(host, int(port), ssl=shop.trust)
        seen.add(certificate.fingerprint(writer.get_extra_info("ssl_object").getpeercert(binary_form=True)))
        writer.close()
        await writer.wait_closed()
    return " and ".join(sorted(seen))


async def _shows(shop: project.Project, wanted: str) -> bool:
    return await shown(shop) == wanted


def fingerprint(combined: bytes) -> str:
    return certificate.read(combined, combined).fingerprint
