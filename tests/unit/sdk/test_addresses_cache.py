"""`valkey://` addresses of a cache that the runtime does not run."""

import pytest

from tenfold import Tenfold, bindings, errors
from tenfold.sdk import addresses


def test_addresses_become_the_nodes_of_one_cache() -> None:
    found = addresses.cache(["valkey://app:p%40ss@10.0.0.1", "valkey://app:p%40ss@10.0.0.2:7000"])

    assert (
        bindings.CacheNode(name="10.0.0.1:6379", host="10.0.0.1"),
        bindings.CacheNode(name="10.0.0.2:7000", host="10.0.0.2", port=7000),
    ) == found.nodes
    assert ("app", "p@ss") == (found.user, found.password)


def test_a_server_without_a_password_is_one_too() -> None:
    found = addresses.cache(["valkey://localhost"])

    assert ("", "") == (found.user, found.password)


@pytest.mark.parametrize(
    "url", ["", "10.0.0.1", "http://secret@10.0.0.1", "valkey://", "valkey://secret@h:0", "valkey://secret@h/1"]
)
def test_what_is_no_address_is_said_without_showing_it(url: str) -> None:
    with pytest.raises(errors.BadBindings, match="address 1: another form found") as caught:
        addresses.cache([url])

    assert "secret" not in str(caught.value)


def test_addresses_of_two_clusters_are_refused() -> None:
    with pytest.raises(errors.BadBindings, match="address 2 has another user or password"):
        addresses.cache(["valkey://a:b@10.0.0.1", "valkey://a:c@10.0.0.2"])


def test_a_tenfold_takes_one_address_or_several() -> None:
    Tenfold(database="postgres://a@h/d", cache="valkey://h")

    with pytest.raises(errors.BadBindings, match="cache"):
        Tenfold(database="postgres://a@h/d", cache=["nonsense"])
