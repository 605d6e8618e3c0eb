"""An edge under the public suite of tests for HTTP caches (https://cache-tests.fyi): `make conformance`.

The suite is not part of this project: npm brings it, at a fixed commit of its repository; where that cannot be reached,
its last release (of 2021, which judges some things otherwise) from the registry; or CACHE_TESTS names a folder that has
it. Nothing is installed but below .make/. Ends with 1 when fewer of the required tests pass than have to.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support import edges, seats
from tenfold import engines
from tenfold.engines import varnish
from tenfold.engines.varnish import settings
from tenfold.topology import layout

NETWORK = 115
COMMIT = "b55b8bda3dbb8c927c04e85bd8d496a8caa3e4ba"
SOURCES = (
    ("suite", f"github:http-tests/cache-tests#{COMMIT}", "undici@7", 152),
    ("release", "http-cache-tests@0.4.5", "", 139),
)
"""By folder: what npm is asked for, what it needs besides, and how many of the required tests have to pass."""

EXPLAINED = {
    "headers-store-Set-Cookie": "nothing with Set-Cookie is kept, whatever else it says",
    "304-etag-update-response-Set-Cookie": "nothing with Set-Cookie is kept, whatever else it says",
    "cdn-private": "the edge takes CDN-Cache-Control away",
    "cdn-no-cache": "the edge takes CDN-Cache-Control away",
    "headers-store-Content-Range": "Varnish refuses an answer 200 with Content-Range",
    "304-etag-update-response-Content-Range": "Varnish refuses an answer 200 with Content-Range",
    "headers-store-Transfer-Encoding": "Varnish refuses an unknown Transfer-Encoding",
    **dict.fromkeys(
        (
            *("age-parse-nonnumeric", "age-parse-negative", "age-parse-float", "age-parse-prefix-twoline"),
            *("age-parse-dup-0", "age-parse-dup-0-twoline", "age-parse-dup-old", "304-etag-update-response-ETag"),
            *("stale-close-must-revalidate", "stale-close-proxy-revalidate"),
            *("stale-close-no-cache", "stale-close-s-maxage=2", "304-etag-update-response-Content-MD5"),
        ),
        "the release of 2021 wants it otherwise than the suite of today",
    ),
    "interim-not-cached": "Varnish takes no interim answers (1xx) from an origin",
}
"""Required tests that an edge does not pass, and why."""


async def main() -> int:
    suite, least = _obtain()
    with tempfile.TemporaryDirectory() as folder:
        async with seats.site(Path(folder), edges.topology(balancers=1), {"varnish": varnish.ENGINE}, NETWORK) as site:
            seat = site.seat("edge-1", "varnish")
            await site.start(seat)
            if sys.argv[1:]:
                print(await _run(suite, seat, sys.argv[1:]))  # one test by its id: with every request and answer
                return 0
            results = _results(await _run(suite, seat, []))
            # The suite counts in seconds: what a busy machine was too slow for is asked a second time.
            again = [name for name, one in results.items() if not one["passed"] and name not in EXPLAINED]
            results |= _results(await _run(suite, seat, again)) if again else {}
    return _judge(list(results.values()), least)


async def _run(suite: Path, seat: engines.Seat, only: list[str]) -> str:
    words: list[object] = ["node", "--no-warnings", Path(__file__).with_name("run.mjs"), suite]
    words += [seat.layout.balancers[0].address(NETWORK), layout.ORIGIN_PORT]
    words += [f"http://{seat.address}:{seat.process.port}", settings.ORIGIN_PATH, *only]
    runner = await asyncio.create_subprocess_exec(*map(str, words), stdout=asyncio.subprocess.PIPE)
    output, _ = await runner.communicate()
    return output.decode()


def _results(output: str) -> dict[str, dict[str, object]]:
    """By test, what became of it."""
    found = (json.loads(line) for line in output.splitlines() if line.startswith('{"id"'))
    return {one["id"]: one for one in found}


def _judge(results: list[dict[str, object]], least: int) -> int:
    applicable = [one for one in results if not one["browserOnly"]]
    for kind in ("required", "optimal", "check"):
        of_kind = [one for one in applicable if one["kind"] == kind]
        print(f"{kind}: {sum(bool(one['passed']) for one in of_kind)} of {len(of_kind)}")
    required = [one for one in applicable if one["kind"] == "required"]
    for one in required:
        if not one["passed"]:
            print(f"  {one['id']}: {EXPLAINED.get(str(one['id']), one['why'])}")
    passed = sum(bool(one["passed"]) for one in required)
    print(f"{passed} of the required tests pass, {least} have to")
    return int(passed < least)


def _obtain() -> tuple[Path, int]:
    """The suite's folder, and how many of its required tests have to pass."""
    if given := os.environ.get("CACHE_TESTS"):
        folder = Path(given).resolve()
        return folder, SOURCES[0 if (folder / "test-engine").exists() else 1][-1]
    if shutil.which("npm") is None:
        sys.exit("node and npm: not found; install them: apt-get install nodejs npm")
    for name, package, besides, least in SOURCES:
        folder = ROOT / ".make" / "cache-tests" / name
        suite = folder / "node_modules" / "http-cache-tests"
        if suite.exists() or _install(folder, [package, *besides.split()]):
            return suite, least
        print(f"{package}: cannot be had from here", file=sys.stderr)
    sys.exit("the suite cannot be had; name a folder that has it: CACHE_TESTS=... make conformance")


def _install(folder: Path, packages: list[str]) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text("{}")
    words = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev", "--loglevel=error"]
    try:
        done = subprocess.run([*words, *packages], cwd=folder, timeout=120, check=False, capture_output=True)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
