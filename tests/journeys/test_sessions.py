"""Sessions that end while several processes of auth remember them."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
import pytest

from services.cli.client import Answer
from services.cli.pupil import Pupil
from tests.faults.proxy import Gap, PostgresProxy, Snare
from tests.journeys.fleet import DISTRICT, Part, free_ports
from tests.journeys.town import Town, claim

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("journeys"),
]

SESSIONS_END_WITHIN_S = 2.0


class Second:
    """Another process of auth, whose PostgreSQL can be made to hang, and someone who asks it."""

    def __init__(self, part: Part, url: str, snare: Snare, http: aiohttp.ClientSession) -> None:
        self.part, self.url, self.snare, self.http = part, url, snare, http

    async def asks(self, session: str) -> int:
        path = f"{self.url}/v1/districts/{DISTRICT}/sessions/current"
        async with self.http.get(path, headers={"Authorization": f"Bearer {session}"}) as response:
            await response.read()
            return response.status

    async def believes(self, session: str) -> None:
        for _ in range(5):
            assert await self.asks(session) == 200

    async def refuses_in_time(self, session: str, ended_at: float) -> None:
        """Sooner or later within two seconds, and never again."""
        while await self.asks(session) == 200:
            assert time.monotonic() - ended_at < SESSIONS_END_WITHIN_S
        assert await self.asks(session) in (401, 503)

    def hang(self) -> None:
        """PostgreSQL hears nothing more of this process; its connections stay open."""
        self.snare.gap, self.snare.acknowledged = Gap.BEFORE_MARK, True


@asynccontextmanager
async def second_auth(town: Town) -> AsyncIterator[Second]:
    fleet, snare, (port,) = town.fleet, Snare(), free_ports(1)
    address = urlsplit(fleet.dsn("auth"))
    proxy = await PostgresProxy(f"{address.hostname}:{address.port}", snare).start()
    through = address._replace(netloc=address.netloc.replace(f":{address.port}", f":{proxy.port}")).geturl()
    own = {"HOMEROOM_HTTP_PORT": str(port), "HOMEROOM_POSTGRES": through}
    part = Part("auth", "api", fleet.environment("auth", "api") | own, fleet.folder / "auth-second.log")
    url = f"http://127.0.0.1:{port}"
    await part.start()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as http:

            async def ready() -> bool:
                try:
                    async with http.get(f"{url}/health/ready") as response:
                        return response.status == 200
                except aiohttp.ClientError:
                    return False

            await town.until(ready, "the second auth")
            yield Second(part, url, snare, http)
    finally:
        await part.kill()
        await proxy.stop()


async def signed_in(town: Town) -> Pupil:
    pupil = await town.pupil()
    password = await claim(pupil)
    answer: Answer = await pupil.sign_in(password)
    assert answer.status == 201
    return pupil


async def test_no_process_believes_an_ended_session_for_longer_than_promised(town: Town) -> None:
    pupils = [await signed_in(town) for _ in range(4)]
    left, reset, killed, hung = pupils
    async with second_auth(town) as second:
        for pupil in pupils:
            await second.believes(pupil.session)

        assert (await left.sign_out()).status == 204
        await second.refuses_in_time(left.session, time.monotonic())

        await town.reset(reset)
        assert await second.asks(reset.session) == 401, "done means that nobody believes it any more"

        assert (await killed.sign_out()).status == 204
        ended_at = time.monotonic()
        await town.fleet.part("auth").kill()
        await second.refuses_in_time(killed.session, ended_at)
        await town.fleet.part("auth").start()
        await town.fleet.ready("auth")

        await second.believes(hung.session)
        second.hang()
        assert (await hung.sign_out()).status == 204
        await second.refuses_in_time(hung.session, time.monotonic())
