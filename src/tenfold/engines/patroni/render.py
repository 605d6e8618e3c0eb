"""Patroni's files. Called by the runtime before every start. Pure. JSON, which is YAML: nothing to escape wrongly."""

import json
import os.path
from collections.abc import Mapping

from tenfold import engines
from tenfold.engines import database
from tenfold.engines.patroni import settings

FILE = "patroni.yaml"


def render(seat: engines.Seat) -> Mapping[str, str]:
    """`{path: text}`, relative to `seat.config`. Holds passwords: the runtime writes it 0600."""
    return {
        FILE: json.dumps(settings.local(seat), indent=2) + "\n",
        settings.BASE_FILE: "# Patroni writes all settings after including this file.\n",
        # In PostgreSQL's configuration folder, which Patroni expects to be there; the rest in it is Patroni's to write.
        os.path.relpath(database.configuration_directory(seat) / "pg_ident.conf", seat.config): "",
    }
