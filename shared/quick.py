"""Answers at once: for the few questions that are asked with every request of every application.

A route may have a `quick` beside its handler: it answers from memory, without waiting for anything, or leaves the
request to the whole path (None), which alone refuses. What it answers goes out before aiohttp's routing, its task's
context and its response are paid for; the headers, figures and the log's line are those of every request.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, cast

import msgspec
import structlog
from aiohttp import HttpVersion11, hdrs, web
from aiohttp.helpers import rfc822_formatted_time
from multidict import CIMultiDictProxy

from shared import clock
from shared.policy import Policy
from shared.web import CORRELATION_HEADER, DEFAULT_HEADERS, KIT, Route, name_journey, observe

if TYPE_CHECKING:
    from shared.service import Kit

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Quick = Callable[["Asked"], bytes | None]
Table = Mapping[tuple[str, str], Route]  # by method, and path within the district

log = structlog.get_logger(__name__)
TABLE: web.AppKey[Table] = web.AppKey("quick_table")

PREFIX = "/v1/districts/"
BODY_LIMIT_BYTES = 4096
_HEAD = "".join(f"{name}: {value}\r\n" for name, value in DEFAULT_HEADERS)


class Asked(msgspec.Struct, frozen=True):
    """What a quick answer is made of."""

    policy: Policy
    headers: CIMultiDictProxy[str]
    body: bytes
    now: datetime

    @property
    def authorization(self) -> str:
        """The one Authorization header, or nothing."""
        given = self.headers.getall(hdrs.AUTHORIZATION, ())
        return given[0] if len(given) == 1 else ""


class Sent:
    """A response that is written as it stands. aiohttp asks no more of one than this."""

    __slots__ = ("_raw", "keep_alive")

    def __init__(self, raw: bytes, keep_alive: bool) -> None:
        self._raw, self.keep_alive = raw, keep_alive

    async def prepare(self, request: web.BaseRequest) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("gone before it was answered")
        transport.write(self._raw)
        if transport.get_write_buffer_size():
            await request.writer.drain()

    async def write_eof(self) -> None:
        """It is all written."""


def answering_first(app: web.Application, whole: Handler) -> Handler:
    """The handler of all requests: what has a quick answer gets it, everything else goes on to `whole`."""
    kit, table = app[KIT], app[TABLE]

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        try:
            sent = _answer(kit, table, request)
        except Exception:
            log.exception("quick_answer_failed")
            sent = None
        return await whole(request) if sent is None else cast(web.StreamResponse, sent)

    return handle


def table_of(routes: Sequence[Route]) -> Table:
    """The routes of districts that have a quick answer."""
    head = PREFIX + "{district}/"
    return {(r.method, r.path.removeprefix(head)): r for r in routes if r.quick is not None}


def _answer(kit: "Kit", table: Table, request: web.BaseRequest) -> Sent | None:
    path = request.raw_path
    if not path.startswith(PREFIX):
        return None
    district, _, rest = path[len(PREFIX) :].partition("/")
    route = table.get((request.method, rest))
    policy = kit.policies.find(district)
    if route is None or policy is None or kit.diverged or kit.readiness.lacks("migrations", "history"):
        return None
    headers, content = request.headers, request.content
    if request.version != HttpVersion11 or not content.is_eof() or content.total_bytes > BODY_LIMIT_BYTES:
        return None
    if hdrs.ORIGIN in headers or hdrs.EXPECT in headers or hdrs.CONTENT_ENCODING in headers:
        return None
    started, now = time.perf_counter(), clock.now()
    assert route.quick is not None
    held = (
        b"".join(content._buffer) if content.total_bytes else b""
    )  # looked at, not taken: the whole path may read it
    body = route.quick(Asked(policy, headers, held, now))
    if body is None:
        return None
    correlation_id = name_journey(headers.get("traceparent"))
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nDate: {rfc822_formatted_time()}\r\n"
        f"{CORRELATION_HEADER}: {correlation_id}\r\n{_HEAD}\r\n"
    )
    observe(kit, correlation_id, district, route.method, route.path, 200, None, time.perf_counter() - started)
    return Sent(head.encode() + body, request.keep_alive)
