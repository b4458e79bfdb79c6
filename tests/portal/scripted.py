"""The portal in this process, before services that answer what a test says; and a browser of it without a screen."""

import base64
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import msgspec
from aiohttp.test_utils import TestClient, TestServer

from services.portal.app import create_app
from services.portal.backend import Answer, Backend
from services.portal.seals import Seals
from services.portal.settings import PortalSettings
from services.portal.visit import PORTAL
from shared import clock

URL = "http://localhost"
PERSON = UUID("00000000-0000-4000-8000-000000000001")
POLICY: Mapping[str, Any] = {
    "district": "ccps",
    "code": "JPRQQH",
    "names": {"en": "Clayton County Public Schools", "es": "Escuelas Públicas del Condado de Clayton"},
    "time_zone": "America/New_York",
    "username_prefix": "S",
    "number": {"digits": 7},
    "employee_number": {"digits": 5, "prefix": "e"},
    "password": {"min_length": 8, "max_length": 256},
    "questions": [],
    "questions_required": 3,
    "session": {"idle_minutes": 60},
    "portal": {"accent": "#1f5f8b", "resources": []},
}


@dataclass(frozen=True)
class Asked:
    """A request that a service got."""

    service: str
    method: str
    path: str
    body: Any
    bearer: str | None
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class Services(Backend):
    """Answers by `METHOD /path` within the district; several are given one after the other, the last one for ever."""

    def __init__(self, settings: PortalSettings, http: aiohttp.ClientSession) -> None:
        super().__init__(settings, http)
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[Asked] = []

    def say(self, request: str, status: int, body: object = None, **headers: str) -> None:
        self.answers.setdefault(request, []).append(Answer(status, body or {}, headers))

    async def ask(self, service: Any, method: str, path: str, body: object = None, **more: Any) -> Answer:
        within = re.sub("^/v1/districts/[^/]+", "", path)
        said = more.get("query") or {}, more.get("headers") or {}
        self.asked.append(Asked(service, method, within, body, more.get("bearer"), *said))
        left = self.answers.get(f"{method} {within}", [])
        if not left:
            return Answer(503, {"reason": "unavailable"})
        return left.pop(0) if len(left) > 1 else left[0]

    def requests(self, service: str = "auth") -> list[str]:
        """What a service was asked, but for the portal's own token."""
        return [
            f"{each.method} {each.path}"
            for each in self.asked
            if each.service == service and each.path != "/token"
        ]


@dataclass
class Surfer:
    """Somebody at a browser that runs no scripts."""

    client: TestClient[Any, Any]
    services: Services
    seals: Seals
    cookies: dict[str, str] = field(default_factory=dict)

    async def open(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        """A page, by a link from elsewhere unless the headers say otherwise."""
        return await self._ask("GET", path, None, {"Sec-Fetch-Site": "none"} | headers)

    async def send(
        self, path: str, fields: Mapping[str, str] | None = None, **headers: str
    ) -> aiohttp.ClientResponse:
        """A form of the portal's own."""
        return await self._ask(
            "POST", path, fields or {}, {"Sec-Fetch-Site": "same-origin", "Origin": URL} | headers
        )

    async def _ask(
        self, method: str, path: str, data: Any, headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        response = await self.client.request(
            method, f"/ccps{path}", data=data, headers=sent | {"Cookie": cookies}, allow_redirects=False
        )
        for name, morsel in response.cookies.items():
            if morsel["max-age"] == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value
        return response

    def signed_in(self, username: str = "S0123456", **more: Any) -> None:
        """As after signing in; auth says so to whoever asks."""
        until = clock.now() + timedelta(hours=12)
        name = "__Host-ccps-session"
        known = {
            "token": "hrs_session",
            "person_id": PERSON,
            "username": username,
            "expires_at": until,
        } | more
        self.cookies[name] = self.seals.seal(name, known, until)
        self.services.say("GET /sessions/current", 200, {"username": username})

    def kept(self) -> set[str]:
        """What the browser keeps of this district."""
        return {name.removeprefix("__Host-ccps-") for name in self.cookies}


@asynccontextmanager
async def surfing(folder: Path) -> AsyncIterator[Surfer]:
    (folder / "key").write_text(base64.b64encode(b"k" * 32).decode())
    (folder / "ccps.json").write_bytes(msgspec.json.encode({"id": "portal", "secret": "secret"}))
    settings = PortalSettings(
        roster_url=URL, claims_url=URL, auth_url=URL, portal_url=URL, portal_key_file=folder / "key",
        portal_client_dir=folder,
    )  # fmt: skip
    app = create_app(settings)
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        services = Services(settings, app[PORTAL].backend._http)
        services.say("GET /policy", 200, dict(POLICY))
        services.say("POST /token", 200, {"access_token": "own", "expires_in": 300})
        app[PORTAL].backend = services
        yield Surfer(client, services, app[PORTAL].seals)
