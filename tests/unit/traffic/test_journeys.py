"""Journeys files: found, or refused with what to do."""

import itertools
from pathlib import Path

import pytest

from tenfold import errors
from tenfold.traffic import User, journey, journeys

SOURCE = """
from tenfold.traffic import User, journey

@journey(weight=3)
async def buy(user: User) -> None:
    "Buys."

@journey
async def look(user: User) -> None:
    "Looks."

FEW = [look]
CHECKS = {"order": "select 1"}
"""

_numbers = itertools.count()


def write(folder: Path, source: str) -> str:
    """A file of journeys under a name of its own: modules stay imported."""
    name = f"visits_{next(_numbers)}"
    (folder / f"{name}.py").write_text(source)
    return name


@pytest.mark.parametrize("form", ["{}.py", "{}", "./{}.py"])
def test_a_file_or_module_gives_all_its_journeys_and_checks(tmp_path: Path, form: str) -> None:
    plan = journeys.load(form.format(write(tmp_path, SOURCE)), tmp_path)

    assert [("buy", 3), ("look", 1)] == [(one.name, one.weight) for one in plan.journeys]
    assert {"order": "select 1"} == plan.checks


def test_an_attribute_chooses_one_journey_or_a_list(tmp_path: Path) -> None:
    name = write(tmp_path, SOURCE)

    assert ["buy"] == [one.name for one in journeys.load(f"{name}.py:buy", tmp_path).journeys]
    assert ["look"] == [one.name for one in journeys.load(f"{name}.py:FEW", tmp_path).journeys]


def test_a_journeys_file_may_import_its_neighbours(tmp_path: Path) -> None:
    neighbour = write(tmp_path, SOURCE)

    plan = journeys.load(f"{write(tmp_path, f'from {neighbour} import buy')}.py", tmp_path)

    assert ["buy"] == [one.name for one in plan.journeys]


@pytest.mark.parametrize(
    ("source", "attribute", "message"),
    [
        ("import nothing_of_that_name", "", "cannot be imported: ModuleNotFoundError"),
        ("def broken(:", "", "cannot be imported: SyntaxError"),
        ("1 / 0", "", "cannot be imported: ZeroDivisionError"),
        ("x = 1", "", "no journey found"),
        (SOURCE, ":sell", "no journey found"),
        (SOURCE, ":CHECKS", "no journey found"),
        (SOURCE + "\nCHECKS = ['order']", "", "CHECKS is not a dict"),
    ],
)
def test_a_file_that_cannot_be_used_is_bad_input(tmp_path: Path, source: str, attribute: str, message: str) -> None:
    with pytest.raises(errors.BadInput, match=message):
        journeys.load(f"{write(tmp_path, source)}.py{attribute}", tmp_path)


def test_a_missing_file_says_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(errors.BadInput, match=r"no such file.*--journeys"):
        journeys.load("load.py", tmp_path)


@pytest.mark.parametrize("weight", [0, -1, float("nan")])
def test_a_weight_is_above_zero(weight: float) -> None:
    with pytest.raises(errors.MisuseError, match="weight"):
        journey(weight=weight)


def test_the_shops_own_journeys_load() -> None:
    plan = journeys.load("load.py", Path(__file__).parents[3] / "examples" / "shop")

    assert {"browse", "buy", "look_back", "come_back", "leave"} == {one.name for one in plan.journeys}
    assert {"account", "order"} == set(plan.checks)


def test_a_journey_can_be_called_by_another() -> None:
    called: list[object] = []

    @journey
    async def inner(user: User) -> None:
        called.append(user)

    steps = inner("somebody")  # type: ignore[arg-type]
    with pytest.raises(StopIteration):
        steps.send(None)

    assert ["somebody"] == called
