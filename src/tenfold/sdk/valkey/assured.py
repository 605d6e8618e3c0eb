"""Writes that outlive their server: acknowledged by a replica before anybody is told that they are done.

Called by `sdk/sessions` and `sdk/tokens` for logins, logouts and revocations. A write without this may be lost with its
primary, although it was acknowledged.
"""

import asyncio
from typing import Any

from tenfold.kit import backoff
from tenfold.sdk import counters
from tenfold.sdk.valkey import client, command, slots, trouble

REPLICA_SECONDS = 0.5
"""How long a replica that is there may take to acknowledge."""

PAUSE = backoff.Backoff(first_seconds=0.02, most_seconds=0.2)

ELSEWHERE = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY"})
"""The cluster is changing: the same may succeed in a moment, perhaps on another server."""


async def call(servers: client.Client, *parts: command.Part, key: str, seconds: float) -> Any:
    """The answer to a command that may be repeated, once a replica of the key's server has it too.

    Tried again, through a failover, for `seconds`; then raises `Unavailable`. A server that has no replica just now is
    its own only witness: that is counted (`valkey.unwitnessed`), and no error, because a service must go on with one
    server less.
    """
    loop = asyncio.get_running_loop()
    until, tries = loop.time() + seconds, 0
    while True:
        try:
            return await _try(servers, parts, key, until - loop.time())
        except trouble.ValkeyError as error:
            if isinstance(error, trouble.Refused) and error.code not in ELSEWHERE:
                raise
            tries += 1
            pause = PAUSE.seconds(tries)
            if loop.time() + pause >= until:
                raise trouble.Unavailable(f"{parts[0]!s}: {error}") from error
        await asyncio.sleep(pause)


async def _try(servers: client.Client, parts: tuple[command.Part, ...], key: str, seconds: float) -> Any:
    async with servers.dedicated(key, timeout=seconds) as own:
        answer, mark, info = await own.many([parts, _mark(key), ("INFO", "replication")], timeout=seconds)
        for one in (answer, mark, info):
            if isinstance(one, BaseException):
                raise one
        if not await _is_witnessed(own, bytes(info), servers):
            counters.add("valkey.unwitnessed")
        return answer


def _mark(key: str) -> tuple[command.Part, ...]:
    """A write in any case: WAIT asks for what its own connection has written, and is content at once with nothing.

    A command that is repeated may find everything done, by a try whose acknowledgement was never heard.
    """
    return "SET", b"tenfold:mark:{" + slots.tag(key) + b"}", b"", "EX", 1


async def _is_witnessed(own: Any, info: bytes, servers: client.Client) -> bool:
    """Whether a replica has it. One server alone never has a witness, and none is expected."""
    if b"connected_slaves:0\r" in info:
        return len(servers.primaries()) < 2
    milliseconds = round(REPLICA_SECONDS * 1000)
    return bool(await own.call("WAIT", 1, milliseconds, timeout=REPLICA_SECONDS + 1.0) >= 1)
