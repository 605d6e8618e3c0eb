"""Loading: a good file gives a topology, a bad one all of its problems at once, in the order of the file."""

import tomllib
from pathlib import Path

import pytest

from tenfold import errors
from tenfold.topology import load, tiers

GOOD = '[service]\nname = "shop"\napp = "shop.web:app"\n'
CASES = tomllib.loads((Path(__file__).parent / "problems.toml").read_text())["case"]


def problems(text: str) -> list[str]:
    with pytest.raises(errors.BadTopology) as caught:
        load.parse(text)
    return [str(problem) for problem in caught.value.problems]


def problem(text: str) -> str:
    found = problems(text)
    assert 1 == len(found), found
    return found[0]


def test_the_smallest_file_is_one_server() -> None:
    topology = load.parse(GOOD)

    assert ("shop", "127.0.0.1:8080", 1, 0, None) == (
        topology.service.name,
        topology.service.listen,
        topology.web.servers,
        topology.database.replicas,
        topology.balancer,
    )


def test_durations_and_sizes_carry_their_unit() -> None:
    topology = load.parse(GOOD + 'request_timeout = "1500ms"\n[database]\nmemory = "1GiB"\n')

    assert (1.5, 2**30) == (topology.service.request_seconds, topology.database.memory_bytes)


def test_a_loaded_topology_survives_a_round_trip_as_values() -> None:
    topology = load.parse(GOOD + 'request_timeout = "3s"\n')

    assert topology == tiers.Topology.model_validate(topology.model_dump(by_alias=True))


@pytest.mark.parametrize(
    ("listen", "said", "url", "redirect"),
    [
        ("127.0.0.1:8080", "", "http://127.0.0.1:8080", ""),
        ("0.0.0.0:80", "", "http://127.0.0.1", ""),
        ("127.0.0.1:8443", 'tls = "self-signed"', "https://127.0.0.1:8443", "127.0.0.1:8080"),
        ("[::]:443", 'tls = { certificate = "a.pem" }', "https://[::1]", "[::]:80"),
        ("127.0.0.1:9443", 'tls = "self-signed"', "https://127.0.0.1:9443", ""),
        ("127.0.0.1:443", 'tls = "self-signed"\nredirect_http = "off"', "https://127.0.0.1", ""),
        ("127.0.0.1:443", 'tls = "self-signed"\nredirect_http = "127.0.0.2:80"', "https://127.0.0.1", "127.0.0.2:80"),
    ],
)
def test_tls_decides_about_the_address_and_where_plain_http_is_redirected_from(
    listen: str, said: str, url: str, redirect: str
) -> None:
    service = load.parse(f'{GOOD}listen = "{listen}"\n{said}\n').service

    assert (url, redirect) == (service.url, service.redirect)


@pytest.mark.parametrize("case", CASES, ids=[case["problem"][:60] for case in CASES])
def test_one_mistake_is_one_problem(case: dict[str, str]) -> None:
    assert case["problem"] in problem(case["text"])


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = """
[web]
servers = 3
workers_per_server = 0
[service]
name = "Shop"
frobnicate = 1
[database]
synchronous = true
replicas = 0
"""

    assert [
        "web.servers",
        "web.workers_per_server",
        "service.name",
        "service.frobnicate",
        "service.app",
        "database.replicas",
    ] == [one.partition(":")[0] for one in problems(text)]


def test_a_slip_in_one_key_raises_no_false_alarm_about_another() -> None:
    assert problem(GOOD + "[database]\nsynchronous = true\nreplcas = 2\n").endswith("did you mean replicas?")
    assert problem(GOOD + '[database]\nsynchronous = true\nreplicas = "2"\n').startswith('database.replicas: "2" found')


def test_values_of_the_environment_are_never_repeated() -> None:
    assert "swordfish" not in problem(GOOD + 'env = { TENFOLD_SECRET = "swordfish" }\n')
    assert "4711" not in problem(GOOD + "env = { PIN = 4711 }\n")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[service]\nname = \n", "line 2, column 8"),
        ('[service]\nname = "a"\nname = "b"\n', "line 3"),
        ("[service", "line 1"),
    ],
)
def test_a_syntax_error_says_where(text: str, where: str) -> None:
    assert problem(text).startswith(where)


@pytest.mark.parametrize("text", ["", "service = 3\n", "[service]\n", "[web]\nservers = []\n", "[[service]]\n"])
def test_no_text_is_worse_than_a_bad_topology(text: str) -> None:
    assert problems(text)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(errors.BadInput, match="not found; make a service with: tenfold new NAME"):
        load.load(tmp_path / "tenfold.toml")


def test_the_message_begins_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tenfold.toml"
    path.write_text(GOOD + "[database]\nsynchronous = true\n")

    with pytest.raises(errors.BadTopology, match=r"tenfold.toml: database.replicas: 0 with synchronous = true found"):
        load.load(path)
