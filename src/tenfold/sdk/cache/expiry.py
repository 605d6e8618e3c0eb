"""When what is kept dies: buckets of entries by the time of their death, so that nobody ever has to look at them all.

Used by `local`. Pure: times are passed in, as seconds. It is about memory only: whoever reads an entry looks at its
times itself. The idea is that of timing wheels (Varghese, Lauck: Hashed and hierarchical timing wheels, SOSP 1987).
"""

from typing import Protocol

BUCKETS = 256
"""Into so many the life of an entry is divided: it is swept at most 1/256 of its life too late."""

LEAST_SECONDS = 1 / 16
"""No bucket is narrower: of entries that were made in one go, few share one, and a small set grows without a pause."""


class Item(Protocol):
    """What is kept, as far as it matters here."""

    bucket: tuple[float, int]
    """Where it is: set here."""


class Expiry:
    """Buckets of each width, by number. An entry is in the bucket that ends with it or after it."""

    def __init__(self) -> None:
        self._wheels: dict[float, dict[int, set[Item]]] = {}
        self._turned: dict[float, int] = {}
        self._due: set[Item] = set()

    def add(self, item: Item, now: float, dies_at: float) -> None:
        """It dies then. Costs a dictionary's look-up, however many there are."""
        width = LEAST_SECONDS
        while width * BUCKETS < dies_at - now:
            width *= 2
        number = int(dies_at / width) + 1
        wheel = self._wheels.setdefault(width, {})
        self._turned.setdefault(width, int(now / width))
        bucket = wheel.get(number)
        if bucket is None:
            wheel[number] = {item}
        else:
            bucket.add(item)
        item.bucket = (width, number)

    def remove(self, item: Item) -> None:
        """It went for another reason."""
        width, number = item.bucket
        bucket = self._wheels[width].get(number) if width in self._wheels else None
        if bucket is None or item not in bucket:
            self._due.discard(item)
            return
        bucket.remove(item)
        if not bucket:
            del self._wheels[width][number]

    def due(self, now: float) -> Item | None:
        """One that is dead by now, taken out; None when there is no more."""
        while not self._due:
            found = self._turn(now)
            if found is None:
                return None
            self._due = found
        return self._due.pop()

    def _turn(self, now: float) -> set[Item] | None:
        """The next bucket whose time is over."""
        for width, wheel in self._wheels.items():
            number = int(now / width)
            if not wheel:
                self._turned[width] = number
            elif number - self._turned[width] > len(wheel):  # a long sleep: look at what is there, not at all that was
                for one in wheel:
                    if one <= number:
                        return wheel.pop(one)
                self._turned[width] = number
            while self._turned[width] < number:
                self._turned[width] += 1
                found = wheel.pop(self._turned[width], None)
                if found is not None:
                    return found
        return None
