"""The model of `servers = { min, max }`: a number of servers that follows the load. Base of sections in `tiers`. Pure.

The file says the bounds; the number is the runtime's, which remembers it and asks for a topology with it (`decided`).
Whoever wants to know how many servers there shall be reads `count`.
"""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from tenfold.topology.section import Section


class Range(Section):
    """`servers = { min, max }`: how many there are follows the load, by the targets of `[autoscale]`."""

    min: int = Field(ge=1)
    """Never fewer."""
    max: int = Field(ge=1)
    """Never more."""

    @property
    def count(self) -> int:
        """How many there are while nobody has decided."""
        return self.min

    def decided(self, number: int) -> "Range":
        """The same with a number, or with the bound that it is beyond."""
        return Decided(min=self.min, max=self.max, number=number)


class Decided(Range):
    """A range with the number that the runtime has decided. No file can say it."""

    number: int

    @property
    def count(self) -> int:
        return max(self.min, min(self.max, self.number))


NUMBER, RANGE = "<number>", "<range>"
"""Which of the two a value is; `load` takes these words out of the paths of findings."""


def shape(value: Any) -> str:
    """Whether a value of the file is meant as a range."""
    return RANGE if isinstance(value, dict | Range) else NUMBER


UpTo90 = Annotated[
    Annotated[int, Field(ge=1, le=90), Tag(NUMBER)] | Annotated[Range, Tag(RANGE)],
    Discriminator(shape),
]
UpTo60 = Annotated[
    Annotated[int, Field(ge=1, le=60), Tag(NUMBER)] | Annotated[Range, Tag(RANGE)],
    Discriminator(shape),
]
"""So many servers of one job have addresses; the bounds of a range are `validate`'s."""


class Scaled(Section):
    """What sections share whose servers may be a range."""

    servers: UpTo90 | UpTo60 = 1

    @property
    def bounds(self) -> Range | None:
        """The bounds, when the number follows the load."""
        return self.servers if isinstance(self.servers, Range) else None

    @property
    def count(self) -> int:
        """How many servers there shall be now."""
        return self.servers.count if isinstance(self.servers, Range) else self.servers

    @property
    def most(self) -> int:
        """How many there may be."""
        return self.servers.max if isinstance(self.servers, Range) else self.servers

    def with_count(self, number: int) -> Any:
        """The same section with this number decided, when it has a range; else itself."""
        if self.bounds is None:
            return self
        return self.model_copy(update={"servers": self.bounds.decided(number)})
