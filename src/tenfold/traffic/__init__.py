"""The load generator and the ledger that proves what it saw.

What a service's `load.py` needs: `journey`, `User`, `Write`. What tests and drills need: `Load`, `Plan`, `Report`.
Names are looked up when they are first used, so that `tenfold load --help` loads none of it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenfold.traffic.connection import Answer as Answer
    from tenfold.traffic.journeys import Journey as Journey
    from tenfold.traffic.journeys import Plan as Plan
    from tenfold.traffic.journeys import journey as journey
    from tenfold.traffic.load import Load as Load
    from tenfold.traffic.report import Report as Report
    from tenfold.traffic.user import User as User
    from tenfold.traffic.user import Write as Write

__all__ = ["Answer", "Journey", "Load", "Plan", "Report", "User", "Write", "journey"]

_HOMES = {
    "Answer": "connection",
    "Journey": "journeys",
    "Load": "load",
    "Plan": "journeys",
    "Report": "report",
    "User": "user",
    "Write": "user",
    "journey": "journeys",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tenfold.traffic' has no attribute {name!r}")
    import importlib  # late, as everything here

    return getattr(importlib.import_module(f"tenfold.traffic.{_HOMES[name]}"), name)
