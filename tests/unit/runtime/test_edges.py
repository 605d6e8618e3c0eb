"""What balancers have counted of edges, as figures."""

from tenfold.engines.haproxy import counts
from tenfold.runtime import edges

TABLE = """# table: edges, type: string, size:8192, used:3
0x55: key=edge-1:hit:2f7374617469632f use=0 exp=0 shard=0 gpc0=8 bytes_out_cnt=8000
0x56: key=edge-1:fwd:2f7374617469632f use=1 exp=0 shard=0 gpc0=2 bytes_out_cnt=2100
0x57: key=edge-2:fwd: use=0 exp=0 shard=0 gpc0=5 bytes_out_cnt=500

# table: origin, type: string, size:8192, used:2
0x58: key=edge-1:fetch:2f7374617469632f use=0 exp=0 shard=0 gpc0=3 bytes_out_cnt=3000
0x59: key=edge-2:fetch: use=0 exp=0 shard=0 gpc0=5 bytes_out_cnt=450
Unknown command: '[', but maybe one of the following ones is a better match:
"""


def test_counters_are_read_from_tables() -> None:
    assert [
        counts.Count("edge-1", "/static/", "hit", 8, 8000),
        counts.Count("edge-1", "/static/", "fwd", 2, 2100),
        counts.Count("edge-2", "", "fwd", 5, 500),
        counts.Count("edge-1", "/static/", "fetch", 3, 3000),
        counts.Count("edge-2", "", "fetch", 5, 450),
    ] == list(counts.read(TABLE))


def test_what_hits_sent_is_saved_less_what_was_fetched_to_renew_it() -> None:
    found = edges.summed([*counts.read(TABLE), *counts.read(TABLE)])

    assert {
        ("edge-1", "/static/"): edges.Figures(20, 16, 20200, 6000, 16000 - (6000 - 4200)),
        ("edge-2", ""): edges.Figures(10, 0, 1000, 900, 0),
    } == found
    assert 0.8 == found["edge-1", "/static/"].hit_ratio
    assert edges.Figures(30, 16, 21200, 6900, 14200) == sum(found.values(), edges.Figures())


def test_nothing_asked_for_has_no_ratio() -> None:
    assert edges.Figures().hit_ratio is None
    assert edges.Figures().as_json()["hit_ratio"] is None


def test_any_path_can_be_a_counter() -> None:
    path = "/a:b=c d/"

    line = f"0x1: key=edge-1:hit:{counts.word(path)} use=0 exp=0 gpc0=1 bytes_out_cnt=2"

    assert [counts.Count("edge-1", path, "hit", 1, 2)] == list(counts.read(line))
