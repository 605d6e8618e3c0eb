"""`tenfold psql` without a server: the primary, or why there is none."""

import pytest

from tenfold import errors
from tenfold.cli import psql


def test_a_service_that_is_stopped_is_to_be_started() -> None:
    with pytest.raises(errors.NotRunning, match="start it with: tenfold up -d"):
        psql._primary({"servers": [{"state": "stopped", "database": None}]})


def test_a_service_that_runs_without_a_primary_is_to_be_looked_at() -> None:
    replica = {"role": "standby", "is_reachable": True}
    with pytest.raises(errors.RuntimeFailure, match="see: tenfold status"):
        psql._primary({"servers": [{"state": "running", "database": replica}]})
