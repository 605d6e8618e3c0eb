"""The network's file. Called by the runtime before every start and for every change. Pure."""

from collections.abc import Mapping

import msgspec

from tenfold import engines
from tenfold.engines.wan import settings
from tenfold.wan import network


def render(seat: engines.Seat) -> Mapping[str, str]:
    """`{path: text}`, relative to `seat.config`. What is cut is in a file beside it, and none of the topology's."""
    return {network.FILE: msgspec.json.format(msgspec.json.encode(settings.of(seat)), indent=1).decode()}
