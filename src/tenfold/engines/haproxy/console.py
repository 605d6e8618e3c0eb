"""HAProxy's command line over its unix sockets: one command, one answer.

Called by `probe` and `admin`, which know what to ask. Every call has a deadline; whatever goes wrong with the socket
is one `EngineFailed`. Source: HAProxy's Management Guide 2.8, sections 9.3 (runtime API) and 9.4 (master).
"""

import asyncio
import csv
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tenfold import errors


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `show stat`. `server` is FRONTEND or BACKEND for the lines that are not about a server."""

    proxy: str
    server: str
    status: str
    address: str
    weight: int
    cookie: str
    """The backend's: the sticky cookie's name; a server's: its value. Empty: not sticky."""
    sessions: int
    queued: int
    active_servers: int
    requests: int
    requests_per_second: int
    failed_connections: int
    failed_answers: int
    retries: int
    redispatches: int
    answers_5xx: int
    queue_milliseconds: int
    response_milliseconds: int
    """Average of the last 1,024 answers; 0 also before the first."""
    total_milliseconds: int
    arrivals: int = 0
    """A backend's: requests that were given to it, those that wait included, since its start."""
    bytes: int = 0
    """In and out, since its start."""


async def ask(socket: Path, command: str, seconds: float = 5.0, payload: str = "") -> str:
    """The answer to one command, stripped. Raises `EngineFailed` when there is none in time.

    `payload`: lines without a blank one among them, sent behind the command; they are in no error message.
    Cancelled: the connection is closed; the command may have been carried out.
    """
    sent = f"{command} <<\n{payload.strip()}\n\n" if payload else f"{command}\n"
    try:
        async with asyncio.timeout(seconds):
            return await _exchange(socket, sent)
    except TimeoutError as error:
        raise errors.EngineFailed(f"haproxy: {socket}: no answer to `{command}` within {seconds:g} s") from error
    except OSError as error:
        raise errors.EngineFailed(f"haproxy: {socket}: {error.strerror or error}; is HAProxy running?") from error


async def statistics(socket: Path, proxy: str = "", seconds: float = 5.0) -> tuple[Row, ...]:
    """`show stat` as rows, of one frontend or backend or of all."""
    answer = await ask(socket, f"show stat {proxy} -1 -1" if proxy else "show stat", seconds)
    return tuple(rows(answer))


def rows(answer: str) -> Iterator[Row]:
    """The lines of an answer to `show stat`."""
    for line in csv.DictReader(answer.removeprefix("# ").splitlines()):
        yield Row(
            proxy=line["pxname"],
            server=line["svname"],
            status=line["status"],
            address=line["addr"],
            weight=int(line["weight"] or 0),
            cookie=line["cookie"],
            sessions=int(line["scur"] or 0),
            queued=int(line["qcur"] or 0),
            active_servers=int(line["act"] or 0),
            requests=int(line["req_tot"] or line["lbtot"] or 0),
            requests_per_second=int(line["req_rate"] or line["rate"] or 0),
            failed_connections=int(line["econ"] or 0),
            failed_answers=int(line["eresp"] or 0),
            retries=int(line["wretr"] or 0),
            redispatches=int(line["wredis"] or 0),
            answers_5xx=int(line["hrsp_5xx"] or 0),
            queue_milliseconds=int(line["qtime"] or 0),
            response_milliseconds=int(line["rtime"] or 0),
            total_milliseconds=int(line["ttime"] or 0),
            arrivals=int(line["stot"] or 0),
            bytes=int(line["bin"] or 0) + int(line["bout"] or 0),
        )


def quoted(path: Path) -> str:
    """A path as one word of a command."""
    return "".join(f"\\{one}" if one in " \t\\;" else one for one in str(path))


async def _exchange(socket: Path, sent: str) -> str:
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        writer.write(sent.encode())
        writer.write_eof()  # the master keeps the connection open otherwise
        return (await reader.read()).decode(errors="replace").strip()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
