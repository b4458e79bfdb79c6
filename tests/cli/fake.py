"""Three services in one: answers that a test lays out beforehand, and what it was asked."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from aiohttp import web

Reply = tuple[int, Any]


class Asked(NamedTuple):
    """One request as the services got it."""

    method: str
    path: str
    body: str
    headers: dict[str, str]
    query: dict[str, str]


class FakeServices:
    """An HTTP server in a thread of its own; `answers` maps "METHOD /path" to replies, the last of which stays."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Reply | Callable[[], Reply]]] = {}
        self.asked: list[Asked] = []
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "FakeServices":
        self.answers["POST /token"] = [
            (200, {"access_token": "token", "token_type": "Bearer", "expires_in": 600})
        ]
        self._thread.start()
        assert self._started.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def environment(self) -> dict[str, str]:
        urls = {f"HOMEROOM_{name}_URL": self.url for name in ("ROSTER", "CLAIMS", "AUTH")}
        return urls | {"HOMEROOM_CLIENT_ID": "desk", "HOMEROOM_CLIENT_SECRET": "secret"}

    def requests(self, what: str) -> list[Asked]:
        return [asked for asked in self.asked if f"{asked.method} {asked.path}" == what]

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._started.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/v1/districts/ccps")
        body = (await request.read()).decode(errors="replace")
        self.asked.append(Asked(request.method, path, body, dict(request.headers), dict(request.query)))
        replies = self.answers.get(
            f"{request.method} {path}", [(404, {"reason": "not_found", "title": "Not found"})]
        )
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        status, body = reply() if callable(reply) else reply
        if status == 0:  # the connection breaks in the middle
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        headers = {"Retry-After": "0"} if status == 503 else {}
        return web.json_response(body, status=status, headers=headers)
