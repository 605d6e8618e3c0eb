"""Tokens that are taken back: on a real database, with and without a real cache in front of it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from support import postgres_cluster, session_sites, valkey_servers, write_database
from tenfold import Tenfold, bindings, errors
from tenfold.sdk import counters
from tenfold.sdk.tokens import revocations

pytestmark = pytest.mark.anyio

NETWORK = 7


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres_cluster.Cluster]:
    with write_database.running(tmp_path_factory.mktemp("pg"), NETWORK) as made:
        yield made


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[valkey_servers.Servers]:
    with valkey_servers.running(tmp_path_factory.mktemp("cache"), NETWORK, subnet=13) as made:
        yield made


@pytest.fixture(params=["database", "cache"])
async def services(
    request: pytest.FixtureRequest, cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers
) -> AsyncIterator[tuple[Tenfold, Tenfold]]:
    """Two web servers of a service, whose revocations are in the database alone or in the cache too."""
    cache = servers.bound if request.param == "cache" else bindings.Cache()
    async with session_sites.webs(cluster.bound, cache, "database", 2) as (one, other):
        yield one.tf, other.tf


async def reason(tf: Tenfold, token: str) -> str | None:
    """Why a token is refused; None for a good one."""
    try:
        await tf.tokens.verify(token)
    except errors.BadToken as error:
        return error.reason
    return None


async def test_a_token_that_is_taken_back_is_refused_everywhere_at_once(services: tuple[Tenfold, Tenfold]) -> None:
    one, other = services
    token, spared = one.tokens.issue("user-7"), one.tokens.issue("user-7")
    assert [None, None] == [await reason(other, token), await reason(other, spared)], "both are remembered as good"

    await one.tokens.revoke(token)
    await one.tokens.revoke(token)

    assert ["revoked", None] == [await reason(other, token), await reason(other, spared)]
    await other.tokens.revoke(subject="user-7")
    assert "revoked" == await reason(one, spared)
    assert None is await reason(one, one.tokens.issue("user-7")), "a new one is good"
    assert None is await reason(one, one.tokens.issue("user-8"))


async def test_the_database_remembers_what_a_cache_that_is_gone_has_forgotten(
    cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers
) -> None:
    async with session_sites.webs(cluster.bound, servers.bound, "database") as (web,):
        tf = web.tf
        token, good = tf.tokens.issue("user-9"), tf.tokens.issue("user-9")
        await tf.tokens.revoke(token)
        await servers.flush()
        assert ["revoked", None] == [await reason(tf, token), await reason(tf, good)]

        await servers.kill()
        try:
            assert ["revoked", None] == [await reason(tf, token), await reason(tf, good)]
            await tf.tokens.revoke(good)
            assert "revoked" == await reason(tf, good)
            assert counters.reading()["tokens.revocations_untold"] >= 1
        finally:
            await servers.restart()


async def test_an_answer_that_comes_late_does_not_hide_a_revocation(
    cluster: postgres_cluster.Cluster, servers: valkey_servers.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody looks, finds nothing, and writes that down after the token was taken back."""
    async with session_sites.webs(cluster.bound, servers.bound, "database", 2) as (one, other):
        token = one.tf.tokens.issue("user-10")
        look = revocations.Revocations._look

        async def looked_before(self: revocations.Revocations, names: list[revocations.Name]) -> list[float | None]:
            found = await look(self, names)
            await other.tf.tokens.revoke(token)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(revocations.Revocations, "_look", looked_before)
            await one.tf.tokens.verify(token)

        assert "revoked" == await reason(one.tf, token)
