"""What an edge is told: one value, derived from a seat, that holds every number and name its files are made of.

Read by `render`, `command`, `probe` and `admin`. Pure.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tenfold import engines
from tenfold.topology import layout, tiers

CONSOLE_PORT = 6082
"""Where Varnish takes commands, from whoever knows the secret: on the private address, as everything."""

READY_PATH = "/-/edge"
"""The page of an edge itself: 200 as long as it serves, whatever became of the origins."""

ORIGIN_PATH = "/-/origin"
"""The page on a balancer's private front door by which edges see that it serves."""

DEFAULT_CDN = tiers.Cdn()
"""Of an edge that is about to leave: the topology says nothing of it any more."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A balancer's private front door, where an edge fetches what it does not have."""

    name: str
    """As VCL writes names: `balancer_1`."""
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Rule:
    """`[[cdn.path]]`: how long answers below a path are kept."""

    pattern: str
    """A regular expression that a URL below the path matches."""
    life: str
    """In VCL's words, `30.0s`; empty: what the response says."""
    grace: str
    """Empty: that of the whole service."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One edge's settings."""

    service: str
    name: str
    address: str
    port: int
    purge_port: int
    key: str
    """What a purge must say."""
    memory_bytes: int
    grace: str
    """How long a stale answer may serve while no origin answers, in VCL's words."""
    fetch_seconds: float
    """How long an origin may take until its answer begins, or pause within it."""
    rules: tuple[Rule, ...]
    """Longest path first."""
    origins: tuple[Origin, ...]
    static_pattern: str
    """What the URLs of static files match; empty: there are none."""


def of(seat: engines.Seat) -> Settings:
    """The settings of this seat's edge."""
    cdn = seat.topology.cdn or DEFAULT_CDN
    return Settings(
        service=seat.topology.service.name,
        name=seat.server.name,
        address=seat.address,
        port=seat.process.port,
        purge_port=layout.PURGE_PORT,
        key=seat.secrets.edge,
        memory_bytes=cdn.memory_bytes,
        grace=_duration(cdn.grace_seconds),
        fetch_seconds=seat.topology.service.request_seconds + 2.0,
        rules=tuple(_rule(one) for one in sorted(cdn.path, key=lambda one: (-len(one.path), one.path))),
        origins=_origins(seat),
        static_pattern=f"^{_escaped(cdn.static_path)}" if cdn.static else "",
    )


def work_folder(seat: engines.Seat) -> Path:
    """Where Varnish compiles and keeps its shared memory."""
    return seat.data / "work"


def quoted(path: Path) -> str:
    """A path as one word of Varnish's commands."""
    return '"{}"'.format(str(path).replace("\\", "\\\\").replace('"', '\\"'))


def _origins(seat: engines.Seat) -> tuple[Origin, ...]:
    return tuple(
        Origin(server.name.replace("-", "_"), server.address(seat.network), layout.ORIGIN_PORT)
        for server in seat.layout.balancers
        if server.region == seat.server.region
    )


def _rule(path: tiers.CdnPath) -> Rule:
    """`/api` means /api and what is below it, never /apiary."""
    end = "" if path.path.endswith("/") else "(?:[/?]|$)"
    return Rule(
        pattern=f"^{_escaped(path.path)}{end}",
        life="" if path.life_seconds is None else _duration(path.life_seconds),
        grace="" if path.grace_seconds is None else _duration(path.grace_seconds),
    )


def _escaped(path: str) -> str:
    """For a regular expression inside a string of VCL."""
    return re.escape(quote(path, safe="/%-._~!$&()*+,;=:@"))


def _duration(seconds: float) -> str:
    return f"{seconds:.3f}s"
