"""The listening socket: what never becomes a request, and how running ones end."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from shared.server import listening
from shared.service import Kit, build_app

POST_ECHO = b"POST /v1/districts/ccps/echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture
async def port(kit: Kit) -> AsyncIterator[int]:
    async with listening(build_app(kit), "127.0.0.1", 0, drain_s=1) as port:
        yield port


async def talk(port: int, sent: bytes) -> tuple[int, dict[str, Any]]:
    """The status and problem that some bytes are answered with."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    await writer.drain()
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:")
        )
        body = await reader.readexactly(length)
    writer.close()
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "malformed_request"),
        (b"GET /health/live HTTP/9.9\r\n\r\n", 400, "malformed_request"),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, "malformed_request"),
        (
            b"POST /health/live HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "malformed_request",
        ),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, "header_too_large"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431, "header_too_large"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100 + b"\r\n", 400, "malformed_request"),
        (
            POST_ECHO + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
            400,
            "malformed_request",
        ),
    ],
)
async def test_what_is_no_request_is_told_as_a_problem(
    port: int, sent: bytes, status: int, reason: str
) -> None:
    told, problem = await talk(port, sent)
    assert (told, problem["reason"]) == (status, reason)
    assert "aiohttp" not in json.dumps(problem)


async def test_a_client_that_hangs_up_harms_nobody(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST_ECHO + b"Content-Length: 9\r\n\r\n{")
        await writer.drain()
        writer.close()
    await asyncio.sleep(0.1)
    status, _ = await talk(port, b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 200
    assert "internal_error" not in capsys.readouterr().out


async def test_running_requests_may_finish_and_new_ones_are_not_taken(kit: Kit) -> None:
    app = build_app(kit)
    begun = asyncio.Event()

    async def slow(request: Any) -> Any:
        begun.set()
        await asyncio.sleep(0.3)
        return web.json_response({"done": True})

    app.router.add_get("/slow", slow)
    async with listening(app, "127.0.0.1", 0, drain_s=5) as port:
        answer = asyncio.create_task(talk(port, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"))
        await begun.wait()
        idle = await asyncio.open_connection("127.0.0.1", port)
    assert await answer == (200, {"done": True})
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    assert await idle[0].read() == b""


async def test_a_request_that_does_not_end_is_cut_after_the_drain(kit: Kit) -> None:
    app = build_app(kit)

    async def endless(request: Any) -> Any:
        await asyncio.sleep(60)

    app.router.add_get("/endless", endless)
    loop = asyncio.get_running_loop()
    async with listening(app, "127.0.0.1", 0, drain_s=0.2) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)
        began = loop.time()
    assert loop.time() - began < 3
    writer.close()
