"""Product pictures, drawn when asked for: one small SVG template a shape, one palette a colour."""

from functools import lru_cache
from pathlib import Path

import jinja2

from shop import refusals

PALETTES = {
    # the wall behind it, its light spot, and the thing itself in three tones
    "sea": {"wall": "#dfe9ec", "spot": "#eef4f5", "light": "#9fc3cf", "main": "#3f7f97", "dark": "#255468"},
    "clay": {"wall": "#f3e2d6", "spot": "#faf0e8", "light": "#eab695", "main": "#c9693f", "dark": "#8d4223"},
    "moss": {"wall": "#e5ead9", "spot": "#f2f5ea", "light": "#b9c993", "main": "#6f8a3f", "dark": "#465a24"},
    "plum": {"wall": "#ecdfe8", "spot": "#f6eff4", "light": "#cda3c0", "main": "#82406f", "dark": "#562548"},
}

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates" / "pictures"), autoescape=True
)


@lru_cache(maxsize=256)
def draw(name: str) -> str:
    """The SVG text of a picture named `shape-colour`. Raises `NotFound`."""
    shape, _, colour = name.partition("-")
    if colour not in PALETTES or f"{shape}.svg" not in _templates.list_templates():
        raise refusals.NotFound
    return _templates.get_template(f"{shape}.svg").render(PALETTES[colour])
