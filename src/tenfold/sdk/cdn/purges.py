"""A purge as a value: what edges must forget, checked, put together with others, and cut into what one request can say.

Called by `cdn` and `delivery`; also by `marking` for tags. Pure.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from tenfold import errors

TAG = re.compile(r"[!-+\--~]{1,256}")
"""Visible ASCII without a comma: edges take spaces and commas for what stands between two tags."""

MOST_TAG_BYTES = 8000
"""The tags of one response together, with the spaces between them: an edge refuses longer lines."""

MOST_URL_BYTES = 4096
MOST_LINE_BYTES = 7500
"""What one line of a purge says at most; more of it is another request."""

MOST_WORDS = 10_000
"""Tags and URLs of one purge; who has more means everything."""

KEPT = "%/?:@!$&'()*+,;=-._~[]|"
"""What stands in a request line as it is."""


@dataclass(frozen=True, slots=True)
class Purge:
    """What to forget; soft: it is stale from now on, and may serve its grace out while a new one is fetched."""

    tags: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    everything: bool = False
    is_soft: bool = False

    def __bool__(self) -> bool:
        return bool(self.tags or self.urls or self.everything)

    def __str__(self) -> str:
        if self.everything:
            return "everything"
        return ", ".join((*(f"tag {one}" for one in self.tags), *(f"url {one}" for one in self.urls))) or "nothing"


EVERYTHING = Purge(everything=True)


def purge(tags: Sequence[str], urls: Sequence[str], *, everything: bool, soft: bool) -> Purge:
    """The purge that an app asks for. Raises `MisuseError` for tags and URLs that cannot be ones."""
    _ensure_list("tags", tags)
    _ensure_list("urls", urls)
    if len(tags) + len(urls) > MOST_WORDS:
        raise errors.MisuseError(
            f"purge: {len(tags) + len(urls)} tags and URLs found, {MOST_WORDS} at most expected; "
            "give what belongs together one tag, or purge everything=True"
        )
    return Purge(checked_tags("purge", tags), tuple(dict.fromkeys(map(path_of, urls))), bool(everything), bool(soft))


def checked_tags(where: str, tags: Sequence[str]) -> tuple[str, ...]:
    """The tags, each once. Raises `MisuseError` for what no edge would take as a tag."""
    _ensure_list("tags", tags, where)
    wrong = next((tag for tag in tags if not TAG.fullmatch(tag)), None)
    if wrong is not None:
        raise errors.MisuseError(
            f"{where}: the tag {wrong[:80]!r} found, 1 to 256 visible ASCII characters without spaces and commas "
            'expected; for other text write urllib.parse.quote(tag, safe="")'
        )
    return tuple(dict.fromkeys(tags))


def header_of(tags: tuple[str, ...]) -> str:
    """The tags of a response as one header. Raises `TooLarge`."""
    text = " ".join(tags)
    if len(text) > MOST_TAG_BYTES:
        raise errors.TooLarge(
            f"tf.cdn.public: {len(tags)} tags of {len(text)} bytes together found, {MOST_TAG_BYTES} bytes at most "
            "expected; give what changes together one tag"
        )
    return text


def path_of(url: str) -> str:
    """What stands in the request line for this URL: its path with its query, under whatever name of the service.

    A whole URL or one from its first slash; what browsers encode is encoded. Raises `MisuseError`.
    """
    parts = urlsplit(url) if url.startswith(("http://", "https://")) else None
    path = url if parts is None else (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    found = quote(path.partition("#")[0], safe=KEPT)
    if not found.startswith("/") or len(found) > MOST_URL_BYTES:
        raise errors.MisuseError(
            f"purge: the URL {url[:80]!r} found, a path from its first slash (or a whole URL) of at most "
            f'{MOST_URL_BYTES} bytes expected: urls=["/products/1?page=2"]'
        )
    return found


def together(several: Iterable[Purge]) -> list[Purge]:
    """The same in as few purges as it takes: a hard one, a soft one, or one of everything."""
    merged = []
    for is_soft in (False, True):
        alike = [one for one in several if one and one.is_soft == is_soft]
        if any(one.everything for one in alike):
            merged.append(Purge(everything=True, is_soft=is_soft))
        elif alike:
            tags = tuple(dict.fromkeys(tag for one in alike for tag in one.tags))
            urls = tuple(dict.fromkeys(url for one in alike for url in one.urls))
            merged.append(Purge(tags, urls, is_soft=is_soft))
    return merged[:1] if merged and merged[0] == EVERYTHING else merged


def lines(one: Purge) -> Iterator[tuple[str, str]]:
    """What it says to an edge, a line a request: each alone is short enough."""
    if one.everything:
        yield "Tenfold-Everything", "1"
        return
    for name, words in (("Tenfold-Tags", one.tags), ("Tenfold-Urls", one.urls)):
        for text in _packed(words):
            yield name, text


def _packed(words: tuple[str, ...]) -> Iterator[str]:
    line: list[str] = []
    length = 0
    for word in words:
        if line and length + len(word) >= MOST_LINE_BYTES:
            yield " ".join(line)
            line, length = [], 0
        line.append(word)
        length += len(word) + 1
    if line:
        yield " ".join(line)


def _ensure_list(name: str, texts: Sequence[str], where: str = "purge") -> None:
    if isinstance(texts, str) or not all(isinstance(one, str) for one in texts):
        raise errors.MisuseError(f'{where}: {name}={texts!r} found, texts in a list expected: {name}=["..."]')
