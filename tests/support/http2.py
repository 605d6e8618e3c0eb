"""A client that sends one HTTP/2 request after the other and obeys GOAWAY as RFC 9113 wants it (6.8, 8.7).

A server that leaves says so, still answers what is in flight, and the client opens another connection. The common
Python clients fail such requests; browsers do not. Nothing is ever sent twice here.
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from hpack import Decoder, Encoder
from hyperframe import frame as frames

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class Seen:
    """How often each status was answered, and how many connections that took."""

    answers: Counter[str] = field(default_factory=Counter)
    connections: int = 0


@asynccontextmanager
async def requests(host: str, port: int, authority: bytes, pause_seconds: float = 0.005) -> AsyncIterator[Seen]:
    """GET / again and again while the body runs. A request that breaks off raises on leaving."""
    trust = ssl.create_default_context(cadata=authority.decode())
    trust.set_alpn_protocols(["h2"])
    seen, is_over = Seen(), asyncio.Event()

    async def go() -> None:
        while not is_over.is_set():
            connection = _Connection(*await asyncio.open_connection(host, port, ssl=trust), host)
            seen.connections += 1
            while not is_over.is_set() and not connection.is_leaving:
                seen.answers[await connection.get("/")] += 1
                await asyncio.sleep(pause_seconds)
            await connection.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(go())
        try:
            yield seen
        finally:
            is_over.set()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self.reader, self.writer, self.host = reader, writer, host
        self.encoder, self.decoder = Encoder(), Decoder()
        self.stream = -1
        self.is_leaving = False
        writer.write(PREFACE + frames.SettingsFrame(0).serialize())

    async def get(self, path: str) -> str:
        """The status of the answer, once all of it is there."""
        self.stream += 2
        wanted = [(":method", "GET"), (":scheme", "https"), (":authority", self.host), (":path", path)]
        block = self.encoder.encode(wanted)
        self.writer.write(frames.HeadersFrame(self.stream, block, flags=["END_STREAM", "END_HEADERS"]).serialize())
        status = ""
        while True:
            found = await self._frame()
            if isinstance(found, frames.HeadersFrame) and found.stream_id == self.stream:
                status = dict(self.decoder.decode(found.data))[":status"]
            if found.stream_id == self.stream and "END_STREAM" in found.flags:
                return status

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError, TimeoutError):
            await self.writer.wait_closed()

    async def _frame(self) -> frames.Frame:
        found, length = frames.Frame.parse_frame_header(memoryview(await self.reader.readexactly(9)))
        found.parse_body(memoryview(await self.reader.readexactly(length)))
        if isinstance(found, frames.GoAwayFrame):
            self.is_leaving = True
            assert found.last_stream_id >= self.stream, "the request was not taken: it would have to be sent again"
        elif isinstance(found, frames.RstStreamFrame):
            raise ConnectionResetError(f"stream {found.stream_id} reset with {found.error_code}")
        elif isinstance(found, frames.DataFrame) and found.flow_controlled_length:
            self.writer.write(frames.WindowUpdateFrame(0, found.flow_controlled_length).serialize())
        elif isinstance(found, frames.PingFrame | frames.SettingsFrame) and "ACK" not in found.flags:
            self._acknowledge(found)
        return found

    def _acknowledge(self, found: frames.PingFrame | frames.SettingsFrame) -> None:
        answer: frames.Frame = frames.SettingsFrame(0, flags=["ACK"])
        if isinstance(found, frames.PingFrame):
            answer = frames.PingFrame(0, found.opaque_data, flags=["ACK"])
        self.writer.write(answer.serialize())
