"""The ledger: one JSON line for every request, every check of an own write, and how the run ended.

Written by `load`, read by `verify`. The first line says what it is, the last how it ended. Only ever appended to, in
whole lines, from a thread: the loop that measures never waits for a disk. A ledger is evidence: an existing file is
never overwritten.
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tenfold import errors

VERSION = 1

OVERLOADED = "refused: overloaded"
"""The reason of a request that was refused for want of capacity, with 503 and when to come back."""

FLUSH_SECONDS = 0.02
"""How often lines go to the file: what a killed run may lose at its end."""


class Header(msgspec.Struct, tag="ledger", tag_field="record", omit_defaults=True, kw_only=True, frozen=True):
    """The first line."""

    version: int
    service: str
    url: str
    started: str
    """UTC, ISO 8601."""
    rate: float
    seconds: float | None = None
    seed: int
    journeys: tuple[str, ...] = ()


class Request(msgspec.Struct, tag="request", tag_field="record", omit_defaults=True, kw_only=True, frozen=True):
    """One request. Times are seconds; `intended` and `sent` count from the start of the run."""

    session: str
    name: str
    method: str
    path: str
    trace: str
    intended: float
    sent: float
    latency: float
    """From `intended` to the whole answer."""
    status: int = 0
    """0: no answer."""
    repeats: int = 0
    reason: str = ""
    """Why it failed; empty: it did not."""
    detail: str = ""
    kind: str = ""
    """What it wrote, empty for a read."""
    reference: str = ""
    consumes: tuple[str, ...] = ()
    """References of earlier writes that this one takes away."""
    is_acknowledged: bool = False
    """A write that the service said it had done."""
    position: str = ""
    """The X-Tenfold-Position of the answer."""
    region: str = ""
    """The region that it was sent to, where name servers chose it."""

    @property
    def is_failed(self) -> bool:
        """Whether it counts as failed; one that a person interrupted does not, nor one refused for want of capacity."""
        return self.reason not in ("", "interrupted", OVERLOADED)


class OwnRead(msgspec.Struct, tag="read", tag_field="record", omit_defaults=True, kw_only=True, frozen=True):
    """A session looked for what it had written."""

    session: str
    kind: str
    reference: str
    at: float
    """Seconds from the start of the run."""
    is_seen: bool
    trace: str = ""
    """Of the request that read."""
    written_at: str = ""
    """The position that the write was answered with."""
    read_at: str = ""
    """The position that the read was answered with; empty when it carried none."""


class Trouble(msgspec.Struct, tag="trouble", tag_field="record", omit_defaults=True, kw_only=True, frozen=True):
    """A failure that is not one request's: a wrong answer, a journey that raised, requests never sent."""

    session: str
    journey: str
    reason: str
    detail: str
    at: float
    trace: str = ""
    count: int = 1


class End(msgspec.Struct, tag="end", tag_field="record", kw_only=True, frozen=True):
    """The last line."""

    how: str
    """`finished` or `interrupted`."""
    seconds: float
    lines: int
    """Records before this one, the header included."""


Record = Header | Request | OwnRead | Trouble | End

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class Writer:
    """Appends records. `failure` is set, and records are dropped, from the moment the file cannot be written."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lines = 0
        self.failure: errors.RuntimeFailure | None = None
        self._buffer: list[bytes] = []
        self._file = -1
        self._flushing: asyncio.Task[None] | None = None

    def open(self, header: Header) -> None:
        """Create the file and begin to write. Raises `BadInput` when it exists or cannot be made."""
        if self.path is None:
            return
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        except FileExistsError as error:
            raise errors.BadInput(f"{self.path}: exists, and a ledger is never overwritten; name another") from error
        except OSError as error:
            raise errors.BadInput(f"{self.path}: cannot be made ({error.strerror}); name another ledger") from error
        self.add(header)
        self._flushing = asyncio.create_task(self._flush_for_ever())

    def add(self, record: Record) -> None:
        """Write it soon. Never blocks, never raises."""
        if self._file >= 0 and self.failure is None:
            self.lines += 1
            self._buffer.append(_encoder.encode(record) + b"\n")

    async def close(self, how: str, seconds: float) -> None:
        """Write what is left and the closing record. Every line is in the file and on the disk on return."""
        if self._file < 0:
            return
        assert self._flushing is not None
        self._flushing.cancel()
        await asyncio.wait([self._flushing])
        self.add(End(how=how, seconds=round(seconds, 6), lines=self.lines))
        await asyncio.to_thread(self._write_out, b"".join(self._buffer), True)
        os.close(self._file)
        self._file = -1

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            if self._buffer and self.failure is None:
                lines, self._buffer = b"".join(self._buffer), []
                # Shielded: cancelled in the middle, the lines would be on their way beside the closing ones.
                writing = asyncio.ensure_future(asyncio.to_thread(self._write_out, lines, False))
                try:
                    await asyncio.shield(writing)
                except asyncio.CancelledError:
                    await asyncio.wait([writing])
                    raise

    def _write_out(self, lines: bytes, is_last: bool) -> None:
        """In a thread. A failure is kept, not raised: the load ends on its own terms and reports it."""
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            if is_last:
                os.fsync(self._file)
        except OSError as error:
            self.failure = errors.RuntimeFailure(
                f"{self.path}: cannot be written ({error.strerror}); the run was stopped, and its ledger ends there"
            )


class Reader:
    """Reads a ledger. After the last record `end` is set, or None when the run was killed; then `is_torn` says
    whether its last line was cut.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header | None = None
        self.end: End | None = None
        self.is_torn = False
        self._number = 0

    def records(self) -> Iterator[Record]:
        """Every record after the header. Raises `BadLedger` at a line that is none; a torn last one is tolerated."""
        try:
            with self.path.open("rb") as file:
                for self._number, line in enumerate(file, 1):
                    record = self._decode(line)
                    if record is not None and self._number > 1:
                        yield record
        except OSError as error:
            raise errors.BadLedger(f"{self.path}: cannot be read ({error.strerror}); name a ledger file") from error
        if self.header is None:
            raise errors.BadLedger(f"{self.path}: empty; it is no ledger: write one with `tenfold load --ledger FILE`")

    def _decode(self, line: bytes) -> Record | None:
        try:
            record = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if not line.endswith(b"\n") and self._number > 1:
                self.is_torn = True  # the run was killed while it wrote: nothing after this line exists
                return None
            raise self._bad(f"{line[:40]!r} ({error})") from error
        self._check_place(record)
        return record

    def _check_place(self, record: Record) -> None:
        if self._number == 1:
            self._begin(record)
        elif isinstance(record, Header):
            raise self._bad("a second header")
        elif self.end is not None:
            raise self._bad("a record after the closing one", "the file's end")
        elif isinstance(record, End):
            if record.lines != self._number - 1:
                raise self._bad(f"a closing record that counts {record.lines} lines", f"one of {self._number - 1}")
            self.end = record

    def _begin(self, record: Record) -> None:
        if not isinstance(record, Header):
            raise self._bad("another record", "a ledger's header")
        if record.version != VERSION:
            raise errors.BadLedger(
                f"{self.path}:1: version {record.version} found, version {VERSION} expected; verify it with the "
                "tenfold that wrote it"
            )
        self.header = record

    def _bad(self, found: str, expected: str = "a record of a ledger") -> errors.BadLedger:
        return errors.BadLedger(
            f"{self.path}:{self._number}: {found} found, {expected} expected; the file was changed or is no ledger: "
            "verify an untouched one, or make one with `tenfold load --ledger FILE`"
        )
