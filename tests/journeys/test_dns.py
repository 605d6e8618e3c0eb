"""A service whose name servers answer for its domain: load and traces find it while servers and the runtime die."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from support import project
from tenfold import traffic
from tenfold.engines.powerdns import questions
from tenfold.kit import clock
from tenfold.traffic import journeys, resolving

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]


async def test_clients_find_the_service_by_its_name_servers_whatever_dies(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        shop.edit(r"^listen = .*$", f'listen = "{shop.listen}"\ndomain = "shop.test"')
        shop.edit(r"\Z", '\n[dns]\nttl = "1s"\n\n[regions.home]\nprimary = true\nnetworks = ["203.0.113.0/24"]\n')
        await shop.tenfold("up", "-d")
        assert ["127.0.0.1", "127.0.0.1"] == [one["addresses"][0] for one in (await looked(shop))["servers"]]
        traced = json.loads(await shop.tenfold("trace", "/", "--from", "home", "--json"))
        resolved, *_ = traced["trace"]["children"]
        assert ("resolve", "shop.test") == (resolved["kind"], resolved["name"])
        assert "127.0.0.1 (home), for 1 s, for a client of 203.0.113.0/24" in resolved["decision"]

        servers = tuple(resolving.NameServer(one["name"], *_at(one)) for one in (await looked(shop))["servers"])
        asked = resolving.Resolver("shop.test", servers, "203.0.113.0/24", {"127.0.0.1": "home"})
        async with traffic_by_name(shop, asked) as load:
            await shop.tenfold("server", "kill", "dns-1")
            await ensure_still_asked(asked)
            await shop.tenfold("server", "start", "dns-1")
            await ensure_processes_return(shop)
            await ensure_still_asked(asked)
        assert not load.report.failures, load.report.failures
        assert {"home"} == set(load.report.by_region)
        assert load.report.to_dict()["by_region"]["home"]["count"] == load.report.requests

        await ensure_they_answer_without_a_runtime(shop)

        shop.edit(r"^ttl = .*$", 'ttl = "7s"')
        await shop.tenfold("apply", "--yes")
        assert [7, 7] == [one["ttl_seconds"] for one in (await looked(shop))["servers"]]
        shop.edit(r"^\[dns\]\nttl = .*$", "")
        await shop.tenfold("apply", "--yes")
        assert {"server-1"} == {one["name"] for one in (await shop.status())["servers"]}
        assert not list((shop.folder / ".tenfold" / "run").glob("*dns-*"))
        refused = await shop.try_tenfold("load", "--via-dns", "--for", "1s")
        assert (2, True) == (refused.code, "no section [dns] in tenfold.toml" in refused.output)


async def test_places_that_do_not_exist_are_bad_input(tmp_path: Path) -> None:
    async with project.shop(tmp_path) as shop:
        shop.edit(r"^listen = .*$", f'listen = "{shop.listen}"\ndomain = "shop.test"')
        shop.edit(r"\Z", "\n[dns]\n")
        said = [
            await shop.try_tenfold(*words)
            for words in (
                ("load", "--via-dns", "--from", "hone"),
                ("load", "--from", "home"),
                ("dns", "--subnet", "203.0.113"),
                ("dns",),
            )
        ]

    assert [2, 2, 2, 1] == [one.code for one in said]
    assert "region 'hone' found, one of home expected; did you mean home?" in said[0].output
    assert "found without --via-dns" in said[1].output
    assert "'203.0.113' found, a network such as 203.0.113.0/24 expected" in said[2].output
    assert "nothing was ever started here" in said[3].output


def traffic_by_name(shop: project.Project, asked: resolving.Resolver) -> traffic.Load:
    """The shop's journeys by its domain, as `tenfold load --via-dns` sends them."""
    url = f"http://shop.test:{shop.listen.rpartition(':')[2]}"
    return traffic.Load(url, journeys.load("load.py", shop.folder), rate=30, resolver=asked)


async def looked(shop: project.Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await shop.tenfold("dns", "--from", "home", "--json"))
    return found


def _at(server: dict[str, Any]) -> tuple[str, int]:
    host, _, port = server["address"].rpartition(":")
    return host, int(port)


async def ensure_still_asked(asked: resolving.Resolver) -> None:
    """The resolver is answered twice more."""
    wanted = asked.lookups + 2

    async def look() -> bool:
        return asked.lookups >= wanted

    assert await clock.until(look, seconds=20)


async def ensure_processes_return(shop: project.Project) -> None:
    """Both processes of a name server are killed; the runtime starts them again."""
    before = shop.alive()
    for name in ("georoute", "powerdns"):
        os.kill(before[f"dns-2/{name}"], signal.SIGKILL)

    async def is_back() -> bool:
        now = shop.alive()
        names = [one for one in now if one.startswith("dns-2/")]
        return len(names) == 2 and all(now[one] != before[one] for one in names) and await answers(shop)

    assert await clock.until(is_back, seconds=40, pause_seconds=0.2), shop.alive()


async def answers(shop: project.Project) -> bool:
    return all(one["addresses"] for one in (await looked(shop))["servers"])


async def ensure_they_answer_without_a_runtime(shop: project.Project) -> None:
    """And the program beside PowerDNS goes on looking which regions are up."""
    shop.kill_runtime()
    first = (await looked(shop))["servers"][0]
    assert ["127.0.0.1"] == first["addresses"]
    host, port = _at(first)
    assert ("127.0.0.1",) == (await questions.ask(host, port, "shop.test")).addresses
    os.kill(shop.alive()["server-1/haproxy"], signal.SIGKILL)

    async def sees(state: bool) -> bool:
        return [state] == [one["is_up"] for one in (await looked(shop))["servers"][0]["regions"]]

    assert await clock.until(lambda: sees(False), seconds=20)
    assert ["127.0.0.1"] == (await looked(shop))["servers"][0]["addresses"], "without a healthy region all are answered"
    await shop.tenfold("up", "-d")
    assert await clock.until(lambda: sees(True), seconds=20)
