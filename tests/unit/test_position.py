"""Positions: their order along epochs, timelines and their history, and the text that clients carry."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tenfold import errors, position
from tenfold.position import History, Position, Positions

LSNS = some.integers(0, 2**64 - 1)
POSITIONS = some.builds(Position, some.integers(0, 99), some.integers(0, 9), some.integers(0, 9), LSNS)
ONE_SHARD = some.builds(Position, some.just(0), some.integers(1, 3), some.integers(1, 4), some.integers(0, 400))
HISTORIES = some.lists(some.integers(0, 400), max_size=3).map(
    lambda lsns: History(tuple(enumerate(sorted(lsns), start=1)))
)


@given(POSITIONS)
def test_a_position_survives_its_text(one: Position) -> None:
    assert one == Position.parse(str(one))


@given(some.lists(POSITIONS))
def test_positions_survive_their_text(many: list[Position]) -> None:
    held = Positions().raised(many)

    assert held == Positions.parse(str(held))


@given(LSNS)
def test_an_lsn_survives_its_text(lsn: int) -> None:
    assert lsn == position.parse_lsn(position.format_lsn(lsn))


@given(some.text(max_size=30))
def test_any_other_text_is_a_bad_position_and_nothing_else(text: str) -> None:
    try:
        parsed = Position.parse(text)
    except errors.BadPosition:
        return
    assert parsed == Position.parse(str(parsed))


@pytest.mark.parametrize("text", ["", "1.2.3", "0.1.1.xyz", "-1.1.1.0", "0.1.1.-5", "0.1.1.0.0", "a.b.c.d"])
def test_a_text_that_is_no_position_says_what_was_expected(text: str) -> None:
    with pytest.raises(errors.BadPosition, match=r"SHARD\.EPOCH\.TIMELINE\.LSN|0 or more"):
        Position.parse(text)


def test_a_history_file_is_read_with_its_comments() -> None:
    text = "# a comment\n1\t0/3000000\tno recovery target specified\n\n2\t16/B374D848\treason\n"

    history = History.parse(text)

    assert History(((1, 0x3000000), (2, 0x16_B374D848))) == history
    assert (0x3000000, None) == (history.left_at(1), history.left_at(3))


@pytest.mark.parametrize(
    ("copy", "wanted", "switches", "expected"),
    [
        pytest.param((1, 1, 100), (1, 1, 100), (), True, id="exactly there"),
        pytest.param((1, 1, 99), (1, 1, 100), (), False, id="a byte short"),
        pytest.param((2, 1, 5), (1, 9, 900), (), True, id="a later epoch holds all of an earlier one"),
        pytest.param((1, 9, 900), (2, 1, 5), (), False, id="an earlier epoch proves nothing"),
        pytest.param((1, 2, 90), (1, 1, 80), ((1, 85),), True, id="before the switch, on a newer timeline"),
        pytest.param((1, 2, 86), (1, 1, 500), ((1, 85),), True, id="beyond the switch: clamped to it"),
        pytest.param((1, 2, 84), (1, 1, 500), ((1, 85),), False, id="the copy is not at the switch yet"),
        pytest.param((1, 2, 900), (1, 1, 80), (), False, id="no history, no proof"),
        pytest.param((1, 1, 900), (1, 2, 80), ((1, 85),), False, id="an older timeline may have diverged"),
        pytest.param((1, 3, 120), (1, 1, 110), ((1, 100), (2, 115)), True, id="two switches"),
    ],
)
def test_whether_a_copy_has_reached_a_position(
    copy: tuple[int, int, int], wanted: tuple[int, int, int], switches: tuple[tuple[int, int], ...], expected: bool
) -> None:
    assert expected is position.reached(Position(0, *copy), Position(0, *wanted), History(switches))


@given(ONE_SHARD, HISTORIES)
def test_every_copy_has_reached_itself(one: Position, history: History) -> None:
    assert position.reached(one, one, history)


@given(ONE_SHARD, ONE_SHARD, some.integers(0, 400), HISTORIES)
def test_a_copy_that_replays_more_never_proves_less(
    copy: Position, wanted: Position, more: int, history: History
) -> None:
    further = Position(copy.shard, copy.epoch, copy.timeline, copy.lsn + more)

    assert not position.reached(copy, wanted, history) or position.reached(further, wanted, history)


@given(ONE_SHARD, ONE_SHARD, some.integers(0, 400), HISTORIES)
def test_who_has_reached_a_position_has_reached_every_earlier_one_of_its_timeline(
    copy: Position, wanted: Position, less: int, history: History
) -> None:
    earlier = Position(wanted.shard, wanted.epoch, wanted.timeline, max(0, wanted.lsn - less))

    assert not position.reached(copy, wanted, history) or position.reached(copy, earlier, history)


@given(some.lists(ONE_SHARD, min_size=1), some.randoms())
def test_what_a_session_remembers_does_not_depend_on_the_order_of_its_answers(
    many: list[Position], chance: object
) -> None:
    shuffled = list(many)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]

    assert Positions().raised(many) == Positions().raised(shuffled)


@given(some.lists(POSITIONS), POSITIONS)
def test_a_session_never_forgets(many: list[Position], one: Position) -> None:
    before = Positions().raised(many)
    after = before.raised([one])

    assert all(position.later(before[shard], after[shard]) == after[shard] for shard in before)
    assert set(after) == {*before, one.shard}


@given(some.integers(1, 9), some.integers(1, 9), some.integers(0, 400), some.integers(0, 400), HISTORIES)
def test_a_copy_that_shows_a_later_epoch_holds_all_of_an_earlier_one_whatever_their_timelines(
    timeline: int, other: int, lsn: int, at: int, history: History
) -> None:
    """Timeline numbers of two regions collide: a copy of the old home is never taken for one of the new."""
    old, new = Position(0, 1, timeline, lsn), Position(0, 2, other, at)

    assert position.reached(new, old, history)
    assert not position.reached(old, new, history)
    assert new == position.later(old, new) == position.later(new, old)
