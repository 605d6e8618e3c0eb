"""How long from saving a file until the new code answers, under `tenfold dev`.

    python benchmarks/dev_reload.py [--saves 20]

Two apps: the shop, and a FastAPI app of 30 lines. Each save changes a text that the app answers with; the clock runs
until a request gets the new one. Prints median and worst.
"""

import argparse
import contextlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

SMALL = """
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

WORD = "word-0"
notes: dict[int, str] = {}


class Note(BaseModel):
    text: str


@asynccontextmanager
async def lifespan(app):
    notes[1] = "milk"
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def index():
    return {"word": WORD, "notes": len(notes)}


@app.post("/notes/{number}")
async def write(number: int, note: Note):
    if number in notes:
        raise HTTPException(409)
    notes[number] = note.text
"""


def small(folder: Path) -> tuple[Path, str]:
    """The file that is saved, and the path that answers with its word."""
    (folder / "main.py").write_text(SMALL)
    (folder / "tenfold.toml").write_text('[service]\nname = "small"\napp = "main:app"\n')
    return folder / "main.py", "/"


def shop(folder: Path) -> tuple[Path, str]:
    """The shop, with one more route that answers with the word."""
    ignored = shutil.ignore_patterns(".tenfold", "__pycache__")
    shutil.copytree(ROOT / "examples" / "shop", folder, dirs_exist_ok=True, ignore=ignored)
    web = folder / "shop" / "web.py"
    web.write_text(
        web.read_text() + '\n\nWORD = "word-0"\n\n\n@app.get("/word")\ndef word() -> str:\n    return WORD\n'
    )
    return web, "/word"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--saves", type=int, default=20)
    saves = parser.parse_args().saves
    for make in (small, shop):
        with tempfile.TemporaryDirectory(prefix="dev-") as name:
            file, path = make(Path(name))
            with developing(Path(name)) as url:
                took = [save(file, f"{url}{path}", number) for number in range(1, saves + 1)]
        print(f"{make.__name__:<6} {saves} saves: median {statistics.median(took):.2f} s, worst {max(took):.2f} s")


@contextlib.contextmanager
def developing(folder: Path) -> Iterator[str]:
    """`tenfold dev` in this folder, answering."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{one.getsockname()[1]}"
    argv = [str(Path(sys.executable).parent / "tenfold"), "dev", "--listen", listen]
    with (folder / "dev.log").open("wb") as log:
        child = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log)
    try:
        until_answered(f"http://{listen}/", re.compile(""))
        yield f"http://{listen}"
    finally:
        child.send_signal(signal.SIGINT)
        child.wait()


def save(file: Path, url: str, number: int) -> float:
    """Seconds until the new word is answered."""
    time.sleep(1.0)  # a person looks at the page before the next change
    text = re.sub(r"word-\d+", f"word-{number}", file.read_text())
    began = time.monotonic()
    file.write_text(text)
    until_answered(url, re.compile(rf"word-{number}\b"))
    return time.monotonic() - began


def until_answered(url: str, wanted: re.Pattern[str]) -> None:
    """Ask again and again, as a browser that reloads does."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            if wanted.search(urllib.request.urlopen(url, timeout=30).read().decode()):
                return
        time.sleep(0.005)
    raise TimeoutError(url)


if __name__ == "__main__":
    main()
