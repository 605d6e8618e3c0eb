"""What the files of a copy tell while it does not run: whether it was a primary, and how far it got. Reads only.

Called by `runtime/observe`, which runs pg_controldata (`command.control_data`) and hands its output in. After a power
cut in the middle of a switch there are two copies that were primaries: the wrong one, started, loses writes.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tenfold.engines.postgres import admin

_FENCE = re.compile(r"^\s*default_transaction_read_only\s*=\s*'?on'?", re.MULTILINE)
_HISTORY = re.compile(r"([0-9A-F]{8})\.history")


@dataclass(frozen=True, slots=True)
class Resting:
    """A copy that does not run."""

    role: Literal["primary", "standby"]
    timeline: int
    lsn: int
    """Its latest checkpoint; there may be more WAL after it."""
    is_clean: bool = False
    """It was stopped cleanly, as a primary: `lsn` is in its last record, and who has replayed so far has everything."""
    is_fenced: bool = False
    """It will hold its writes when it starts: a switch or a restart was prepared."""


def look(data: Path, control_data: str) -> Resting:
    """What the cluster in this folder is. Raises EngineFailed when `control_data` is not pg_controldata's output."""
    said = admin.parse_control_data(control_data)
    role: Literal["primary", "standby"] = "standby" if (data / "standby.signal").exists() else "primary"
    timeline = max(said.timeline, _newest_history(data / "pg_wal"))
    return Resting(role, timeline, said.checkpoint + said.was_shut_down, said.was_shut_down, _is_fenced(data))


def _is_fenced(data: Path) -> bool:
    settings = data / "postgresql.auto.conf"
    return settings.exists() and _FENCE.search(settings.read_text()) is not None


def _newest_history(folder: Path) -> int:
    """The newest timeline that a history file is there for: the control file learns of a promotion only later."""
    names = (_HISTORY.fullmatch(path.name) for path in folder.glob("*.history"))
    return max((int(match[1], 16) for match in names if match), default=0)
