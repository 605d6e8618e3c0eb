"""The word that was probably meant: for messages about names that are not known. Pure."""

import difflib
from collections.abc import Iterable


def name(found: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like the one found, or None when none does."""
    by_lower = {one.lower().replace("-", "_"): one for one in known}
    close = difflib.get_close_matches(found.lower().replace("-", "_"), by_lower, n=1, cutoff=0.6)
    return by_lower[close[0]] if close else None


def hint(found: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing."""
    close = name(found, known)
    return f"; did you mean {close}?" if close else ""
