"""Which region goes on when the home of the data is lost."""

import pytest

from support.topologies import topology
from tenfold import errors
from tenfold.observation import snapshot
from tenfold.runtime import homes

REGIONS = topology(regions={"seoul": {"primary": True}, "virginia": {}, "dublin": {}})


def copy(
    region: str, lsn: int, received: int, *, timeline: int = 3, is_reachable: bool = True
) -> snapshot.DatabaseNode:
    return snapshot.DatabaseNode(
        server=f"{region}-database-1",
        shard=0,
        manager="patroni",
        role="standby",
        is_reachable=is_reachable,
        timeline=timeline,
        lsn=lsn,
        received_lsn=received,
    )


def world(*copies: snapshot.DatabaseNode) -> snapshot.Snapshot:
    servers = [
        snapshot.Server(one.server, one.server.partition("-")[0], "database", "127.1.0.1", "running") for one in copies
    ]
    return snapshot.Snapshot("shop", 1, tuple(servers), copies)


def test_the_copy_with_most_on_its_disk_goes_on_even_when_another_has_replayed_more() -> None:
    """A commit that waited for another region was on a disk there, and perhaps not replayed."""
    there = world(copy("seoul", 99, 99), copy("virginia", 50, 60), copy("dublin", 40, 70))
    assert "dublin" == homes.heir(REGIONS, there, "seoul")


def test_a_newer_timeline_comes_before_a_longer_log_and_a_copy_that_does_not_run_does_not_count() -> None:
    there = world(
        copy("virginia", 50, 60), copy("dublin", 40, 40, timeline=4), copy("seoul", 90, 90, is_reachable=False)
    )
    assert "dublin" == homes.heir(REGIONS, there, "seoul")
    with pytest.raises(errors.RuntimeFailure, match="no other region has a copy that runs"):
        homes.heir(REGIONS, world(copy("seoul", 99, 99), copy("dublin", 50, 50, is_reachable=False)), "seoul")
