"""Locks of the kernel's: taken alone, shared, waited for, signed."""

import os
from pathlib import Path

import pytest

from tenfold.kit import lock


@pytest.fixture
def two(tmp_path: Path) -> "tuple[int, int]":
    """Two handles of one lock, as two processes have them."""
    return lock.opened(tmp_path / "lock"), lock.opened(tmp_path / "lock")


def test_only_one_holds_it_alone_until_it_is_closed(two: tuple[int, int]) -> None:
    mine, theirs = two
    assert lock.try_take(mine)
    assert not lock.try_take(theirs)
    os.close(mine)
    assert lock.try_take(theirs)
    os.close(theirs)


def test_the_last_of_those_who_share_it_holds_it_alone(two: tuple[int, int]) -> None:
    mine, theirs = two
    lock.share(mine)
    lock.share(theirs)
    assert not lock.try_take(mine)
    os.close(theirs)
    assert lock.try_take(mine)
    os.close(mine)


@pytest.mark.anyio
async def test_whoever_waits_in_vain_is_told(two: tuple[int, int]) -> None:
    mine, theirs = two
    assert await lock.take(mine, 0.0)
    assert not await lock.take(theirs, 0.0)
    os.close(mine)
    assert await lock.take(theirs, 5.0)
    os.close(theirs)


def test_the_file_says_who_signed_last(two: tuple[int, int]) -> None:
    mine, theirs = two
    assert 0 == lock.signer(theirs)
    lock.sign(mine)
    assert os.getpid() == lock.signer(theirs)
    os.close(mine)
    os.close(theirs)
