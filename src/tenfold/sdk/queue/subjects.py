"""Subjects of messages, and the patterns that subscribers name: NATS' form. Pure.

`user.signed_up` is a subject. In a pattern `*` stands for one token and `>`, at the end, for all that follow.
"""

import re

from tenfold import errors

MOST_CHARACTERS = 128

_TOKEN = r"[A-Za-z0-9_-]+"  # noqa: S105 - no secret
_SUBJECT = re.compile(rf"{_TOKEN}(\.{_TOKEN})*")
_PATTERN = re.compile(rf"({_TOKEN}|\*)(\.({_TOKEN}|\*))*(\.>)?|>")

FORM = "letters, digits, _ and - in tokens between dots, such as user.signed_up"


def ensure_subject(subject: object) -> str:
    """The subject itself. Raises `BadSubject` for what cannot be one."""
    if isinstance(subject, str) and len(subject) <= MOST_CHARACTERS and _SUBJECT.fullmatch(subject):
        return subject
    raise errors.BadSubject(f"publish: the subject {_shown(subject)} found, {FORM} expected")


def ensure_pattern(pattern: object) -> str:
    """The pattern itself. Raises `BadSubject` for what cannot be one."""
    if isinstance(pattern, str) and len(pattern) <= MOST_CHARACTERS and _PATTERN.fullmatch(pattern):
        return pattern
    raise errors.BadSubject(
        f"subscriber: the subject {_shown(pattern)} found, {FORM} expected; * stands for one token, > for all further"
    )


def is_pattern(subject: str) -> bool:
    """Whether it may stand for more than one subject."""
    return "*" in subject or ">" in subject


def expression(pattern: str) -> str:
    """A regular expression, for Python and PostgreSQL, that matches the subjects that the pattern stands for."""
    tokens = {"*": _TOKEN, ">": rf"{_TOKEN}(\.{_TOKEN})*"}
    return "^" + r"\.".join(tokens.get(token, token) for token in pattern.split(".")) + "$"


def matches(pattern: str, subject: str) -> bool:
    """Whether the pattern stands for the subject."""
    return pattern == subject or (is_pattern(pattern) and re.match(expression(pattern), subject) is not None)


def overlap(first: str, second: str) -> bool:
    """Whether some subject is meant by both."""
    mine, others = first.split("."), second.split(".")
    for one, other in zip(mine, others, strict=False):
        if ">" in (one, other):
            return True
        if one != other and "*" not in (one, other):
            return False
    return len(mine) == len(others)


def _shown(found: object) -> str:
    return repr(found)[:60]
