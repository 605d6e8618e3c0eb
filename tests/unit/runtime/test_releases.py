"""Releases: when a new one is needed, what it holds, which are kept, and what `tenfold deploy` may ask for."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from support.topologies import topology
from tenfold import engines, errors
from tenfold.planning.releases import Wanted
from tenfold.runtime import deploy, events, paths, records, releases, seats
from tenfold.topology import layout, tiers

pytestmark = pytest.mark.anyio

SECRETS = engines.Secrets(*["secret"] * 11)

TEXT = '[service]\nname = "shop"\napp = "shop.web:app"\n'


class Service:
    """A project with code, and its releases."""

    def __init__(self, folder: Path) -> None:
        self.where = paths.Paths(folder / "tenfold.toml")
        self.where.make()
        self.where.topology.write_text(TEXT)
        self.store = records.Store.open(self.where.records)
        self.journal = events.Journal(None)
        self.shelf = releases.Shelf(self.where, self.store, self.journal)
        self.sections: dict[str, Any] = {"balancer": {"servers": 2}, "web": {"servers": 3}}
        self.write("one")

    def write(self, text: str, name: str = "shop/web.py") -> None:
        path = self.where.project / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    @property
    def topology(self) -> tiers.Topology:
        return topology(**self.sections)

    def change(self, **service: Any) -> None:
        self.sections["service"] = {"name": "shop", "app": "shop.web:app", **service}

    def reach(self, wanted: Wanted) -> None:
        """As when a change has ended well."""
        self.shelf.want(wanted)
        self.shelf.settle()

    async def serve(self, text: str = "one") -> str:
        """Make a release of this code, and let it serve."""
        self.write(text)
        version = await self.shelf.make(self.topology)
        self.reach(Wanted(version))
        return version

    async def asked(self, **request: Any) -> Wanted:
        return await deploy.releases_for(
            deploy.Request(topology=TEXT, **request), self.shelf, self.topology, self.topology
        )

    def code(self, version: str) -> str:
        return (self.where.releases / version / "shop" / "web.py").read_text()

    def places(self) -> seats.Seats:
        return seats.Seats(self.where, self.store, SECRETS, self.topology)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


# what is in a release


async def test_a_release_holds_the_code_and_the_variables_as_they_were(service: Service) -> None:
    service.write("NAME=first\n", "secrets.env")
    service.change(env={"MODE": "demo"}, env_file="secrets.env")
    version = await service.shelf.make(service.topology)
    service.write("two")
    service.write("NAME=second\n", "secrets.env")
    service.reach(Wanted(version))

    seat = service.places().seat("web-1", "granian")

    assert seat.release is not None
    assert "one" == service.code("1")
    assert {"NAME": "first", "MODE": "demo"} == seat.release.env
    assert service.where.releases / "1" == seat.release.directory
    assert not (seat.release.directory / "tenfold.toml").exists()
    assert not (seat.release.directory / ".tenfold").exists()


async def test_its_variables_are_in_no_text_that_is_shown(service: Service) -> None:
    service.change(env={"KEY": "sesame"})
    await service.serve()

    seat = service.places().seat("web-1", "granian")

    assert "sesame" not in repr(service.store.records.releases)
    assert "sesame" not in repr(seat.release)
    assert "sesame" not in str(list(service.journal.recent))


async def test_releases_survive_the_runtime(service: Service) -> None:
    await service.serve("one")
    await service.serve("two")

    again = records.Store.open(service.where.records).records

    assert service.store.records == again
    assert ("2", "1") == (again.releases["2"].version, again.releases["2"].former)


async def test_a_rollback_takes_app_interpreter_and_variables_along(service: Service) -> None:
    await service.serve()
    service.change(app="shop.other:app", python="/opt/python", env={"MODE": "new"})
    await service.serve()
    service.reach(await service.asked(rolls_back=True))

    seat = service.places().seat("web-1", "granian")

    assert seat.release is not None
    assert ("shop.web:app", "", {}) == (seat.release.app, seat.release.python, seat.release.env)


# when a new one is needed


async def test_without_a_release_one_is_needed(service: Service) -> None:
    assert None is await service.shelf.as_files_say(service.topology)


async def test_the_same_code_and_variables_need_none(service: Service) -> None:
    version = await service.serve()
    service.write("one")

    assert Wanted(version) == await service.shelf.as_files_say(service.topology)


CHANGED = {
    "code": lambda service: service.write("two"),
    "a file beside it": lambda service: service.write("x", "shop/static.css"),
    "a variable": lambda service: service.change(env={"MODE": "new"}),
    "the app": lambda service: service.change(app="shop.other:app"),
    "the interpreter": lambda service: service.change(python="/opt/python"),
    "its folder, gone": lambda service: shutil.rmtree(service.where.releases / "1"),
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED.keys())
async def test_a_change_of_what_runs_needs_a_new_one(service: Service, change: Any) -> None:
    await service.serve()
    change(service)

    assert None is await service.shelf.as_files_say(service.topology)


async def test_tenfold_toml_and_ledgers_are_no_code(service: Service) -> None:
    version = await service.serve()
    service.where.topology.write_text(TEXT + "[web]\nservers = 1\n")
    service.write("{}", "load.ledger")

    assert Wanted(version) == await service.shelf.as_files_say(service.topology)


async def test_a_new_group_of_web_servers_needs_none_and_another_app_for_a_known_one_does(service: Service) -> None:
    version = await service.serve()
    service.sections["web_groups"] = {"api": {"app": "shop.api:app"}}
    assert Wanted(version) == await service.shelf.as_files_say(service.topology)

    await service.serve()
    service.sections["web_groups"] = {"api": {"app": "shop.other:app"}}

    assert None is await service.shelf.as_files_say(service.topology)


async def test_what_was_rolled_back_does_not_come_back_by_itself(service: Service) -> None:
    first = await service.serve("one")
    await service.serve("two")
    service.reach(await service.asked(rolls_back=True))

    assert Wanted(first) == await service.shelf.as_files_say(service.topology)
    service.write("three")
    assert None is await service.shelf.as_files_say(service.topology)


async def test_a_deploy_that_was_cut_short_is_finished_and_with_the_former_code_undone(service: Service) -> None:
    first = await service.serve("one")
    service.write("two")
    second = await service.shelf.make(service.topology)
    service.shelf.want(Wanted(second))

    assert Wanted(second) == await service.shelf.as_files_say(service.topology)
    service.write("one")
    assert Wanted(first) == await service.shelf.as_files_say(service.topology)


async def test_a_rollback_that_was_cut_short_is_finished(service: Service) -> None:
    first = await service.serve("one")
    await service.serve("two")
    service.shelf.want(await service.asked(rolls_back=True))

    assert Wanted(first) == await service.shelf.as_files_say(service.topology)


async def test_a_canary_holds_whoever_asks_and_edited_code_has_to_wait(service: Service) -> None:
    await service.serve("one")
    service.write("two")
    canary = await service.asked(canary=10.0)
    service.reach(canary)

    assert Wanted("1", "2", 10.0) == canary == await service.shelf.as_files_say(service.topology)
    service.write("three")
    with pytest.raises(errors.BadInput, match=r"release 2 is a canary for 10% .* --promote, or: .* --rollback"):
        await service.shelf.as_files_say(service.topology)


# what is kept


async def test_the_last_few_are_kept_and_what_never_served_is_dropped(service: Service) -> None:
    for number in range(6):
        await service.serve(str(number))
    failed = await service.shelf.make(service.topology)

    await service.shelf.sweep(keep=3)

    assert ["4", "5", "6"] == list(service.store.records.releases)
    assert ["4", "5", "6"] == sorted(one.name for one in service.where.releases.iterdir())
    assert "7" == failed
    assert "8" == await service.shelf.make(service.topology), "a number is never given twice"


async def test_what_is_in_use_is_kept_however_old(service: Service) -> None:
    for number in range(6):
        await service.serve(str(number))
    spec = layout.layout(service.topology).server("web-1")
    assert spec is not None
    old = records.ProcessRecord("granian", "granian", (), {}, "", 15, 1.0, 1.0, release="1")
    service.store.records.servers["web-1"] = records.ServerRecord(spec, processes={"granian": old})
    service.reach(Wanted("3"))

    await service.shelf.sweep(keep=2)

    assert ["1", "2", "3", "5", "6"] == list(service.store.records.releases)


async def test_half_made_and_unknown_folders_go(service: Service) -> None:
    await service.serve()
    for name in (".2.partial", "2", ".removed-0"):
        (service.where.releases / name).mkdir()

    await service.shelf.sweep(keep=5)

    assert ["1"] == [one.name for one in service.where.releases.iterdir()]


# bad input


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "a b", "x" * 65, "-x"])
async def test_a_version_is_a_good_name_for_a_folder(service: Service, name: str) -> None:
    if not name:
        assert "1" == await service.shelf.make(service.topology, name)
        return
    with pytest.raises(errors.BadInput, match="a name for a folder expected"):
        await service.shelf.make(service.topology, name)


async def test_a_version_that_is_taken_is_refused(service: Service) -> None:
    await service.shelf.make(service.topology, "v1.2.3")

    with pytest.raises(errors.BadInput, match=r"release v1.2.3 exists already"):
        await service.shelf.make(service.topology, "v1.2.3")


async def test_a_directory_that_is_not_there_is_named(service: Service) -> None:
    service.change(directory="src")

    with pytest.raises(errors.BadInput, match=r"service.directory: .*/src not found, the folder of the app expected"):
        await service.shelf.make(service.topology)


REFUSED = {
    "nothing to go back to": ({"rolls_back": True}, "release 1: none found before it"),
    "an unknown release": ({"rolls_back": True, "to": "9"}, "release 9: not found; kept are: 1"),
    "nothing to promote": ({"promotes": True}, "no canary found"),
}


@pytest.mark.parametrize(("request_", "words"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_cannot_be_is_refused(service: Service, request_: dict[str, Any], words: str) -> None:
    await service.serve()

    with pytest.raises(errors.BadInput, match=words):
        await service.asked(**request_)


async def test_a_release_whose_folder_is_gone_cannot_be_gone_back_to(service: Service) -> None:
    await service.serve("one")
    await service.serve("two")
    shutil.rmtree(service.where.releases / "1")

    with pytest.raises(errors.BadInput, match=r"release 1: its folder .*/releases/1 is gone; .* tenfold deploy"):
        await service.asked(rolls_back=True)


async def test_a_canary_needs_two_web_servers(service: Service) -> None:
    await service.serve()
    service.write("two")
    service.sections = {}

    with pytest.raises(errors.BadInput, match=r"1 web server found, 2 or more expected.* tenfold grow --to balanced"):
        await service.asked(canary=10.0)
    with pytest.raises(errors.BadInput, match="release 2 is a canary, and 1 web server found"):
        deploy.ensure_canary_fits(Wanted("1", "2", 10), service.topology)


async def test_a_second_deploy_waits_for_the_end_of_the_canary(service: Service) -> None:
    await service.serve()
    service.write("two")
    service.reach(await service.asked(canary=10.0))

    with pytest.raises(errors.BadInput, match="release 2 is a canary for 10% of the requests; first end it"):
        await service.asked()
    assert Wanted("2") == await service.asked(promotes=True)
    assert Wanted("1") == await service.asked(rolls_back=True)


async def test_the_share_of_a_canary_is_that_of_the_file_unless_said(service: Service) -> None:
    await service.serve()
    service.sections["deploy"] = {"canary": 25.0}
    service.write("two")

    assert Wanted("1", "2", 25.0) == await service.asked()
    assert Wanted("3") == await service.asked(canary=0.0)


async def test_a_deploy_of_what_serves_already_makes_nothing(service: Service) -> None:
    await service.serve()

    assert Wanted("1") == await service.asked()
    assert ["1"] == list(service.store.records.releases)


async def test_a_rollback_of_a_rollback_goes_further_back_and_never_to_what_was_left(service: Service) -> None:
    for text in ("one", "two", "three"):
        await service.serve(text)
    service.reach(await service.asked(rolls_back=True))
    assert Wanted("2") == service.shelf.wanted

    service.reach(Wanted(await service.serve("four")))

    assert Wanted("2") == await service.asked(rolls_back=True), "the release that served before, not the last one made"


def test_a_state_file_of_before_releases_is_read(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"version": 1, "network": 77, "topology": "[service]"}')

    known = records.Store.open(tmp_path / "state.json").records

    assert ({}, Wanted()) == (known.releases, known.wanted_releases)
