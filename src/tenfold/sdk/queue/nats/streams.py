"""The service's stream and its consumers: what they must be, and making them so.

Called by `transport`. Whoever comes first makes them, whoever comes later finds them or brings their settings up to
date; all of it may be repeated at any time.

The stream keeps a message until every group that had subscribed to its subject when it was published has acknowledged
it (retention `interest`). `workqueue` would allow one group a subject, `limits` would keep what nobody waits for until
the storage is full. A message whose subject nobody has subscribed to is dropped, as in PostgreSQL. When the storage is
full new messages are refused, and none that waits is thrown away.
"""

import asyncio
import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from tenfold import errors
from tenfold.sdk.queue.nats import link, naming, succession

log = logging.getLogger("tenfold.queue")

ASK_SECONDS = 10.0
"""How long the servers may take for one answer about streams and consumers: each is an election among them."""

DUPLICATE_SECONDS = 120
"""For how long the stream remembers a message's id. What comes again later meets the group's inbox, if it has one."""

CLOSED = {"max_msg_size": 1}
"""Makes a stream refuse every message, until its consumers are there."""

SHUT_AT = "tenfold-shut-at"
"""In the stream's metadata: when the service went back to another transport."""

NOT_FOUND = 404
FULL = frozenset((10023, 10047, 10077, 10122))
"""Error codes: not enough storage or memory, a limit of the stream reached."""
NO_STREAM = 10059
STREAM_EXISTS = 10058


class RefusedError(Exception):
    """The servers understood and said no. Never leaves this package."""

    def __init__(self, status: int, code: int, words: str) -> None:
        self.status = status
        self.code = code
        super().__init__(f"{words} ({code})")


class Streams:
    """The stream of one service on its servers; with a `domain`, on those of another region, which these ask."""

    def __init__(self, connection: link.Link, names: naming.Names, domain: str = "") -> None:
        self._link = connection
        self._api = f"$JS.{domain}.API" if domain else "$JS.API"
        self.names = names

    async def ensure(self, replicas: int, most_bytes: int, groups: Iterable[naming.Group], told_at: datetime) -> str:
        """The stream and the groups' consumers are there, as they must be; and no message came to a stream before them.

        Returns when the stream was made: one that was lost and made again is another one. Raises what `TROUBLE` names.
        A stream that was shut since we were told to use it stays so.
        """
        wanted = _stream(self.names, replicas, most_bytes)
        found = await self.info()
        config = await self._created(wanted) if found is None else found["config"]
        last_sequence = 0 if found is None else int(found["state"]["last_seq"])
        if config["subjects"] != wanted["subjects"]:
            shut_at = config.get("metadata", {}).get(SHUT_AT, "")
            if shut_at and datetime.fromisoformat(shut_at) >= told_at:
                raise RefusedError(503, NO_STREAM, f"the service went back to another transport at {shut_at}")
            await self._ask(f"STREAM.UPDATE.{self.names.stream}", wanted | CLOSED)
        consumers = [one for group in groups for one in self.names.consumers(group)]
        present = await self._subscribe(consumers, last_sequence)
        if not succession.is_within(wanted, config):
            await self._change(wanted, config)
        await self.forget(succession.strangers(present, consumers, datetime.now(UTC)))
        known = found or await self.info() or {"created": ""}
        return str(known["created"])

    async def _change(self, wanted: dict[str, Any], config: dict[str, Any]) -> None:
        """The stream is as it must be. One that takes messages already goes on as it is while the servers have not got
        the storage that it shall have: they are restarted with more, one after the other, and we come again."""
        try:
            await self._ask(f"STREAM.UPDATE.{self.names.stream}", wanted)
        except RefusedError as error:
            is_open = succession.is_within({"subjects": wanted["subjects"], "max_msg_size": -1}, config)
            if error.code not in FULL or not is_open:
                raise
            log.info("queue: the servers have no room yet for a stream of %d bytes (%s)", wanted["max_bytes"], error)

    async def _created(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """A stream that takes nothing yet; or another process was faster."""
        try:
            await self._ask(f"STREAM.CREATE.{self.names.stream}", wanted | CLOSED)
        except RefusedError as error:
            if error.code != STREAM_EXISTS:
                raise
        return wanted | CLOSED

    async def shut(self) -> bool:
        """Take no more messages: whoever still publishes is refused. False when there is no stream."""
        found = await self.info()
        if found is None:
            return False
        config = found["config"]
        if config["subjects"] != [self.names.nothing]:
            metadata = {**config.get("metadata", {}), SHUT_AT: datetime.now(UTC).isoformat()}
            changed = {**config, "subjects": [self.names.nothing], "metadata": metadata}
            await self._ask(f"STREAM.UPDATE.{self.names.stream}", changed)
        return True

    async def info(self) -> dict[str, Any] | None:
        """What the servers say of the stream; None when there is none."""
        try:
            return await self._ask(f"STREAM.INFO.{self.names.stream}", None)
        except RefusedError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    async def change(self, config: dict[str, Any], *, is_new: bool) -> None:
        """Make this stream, or change its settings."""
        await self._ask(f"STREAM.{'CREATE' if is_new else 'UPDATE'}.{config['name']}", config)

    async def delete(self) -> None:
        """The stream is not there any more. Twice is once."""
        try:
            await self._ask(f"STREAM.DELETE.{self.names.stream}", None)
        except RefusedError as error:
            if error.status != NOT_FOUND:
                raise

    async def consumers(self) -> list[dict[str, Any]]:
        """What the servers say of all consumers of the stream that have a group."""
        return [one for one in await self.listeners() if "group" in one["config"].get("metadata", {})]

    async def listeners(self) -> list[dict[str, Any]]:
        """What they say of all its consumers: those through which other regions copy it, too."""
        found: list[dict[str, Any]] = []
        while True:
            page = await self._ask(f"CONSUMER.LIST.{self.names.stream}", {"offset": len(found)})
            found += page.get("consumers") or []
            if len(found) >= page.get("total", 0) or not page.get("consumers"):
                return found

    async def _subscribe(self, wanted: Iterable[naming.Consumer], last_sequence: int) -> list[dict[str, Any]]:
        """Each of these consumers is there, as it must be; returns those that there were before."""
        found = await self.consumers()
        missing = succession.missing(wanted, found, last_sequence)
        await asyncio.gather(*(self.create(one) for one in missing))
        return found

    async def create(self, consumer: dict[str, Any]) -> None:
        """Make this consumer, or change it."""
        body = {"stream_name": self.names.stream, "config": consumer}
        await self._ask(f"CONSUMER.CREATE.{self.names.stream}.{consumer['name']}", body)

    async def published_at(self, sequence: int, pattern: str) -> datetime | None:
        """When the first message from this one on came that has such a subject; None when there is none."""
        body = {"seq": sequence, "next_by_subj": pattern}
        try:
            found = await self._ask(f"STREAM.MSG.GET.{self.names.stream}", body)
        except RefusedError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return datetime.fromisoformat(found["message"]["time"])

    async def restart(self, consumer: dict[str, Any]) -> None:
        """Let another consumer go on behind what this one has settled: at once with what it would wait to try again.

        Right for a lane, which settles one message after the other. The old one goes last: no message is without one.
        """
        config = dict(consumer["config"])
        renamed = f"{consumer['name']}-again"
        begin = {"deliver_policy": "by_start_sequence", "opt_start_seq": consumer["ack_floor"]["stream_seq"] + 1}
        await self.create(config | {"name": renamed, "durable_name": renamed, **begin})
        await self.forget([consumer["name"]])

    async def forget(self, names: Iterable[str]) -> None:
        """Delete these consumers, and what waited for them alone."""
        for name in names:
            try:
                await self._ask(f"CONSUMER.DELETE.{self.names.stream}.{name}", None)
            except RefusedError as error:
                if error.status != NOT_FOUND:
                    raise

    async def _ask(self, what: str, body: dict[str, Any] | None) -> dict[str, Any]:
        payload = b"" if body is None else json.dumps(body).encode()
        answer = await self._link.ask(f"{self._api}.{what}", payload, ASK_SECONDS)
        if answer.head and not answer.payload:
            raise link.LostError("JetStream does not answer on this server")
        said: dict[str, Any] = json.loads(answer.payload)
        if "error" in said:
            raise refused(said)
        return said


def refused(said: dict[str, Any]) -> RefusedError:
    """The error in an answer of the servers."""
    error = said["error"]
    return RefusedError(int(error.get("code", 0)), int(error.get("err_code", 0)), str(error.get("description", "")))


def error_for(where: str, found: BaseException) -> errors.TryAgain:
    """What an app hears of trouble with the servers. To be raised from `found`."""
    if isinstance(found, RefusedError) and found.code in FULL:
        return errors.Overloaded(
            f"{where}: the queue's storage is full ({found}); handle messages faster, or raise queue.storage"
        )
    words = str(found) or type(found).__name__
    return errors.StoreUnavailable(f"{where}: the NATS servers do not take it ({words}); it may not have been taken")


TROUBLE = (link.LostError, TimeoutError, RefusedError)
"""What any question to the servers may raise."""


def _stream(names: naming.Names, replicas: int, most_bytes: int) -> dict[str, Any]:
    return {
        "name": names.stream,
        "subjects": [names.everything],
        "retention": "interest",
        "storage": "file",
        "discard": "new",
        "num_replicas": replicas,
        "max_bytes": most_bytes,
        "max_msg_size": -1,
        "duplicate_window": DUPLICATE_SECONDS * succession.SECOND,
        "metadata": {SHUT_AT: ""},
    }
