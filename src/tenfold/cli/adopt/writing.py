"""The tenfold.toml of an app that was found: small, with a comment for each line. Pure, but for the two `write_...`."""

import json
from pathlib import Path

from tenfold.cli.adopt.surroundings import Surroundings
from tenfold.kit import files

IGNORED = ".tenfold/"


def topology(target: str, directory: str, beside: Surroundings, *, is_factory: bool) -> str:
    """The whole text. What is left to a default is not in it."""
    key = "factory" if is_factory else "app"
    service = [
        ("name", beside.name, "names the database and cookies; it stays"),
        (key, target, "a function that returns the ASGI application" if is_factory else "the ASGI application"),
        ("listen", f"127.0.0.1:{beside.port}", "the front door; it stays the same on every rung"),
    ]
    if directory != ".":
        service.append(("directory", directory, "where the app is imported from"))
    if beside.python:
        service.append(("python", beside.python, "the interpreter that runs the app"))
    if beside.env_file:
        service.append(("env_file", beside.env_file, "the app's variables; values are never shown"))
    database = []
    if beside.migrations:
        database.append(("migrations", beside.migrations, "dbmate's SQL files; new ones run before new code starts"))
    if beside.url_scheme:
        database.append(("url_scheme", beside.url_scheme, "how DATABASE_URL begins, for the app's library"))
    head = "# tenfold up runs this, tenfold grow takes it higher. What may stand here: tenfold help topology\n"
    text = f"{head}\n[service]\n{_lines(service)}"
    return f"{text}\n[database]\n{_lines(database)}" if database else text


def write_topology(path: Path, text: str) -> None:
    """Whole or not at all."""
    files.write_atomically(path, text, mode=0o644)


def write_ignored(project: Path) -> bool:
    """In a git repository, keep the state folder out of it. True when a line was added to the project's .gitignore."""
    if not any((folder / ".git").exists() for folder in (project, *project.parents)):
        return False
    path = project / ".gitignore"
    text = path.read_text() if path.exists() else ""
    if any(line.strip().strip("/") == IGNORED.strip("/") for line in text.splitlines()):
        return False
    gap = "" if not text or text.endswith("\n") else "\n"
    files.write_atomically(
        path, f"{text}{gap}{IGNORED}\n", mode=path.stat().st_mode & 0o777 if path.exists() else 0o644
    )
    return True


def _lines(entries: list[tuple[str, str, str]]) -> str:
    name_width = max(len(name) for name, _, _ in entries)
    quoted = [(name, json.dumps(value, ensure_ascii=False), comment) for name, value, comment in entries]
    value_width = max(len(value) for _, value, _ in quoted)
    return "".join(f"{name:<{name_width}} = {value:<{value_width}}  # {comment}\n" for name, value, comment in quoted)
