"""Subscribers: functions that handle messages, and what was asked for them. Registered at import, without I/O.

Made by `tf.queue.subscriber`, run by `handling`. Their annotations are read when the service starts, so that they may
name what is defined further down.
"""

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tenfold import errors
from tenfold.kit import backoff
from tenfold.sdk.queue import messages, payloads, subjects, transport

Function = Callable[..., Awaitable[Any]]

_GROUP = re.compile(r"[A-Za-z0-9_.-]{1,128}")


@dataclass(frozen=True, slots=True)
class Policy:
    """What happens to a message when its handler fails."""

    retries: int = 10
    """Tries after the first. With `pause` as it is, the last comes about 14 minutes after the first."""
    pause: backoff.Backoff = field(default=backoff.Backoff(first_seconds=1.0, most_seconds=300.0))
    timeout_seconds: float = 60.0
    keeps_dead: bool = True
    """Whether a message that cannot be handled is kept for a person to look at."""


@dataclass(frozen=True)
class Subscriber:
    """One function and the messages that it gets."""

    function: Function
    group: str
    subject: str
    concurrency: int = 8
    policy: Policy = Policy()
    is_ordered: bool = False
    is_transactional: bool = False

    @property
    def name(self) -> str:
        """What it is called in messages to people."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @property
    def subscription(self) -> transport.Subscription:
        """What its transport is asked for."""
        return transport.Subscription(
            self.group, self.subject, self.is_ordered, 2 * self.concurrency, self.policy.timeout_seconds
        )

    @cached_property
    def decode(self) -> payloads.Decode:
        """How its payloads are read. Raises `MisuseError` for an annotation that says nothing of use."""
        wanted = self._payload_type()
        try:
            return payloads.decoder(wanted)
        except TypeError as error:
            raise errors.MisuseError(
                f"subscriber {self.name}: Message[{wanted!r}] found ({error}); write Message[...] with a dataclass, a "
                "pydantic model, a msgspec.Struct, dict, list or a scalar"
            ) from error

    def _payload_type(self) -> Any:
        first = next(iter(inspect.signature(self.function).parameters))
        try:
            hints = typing.get_type_hints(self.function)
        except (NameError, TypeError) as error:
            raise errors.MisuseError(
                f"subscriber {self.name}: its annotations cannot be read ({error}); import what they name at run time"
            ) from error
        found = hints.get(first, Any)
        if found is Any or found is messages.Message:
            return Any
        if typing.get_origin(found) is not messages.Message:
            raise errors.MisuseError(
                f"subscriber {self.name}: {first}: {found!r} found, Message[...] expected with the payload's type"
            )
        return typing.get_args(found)[0]


class Subscribers:
    """Those of one `Tenfold`."""

    def __init__(self) -> None:
        self._all: list[Subscriber] = []
        self.is_closed = False
        """Whether the service has started: who comes later would be missed by some processes."""

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def add(self, one: Subscriber) -> None:
        """Register. Raises `MisuseError` for a function or a group that cannot work."""
        if self.is_closed:
            raise errors.MisuseError(f"subscriber {one.name}: registered after the start; decorate it at import")
        _ensure_callable(one)
        subjects.ensure_pattern(one.subject)
        if not _GROUP.fullmatch(one.group):
            raise errors.MisuseError(
                f"subscriber {one.name}: the group {one.group!r:.60} found, letters, digits, _, - and . expected"
            )
        for other in self._all:
            if other.group == one.group and subjects.overlap(other.subject, one.subject):
                raise errors.MisuseError(
                    f"subscriber {one.name}: the group {one.group!r} gets {other.subject!r} already, by {other.name}; "
                    "a message goes to one function of a group: give it another group to get every message as well"
                )
        self._all.append(one)

    def ensure_readable(self) -> None:
        """Read all annotations. Raises `MisuseError` for the first that cannot be read."""
        for one in self._all:
            one.decode  # noqa: B018 - it is read and kept


def group_of(function: Function) -> str:
    """The group of a subscriber that names none: its function."""
    return re.sub(r"[^A-Za-z0-9_.-]", "", f"{function.__module__}.{function.__qualname__}".replace(".<locals>", ""))[
        -128:
    ]


def _ensure_callable(one: Subscriber) -> None:
    parameters = inspect.signature(one.function).parameters
    if not inspect.iscoroutinefunction(one.function):
        raise errors.MisuseError(f"subscriber {one.name}: a plain function found; write `async def`")
    if one.is_transactional != ("tx" in parameters):
        wanted = "a parameter tx: Transaction" if one.is_transactional else "transaction=True beside the parameter tx"
        raise errors.MisuseError(f"subscriber {one.name}: {wanted} expected: the two belong together")
    if len(parameters) != 1 + one.is_transactional or next(iter(parameters)) == "tx":
        raise errors.MisuseError(
            f"subscriber {one.name}: ({', '.join(parameters)}) found; write (message: Message[...]"
            f"{', tx: Transaction' if one.is_transactional else ''})"
        )
