"""A granian's files: how it and the app log. Pure."""

from collections.abc import Mapping
from importlib import resources

from tenfold import engines

LOGGING = "logging.json"


def render(seat: engines.Seat) -> Mapping[str, str]:
    """The logging configuration: one line a record, with a time, for the server and for the app alike."""
    text = (resources.files(__package__) / "templates" / LOGGING).read_text()
    return {LOGGING: text.replace("SERVER", seat.server.name)}
