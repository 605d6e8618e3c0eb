"""`nats://` addresses as bindings."""

import pytest

from tenfold import bindings, errors
from tenfold.sdk import addresses


def test_addresses_of_one_cluster_become_nodes_that_keep_three_copies() -> None:
    urls = [f"nats://app:p%40ss@10.0.0.{number}" for number in (1, 2, 3, 4)]
    found = addresses.queue([*urls, "nats://app:p%40ss@10.0.0.5:5222"])

    assert "nats" == found.transport
    assert 3 == found.replicas
    assert ("app", "p@ss") == (found.user, found.password)
    assert bindings.QueueNode(name="10.0.0.5:5222", host="10.0.0.5", port=5222) == found.nodes[4]
    assert 4222 == found.nodes[0].port


def test_one_server_keeps_one_copy() -> None:
    assert 1 == addresses.queue(["nats://localhost"]).replicas


@pytest.mark.parametrize("url", ["10.0.0.1:4222", "redis://10.0.0.1", "nats://:4222", "nats://h:x", "nats://h/stream"])
def test_what_is_no_address_is_refused_and_never_shown(url: str) -> None:
    with pytest.raises(errors.BadBindings, match=r"address 1: another form found, nats://USER:PASSWORD@HOST"):
        addresses.queue([url])


def test_addresses_of_two_clusters_are_refused() -> None:
    with pytest.raises(errors.BadBindings, match="address 2 has another user or password"):
        addresses.queue(["nats://app:one@a", "nats://app:two@b"])
