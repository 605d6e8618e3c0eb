"""What `tenfold resize` may change, and what it says to anything else."""

import pytest

from tenfold import errors
from tenfold.topology import edit, load, sizes, tiers

TEXT = """\
[service]
name = "shop"
app = "shop.web:app"

[balancer]
route = [{ path = "/api/", group = "api" }]

[web]
workers_per_server = 1   # one a core

[web_groups.api]
app = "shop.api:app"

[cache]
memory = "64MiB"
"""


def changed(*words: str) -> str:
    return edit.apply(TEXT, sizes.changes(words, load.parse(TEXT)))


def refusal(*words: str) -> str:
    with pytest.raises(errors.BadInput) as caught:
        changed(*words)
    return str(caught.value)


def test_sizes_change_where_they_stand_and_comments_stay() -> None:
    text = changed("web.workers_per_server=4", "cache.memory=1GiB", 'database.memory="256MiB"')

    assert "workers_per_server = 4   # one a core\n" in text
    assert 'memory = "1GiB"\n' in text
    assert 256 * 2**20 == load.parse(text).database.memory_bytes


def test_a_group_of_web_servers_is_resized_by_its_name() -> None:
    assert 3 == load.parse(changed("web_groups.api.workers_per_server=3")).web_groups["api"].workers_per_server


def test_everything_that_can_be_resized_is_shown_with_what_it_is_now() -> None:
    shown = {one.name: one.value for one in sizes.of(load.parse(TEXT))}

    assert "64MiB" == shown["cache.memory"]
    assert "1" == shown["web_groups.api.workers_per_server"]
    assert "200" == shown["database.max_connections"]
    assert not [name for name in shown if name.startswith(("queue.", "workers."))], "there are none to resize"


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("web.workers_per_servr=4", "did you mean web.workers_per_server?"),
        (
            "web.servers=4",
            "web.servers: a number of servers, not a size; change it in tenfold.toml, then: tenfold apply",
        ),
        ("database.replicas=1", "a number of servers"),
        ("queue.storage=2GiB", "queue.storage: the service has no [queue]"),
        ("database.synchronous=true", "database.synchronous: not a size"),
        ("database.memory", "NAME=VALUE, such as web.workers_per_server=4"),
        ("=4", "NAME=VALUE"),
    ],
)
def test_anything_else_is_refused_with_what_can_be_resized(word: str, answer: str) -> None:
    said = refusal(word)

    assert answer in said
    assert "What can be resized: web.workers_per_server, web.max_requests," in said


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert 4 == len(refusal("web.servers=4", "cache.memory=1GiB", "cache.memory=2GiB", "x=1").splitlines())


def test_every_size_is_a_field_of_the_file() -> None:
    whole = tiers.Topology.model_validate(
        {
            "service": {"name": "shop", "app": "shop.web:app"},
            "web_groups": {"api": {}},
            **{name: {} for name in ("cache", "queue", "workers", "cdn")},
        }
    )

    assert len(sizes.FIELDS) == len(sizes.of(whole))
