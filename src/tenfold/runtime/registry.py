"""Which engines there are. Everything else asks for an engine by name; `tenfold doctor` asks for all."""

import sys
from dataclasses import dataclass

from tenfold import engines, errors
from tenfold.engines import etcd, granian, haproxy, nats, patroni, postgres, powerdns, valkey, varnish, wan
from tenfold.kit import process

ALL: dict[str, engines.Engine] = {
    engine.name: engine
    for engine in (
        *(haproxy.ENGINE, granian.ENGINE, postgres.ENGINE, patroni.ENGINE, etcd.ENGINE),
        *(valkey.ENGINE, varnish.ENGINE, nats.ENGINE, granian.WORKER),
        *(powerdns.GEOROUTE, powerdns.ENGINE, wan.ENGINE),
    )
}

NEEDED_FROM = {
    "haproxy": 1,
    "granian": 1,
    "postgres": 1,
    "patroni": 4,
    "etcd": 4,
    "valkey": 5,
    "varnish": 6,
    "georoute": 9,
    "powerdns": 9,
    "wan": 9,
    "nats": 10,
    "worker": 10,
}
"""By engine, the first rung that needs it."""


def engine(name: str) -> engines.Engine:
    """The engine of this name."""
    return ALL[name]


@dataclass(frozen=True, slots=True)
class Installed:
    """One engine as `tenfold doctor` shows it. `path` is empty when it is missing."""

    name: str
    path: str
    version: str
    needed_from: int
    install: str


async def installed() -> tuple[Installed, ...]:
    """Every engine with its version, or without when it is missing."""
    return tuple([await _look(one) for one in ALL.values()])


def ensure_installed(names: set[str]) -> None:
    """Raises EngineMissing, naming all that are missing and how to install them."""
    missing = [ALL[name] for name in sorted(names) if ALL[name].locate() is None]
    if missing:
        raise errors.EngineMissing(
            "; ".join(f"{one.name}: not installed, install it with: {one.install}" for one in missing)
        )


async def _look(one: engines.Engine) -> Installed:
    path = one.locate()
    if path is None:
        return Installed(one.name, "", "", NEEDED_FROM[one.name], one.install)
    program = [sys.executable, "-m", path.parent.name] if path.name == "__main__.py" else [str(path)]
    finished = await process.run([*program, one.version_argument], timeout_seconds=10)
    lines = finished.output.replace("__main__.py", one.name).strip().splitlines()
    return Installed(one.name, str(path), lines[0] if lines else "?", NEEDED_FROM[one.name], one.install)
