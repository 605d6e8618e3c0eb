"""The policy `fastest`: from measured response times to weights.

Called by `admin.apply_fastest` about once a second. Pure.
"""

from collections.abc import Mapping
from statistics import median

HIGHEST = 256
"""HAProxy's highest weight: the fastest server has it."""

LOWEST = 10
"""A slow server keeps about 4 % of a fast one's requests, so that it is seen when it becomes fast again."""

SHORTEST_MILLISECONDS = 0.5
"""HAProxy counts in whole milliseconds: 0 stands for anything shorter than one."""


def weights(response_milliseconds: Mapping[str, float | None]) -> dict[str, int]:
    """Weights in inverse proportion to the response times: half as fast, half as many requests.

    A server without a measurement (None: it has not answered yet) counts as an average one, and soon has one.
    """
    known = {name: max(ms, SHORTEST_MILLISECONDS) for name, ms in response_milliseconds.items() if ms is not None}
    if not known:
        return dict.fromkeys(response_milliseconds, HIGHEST)
    fastest, average = min(known.values()), median(known.values())
    return {name: _weight(fastest / known.get(name, average)) for name in response_milliseconds}


def _weight(share: float) -> int:
    return max(LOWEST, min(HIGHEST, round(HIGHEST * share)))
