"""All servers together: which one gets a command, what a redirect means, and who owns which slot now.

Made by `client`. The map of slots is learnt from any server that answers, again at each redirect and failure, and
every few seconds. One server that is no cluster owns all slots.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from tenfold import bindings
from tenfold.kit import backoff
from tenfold.sdk.valkey import command, greeting, server, slots, trouble

log = logging.getLogger("tenfold.valkey")

LEARN_SECONDS = 10.0
"""How often the map is learnt anew while all is well."""

VIEW_SECONDS = 0.5
"""How long a server may take to say its view."""

PAUSE = backoff.Backoff(first_seconds=0.02, most_seconds=0.3)

LATER = frozenset({"TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY"})
"""Errors of a cluster that changes: nothing was done, and the same may succeed in a moment, perhaps elsewhere."""

REDIRECTS = 8
"""Redirects that are followed at once; after so many the map must settle first."""


class Cluster:
    """The servers, by address, and the owner of each slot."""

    def __init__(self, delivered: Callable[[bytes, bytes], None], changed: Callable[[], None]) -> None:
        self.account = greeting.Account()
        self.servers: dict[slots.Address, server.Server] = {}
        self.owners: list[server.Server | None] = [None] * slots.COUNT
        self.primaries: tuple[server.Server, ...] = ()
        self._loop = asyncio.get_running_loop()
        self._delivered = delivered
        self._changed = changed
        self._bound: tuple[slots.Address, ...] = ()
        self._nowhere = server.Server(("", 0), self)
        self._nowhere.name = "no server owns its key"
        self._running: dict[server.Server, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._wanted = asyncio.Event()
        self._learning: asyncio.Task[None] | None = None
        self._is_over = False

    # Beginning, changing, ending

    def bind(self, bound: bindings.Cache) -> None:
        """Use these servers from now on, under this account."""
        account = greeting.Account(bound.user, bound.password, bound.eviction == "fifo")
        is_other, self.account = account.is_untouching != self.account.is_untouching, account
        named = tuple((node.host, node.port) for node in bound.nodes)
        if named != self._bound:
            self._bound = named
            self._follow(slots.View() if not set(named) & set(self.servers) else self._seen())
        elif is_other:
            for one in self.servers.values():
                one.send(command.unheard(greeting.no_touch(account), self._loop.time() + VIEW_SECONDS))
        if self._learning is None:
            self._learning = self._loop.create_task(self._learn_always(), name="tenfold-valkey-map")
            self._learning.add_done_callback(_report)
        self._wanted.set()

    async def close(self) -> None:
        """End every connection, and fail what is under way."""
        self._is_over = True
        self._bound = ()
        tasks = [*self._running.values(), *self._ending]
        if self._learning is not None:
            tasks.append(self._learning)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in (self._nowhere, *self.servers.values()):
            for waiting in one.take_line():
                waiting.fail("the client was stopped")
        self.servers.clear()
        self.owners = [None] * slots.COUNT
        self.primaries = ()

    # Where commands go

    def dispatch(self, one: command.Command) -> None:
        """Send it to the server that it is meant for, or to the owner of its slot as far as that is known."""
        if self._is_over or not self._bound:
            one.fail("there are no cache servers")
            return
        (one.server or self.owners[one.slot] or self._nowhere).send(one)

    def refused(self, asked: server.Server, one: command.Command, error: trouble.Refused) -> None:
        """Follow a redirect, wait for a cluster that changes, or give the error to the caller."""
        code = error.code
        if one.server is not None or code not in LATER | {"MOVED", "ASK"}:
            one.refuse(error)
            return
        one.is_sent = False
        one.tries += 1
        if code in LATER or one.tries > REDIRECTS:
            self._wanted.set()
            self._again_later(one, str(error))
            return
        slot, address = slots.target(str(error), asked.address)
        target = self._server(address)
        if code == "ASK":
            target.send(command.unheard(("ASKING",), one.until))
            target.send(one)
            return
        self.owners[slot] = target
        self._wanted.set()
        target.send(one)

    def moved(self, asked: server.Server, error: trouble.Refused) -> bool:
        """Learn from an error that came on another connection. Whether the same may succeed in a moment."""
        if error.code not in LATER | {"MOVED", "ASK"}:
            return False
        if error.code == "MOVED":
            slot, address = slots.target(str(error), asked.address)
            self.owners[slot] = self._server(address)
        self._wanted.set()
        return True

    # What servers tell

    def pushed(self, channel: bytes, payload: bytes) -> None:
        self._delivered(channel, payload)

    def came(self, _: server.Server) -> None:
        self._wanted.set()
        self._changed()

    def went(self, gone: server.Server, left: Sequence[command.Command], why: str) -> None:
        self._changed()
        self._wanted.set()
        for one in left:
            if one.may_repeat and one.server is None and not one.future.done() and not self._is_over:
                one.is_sent = False
                one.tries += 1
                self._again_later(one, why)
            else:
                one.fail(f"{gone.name}: {why}")

    def _again_later(self, one: command.Command, why: str) -> None:
        pause = PAUSE.seconds(one.tries)
        if self._loop.time() + pause < one.until:
            self._loop.call_later(pause, self._again, one)
        else:
            one.fail(why)

    def _again(self, one: command.Command) -> None:
        if not one.future.done():
            self.dispatch(one)

    # The map

    async def _learn_always(self) -> None:
        tries = 0
        while True:
            self._wanted.clear()
            tries = 0 if await self._learn() else tries + 1
            try:
                async with asyncio.timeout(PAUSE.seconds(tries) if tries else LEARN_SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(PAUSE.first_seconds)  # what fails together asks once

    async def _learn(self) -> bool:
        """Ask for the map and follow it. Whether every slot's owner is there."""
        found = slots.newest(await self._views())
        if found is not None and (found.is_complete or not self.primaries):
            self._follow(found)
        self._nowhere.trouble = "; ".join(f"{one.name}: {one.trouble}" for one in self.servers.values())
        self._changed()
        return bool(self.primaries) and all(one.connection is not None for one in self.primaries)

    async def _views(self) -> list[slots.View]:
        """What the servers of the bindings that can be asked now say; when none can, what the others say."""
        there = [one for one in self.servers.values() if one.connection is not None]
        asked = [one for one in there if one.is_well and one.address in self._bound] or there
        alone = next((one for one in asked if not one.is_cluster), None)
        if alone is not None:
            return [slots.alone(alone.address)]
        views = await asyncio.gather(*(self._view(one) for one in asked))
        return [one for one in views if one is not None]

    async def _view(self, asked: server.Server) -> slots.View | None:
        try:
            info, answer = await asyncio.gather(
                self.ask(asked, ("CLUSTER", "INFO"), VIEW_SECONDS), self.ask(asked, ("CLUSTER", "SLOTS"), VIEW_SECONDS)
            )
            return slots.view(answer, info, asked.address)
        except (trouble.ValkeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            log.debug("cache: %s did not say who owns which slot: %r", asked.name, error)
            return None

    def ask(self, asked: server.Server, parts: tuple[command.Part, ...], seconds: float) -> "asyncio.Future[Any]":
        """The answer of this very server."""
        one = command.Command(parts, self._loop.create_future(), self._loop.time() + seconds)
        one.server = asked
        self.dispatch(one)
        return one.future

    def _seen(self) -> slots.View:
        """The map as it is followed now."""
        ranges = ((slot, slot, one.address) for slot, one in enumerate(self.owners) if one is not None)
        return slots.View(tuple(ranges))

    def _follow(self, found: slots.View) -> None:
        """Make the map the one that is followed; begin with new servers, and leave those that nobody names."""
        for address in (*found.primaries, *self._bound):
            self._server(address)
        for first, last, address in found.ranges:
            self.owners[first : last + 1] = [self.servers[address]] * (last - first + 1)
        if not found.ranges:
            self.owners = [None] * slots.COUNT
        self.primaries = tuple(self.servers[address] for address in found.primaries)
        for one in [one for one in self.servers.values() if one.address not in (*found.primaries, *self._bound)]:
            self._leave(one)
        for one in (self._nowhere, *self.servers.values()):
            if one.connection is None and (one is not self._nowhere or self.primaries):
                self._send_elsewhere(one)

    def _server(self, address: slots.Address) -> server.Server:
        known = self.servers.get(address)
        if known is None:
            known = self.servers[address] = server.Server(address, self)
            task = self._running[known] = self._loop.create_task(known.run(), name=f"tenfold-valkey-{known.name}")
            task.add_done_callback(_report)
        return known

    def _leave(self, one: server.Server) -> None:
        del self.servers[one.address]
        task = self._running.pop(one)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.cancel()
        self._send_elsewhere(one)

    def _send_elsewhere(self, one: server.Server) -> None:
        for waiting in one.take_line():
            if waiting.server is None or waiting.server.address in self.servers:
                self.dispatch(waiting)
            else:
                waiting.fail(f"{one.name} is not one of the cache's servers any more")


def _report(task: "asyncio.Task[None]") -> None:
    """One that ends by itself is a flaw of ours: say so, loudly, with its traceback."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("%s ended: the cache's servers are not followed any more", task.get_name(), exc_info=error)
