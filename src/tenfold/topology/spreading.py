"""What the rung `regions` writes into the file, and takes out again: a second region, and name servers for both.

Called by `rungs`. Pure. What the file says already stays as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from tenfold import errors
from tenfold.topology import edit, tiers

FIRST, SECOND, THIRD = "seoul", "virginia", "ireland"
"""What regions are called that nobody has named."""

DELAY_MS = 90

NAME_SERVERS = 2
"""In each region: one may die, and a whole region as well."""

EXAMPLE_NETWORKS = ("203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24")
"""Where clients of a region are, as long as nobody has said it: networks that nobody on earth has (RFC 5737)."""

EXAMPLE_DOMAIN = "test"
"""Below it nobody has a name (RFC 6761)."""


def enter(topology: tiers.Topology, *, has_balancers: bool) -> list[edit.Change]:
    """What is there becomes the first region, or keeps its name; a second one comes, and what lies between them.

    It gets few web servers: all of them together share the connections of one database. Raises BadInput where only a
    person knows what name servers have to say.
    """
    is_named = topology.first != "home"
    first = topology.first if is_named else FIRST
    second = SECOND if first != SECOND else THIRD
    free = _free_networks(topology)
    changes = _name(topology, first)
    changes += [] if is_named else [edit.Change(("regions", first, "primary"), True)]
    if not topology.regions[topology.first].networks:
        changes.append(edit.Change(("regions", first, "networks"), (next(free),)))
    changes += [
        edit.Change(("regions", second, "primary"), False),
        *(edit.Change(("regions", second, "networks"), (one,)) for one in itertools.islice(free, 1)),
        edit.Change(("regions", second, "web", "servers"), 2 if has_balancers else 1),
        edit.Change(("wan", f"{first}-{second}", "delay_ms"), DELAY_MS),
    ]
    changes += [edit.Change(("dns", "servers"), NAME_SERVERS)] if topology.dns is None else []
    if topology.sessions.store in ("cache", "memory"):
        changes.append(edit.Change(("sessions", "store"), "database"))
    return changes


def leave(topology: tiers.Topology) -> list[edit.Change]:
    """One region is left; name servers on private addresses go with the others. The domain stays: it is public."""
    if topology.home != topology.first:
        raise errors.BadInput(
            f"[regions.{topology.home}]: is home, and only {topology.first}, which was there first, can stay alone; "
            f"first: tenfold region move {topology.first}"
        )
    others = [edit.Change(("regions", name), None) for name in topology.regions if name != topology.first]
    is_plain = _is_plain(topology.first, topology.regions[topology.first])
    changes = [edit.Change(("regions",), None)] if is_plain else others
    changes += [edit.Change(("wan",), None)] if topology.wan else []
    if topology.database.synchronous == "regions":  # with one region there is none to wait for
        changes.append(edit.Change(("database", "synchronous"), True))
    is_private = topology.dns is not None and topology.dns.model_fields_set <= {"servers"}
    return [*changes, edit.Change(("dns",), None)] if is_private else changes


def _name(topology: tiers.Topology, first: str) -> list[edit.Change]:
    """The name that name servers answer for, and what makes one up impossible."""
    service = topology.service
    if topology.dns is None and service.listens_everywhere and not topology.regions[topology.first].addresses:
        raise errors.BadInput(
            f"service.listen: {service.listen} found, and name servers have to answer addresses that clients can call; "
            f'add [regions.{first}] with primary = true and addresses = ["203.0.113.7"], or leave the rung out: '
            "--skip regions"
        )
    if service.domain:
        return []
    if service.tls is not None and not service.tls.is_self_signed:
        raise errors.BadInput(
            "service.domain: nothing found beside a certificate of your own, and name servers answer for a name; "
            "set it to a name of the certificate, or leave the rung out: --skip regions"
        )
    return [edit.Change(("service", "domain"), f"{service.name}.{EXAMPLE_DOMAIN}")]


def _free_networks(topology: tiers.Topology) -> Iterator[str]:
    """The examples that the file does not use."""
    used = {network for region in topology.regions.values() for network in region.networks}
    return (one for one in EXAMPLE_NETWORKS if one not in used)


def _is_plain(name: str, region: tiers.Region) -> bool:
    """Whether the ladder gave it its name, and nobody has said anything more of it."""
    is_as_written = region.model_fields_set <= {"primary", "networks"} and set(region.networks) <= set(EXAMPLE_NETWORKS)
    return name == FIRST and is_as_written
