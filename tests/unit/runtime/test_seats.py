"""Seats: every process finds itself and its neighbours, also those that are on their way out."""

from pathlib import Path

import pytest

from support.topologies import TOPOLOGIES, topology
from tenfold import engines, errors
from tenfold.runtime import paths, records, seats, supervise
from tenfold.topology import layout

SECRETS = engines.Secrets(*["secret"] * 11)


def places(tmp_path: Path, wanted: str, there: str = "") -> seats.Seats:
    """The seats of one topology, while the servers of another are still there."""
    recorded = layout.layout(TOPOLOGIES[there]).servers if there else ()
    servers = {one.name: records.ServerRecord(one) for one in recorded}
    store = records.Store(tmp_path / "state.json", records.Records(network=77, servers=servers))
    return seats.Seats(paths.Paths(tmp_path / "tenfold.toml"), store, SECRETS, TOPOLOGIES[wanted])


def test_a_seat_has_its_servers_address_and_folder(tmp_path: Path) -> None:
    seat = places(tmp_path, "balanced").seat("web-2", "granian")

    assert "127.77.1.101" == seat.address
    assert tmp_path / ".tenfold" / "servers" / "web-2" == seat.root
    assert layout.GRANIAN == seat.process


def test_a_server_on_its_way_out_still_has_a_seat_and_comes_after_the_wanted_ones(tmp_path: Path) -> None:
    leaving = places(tmp_path, "balanced", there="single")

    assert "server-1" == leaving.known.servers[-1].name
    assert None is leaving.wanted.server("server-1")
    assert "127.77.1.1" == leaving.seat("server-1", "postgres").address


def test_a_database_that_patroni_shall_have_can_still_be_sat_as_plain_postgres(tmp_path: Path) -> None:
    assert layout.POSTGRES == places(tmp_path, "replicated").seat("database-1", "postgres").process


def test_a_balancer_may_be_told_of_some_web_servers_only(tmp_path: Path) -> None:
    seat = places(tmp_path, "five web servers").seat("balancer-1", "haproxy", web_servers=("web-1", "web-4"))

    assert ["web-1", "web-4"] == [one.name for one in seat.layout.web()]


def test_unknown_servers_and_processes_are_bad_input_that_names_the_known_ones(tmp_path: Path) -> None:
    single = places(tmp_path, "single")

    with pytest.raises(errors.BadInput, match=r"web-1: not found; known servers: server-1"):
        single.seat("web-1", "granian")
    with pytest.raises(errors.BadInput, match=r"squid: not found; known processes: etcd, georoute, granian"):
        single.seat("server-1", "squid")


def test_a_server_has_the_seats_of_what_is_recorded_on_it(tmp_path: Path) -> None:
    recorded = places(tmp_path, "single", there="single")
    process = records.ProcessRecord("granian", "granian", (), {}, "", 15, 1.0, 1.0)
    recorded.store.records.servers["server-1"].processes["granian"] = process

    assert [layout.GRANIAN] == [one.process for one in recorded.of("server-1")]
    assert () == recorded.of("unknown")


def test_a_worker_is_replaced_when_what_it_imports_changes_and_told_of_a_new_concurrency(tmp_path: Path) -> None:
    def revision(**workers: object) -> str:
        where = paths.Paths(tmp_path / "tenfold.toml")
        store = records.Store(where.records, records.Records(network=77))
        placed = seats.Seats(where, store, SECRETS, topology(workers=workers))
        return supervise.revision(placed.seat("worker-1", "worker"))

    assert revision() == revision(concurrency=3)
    assert 3 == len({revision(), revision(imports=["shop.mailer"]), revision(processes=2)})
