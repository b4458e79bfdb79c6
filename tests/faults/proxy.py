"""Proxies that catch a relay in the middle of its work, without a hook in the code under test.

Each relay reaches Kafka and PostgreSQL through a proxy of its own. The Kafka side cuts the stream into the protocol's
frames, so that a produce request or its acknowledgement can be held alone, and writes its own port over the broker's
in what the broker says about itself. A `Snare` names the gap; once the relay is caught in it, it can be killed there.
"""

import asyncio
import contextlib
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

PRODUCE = 0  # the API key of a Kafka produce request


class Gap(Enum):
    """Between which two steps of `SELECT, produce, acknowledgement, DELETE, its answer` the relay is caught."""

    BEFORE_SEND = "rows are selected, Kafka has not been told"
    BEFORE_ACKNOWLEDGEMENT = "Kafka has the events, the relay does not know"
    BEFORE_MARK = "the relay knows, its rows still stand in the outbox"
    AFTER_MARK = "the rows are gone, the relay does not know"


class Snare:
    """What the two proxies of one relay look at: the gap to catch it in next, and whether it has been caught."""

    def __init__(self) -> None:
        self.gap: Gap | None = None
        self.caught = asyncio.Event()
        self.acknowledged = False

    def set(self, gap: Gap) -> None:
        self.gap, self.acknowledged = gap, False
        self.caught.clear()

    def spring(self) -> None:
        """Nothing is held any longer."""
        self.gap, self.acknowledged = None, False

    async def hold(self) -> None:
        """The held frame goes nowhere: the connection is cut when the process at its end has been killed."""
        self.caught.set()
        await asyncio.Event().wait()


class Proxy(ABC):
    """Passes one port's bytes on to `target`, "host:port"."""

    def __init__(self, target: str, snare: Snare) -> None:
        host, _, port = target.rpartition(":")
        self.target, self.snare = (host, int(port)), snare
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Cut every connection, and with it what is held."""
        for connection in list(self._connections):
            connection.cancel()

    async def stop(self) -> None:
        if self._server:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connect(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.close()
            return
        produces: set[int] = set()
        pumps = {
            asyncio.ensure_future(
                _pump(self.frame, reader, far_writer, lambda frame: self.request(frame, produces))
            ),
            asyncio.ensure_future(
                _pump(self.frame, far_reader, writer, lambda frame: self.answer(frame, produces))
            ),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            writer.close()
            far_writer.close()

    @abstractmethod
    async def frame(self, reader: asyncio.StreamReader) -> bytes: ...

    @abstractmethod
    async def request(self, frame: bytes, produces: set[int]) -> bytes: ...

    @abstractmethod
    async def answer(self, frame: bytes, produces: set[int]) -> bytes: ...


class KafkaProxy(Proxy):
    """Holds produce requests or their acknowledgements; `produces` are the correlation ids still unanswered."""

    async def frame(self, reader: asyncio.StreamReader) -> bytes:
        size = await reader.readexactly(4)
        return size + await reader.readexactly(int.from_bytes(size, "big"))

    async def request(self, frame: bytes, produces: set[int]) -> bytes:
        api_key, _, correlation_id = struct.unpack_from(">hhi", frame, 4)
        if api_key == PRODUCE:
            if self.snare.gap is Gap.BEFORE_SEND:
                await self.snare.hold()
            produces.add(correlation_id)
        return frame

    async def answer(self, frame: bytes, produces: set[int]) -> bytes:
        correlation_id = int.from_bytes(frame[4:8], "big")
        if correlation_id in produces:
            produces.discard(correlation_id)
            if self.snare.gap is Gap.BEFORE_ACKNOWLEDGEMENT:
                await self.snare.hold()
            self.snare.acknowledged = True
        host, port = self.target
        itself, here = (host.encode() + number.to_bytes(4, "big") for number in (port, self.port))
        return frame.replace(itself, here)


class PostgresProxy(Proxy):
    """Holds what the relay says after an acknowledgement (its mark), or what it hears back."""

    async def frame(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.read(65536)

    async def request(self, frame: bytes, produces: set[int]) -> bytes:
        if self.snare.gap is Gap.BEFORE_MARK and self.snare.acknowledged:
            await self.snare.hold()
        return frame

    async def answer(self, frame: bytes, produces: set[int]) -> bytes:
        if self.snare.gap is Gap.AFTER_MARK and self.snare.acknowledged:
            await self.snare.hold()
        return frame


async def _pump(
    cut: Callable[[asyncio.StreamReader], Coroutine[Any, Any, bytes]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    step: Callable[[bytes], Coroutine[Any, Any, bytes]],
) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while frame := await cut(reader):
            writer.write(await step(frame))
            await writer.drain()
