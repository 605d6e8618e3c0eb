"""A client of etcd's v3 JSON gateway, for what the runtime asks of the coordination store.

Called by the adapters of etcd (users, health) and Patroni (its leader key, what a removed member leaves). It decides
nothing. Branches on gRPC's codes, never on texts.
"""

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from tenfold import engines, errors
from tenfold.topology import layout

CLIENT_PORT = 2379
PEER_PORT = 2380
USER = "root"

INVALID_ARGUMENT, FAILED_PRECONDITION, UNAUTHENTICATED = 3, 9, 16
"""gRPC's codes, as the gateway passes them on."""


class Refused(errors.EngineFailed):
    """etcd answered with an error; `code` is gRPC's."""

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Entry:
    """One key as it was: `revision` rises with every write of it."""

    key: str
    value: str
    revision: int


def servers(seat: engines.Seat) -> tuple[layout.Server, ...]:
    """The servers of the store that the seat asks: its own region's, for a store never spans two."""
    return tuple(one for one in seat.layout.running("etcd") if one.region_number == seat.server.region_number)


@asynccontextmanager
async def opened(seat: engines.Seat, timeout_seconds: float = 3.0) -> AsyncIterator["Store"]:
    """The coordination store of the seat's region, for one piece of work."""
    addresses = tuple(server.address(seat.network) for server in servers(seat))
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Store(addresses, seat.secrets.etcd, session)


class Store:
    """The store behind several servers: the first that answers is asked. For one task."""

    def __init__(self, addresses: tuple[str, ...], password: str, session: aiohttp.ClientSession) -> None:
        self._addresses = addresses
        self._password = password
        self._session = session
        self._token = ""

    async def log_in(self) -> bool:
        """Get a token. False while the store does not ask for passwords. Raises Refused for a wrong one."""
        try:
            answer = await self.call("auth/authenticate", {"name": USER, "password": self._password})
        except Refused as refused:
            if refused.code == FAILED_PRECONDITION:
                return False
            raise
        self._token = str(answer["token"])
        return True

    async def call(self, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Ask one server after the other. Raises Refused when one says no, EngineFailed when none answers."""
        reasons = []
        for address in self._addresses:
            try:
                return await self._call(address, path, body or {})
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                reasons.append(f"{address}: {error or type(error).__name__}")
        raise errors.EngineFailed(f"etcd: no server answered ({'; '.join(reasons)}); start the coordination servers")

    async def entry(self, key: str) -> Entry | None:
        """The key's entry, or None. Linearizable: nothing that was written before this call is missed."""
        answer = await self.call("kv/range", {"key": encode(key)})
        for one in answer.get("kvs", []):
            return Entry(key, decode(one.get("value", "")), int(one["mod_revision"]))
        return None

    async def delete_unchanged(self, entry: Entry) -> bool:
        """Delete the key in one transaction, if its value and revision are still the entry's. True when it was."""
        return await self._if_unchanged(entry, {"request_delete_range": {"key": encode(entry.key)}})

    async def replace_unchanged(self, entry: Entry, value: str) -> bool:
        """Give the key another value in one transaction, if nobody else has meanwhile. True when it was."""
        return await self._if_unchanged(entry, {"request_put": {"key": encode(entry.key), "value": encode(value)}})

    async def delete(self, key: str) -> None:
        """Delete a key, whatever it holds."""
        await self.call("kv/deleterange", {"key": encode(key)})

    async def delete_below(self, prefix: str) -> None:
        """Delete every key that begins with the prefix."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        await self.call("kv/deleterange", {"key": encode(prefix), "range_end": encode(end)})

    async def _if_unchanged(self, entry: Entry, request: Mapping[str, object]) -> bool:
        key = encode(entry.key)
        same_value = {"key": key, "target": "VALUE", "result": "EQUAL", "value": encode(entry.value)}
        same_revision = {"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": str(entry.revision)}
        answer = await self.call("kv/txn", {"compare": [same_value, same_revision], "success": [request]})
        return bool(answer.get("succeeded", False))

    async def _call(self, address: str, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        headers = {"Authorization": self._token} if self._token else {}
        url = f"http://{address}:{CLIENT_PORT}/v3/{path}"
        async with self._session.post(url, json=body, headers=headers) as response:
            answer: dict[str, Any] = await response.json(content_type=None)
        if response.status >= 400:
            raise Refused(f"etcd at {address}: {path}: {answer.get('message', answer)}", int(answer.get("code", 0)))
        return answer


def encode(text: str) -> str:
    """Keys and values travel in base64."""
    return base64.b64encode(text.encode()).decode()


def decode(text: str) -> str:
    """The text of a key or value that came."""
    return base64.b64decode(text).decode()
