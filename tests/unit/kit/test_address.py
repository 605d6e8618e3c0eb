"""A network of one's own: kept for its owner, never given twice, free again when its owner is gone."""

from pathlib import Path

import pytest

from tenfold.kit import address


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens anywhere, whatever else runs on this machine."""
    monkeypatch.setattr(address, "listening_networks", frozenset)


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    return tmp_path / "claims"


def owner(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    return folder


def test_an_owner_gets_the_same_network_every_time(tmp_path: Path, claims: Path) -> None:
    shop = owner(tmp_path, "shop")
    number = address.claim(shop, claims)

    assert address.FIRST <= number <= address.LAST
    assert number == address.claim(shop, claims)


def test_no_two_owners_share_a_network_until_there_is_none_left(tmp_path: Path, claims: Path) -> None:
    count = address.LAST - address.FIRST + 1
    taken = {address.claim(owner(tmp_path, f"service-{number}"), claims) for number in range(count)}

    assert count == len(taken)
    with pytest.raises(OSError, match="no free network"):
        address.claim(owner(tmp_path, "one-too-many"), claims)


def test_a_network_that_somebody_listens_on_is_passed_over(
    tmp_path: Path, claims: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = owner(tmp_path, "shop")
    first = address.claim(shop, claims)
    address.release(shop, claims, first)
    monkeypatch.setattr(address, "listening_networks", lambda: frozenset({first}))

    assert first != address.claim(shop, claims)


def test_an_owner_keeps_its_network_though_its_own_engines_listen_on_it(
    tmp_path: Path, claims: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = owner(tmp_path, "shop")
    first = address.claim(shop, claims)
    monkeypatch.setattr(address, "listening_networks", lambda: frozenset({first}))

    assert first == address.claim(shop, claims)


def test_a_claim_of_a_folder_that_is_gone_is_void(
    tmp_path: Path, claims: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "FIRST", 16)
    monkeypatch.setattr(address, "LAST", 16)
    gone = owner(tmp_path, "gone")
    address.claim(gone, claims)
    gone.rmdir()

    assert 16 == address.claim(owner(tmp_path, "shop"), claims)


def test_only_the_owner_can_give_a_network_back(tmp_path: Path, claims: Path) -> None:
    shop, other = owner(tmp_path, "shop"), owner(tmp_path, "other")
    number = address.claim(shop, claims)

    address.release(other, claims, number)
    assert (claims / str(number)).exists()
    address.release_all(shop, claims)
    assert not (claims / str(number)).exists()
