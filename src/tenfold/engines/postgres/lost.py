"""What a former home has committed that its successor does not have. Called by `runtime/crossing`.

Asked of the files of a primary that does not run, before they are rewound: PostgreSQL alone in one process, without a
port, replays what the power cut left and answers one question (postgres(1), single-user mode). Nobody can reach it,
and it cannot be taken for a primary.
"""

import csv
import datetime
import uuid
from dataclasses import dataclass
from pathlib import Path

from tenfold import engines
from tenfold.engines import database
from tenfold.engines.postgres import connection, settings

QUESTION_FILE = "lost.sql"
ANSWER_FILE = "lost.csv"

_BATCH = 10_000

_QUESTION = (
    "copy (select token, created_at from tenfold.commit"
    " where not is_void and age(xmin) <= age(('{xmin}'::bigint % 4294967296)::text::xid) order by token)"
    " to '{answer}' with (format csv)\n"
)
"""In one line, which ends it. `xmin`: the oldest transaction that the successor may not have."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One write transaction, by the token that it inserted first."""

    token: uuid.UUID
    committed_at: datetime.datetime
    """When it began, by the database's clock."""


def question(seat: engines.Seat, held: str) -> engines.Command:
    """Ask the resting primary on this server what it has committed that a copy with the snapshot `held` may lack.

    Its answer is read by `answer` afterwards. Writes the question to the server's folder.
    """
    (seat.root / "run" / ANSWER_FILE).unlink(missing_ok=True)
    asked = seat.root / "run" / QUESTION_FILE
    asked.write_text(_QUESTION.format(xmin=held.split(":", maxsplit=1)[0], answer=seat.root / "run" / ANSWER_FILE))
    configuration = database.configuration_directory(seat) / "postgresql.conf"
    data = settings.data_directory(seat)
    program = settings.program("postgres")
    words = f'exec "{program}" --single -D "{data}" -c config_file="{configuration}" "$0" < "{asked}"'
    return engines.Command(
        argv=("sh", "-c", words, seat.topology.service.name), env={"LC_ALL": "C"}, start_seconds=600.0
    )


def was_primary(seat: engines.Seat) -> bool:
    """Whether the copy that rests here took writes when it ended: a standby says so by a file."""
    data: Path = settings.data_directory(seat)
    return database.holds_data(seat) and not (data / "standby.signal").exists()


def has_answered(seat: engines.Seat) -> bool:
    """Whether the question was answered: PostgreSQL in one process ends well whatever becomes of a statement."""
    return (seat.root / "run" / ANSWER_FILE).exists()


def answer(seat: engines.Seat) -> list[Commit]:
    """What was asked for: candidates, many of which the successor may have. Empty when it was never asked."""
    path = seat.root / "run" / ANSWER_FILE
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [Commit(uuid.UUID(row[0]), datetime.datetime.fromisoformat(row[1])) for row in csv.reader(file)]


async def missing(seat: engines.Seat, candidates: list[Commit]) -> list[Commit]:
    """Those that the primary on this seat knows nothing of: they are lost.

    One that it has as void is not: whoever sent it was told that it did not happen.
    """
    found: list[Commit] = []
    async with connection.connected(seat, seat.topology.service.name) as superuser:
        for start in range(0, len(candidates), _BATCH):
            batch = candidates[start : start + _BATCH]
            rows = await superuser.fetch(
                "select token from tenfold.commit where token = any($1)", [one.token for one in batch]
            )
            there = {row["token"] for row in rows}
            found += [one for one in batch if one.token not in there]
    return found
