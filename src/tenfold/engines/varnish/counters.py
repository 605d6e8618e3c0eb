"""What Varnish counts, read from the shared memory that it counts in. Called by admin. Reads files, and nothing else.

A folder holds an index of segments, a description of each kind of counters in JSON, and the counters themselves: what
varnishstat(1) reads. A segment begins with three words: whether it is complete, where its content begins, and which
description it follows (`struct vsc_head` in Varnish's vsc_priv.h). All counters are unsigned words of 64 bits.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER, INDEX = "_.vsm_child", "_.index"
"""Of the process that serves: a new one begins a new folder, at zero."""

_HEAD = struct.Struct("=3Q")
_WORD = struct.Struct("=Q")


@dataclass(frozen=True, slots=True)
class _Segment:
    file: str
    offset: int
    length: int
    kind: str
    name: str


def read(work: Path, wanted: tuple[str, ...]) -> Mapping[str, Mapping[str, int]]:
    """By segment (`MAIN`, `SMA.s0`, `VBE.name.backend`) whose name begins with one of `wanted`, its counters.

    Empty when nothing serves, or when the process that serves is changing at this moment.
    """
    folder = work / FOLDER
    try:
        segments = list(_segments((folder / INDEX).read_text()))
        documents = {one.name: one for one in segments if one.kind == "StatDoc"}
        counted = (one for one in segments if one.kind == "Stat" and one.name.startswith(wanted))
        return {one.name: _counters(folder, one, documents) for one in counted}
    except (OSError, ValueError, KeyError, struct.error):
        return {}


def _segments(index: str) -> Iterator[_Segment]:
    """Those that are there: a line with a plus brings one, a line with a minus takes it away again."""
    there: dict[tuple[str, str], _Segment] = {}
    for line in index.splitlines():
        words = line.split(" ", 5)
        if words[0] in ("+", "-") and len(words) == 6:
            sign, file, offset, length, kind, name = words
            if sign == "+":
                there[file, offset] = _Segment(file, int(offset), int(length), kind, name)
            else:
                there.pop((file, offset), None)
    yield from there.values()


def _counters(folder: Path, segment: _Segment, documents: Mapping[str, _Segment]) -> dict[str, int]:
    _, begin, document = _HEAD.unpack_from(content := _content(folder, segment))
    elements = _elements(_content(folder, documents[f"{document:x}"]))
    return {name: _WORD.unpack_from(content, begin + place)[0] for name, place in elements.items()}


def _elements(content: bytes) -> dict[str, int]:
    """By counter, its place."""
    _, begin, _ = _HEAD.unpack_from(content)
    described = json.loads(content[begin:].split(b"\0", 1)[0])
    return {name: one["index"] for name, one in described["elem"].items()}


def _content(folder: Path, segment: _Segment) -> bytes:
    with (folder / segment.file).open("rb") as file:
        file.seek(segment.offset)
        return file.read(segment.length)
