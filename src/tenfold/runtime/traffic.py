"""Samples what web servers and balancers carry, for `tenfold status` and for whoever decides how many there should be.

Owned by the runtime. A sample asks each balancer for its statistics and each web process for `/-/load`; nothing that
serves waits for it. While somebody looks it is taken once a second, else every five: rates of counters need two.
Decides nothing: `observation/load` merges. Workers are asked as well; `signals` reads what all of them said.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from tenfold import errors
from tenfold.engines.granian import admin as granian
from tenfold.engines.granian import command
from tenfold.engines.haproxy import admin as haproxy
from tenfold.engines.haproxy import settings as haproxy_settings
from tenfold.observation import load
from tenfold.runtime import records, seats
from tenfold.topology import layout

WATCHED_SECONDS = 1.0
IDLE_SECONDS = 5.0

ATTENTION_SECONDS = 10.0
"""After somebody asked, for how long somebody is thought to look."""

WINDOW_SECONDS = 10.0
"""What rates are taken over; web processes keep the same window by themselves."""

FRESH_SECONDS = 0.3
"""A sample that is not older than this is not taken again."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is carried now: in all, by web server, and by balancer."""

    web: load.WebLoad
    doors: load.DoorLoad | None
    by_web_server: Mapping[str, load.WebLoad]
    by_balancer: Mapping[str, load.DoorLoad]


@dataclass(frozen=True, slots=True)
class _Count:
    """A balancer's counters at one moment."""

    at: float
    requests: int
    answers_5xx: int
    errors: int
    retries: int
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """What balancers and app processes said last; values are not changed under the reader's hands."""

    at: float
    doors: Mapping[str, haproxy.Traffic]
    words: Mapping[tuple[str, int, int], tuple[float, load.Worker]]
    """By server, its main process and the process of the app: when it said what."""


class Sampler:
    """Remembers the last ten seconds of every balancer, and each web process's last word."""

    def __init__(self) -> None:
        self._counts: dict[str, deque[_Count]] = {}
        self._doors: dict[str, haproxy.Traffic] = {}
        self._words: dict[tuple[str, int, int], tuple[float, load.Worker]] = {}
        """By web or worker server, its main process and the process of the app: when it said what."""
        self._expected: dict[str, int] = {}
        """By web server, how many processes of the app it should have."""
        self._sampled_at = 0.0
        self._asked_at = 0.0
        self._sampling = asyncio.Lock()

    async def watch(self, places: Callable[[], seats.Seats]) -> None:
        """Sample until cancelled."""
        while True:
            with suppress(errors.TenfoldError, OSError):  # the next one may do better; nothing depends on one sample
                await self.sample(places())
            is_watched = time.monotonic() - self._asked_at < ATTENTION_SECONDS
            await asyncio.sleep(WATCHED_SECONDS if is_watched else IDLE_SECONDS)

    async def now(self, places: seats.Seats) -> Traffic:
        """What is carried now. Somebody looks: samples are taken once a second for a while."""
        self._asked_at = time.monotonic()
        await self.sample(places)
        by_server = {
            name: load.web([word for (server, *_), (_, word) in self._words.items() if server == name], expected)
            for name, expected in self._expected.items()
        }
        by_balancer = {name: _door(told, self._counts[name]) for name, told in self._doors.items()}
        every = [word for (server, *_), (_, word) in self._words.items() if server in self._expected]
        return Traffic(
            web=load.web(every, sum(self._expected.values())),
            doors=load.doors(by_balancer.values()) if by_balancer else None,
            by_web_server=by_server,
            by_balancer=by_balancer,
        )

    @property
    def said(self) -> Said:
        """By the last sample."""
        return Said(self._sampled_at, dict(self._doors), dict(self._words))

    async def sample(self, places: seats.Seats) -> None:
        """Ask everybody once, unless that has just been done. Who does not answer is left out."""
        async with self._sampling:
            if time.monotonic() - self._sampled_at < FRESH_SECONDS:
                return
            alive = [one for one in places.store.records.servers.values() if one.is_alive]
            doors = [one for one in alive if _runs(one, "haproxy")]
            apps = [(one, name) for one in alive for name in layout.APP_ENGINES if _runs(one, name)]
            await asyncio.gather(
                *(self._ask_door(places, one.spec.name) for one in doors),
                *(self._ask_app(places, one, name) for one, name in apps),
            )
            self._forget({one.spec.name for one in doors}, {_main(one, name) for one, name in apps})
            self._sampled_at = time.monotonic()

    async def _ask_door(self, places: seats.Seats, name: str) -> None:
        try:
            told = await haproxy.stats(haproxy_settings.runtime_socket(places.seat(name, "haproxy")))
        except (errors.EngineFailed, errors.BadInput):
            self._doors.pop(name, None)
            return
        self._doors[name] = told
        groups = told.groups.values()
        count = _Count(
            time.monotonic(),
            told.public.requests,
            told.public.answers_5xx,
            sum(one.errors for one in groups),
            sum(one.retries for one in groups),
            told.refused,
        )
        kept = self._counts.setdefault(name, deque())
        if kept and count.requests < kept[-1].requests:
            kept.clear()  # a new worker counts from 0
        kept.append(count)

    async def _ask_app(self, places: seats.Seats, server: records.ServerRecord, name: str) -> None:
        """Ask as often as there are processes: the kernel says which of them answers."""
        try:
            seat = places.seat(server.spec.name, name)
        except errors.BadInput:
            return  # removed at this moment
        processes = command.processes(server.processes[name].argv)
        if name == "granian":
            self._expected[server.spec.name] = processes
        for told in await asyncio.gather(*(granian.load(seat) for _ in range(processes))):
            try:
                word = load.Worker.of(told) if told else None
            except (KeyError, TypeError, ValueError):
                continue  # code of another version than ours
            if word is not None:
                self._words[*_main(server, name), word.pid] = (time.monotonic(), word)

    def _forget(self, doors: set[str], apps: set[tuple[str, int]]) -> None:
        """What is gone, and what is too old to count."""
        oldest = time.monotonic() - WINDOW_SECONDS
        self._doors = {name: told for name, told in self._doors.items() if name in doors}
        self._counts = {name: kept for name, kept in self._counts.items() if name in doors}
        for kept in self._counts.values():
            while len(kept) > 2 and kept[1].at < oldest:
                kept.popleft()
        self._words = {key: one for key, one in self._words.items() if key[:2] in apps and one[0] >= oldest}
        names = {name for name, _ in apps}
        self._expected = {name: count for name, count in self._expected.items() if name in names}


def _runs(server: records.ServerRecord, process: str) -> bool:
    record = server.processes.get(process)
    return record is not None and record.is_alive


def _main(server: records.ServerRecord, name: str) -> tuple[str, int]:
    """A server's name and its main process: after a restart the words of the former ones are no news."""
    record = server.processes.get(name)
    return server.spec.name, record.identity.pid if record and record.identity else 0


def _door(told: haproxy.Traffic, counts: deque[_Count]) -> load.DoorLoad:
    first, last = counts[0], counts[-1]
    seconds = last.at - first.at

    def rate(count: int) -> float | None:
        return round(count / seconds, 3) if seconds > 0 else None

    requests = rate(last.requests - first.requests)
    return load.DoorLoad(
        requests_per_second=told.public.requests_per_second if requests is None else requests,
        answers_5xx_per_second=rate(last.answers_5xx - first.answers_5xx),
        errors_per_second=rate(last.errors - first.errors),
        retries_per_second=rate(last.retries - first.retries),
        open_connections=told.public.sessions,
        queued=sum(one.queued for one in told.groups.values()),
        held=told.held,
        refused_per_second=rate(last.refused - first.refused),
    )
