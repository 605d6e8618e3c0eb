"""One commented example per section of `tenfold.toml`: documentation, help text, and a test that it loads."""

from importlib import resources

from tenfold import errors
from tenfold.topology import nearest

SECTIONS = (
    *("service", "dns", "balancer", "cdn", "web", "web_groups", "cache", "sessions"),
    *("database", "queue", "workers", "autoscale", "deploy", "regions", "wan"),
)
"""In the order in which a request meets the tiers."""


def text(section: str) -> str:
    """The commented example of this section. Raises BadInput when there is none."""
    if section not in SECTIONS:
        hint = nearest.hint(section, SECTIONS)
        raise errors.BadInput(f"section {section!r}: not found; the sections are {', '.join(SECTIONS)}{hint}")
    return resources.files(__name__).joinpath(f"{section}.toml").read_text(encoding="utf-8")
