"""What the files of a copy tell while it does not run: whether it was a primary, and how far it got. Reads only.

Called by `runtime/observe`, which runs pg_controldata (`command.control_data`) and hands its output in. After a power
cut in the middle of a switch there are two copies that were primaries: the wrong one, started, loses writes.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tenfold.engines.postgres import admin

_HISTORY = re.compile(r"([0-9A-F]{8})\.history")


@dataclass(frozen=True, slots=True)
class Resting:
    """A copy that does not run."""

    role: Literal["primary", "standby"]
    timeline: int
    lsn: int
    """Its latest checkpoint; there may be more WAL after it."""


def look(data: Path, control_data: str) -> Resting:
    """What the cluster in this folder is. Raises EngineFailed when `control_data` is not pg_controldata's output."""
    said = admin.parse_control_data(control_data)
    role: Literal["primary", "standby"] = "standby" if (data / "standby.signal").exists() else "primary"
    return Resting(role, max(said.timeline, _newest_history(data / "pg_wal")), said.checkpoint)


def _newest_history(folder: Path) -> int:
    """The newest timeline that a history file is there for: the control file learns of a promotion only later."""
    names = (_HISTORY.fullmatch(path.name) for path in folder.glob("*.history"))
    return max((int(match[1], 16) for match in names if match), default=0)
