"""The portal's process: what it does not start with, how it ends, and what many cookies do to it."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.portal.app import create_app
from services.portal.settings import PortalSettings
from shared.settings import SettingsInvalid, read_environment
from tests.journeys.fleet import Part, free_ports
from tests.portal.scripted import POLICY

SLOW_S = 1.0
READY_WITHIN_S = 60.0


class Claims:
    """Where all three services should be: answers the policy, and the logo slowly."""

    def __init__(self) -> None:
        self.slow = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/policy"):
            return web.json_response(dict(POLICY))
        if request.path.endswith("/logo"):
            self.slow.set()
            await asyncio.sleep(SLOW_S)
            return web.Response(body=b"<svg/>", content_type="image/svg+xml")
        return web.json_response({"serving": True})


@pytest_asyncio.fixture
async def claims() -> Claims:
    return Claims()


@pytest_asyncio.fixture
async def environment(claims: Claims, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """As an operator configures a portal."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", claims.answer)
    (tmp_path / "key").write_text(base64.b64encode(b"k" * 32).decode())
    (port,) = free_ports(1)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOMEROOM_")}
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        yield kept | {
            "HOMEROOM_ROSTER_URL": url,
            "HOMEROOM_CLAIMS_URL": url,
            "HOMEROOM_AUTH_URL": url,
            "HOMEROOM_PORTAL_URL": f"http://localhost:{port}",
            "HOMEROOM_PORTAL_KEY_FILE": str(tmp_path / "key"),
            "HOMEROOM_PORTAL_CLIENT_DIR": str(tmp_path),
            "HOMEROOM_HTTP_PORT": str(port),
        }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ROSTER_URL", ""),
        ("CLAIMS_URL", ""),
        ("AUTH_URL", ""),
        ("PORTAL_URL", ""),
        ("PORTAL_KEY_FILE", ""),
        ("PORTAL_CLIENT_DIR", ""),
        ("PORTAL_URL", "https://portal.example/portal"),
        ("PORTAL_URL", "portal.example"),
        ("PORTAL_KEY_FILE", "/nowhere/key"),
        ("PROXIES", "-1"),
        ("HTTP_PORT", "http"),
        ("CLAIMS_URL", "http://claims/"),
    ],
)
async def test_what_is_missing_or_does_not_hold_is_named(
    environment: dict[str, str], name: str, value: str
) -> None:
    with pytest.raises(SettingsInvalid, match=f"HOMEROOM_{name}"):
        create_app(read_environment(PortalSettings, environment | {f"HOMEROOM_{name}": value}))


async def test_without_a_setting_its_process_ends_with_status_2(
    environment: dict[str, str], tmp_path: Path
) -> None:
    del environment["HOMEROOM_PORTAL_KEY_FILE"]
    part = Part("portal", "", environment, tmp_path / "log")
    await part.start()
    assert part.process is not None
    assert await asyncio.wait_for(part.process.wait(), READY_WITHIN_S) == 2
    assert part.log.read_text() == "homeroom portal: not set: HOMEROOM_PORTAL_KEY_FILE\n"


async def test_a_process_takes_a_whole_districts_cookies_and_answers_what_runs_when_it_is_told_to_stop(
    environment: dict[str, str], claims: Claims, tmp_path: Path
) -> None:
    part, url = Part("portal", "", environment, tmp_path / "log"), environment["HOMEROOM_PORTAL_URL"]
    await part.start()
    async with aiohttp.ClientSession() as http, asyncio.timeout(READY_WITHIN_S):
        while not await _is_ready(http, url):
            await asyncio.sleep(0.1)
        cookies = "; ".join(f"other{number}={'x' * 1000}" for number in range(20))
        for sent, status in ((cookies, 200), (f"{cookies}; {cookies}", 431)):
            async with http.get(f"{url}/ccps/sign-in", headers={"Cookie": sent}) as answer:
                assert answer.status == status
        asked = asyncio.create_task(http.get(f"{url}/ccps/logo"))
        await claims.slow.wait()
        stopping = asyncio.create_task(part.stop())
        answer = await asked
        assert (answer.status, await answer.read()) == (200, b"<svg/>")
        assert await stopping == 0
        with pytest.raises(aiohttp.ClientError):
            await http.get(f"{url}/health/live")


async def _is_ready(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(f"{url}/health/ready") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
