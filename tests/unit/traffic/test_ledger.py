"""Reading ledgers: whole ones, torn ones, and files that are none."""

from pathlib import Path

import msgspec
import pytest

from tenfold import errors
from tenfold.traffic import ledger

HEADER = ledger.Header(
    version=1, service="shop", url="http://shop.test", started="2026-01-01T00:00:00+00:00", rate=5, seed=1
)
READ = ledger.OwnRead(session="1.0", kind="order", reference="r", at=1.5, is_seen=False, written_at="0.1.1.A0")


def request(number: int = 1) -> ledger.Request:
    return ledger.Request(
        session="1.0", name="look", method="GET", path="/", trace=f"t{number}", intended=1, sent=1, latency=0.01
    )


def text(*records: ledger.Record) -> bytes:
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


def write(folder: Path, content: bytes) -> Path:
    path = folder / "run.ledger"
    path.write_bytes(content)
    return path


def end(lines: int) -> ledger.End:
    return ledger.End(how="finished", seconds=2.0, lines=lines)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    reader = ledger.Reader(write(tmp_path, text(HEADER, request(), READ, end(3))))

    assert [request(), READ, end(3)] == list(reader.records())
    assert HEADER == reader.header
    assert end(3) == reader.end
    assert not reader.is_torn


def test_a_killed_runs_torn_last_line_is_tolerated_and_told(tmp_path: Path) -> None:
    reader = ledger.Reader(write(tmp_path, text(HEADER, request(), request(2))[:-20]))

    assert [request()] == list(reader.records())
    assert reader.is_torn
    assert reader.end is None


def test_every_cut_of_a_ledger_reads_as_a_shorter_ledger(tmp_path: Path) -> None:
    whole = text(HEADER, request(), READ, end(3))
    first = len(text(HEADER))

    for length in range(first, len(whole) + 1):
        records = list(ledger.Reader(write(tmp_path, whole[:length])).records())
        assert records == [request(), READ, end(3)][: len(records)]
        assert len(records) >= whole[:length].count(b"\n") - 1


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00", 1),
        (b"hello\n", 1),
        (b'{"record":"ledger"', 1),
        (text(request()), 1),
        (text(HEADER) + b"\xff\xfe\n" + text(request()), 2),
        (text(HEADER, request()) + b"{}\n", 3),
        (text(HEADER, request()) + b'{"record":"request","session":1}\n' + text(request()), 3),
        (text(HEADER, HEADER), 2),
        (text(HEADER, request(), end(1)), 3),
        (text(HEADER, request(), end(3)), 3),
        (text(HEADER, end(1), request()), 3),
        (text(HEADER) + b"\n" + text(request()), 2),
    ],
)
def test_a_file_that_is_no_ledger_is_an_error_with_the_line_and_what_to_do(
    tmp_path: Path, content: bytes, line: int
) -> None:
    path = write(tmp_path, content)

    with pytest.raises(errors.BadLedger) as raised:
        list(ledger.Reader(path).records())

    assert f"{path}:{line}: " in str(raised.value)
    assert "tenfold load --ledger FILE" in str(raised.value)


def test_a_ledger_of_another_version_says_so(tmp_path: Path) -> None:
    newer = msgspec.structs.replace(HEADER, version=2)

    with pytest.raises(errors.BadLedger, match="version 2 found, version 1 expected"):
        list(ledger.Reader(write(tmp_path, text(newer))).records())


def test_a_removed_line_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(errors.BadLedger, match="counts 4 lines found, one of 3 expected"):
        list(ledger.Reader(write(tmp_path, text(HEADER, request(), READ, end(4)))).records())


@pytest.mark.parametrize("name", ["missing.ledger", "."])
def test_a_ledger_that_cannot_be_opened_is_bad_too(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.BadLedger, match="name a ledger file"):
        list(ledger.Reader(tmp_path / name).records())


def test_an_empty_file_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(errors.BadLedger, match="empty"):
        list(ledger.Reader(write(tmp_path, b"")).records())
