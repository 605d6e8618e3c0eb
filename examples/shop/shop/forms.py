"""What people may type, for the JSON API and the HTML forms alike."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints


def _lower(text: str) -> str:
    return text.lower()


Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=254, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$"),
    AfterValidator(_lower),
]
"""Whether it exists only a message to it can tell; here it only has to look like one."""

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80, pattern=r"^[^\x00]*$")]

NewPassword = Annotated[str, StringConstraints(min_length=8, max_length=200)]

Password = Annotated[str, StringConstraints(min_length=1, max_length=200)]

Quantity = Annotated[int, Field(ge=1, le=99)]
