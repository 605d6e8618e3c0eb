"""Which subjects there are: those of this process's subscribers, those that it declares, those of every other's.

Asked by `publishing` before anything is written: a subject that nobody knows is a slip, and would be lost in silence.
"""

import asyncio
from typing import Any

from tenfold import errors
from tenfold.sdk.db import primary, transaction
from tenfold.sdk.queue import store, subjects

_SUBSCRIBED = "select distinct subject from tenfold.subscription"

LOOK_AGAIN_SECONDS = 30.0
"""A subject that somebody else's subscriber made known is looked up again after so long."""


class Subjects:
    """The subjects that may be published to."""

    def __init__(self) -> None:
        self._own: set[str] = set()
        self._patterns: list[str] = []
        self._others: dict[str, float] = {}

    @property
    def has_any(self) -> bool:
        """Whether this process has to do with any subject."""
        return bool(self._own or self._patterns or self._others)

    def declare(self, *names: str) -> None:
        """These subjects (or patterns) exist."""
        for name in names:
            if subjects.is_pattern(subjects.ensure_pattern(name)):
                self._patterns.append(name)
            else:
                self._own.add(name)

    def knows(self, subject: str) -> bool:
        """Whether it is known without asking anybody."""
        if subject in self._own:
            return True
        if any(subjects.matches(one, subject) for one in self._patterns):
            self._own.add(subject)
            return True
        return self._others.get(subject, 0.0) > _now()

    async def ensure_known(self, subject: str, source: "transaction.Transaction | primary.Shards") -> None:
        """Ask the database whether any process has a subscriber for it. Raises `BadSubject` when none has."""
        if isinstance(source, transaction.Transaction):
            rows: list[Any] = await source.fetch(_SUBSCRIBED)
        else:
            rows = await store.fetch(source, _SUBSCRIBED)
        names = [row[0] for row in rows]
        if not any(subjects.matches(name, subject) for name in names):
            raise errors.BadSubject(
                f"publish: the subject {subject!r} found, which no subscriber has"
                f"{_hint(subject, [*names, *self._own])}; if its subscribers are still to come, say so beside your "
                f'Tenfold: tf.queue.declare("{subject}")'
            )
        if len(self._others) > 10_000:
            self._others.clear()
        self._others[subject] = _now() + LOOK_AGAIN_SECONDS


def _hint(subject: str, names: list[str]) -> str:
    import difflib  # late: only for a slip

    near = difflib.get_close_matches(subject, sorted(set(names)), 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _now() -> float:
    return asyncio.get_running_loop().time()
