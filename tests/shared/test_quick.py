"""Quick answers: what goes out before the whole path is walked, and what does not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from shared.quick import Asked
from shared.server import listening
from shared.service import Kit, build_app
from shared.web import DEFAULT_HEADERS, Call, Reply, Route
from tests.shared.test_server import talk

PATH = "/v1/districts/ccps/quick"


class Quick:
    """A route that says which way it was answered."""

    def __init__(self) -> None:
        self.answer: Callable[[Asked], bytes | None] = lambda asked: b'{"way":"quick"}'

    async def whole(self, call: Call[None]) -> Reply:
        return Reply(200, {"way": "whole"})

    def quick(self, asked: Asked) -> bytes | None:
        return self.answer(asked)

    def route(self, method: Any = "GET") -> Route:
        path = "/v1/districts/{district}/quick"
        return Route(method, path, self.whole, "Quick.", needs_store=False, quick=self.quick)


@pytest.fixture
def quick() -> Quick:
    return Quick()


@pytest.fixture
async def port(kit: Kit, quick: Quick, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    from shared import service

    monkeypatch.setattr(service, "all_routes", lambda kit: [quick.route(), quick.route("POST")])
    for ready in ("migrations", "history"):
        kit.readiness.has(ready)
    async with listening(build_app(kit), "127.0.0.1", 0, drain_s=1) as port:
        yield port


def request(*headers: str, method: str = "GET", path: str = PATH, body: str = "") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body.encode()


async def test_it_is_answered_without_the_whole_path(port: int) -> None:
    assert await talk(port, request()) == (200, {"way": "quick"})


@pytest.mark.parametrize(
    "sent",
    [
        request("Origin: https://portal.example.org"),
        request("Content-Encoding: gzip"),
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        request(path=f"{PATH.replace('quick', 'qu%69ck')}"),
    ],
    ids=["a browser's", "compressed", "of 1996", "spelt otherwise"],
)
async def test_what_is_out_of_the_ordinary_walks_the_whole_path(port: int, sent: bytes) -> None:
    assert await talk(port, sent) == (200, {"way": "whole"})


async def test_what_it_cannot_say_the_whole_path_says(port: int, quick: Quick) -> None:
    quick.answer = lambda asked: None
    assert await talk(port, request()) == (200, {"way": "whole"})
    quick.answer = lambda asked: b"%d" % (1 // 0)
    assert await talk(port, request()) == (200, {"way": "whole"})


async def test_nothing_is_answered_quickly_while_the_store_disagrees(port: int, kit: Kit) -> None:
    kit.readiness.waits_for("history", "being compared")
    assert (await talk(port, request()))[1] == {"way": "whole"}


async def test_the_body_is_seen_and_left_to_the_whole_path(port: int, quick: Quick) -> None:
    seen: list[bytes] = []

    def look(asked: Asked) -> None:
        seen.append(asked.body)

    quick.answer = look
    assert (await talk(port, request(method="POST", body="token=x")))[0] == 200
    assert seen == [b"token=x"]


async def test_two_authorizations_are_none(port: int, quick: Quick) -> None:
    seen: list[str] = []

    def look(asked: Asked) -> None:
        seen.append(asked.authorization)

    quick.answer = look
    await talk(port, request("Authorization: Bearer a"))
    await talk(port, request("Authorization: Bearer a", "Authorization: Bearer b"))
    await talk(port, request())
    assert seen == ["Bearer a", "", ""]


async def test_it_has_every_header_of_the_whole_path_and_many_go_over_one_connection(
    port: int, quick: Quick
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heads = []
    for answer in (quick.answer, lambda asked: None, quick.answer):
        quick.answer = answer
        writer.write(request("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        heads.append({line.split(":")[0]: line for line in head.splitlines()[1:] if line})
    writer.close()
    first, whole, last = heads
    assert first.keys() == whole.keys() == last.keys()
    assert {name.lower() for name, _ in DEFAULT_HEADERS} <= first.keys()
    assert first["homeroom-correlation-id"] == whole["homeroom-correlation-id"]
    assert "0af76519-16cd-43dd-8448-eb211c80319c" in first["homeroom-correlation-id"]
    assert first["content-type"] == whole["content-type"]


async def test_a_connection_that_is_to_be_closed_is_closed(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request("Connection: close"))
    async with asyncio.timeout(5):
        assert (await reader.read()).endswith(b'{"way":"quick"}')
    writer.close()
