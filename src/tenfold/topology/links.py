"""The model of `[wan]`: what lies between two regions. Read by `tiers`, which holds one for each pair. Pure."""

from pydantic import Field

from tenfold.topology import units
from tenfold.topology.section import Section


class Link(Section):
    """`[wan]`, by two regions: `"seoul-virginia" = { delay_ms = 90 }`. What lies between them, each way alike."""

    delay_seconds: units.Seconds | None = Field(default=None, alias="delay", ge=0, le=10)
    """How long everything takes one way: `"90ms"`; a round trip takes twice as long. Absent: no time."""
    delay_ms: float | None = Field(default=None, ge=0, le=10_000)
    """The same as a number of milliseconds."""
    jitter_seconds: units.Seconds | None = Field(default=None, alias="jitter", ge=0, le=10)
    """How much longer it takes at most, by chance: `"5ms"`; nothing overtakes what was sent before it."""
    jitter_ms: float | None = Field(default=None, ge=0, le=10_000)
    """The same as a number of milliseconds."""
    bandwidth_bytes: units.Bytes | None = Field(default=None, alias="bandwidth", ge=1000)
    """Bytes a second, each way: `"10MiB"`; absent: as many as there are."""

    @property
    def one_way_seconds(self) -> float:
        """The delay, however it was said."""
        return self.delay_seconds or (self.delay_ms or 0.0) / 1000

    @property
    def varies_seconds(self) -> float:
        """The jitter, however it was said."""
        return self.jitter_seconds or (self.jitter_ms or 0.0) / 1000


DIRECT = Link()
"""Between two regions of which `[wan]` says nothing."""
