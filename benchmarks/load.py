"""A load of one prepared HTTP request over keep-alive connections.

`python -m benchmarks.load HOST PORT CONNECTIONS SECONDS` with the request's bytes on standard input answers one
JSON line {"requests", "seconds", "statuses", "p50_ms", "p99_ms"}. It is a process of its own, so that the measured
server does not share its interpreter with what measures it. Loopback only.
"""

import asyncio
import sys
import time
from collections import Counter
from typing import cast

import msgspec
import uvloop

from benchmarks.measure import quantile

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Connection(asyncio.Protocol):
    """Sends the request again as soon as its response is whole."""

    def __init__(self, request: bytes, tally: "Tally") -> None:
        self.request, self.tally, self.buffer = request, tally, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its base class
        self.send()

    def send(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(self.request)

    def answered(self, body: bytes) -> None:
        """For whoever asks something else then."""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator or len(rest) < _content_length(head):
            return
        self.buffer = b""
        self.answered(rest)
        self.tally.count(head[9:12], time.perf_counter() - self.sent)
        if time.perf_counter() < self.tally.until:
            self.send()
        else:
            self.transport.close()


class Tally:
    """What came back until the time is over."""

    def __init__(self, seconds: float) -> None:
        self.began = time.perf_counter()
        self.until = self.began + seconds
        self.statuses: Counter[str] = Counter()
        self.times: list[float] = []

    def count(self, status: bytes, seconds: float) -> None:
        self.statuses[status.decode()] += 1
        self.times.append(seconds)

    def report(self) -> dict[str, object]:
        return {
            "requests": len(self.times),
            "seconds": time.perf_counter() - self.began,
            "statuses": dict(self.statuses),
            "p50_ms": 1000 * quantile(self.times, 0.5),
            "p99_ms": 1000 * quantile(self.times, 0.99),
        }


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.split(b":", 1)[1])
    return 0


async def run(host: str, port: int, connections: int, seconds: float, request: bytes) -> dict[str, object]:
    """Keep that many connections busy for so long; loopback addresses only."""
    if host not in LOOPBACK:
        raise SystemExit("load goes to loopback only")
    tally = Tally(seconds)
    loop = asyncio.get_running_loop()
    made = await asyncio.gather(
        *(loop.create_connection(lambda: Connection(request, tally), host, port) for _ in range(connections))
    )
    while not all(transport.is_closing() for transport, _ in made):
        await asyncio.sleep(0.05)
        if time.perf_counter() > tally.until + 30:
            raise SystemExit("responses stayed out for 30 seconds")
    return tally.report()


if __name__ == "__main__":
    host, port, connections, seconds = sys.argv[1:5]
    report = uvloop.run(run(host, int(port), int(connections), float(seconds), sys.stdin.buffer.read()))
    print(msgspec.json.encode(report).decode())
