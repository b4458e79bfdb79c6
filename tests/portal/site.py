"""The portal as real processes, on a town's services, configured as an operator configures it."""

import asyncio
import base64
import os
import secrets
from collections.abc import AsyncIterator
from itertools import cycle
from typing import Self

import aiohttp
import msgspec
from aiohttp import web

from tests.journeys.fleet import Part, free_ports
from tests.journeys.town import Town

READY_WITHIN_S = 20
HOP_BY_HOP = ("Connection", "Keep-Alive", "Transfer-Encoding", "Content-Length", "Content-Encoding")
HTTP = web.AppKey("http", aiohttp.ClientSession)


class Site:
    """A portal in one process or several. With several, a proxy in front hands each request to the next."""

    def __init__(self, town: Town, processes: int = 1, port: int | None = None) -> None:
        self.town = town
        self.folder = town.fleet.folder / f"portal-{secrets.token_hex(3)}"
        self.ports = free_ports(processes + 1)
        if port is not None:
            self.ports[0] = port
        self.url = f"http://localhost:{self.ports[0]}"
        self.own: dict[str, str] = {}  # what is configured otherwise
        self._processes = processes
        self._front: web.AppRunner | None = None

    @property
    def key_file(self) -> str:
        return str(self.folder / "key")

    async def start(self) -> Self:
        (self.folder / "clients").mkdir(parents=True)
        (self.folder / "key").write_text(base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
        self.admit(self.town)
        ports = self.ports[1:] if self._processes > 1 else self.ports[:1]
        self.parts = [
            Part("portal", str(port), self.environment(port), self.folder / f"{port}.log") for port in ports
        ]
        await asyncio.gather(*(part.start() for part in self.parts))
        await asyncio.gather(*(self._ready(port) for port in ports))
        if self._processes > 1:
            self._front = await front(self.ports[0], ports)
        return self

    def admit(self, town: Town) -> None:
        """Gives the portal its client of a district."""
        site = town.homeroom.site
        file = self.folder / f"clients/{site.district}.json"
        file.write_bytes(msgspec.json.encode(site.clients["portal"]))

    def environment(self, port: int) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HOMEROOM_")}
        services = {f"HOMEROOM_{name.upper()}_URL": url for name, url in self.town.fleet.urls.items()}
        return (
            kept
            | services
            | {
                "HOMEROOM_PORTAL_URL": self.url,
                "HOMEROOM_PORTAL_KEY_FILE": self.key_file,
                "HOMEROOM_PORTAL_CLIENT_DIR": str(self.folder / "clients"),
                "HOMEROOM_HTTP_PORT": str(port),
                "HOMEROOM_DRAIN_SECONDS": "2",
            }
            | self.own
        )

    async def restart(self) -> None:
        for part in self.parts:
            await part.stop()
            await part.start()
            await self._ready(int(part.roles))

    async def _ready(self, port: int) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as http:
            async with asyncio.timeout(READY_WITHIN_S):
                while True:
                    try:
                        async with http.get(f"http://localhost:{port}/health/ready") as response:
                            if response.status == 200:
                                return
                    except aiohttp.ClientError:
                        await asyncio.sleep(0.05)

    async def stop(self) -> None:
        if self._front:
            await self._front.cleanup()
        await asyncio.gather(*(part.stop() for part in self.parts if part.process))

    def logs(self) -> str:
        return "\n".join(part.log.read_text()[-4000:] for part in self.parts)


async def front(port: int, behind: list[int]) -> web.AppRunner:
    """A reverse proxy that gives each request to the next process, so that no two in a row meet the same one."""
    turns = cycle(behind)

    async def pass_on(request: web.Request) -> web.Response:
        url = f"http://localhost:{next(turns)}{request.raw_path}"
        headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
        body = await request.read()
        async with request.app[HTTP].request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            response = web.Response(status=answer.status, body=await answer.read())
            for name, value in answer.headers.items():
                if name not in HOP_BY_HOP:
                    response.headers.add(name, value)
            return response

    async def client(app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
            app[HTTP] = http
            yield

    app = web.Application()
    app.cleanup_ctx.append(client)
    app.router.add_route("*", "/{path:.*}", pass_on)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "localhost", port).start()
    return runner
