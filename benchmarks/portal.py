"""The portal: what each page takes beside its calls to the services, and sign-ins through the pages beside the same
straight at auth."""

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from benchmarks.district import PASSWORD, District
from benchmarks.measure import Figure, in_turn
from services.cli.pupil import Pupil
from services.portal.app import create_app
from services.portal.settings import PortalSettings
from shared.log import configure_logging
from shared.settings import read_environment
from tests.journeys.fleet import DISTRICT
from tests.portal.site import Site

PUPILS = 40
SIGN_INS = 200
IN_FLIGHT = 8
TIMES = 60
ROUNDS = 5
OWN_MS = 15.0


async def figures(district: District) -> list[Figure]:
    pupils = await district.claimed(PUPILS)
    site = Site(district)  # type: ignore[arg-type]
    await site.start()
    try:
        return [*await own_times(site, pupils[0]), *await sign_ins(site, pupils)]
    finally:
        await site.stop()


# ------------------------------------------------------------------ what a page takes


async def own_times(site: Site, pupil: Pupil) -> list[Figure]:
    """What the processor does for each request, one after the other, the browser's part among it. What a page waits for
    is its services alone: they are other processes, and so is everything else that the machine is busy with."""
    async with in_this_process(site) as browser:
        found = []
        for name, visits in journey(browser, pupil):
            times = []
            for _ in range(TIMES):
                for visit in visits[:-1]:
                    await visit()
                began = time.thread_time()
                await visits[-1]()
                times.append(1000 * (time.thread_time() - began))
            found.append(Figure.of(f"page: {name}", "ms", times, f"< {OWN_MS:.0f}"))
        return found


def journey(browser: "Browser", pupil: Pupil) -> Iterator[tuple[str, list[Any]]]:
    """Pages by name: what is measured is the last step, and each begins where the one before it ended."""
    username, password = {"username": pupil.username}, {"password": PASSWORD}

    def get(path: str) -> Any:
        return lambda: browser.get(path)

    def post(path: str, fields: dict[str, str]) -> Any:
        return lambda: browser.post(path, fields)

    yield "sign in", [get("/sign-in")]
    yield "claim", [get("/claim")]
    yield "forgot my password", [get("/forgot")]
    yield "username typed", [post("/sign-in", username)]
    yield "password", [get("/sign-in/password")]
    yield "password typed", [post("/sign-in", username), post("/sign-in/password", password)]
    yield "first page", [get("/")]
    yield "change my password", [get("/account/password")]
    yield "where am I signed in", [get("/account/sessions")]
    yield "signed out", [get("/goodbye")]


@asynccontextmanager
async def in_this_process(site: Site) -> AsyncIterator["Browser"]:
    """A portal in this very thread, and a browser at it."""
    configure_logging("portal", level="ERROR", form="json")
    settings = read_environment(PortalSettings, site.environment(0))
    app = create_app(settings)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    browser = Browser(runner.addresses[0][1], site.url)
    try:
        await browser.get("/sign-in")
        yield browser
    finally:
        browser.close()
        await runner.cleanup()


# ------------------------------------------------------------------ sign-ins


async def sign_ins(site: Site, pupils: list[Pupil]) -> list[Figure]:
    turns = itertools.cycle(pupils)

    async def many(one: Any) -> float:
        left = iter(range(SIGN_INS))

        async def one_after_another() -> None:
            for _ in left:
                await one(next(turns))

        began = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))
        return SIGN_INS / (time.perf_counter() - began)

    async def through_the_pages(pupil: Pupil) -> None:
        """What a browser asks for, from the first screen to the first page of who is signed in."""
        browser = Browser(site.ports[0], site.url)
        try:
            await browser.get("/sign-in")
            await browser.post("/sign-in", {"username": pupil.username})
            await browser.get("/sign-in/password")
            await browser.post("/sign-in/password", {"password": PASSWORD})
            await browser.get("/")
        finally:
            browser.close()

    async def at_auth(pupil: Pupil) -> None:
        answer = await pupil.sign_in(PASSWORD)
        if answer.status != 201:
            raise RuntimeError(f"a sign-in was refused: {answer.status} {answer.body}")

    ours, bare, ratio = await in_turn(lambda: many(through_the_pages), lambda: many(at_auth), ROUNDS)
    return [
        Figure.of("sign-ins through the pages", "/s", ours),
        Figure.of("sign-ins at auth", "/s", bare),
        Figure.of("through the pages / at auth", "ratio", ratio, "≥ 0.8"),
    ]


class Browser:
    """The least of a browser: one connection, its cookies, and no more work than the measured server should see."""

    def __init__(self, port: int, origin: str) -> None:
        self._port, self._origin = port, origin
        self._cookies: dict[bytes, bytes] = {}
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, path: str) -> None:
        await self._ask("GET", path, b"", 200)

    async def post(self, path: str, fields: dict[str, str]) -> None:
        await self._ask("POST", path, urlencode(fields).encode(), 303)

    async def _ask(self, method: str, path: str, body: bytes, expected: int) -> None:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        cookies = b"; ".join(name + b"=" + value for name, value in self._cookies.items())
        self._writer.write(
            f"{method} /{DISTRICT}{path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {self._origin}\r\n"
            "Sec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\nAccept-Language: en-US,en;q=0.9\r\nCookie: ".encode()
            + cookies + b"\r\n\r\n" + body
        )  # fmt: skip
        head = await self._reader.readuntil(b"\r\n\r\n")
        for name, value, rest in SET_COOKIE.findall(head):
            if b"Max-Age=0" in rest:
                self._cookies.pop(name, None)
            else:
                self._cookies[name] = value
        length = CONTENT_LENGTH.search(head)
        if length:
            await self._reader.readexactly(int(length[1]))
        status = int(head[9:12])
        if status != expected:
            raise RuntimeError(f"{method} {path}: {status}")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


SET_COOKIE = re.compile(rb"(?i)\r\nset-cookie: ([^=]+)=([^;\r]*)([^\r]*)")
CONTENT_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")
