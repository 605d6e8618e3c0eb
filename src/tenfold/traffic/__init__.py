"""The load generator and the ledger that proves what it saw.

What a service's `load.py` needs: `journey`, `User`, `Write`. What tests and drills need: `Load`, `Plan`, `Report`.
"""

from tenfold.traffic.connection import Answer
from tenfold.traffic.journeys import Journey, Plan, journey
from tenfold.traffic.load import Load
from tenfold.traffic.report import Report
from tenfold.traffic.user import User, Write

__all__ = ["Answer", "Journey", "Load", "Plan", "Report", "User", "Write", "journey"]
