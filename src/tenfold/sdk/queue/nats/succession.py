"""What a group's consumers must be, and which of them go on where others of the group stopped. Pure.

Called by `streams`. A group that begins or ceases to keep order has consumers of other names from then on, and a drain
renames lanes: whoever takes the place of another consumer begins with the first message that the other has not settled,
and may be given some again that it has. The other one goes when nobody asks it for messages any more.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from tenfold.sdk.queue.nats import naming

ACK_SECONDS = 15.0
"""How long the servers wait for a worker's sign of life before they give its message to another."""

STRANGE_SECONDS = 60.0
"""A consumer that no group of the database has is left alone for so long: its process may just have begun."""

MOST_PENDING = 65_536
"""Messages of a group that are under way or wait for another try, in all its workers together."""

SECOND = 1_000_000_000
"""NATS counts in nanoseconds."""

_BEGINNING = ("deliver_policy", "opt_start_seq")
"""Where a consumer began cannot be changed."""

Info = dict[str, Any]
"""What the servers say of one consumer."""


def missing(wanted: Iterable[naming.Consumer], found: Sequence[Info], last_sequence: int) -> list[dict[str, Any]]:
    """The settings of the consumers that have to be made, or changed.

    `last_sequence`: of the stream, asked for before `found` was: what came later waits for the consumers of both.
    """
    by_name = {one["name"]: one.get("config", {}) for one in found}
    wanted = tuple(wanted)
    others = _others(found, {one.name for one in wanted})
    configs = [_settings(one, by_name.get(one.name), others, last_sequence) for one in wanted]
    return [one for one in configs if not is_within(one, by_name.get(one["name"], {}))]


def strangers(found: Iterable[Info], wanted: Iterable[naming.Consumer], now: datetime) -> list[str]:
    """Consumers of groups that the service has forgotten, and those that others have taken the place of.

    What they keep from being deleted would fill the storage.
    """
    wanted = tuple(wanted)
    groups = {(one.group.name, one.group.subject) for one in wanted}
    return [
        one["name"]
        for one in _others(found, {one.name for one in wanted})
        if (now - datetime.fromisoformat(one["created"])).total_seconds() > STRANGE_SECONDS
        and (_group(one) not in groups or not one.get("num_waiting"))
    ]


def settled(stream: Info, consumers: Iterable[Info]) -> int:
    """Up to which message every group has settled all. `stream` was asked for before `consumers`."""
    last = int(stream["state"]["last_seq"])
    floors = [int(one["ack_floor"]["stream_seq"]) for one in consumers if _holds_messages(one)]
    return min((*floors, last))


def is_within(wanted: dict[str, Any], found: dict[str, Any]) -> bool:
    """Whether everything that is wanted was found so; the servers add settings of their own."""
    return all(
        is_within(value, found.get(name, {})) if isinstance(value, dict) else found.get(name) == value
        for name, value in wanted.items()
    )


def _others(found: Iterable[Info], names: set[str]) -> list[Info]:
    return [one for one in found if "group" in one["config"].get("metadata", {}) and one["name"] not in names]


def _group(one: Info) -> tuple[str, str | None]:
    said = one["config"]["metadata"]
    return said["group"], said.get("subject")


def _settings(
    wanted: naming.Consumer, present: dict[str, Any] | None, others: Iterable[Info], last_sequence: int
) -> dict[str, Any]:
    config = {
        "durable_name": wanted.name,
        "name": wanted.name,
        "filter_subject": wanted.filter,
        "deliver_policy": "new",
        "ack_policy": "explicit",
        "ack_wait": int(ACK_SECONDS * SECOND),
        "max_deliver": -1,
        "max_ack_pending": 1 if wanted.lane is not None else MOST_PENDING,
        "metadata": {"group": wanted.group.name, "subject": wanted.group.subject},
    }
    if present is not None:
        return config | {name: present[name] for name in _BEGINNING if name in present}
    predecessors = [one for one in others if _precedes(one, wanted)]
    if not predecessors:
        return config
    unsettled = (one["ack_floor"]["stream_seq"] + 1 for one in predecessors if _holds_messages(one))
    first = min((*unsettled, last_sequence + 1))
    return config | {"deliver_policy": "by_start_sequence", "opt_start_seq": first}


def _precedes(one: Info, wanted: naming.Consumer) -> bool:
    """Whether it got messages that are the wanted consumer's now: of the same group, and not of another lane."""
    is_same_group = _group(one) == (wanted.group.name, wanted.group.subject)
    is_lane = one["config"]["max_ack_pending"] == 1
    is_other_lane = is_lane and wanted.lane is not None and one["config"]["filter_subject"] != wanted.filter
    return is_same_group and not is_other_lane


def _holds_messages(one: Info) -> bool:
    return bool(one["num_pending"] or one["num_ack_pending"])
