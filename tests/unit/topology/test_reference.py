"""The reference files: they load, they name every field, and what they show is what the models take."""

import re

import pytest

from tenfold import errors
from tenfold.topology import load, problems, reference, tiers


def test_all_sections_together_are_a_topology() -> None:
    topology = load.parse("\n".join(reference.text(section) for section in reference.SECTIONS))

    assert set(reference.SECTIONS) == topology.model_fields_set


@pytest.mark.parametrize("section", reference.SECTIONS)
def test_every_field_of_a_section_is_explained(section: str) -> None:
    text = reference.text(section)
    named = set(re.findall(r"^(?:# )?(\w+) *=", text, re.MULTILINE))
    path = {"web_groups": ("web_groups", "api"), "regions": ("regions", "home"), "wan": ("wan", "home-virginia")}.get(
        section, (section,)
    )

    assert set(problems.keys_at(path)) - {"route"} <= named


def test_routes_are_explained() -> None:
    assert set(tiers.Route.model_fields) <= set(re.findall(r"^(\w+) *=", reference.text("balancer"), re.MULTILINE))


def test_the_sections_are_those_of_the_models() -> None:
    assert set(tiers.Topology.model_fields) == set(reference.SECTIONS)


def test_an_unknown_section_names_the_nearest() -> None:
    with pytest.raises(errors.BadInput, match="did you mean database"):
        reference.text("databases")
