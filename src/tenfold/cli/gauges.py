"""How figures look in a terminal: numbers with their units, in as few characters as they need, and sparklines. Pure."""

from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"


def rate(value: float | None) -> str:
    """`0`, `0.3`, `12`, `1,234`; `-` for what is not known."""
    if value is None:
        return "-"
    return f"{value:,.1f}" if 0 < value < 10 else f"{value:,.0f}"


def milliseconds(value: float | None) -> str:
    """`0.8 ms`, `12 ms`, `1.2 s`; `-` for what is not known."""
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.1f} ms" if 0 < value < 10 else f"{value:.0f} ms"


def size(value: int | None) -> str:
    """`0 B`, `12 KiB`, `3.4 MiB`; `-` for what is not known."""
    if value is None:
        return "-"
    for unit, length in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if value >= length:
            return f"{value / length:.1f} {unit}"
    return f"{value} B"


def sparkline(values: Sequence[float], width: int) -> str:
    """The newest values as bars, the highest of them full; nothing at all is the lowest bar."""
    newest = list(values)[-width:]
    top = max(newest, default=0.0)
    return "".join(BARS[0 if top <= 0 else round(value / top * (len(BARS) - 1))] for value in newest)
