"""Static files: the name of a content may be kept for ever, and nothing outside the folder is ever served."""

import asyncio
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.sdk.cdn import conditions, files, serving

pytestmark = pytest.mark.anyio

STYLE = b"body { color: #333 }\n" * 200
PICTURE = bytes(range(256)) * 4

Ask = Callable[..., Any]


class Got:
    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.status = messages[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.body = b"".join(one["body"] for one in messages[1:])
        self.pieces = len(messages) - 1


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "releases" / "2" / "app" / "static"
    (made / "img").mkdir(parents=True)
    (made / "shop.min.css").write_bytes(STYLE)
    (made / "img" / "logo.png").write_bytes(PICTURE)
    (made / "LICENSE").write_text("free")
    (made / ".env").write_text("secret")
    (made / "img" / ".hidden.png").write_bytes(PICTURE)
    (made.parent / "web.py").write_text("secret")
    return made


@pytest.fixture
def static(root: Path) -> serving.Static:
    return serving.Static(files.Folder(root, (root.parents[2],)), "/static/")


@pytest.fixture
def ask(static: serving.Static) -> Ask:
    async def asked(path: str, method: str = "GET", **said: str) -> Got:
        messages: list[dict[str, Any]] = []

        async def send(message: dict[str, Any]) -> None:
            messages.append(message)

        headers = [(name.replace("_", "-").encode(), value.encode()) for name, value in said.items()]
        await static.serve({"method": method, "path": path, "headers": headers}, None, send)
        return Got(messages)

    return asked


async def test_the_name_of_the_content_may_be_kept_for_ever(static: serving.Static, ask: Ask) -> None:
    url = static.url("shop.min.css")
    assert url is not None
    got = await ask(url)
    assert (200, STYLE) == (got.status, got.body)
    assert "public, max-age=31536000, immutable" == got.headers["cache-control"]
    assert ("text/css; charset=utf-8", "nosniff") == (
        got.headers["content-type"],
        got.headers["x-content-type-options"],
    )
    assert "/static/LICENSE." in str(static.url("LICENSE"))
    assert None is static.url("nothing.css")


async def test_a_plain_name_is_asked_for_again_each_time(ask: Ask) -> None:
    got = await ask("/static/shop.min.css")
    assert (200, "no-cache") == (got.status, got.headers["cache-control"])
    again = await ask("/static/shop.min.css", if_none_match=f'"other", W/{got.headers["etag"]}')
    assert (304, b"", "no-cache") == (again.status, again.body, again.headers["cache-control"])
    assert "content-length" not in again.headers
    assert 304 == (await ask("/static/shop.min.css", if_modified_since=got.headers["last-modified"])).status
    assert 200 == (await ask("/static/shop.min.css", if_modified_since="yesterday")).status
    assert 200 == (await ask("/static/shop.min.css", if_modified_since="Thu, 01 Jan 1970 00:00:00 GMT")).status


async def test_text_is_compressed_for_who_takes_it(ask: Ask) -> None:
    packed = await ask("/static/shop.min.css", accept_encoding="br, gzip;q=0.8")
    assert ("gzip", "accept-encoding") == (packed.headers["content-encoding"], packed.headers["vary"])
    assert STYLE == gzip.decompress(packed.body)
    assert str(len(packed.body)) == packed.headers["content-length"]
    plain = await ask("/static/shop.min.css", accept_encoding="gzip;q=0")
    assert STYLE == plain.body
    assert plain.headers["etag"] != packed.headers["etag"]
    assert 304 == (await ask("/static/shop.min.css", if_none_match=packed.headers["etag"])).status
    picture = await ask("/static/img/logo.png", accept_encoding="gzip")
    assert PICTURE == picture.body
    assert not {"content-encoding", "vary"} & set(picture.headers)


async def test_head_says_what_get_would(ask: Ask) -> None:
    got, told = await ask("/static/img/logo.png"), await ask("/static/img/logo.png", "HEAD")
    assert (got.status, got.headers, b"") == (told.status, told.headers, told.body)
    refused = await ask("/static/img/logo.png", "POST")
    assert (405, "GET, HEAD") == (refused.status, refused.headers["allow"])


@pytest.mark.parametrize(
    ("said", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=1000-", 206, slice(1000, 1024)),
        ("bytes=-24", 206, slice(1000, 1024)),
        ("bytes=-9999", 206, slice(0, 1024)),
        ("bytes=1020-99999", 206, slice(1020, 1024)),
        ("bytes=1024-", 416, slice(0, 0)),
        ("bytes=-0", 416, slice(0, 0)),
        ("bytes=9-1", 200, slice(None)),
        ("bytes=0-1,4-5", 200, slice(None)),
        ("lines=0-1", 200, slice(None)),
        ("bytes=" + "9" * 40 + "-", 200, slice(None)),
    ],
)
async def test_a_part_is_what_was_asked_for(ask: Ask, said: str, status: int, part: slice) -> None:
    got = await ask("/static/img/logo.png", range=said, accept_encoding="gzip")
    assert (status, PICTURE[part]) == (got.status, got.body)
    if status == 206:
        first = part.start
        assert f"bytes {first}-{first + len(got.body) - 1}/1024" == got.headers["content-range"]
    if status == 416:
        assert "bytes */1024" == got.headers["content-range"]


async def test_a_part_is_of_use_only_to_who_has_the_rest_of_this_file(ask: Ask) -> None:
    whole = await ask("/static/img/logo.png")
    for said, status in ((whole.headers["etag"], 206), (whole.headers["last-modified"], 206), ('"other"', 200)):
        assert status == (await ask("/static/img/logo.png", range="bytes=0-9", if_range=said)).status


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../web.py",
            "img/../../web.py",
            "/etc/passwd",
            "",
            "img",
            "img/",
            ".env",
            "img/.hidden.png",
            "img//logo.png",
        ),
        *("..\\web.py", "shop.min.css\0.png", "link.css", "inside/.env", "x" * 5000, "LICENSE/x", "\ud800.css"),
    ],
)
async def test_nothing_but_the_files_of_the_folder_is_there(root: Path, ask: Ask, name: str) -> None:
    (root / "link.css").symlink_to(root.parent / "web.py")
    (root / "inside").symlink_to(root.parent)
    got = await ask(f"/static/{name}")
    assert (404, "no-store") == (got.status, got.headers["cache-control"])
    assert b"secret" not in got.body


async def test_a_link_within_the_folder_is_followed(root: Path, ask: Ask) -> None:
    (root / "new.png").symlink_to("img/logo.png")
    assert PICTURE == (await ask("/static/new.png")).body


async def test_another_releases_page_gets_the_file_that_it_was_made_for(
    root: Path, static: serving.Static, ask: Ask
) -> None:
    """While a release is replaced, and after it was rolled back, pages ask whichever server for either's files."""
    for version, content in (("1", b"old"), ("3", b"new")):
        beside = root.parents[2] / version / "app" / "static"
        beside.mkdir(parents=True)
        (beside / "shop.min.css").write_bytes(content)
        name = files.Folder(beside).fixed_name("shop.min.css")
        got = await ask(f"/static/{name}")
        assert (200, content) == (got.status, got.body)
        assert "immutable" in got.headers["cache-control"]
    unknown = await ask("/static/shop.min.0123456789ab.css")
    assert (404, "no-store") == (unknown.status, unknown.headers["cache-control"])
    assert STYLE == (await ask("/static/shop.min.css")).body


async def test_a_file_that_changes_gets_another_name(root: Path, static: serving.Static, ask: Ask) -> None:
    before = static.url("shop.min.css")
    (root / "shop.min.css").write_bytes(b"b{}")
    os.utime(root / "shop.min.css", ns=(1, 1))
    assert before != static.url("shop.min.css")
    assert 404 == (await ask(str(before))).status
    assert b"b{}" == (await ask("/static/shop.min.css")).body


async def test_a_large_file_is_sent_a_piece_at_a_time(root: Path, ask: Ask) -> None:
    content = os.urandom(files.MOST_KEPT_BYTES + 1)
    (root / "film.webm").write_bytes(content)
    got = await ask("/static/film.webm")
    assert content == got.body
    assert got.pieces == 1 + files.MOST_KEPT_BYTES // serving.CHUNK_BYTES
    part = await ask("/static/film.webm", range="bytes=1000000-1999999")
    assert (206, content[1_000_000:2_000_000]) == (part.status, part.body)


async def test_memory_has_a_bound(root: Path, static: serving.Static, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MEMORY_BYTES", 4000)
    for number in range(20):
        (root / f"{number}.bin").write_bytes(os.urandom(1000))
        found = static.folder.find(f"{number}.bin")
        assert found is not None
        await asyncio.to_thread(static.folder.body, found)
    assert static.folder._memory._size <= 4000


@given(st.binary(max_size=40), st.integers(0, 50))
@settings(max_examples=200, deadline=None)
def test_no_range_ever_leaves_the_file(said: bytes, size: int) -> None:
    status, part = conditions.part({b"range": b"bytes=" + said}, size, '"a"', 0)
    if status is conditions.Wanted.PART:
        assert 0 <= part.first <= part.last < size
