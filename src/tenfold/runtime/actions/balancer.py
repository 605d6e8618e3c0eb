"""Balancers: route to exactly the wanted web servers, without a failed request."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from tenfold import errors
from tenfold.engines.haproxy import admin, command, settings
from tenfold.kit import address
from tenfold.planning import steps
from tenfold.runtime import following, publish, seats
from tenfold.runtime.actions.stage import Stage
from tenfold.topology import tiers

DRAIN_SECONDS = 10.0
"""How long requests inside a web server that leaves may take to end."""


async def configure(stage: Stage, step: steps.ConfigureBalancer) -> None:
    """The balancer routes to these web servers and edges, by the topology's policy; removed ones are drained."""
    socket = settings.runtime_socket(stage.seat(step.server, "haproxy"))
    if set(step.edges) - {one.server for one in await admin.backends(socket)}:
        await following.ensure_followed(stage.seats)  # who does not know an edge yet would not tell it of a purge
    await configure_now(stage, step.server, step.web_servers, step.edges)


async def configure_now(stage: Stage, server: str, web_servers: tuple[str, ...], edges: tuple[str, ...]) -> None:
    """Write the files, check them with the program itself, then change what runs.

    Files that HAProxy does not accept change nothing: EngineFailed holds its complaints.
    """
    seat = stage.seats.seat(server, "haproxy", web_servers=web_servers, edges=edges)
    stage.supervisor.render(seat)
    await stage.supervisor.run_inside(seat, command.check(seat))
    changes = await admin.configure(seat, drain_seconds=DRAIN_SECONDS)
    for group, name in changes.cut:
        of = "edge" if group == settings.EDGES else group
        text = f"{name} ({of}) still had requests after {DRAIN_SECONDS:g} s; they were ended"
        stage.journal.say("requests_ended", text, subject=server, level="warning")


@asynccontextmanager
async def without(stage: Stage, place: admin.Place) -> AsyncIterator[None]:
    """While this lasts no balancer gives this web server or edge a request; those that it had have ended."""
    fronts = [socket for socket in sockets(stage) if await _knows(socket, place)]
    for socket in fronts:
        await admin.drain(socket, place)
    try:
        yield
    finally:
        for socket in fronts:
            await admin.reopen(socket, place)


async def _knows(socket: Path, place: admin.Place) -> bool:
    return place in [(one.group, one.server) for one in await admin.backends(socket)]


def ensure_front_doors_are_ours(stage: Stage, servers: Iterable[str]) -> None:
    """Raises EngineFailed when another program holds the public address of one of these balancers that are about to
    open; it would share it without a word."""
    open_doors = {stage.seat(name, "haproxy").server.region for name in _living(stage.seats)}
    for name in servers:
        seat = stage.seat(name, "haproxy")
        if seat.server.region not in open_doors:
            ensure_service_is_free(seat.topology.service)


def ensure_service_is_free(service: tiers.Service) -> None:
    """Raises EngineFailed when anybody holds a public address of this service."""
    ensure_free(service.listen)
    if service.redirect:
        ensure_free(service.redirect, "service.redirect_http")


def ensure_free(listen: str, key: str = "service.listen") -> None:
    """Raises EngineFailed when anybody holds this `address:port`; `key` says where it was found."""
    host, _, port = listen.rpartition(":")
    if not address.is_free(host.strip("[]"), int(port)):
        raise errors.EngineFailed(
            f"{key}: {host}:{port} found in use by another program, a free address expected; "
            f"stop it (ss -ltnp shows it), or choose another port in tenfold.toml{_or_off(key)}"
        )


def _or_off(key: str) -> str:
    return ', or "off"' if key == "service.redirect_http" else ""


def wanted_web(stage: Stage) -> tuple[str, ...]:
    """The web servers that the topology asks for."""
    return tuple(one.name for one in stage.seats.wanted.running("granian"))


def told_edges(stage: Stage) -> tuple[str, ...]:
    """The wanted edges that the app tells of purges: a balancer may go by no other."""
    places = stage.seats
    bound = [publish.published(places, region) for region in places.topology.regions]
    told = {name for one in bound for name in publish.told_in(one).edges}
    return tuple(one.name for one in places.wanted.running("varnish") if one.name in told)


def sockets(stage: Stage) -> tuple[Path, ...]:
    """The runtime sockets of all balancers that run."""
    return living(stage.seats)


def living(places: seats.Seats) -> tuple[Path, ...]:
    """The runtime sockets of all balancers that run."""
    return tuple(settings.runtime_socket(places.seat(name, "haproxy")) for name in _living(places))


def _living(places: seats.Seats) -> list[str]:
    return [
        name
        for name, record in places.store.records.servers.items()
        if record.is_alive and (found := record.processes.get("haproxy")) is not None and found.is_alive
    ]
