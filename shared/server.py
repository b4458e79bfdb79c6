"""The listening socket: aiohttp's server with bounds, and problems also for what is no request at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from shared.problems import Problem
from shared.quick import TABLE, answering_first
from shared.web import respond_problem

KEEPALIVE_S = 75.0  # also how long a connection may take to send its first request's head
LINGERING_S = 5.0
MAX_LINE_BYTES = 8 * 1024
MAX_HEADERS = 64
BACKLOG = 1024


class _Handler(web.RequestHandler):
    """What aiohttp refuses before there is a request to route: a head that is too long, or is no HTTP."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, LineTooLong):
            problem = Problem(431, "header_too_large")
        elif status == 400:
            problem = Problem(400, "malformed_request")
        else:  # the boundary answers for everything that a route does: this is a failure of its own
            self.log_exception("Error outside any request", exc_info=exc)
            problem = Problem(500, "internal_error")
        response = respond_problem(problem)
        response.force_close()
        return response


@asynccontextmanager
async def listening(
    app: web.Application, host: str, port: int, *, drain_s: float, max_field_bytes: int = MAX_LINE_BYTES
) -> AsyncIterator[int]:
    """Serves an application, and yields the port. At the end: no new connections, running requests get `drain_s`."""
    limits: dict[str, Any] = {
        "access_log": None,
        "keepalive_timeout": KEEPALIVE_S,
        "lingering_time": LINGERING_S,
        "max_line_size": MAX_LINE_BYTES,
        "max_field_size": max_field_bytes,
        "max_headers": MAX_HEADERS,
        "auto_decompress": False,
    }
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=drain_s, **limits)
    await runner.setup()
    if TABLE in app:
        assert runner.server is not None
        runner.server.request_handler = answering_first(app, runner.server.request_handler)
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            lambda: _Handler(runner.server, loop=loop, **limits),  # type: ignore[arg-type]
            host,
            port,
            backlog=BACKLOG,
        )
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            if runner.server is not None:
                runner.server.pre_shutdown()
                await runner.server.shutdown(drain_s)
    finally:
        await runner.cleanup()
