"""Settings from the environment, read once."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    title: str
    key: str
    database_url: str


def from_environment() -> Settings:
    return Settings(
        title=os.environ["BOOK_TITLE"], key=os.environ["KITCHEN_KEY"], database_url=os.environ["DATABASE_URL"]
    )
