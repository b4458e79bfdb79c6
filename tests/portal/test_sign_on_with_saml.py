"""Somebody goes on to an application that speaks SAML, in a real browser, through auth and the portal and back."""

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from cryptography import x509
from lxml import etree
from playwright.async_api import expect

from tests.auth.saml_party import NAMES, authn_request, prove, redirect_query
from tests.journeys.fleet import free_ports
from tests.journeys.town import Town, claim
from tests.portal.conftest import Somebody
from tests.portal.person import PATIENCE_MS, Person

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("portal"),
]


class Shelf:
    """An application: a page that sends a browser off, and one that takes what the browser brings."""

    def __init__(self, town: Town, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.provider = f"{town.fleet.urls['auth']}/v1/districts/ccps/saml"
        self.brought: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    def request(self) -> str:
        return authn_request(
            datetime.now(UTC), issuer=self.url, Destination=f"{self.provider}/sso",
            AssertionConsumerServiceURL=f"{self.url}/acs",
        )  # fmt: skip

    async def by_redirect(self, request: web.Request) -> web.Response:
        raise web.HTTPSeeOther(f"{self.provider}/sso?{redirect_query(self.request(), 'deep')}")

    async def by_form(self, request: web.Request) -> web.Response:
        asked = base64.b64encode(self.request().encode()).decode()
        page = (
            f'<form method="post" action="{self.provider}/sso"><input type="hidden" name="SAMLRequest" value="{asked}">'
            '<input type="hidden" name="RelayState" value="deep"><button>Sign in</button></form>'
        )
        return web.Response(text=page, content_type="text/html")

    async def acs(self, request: web.Request) -> web.Response:
        form = await request.post()
        await self.brought.put({name: str(value) for name, value in form.items()})
        return web.Response(text="Welcome to the shelf")


@pytest_asyncio.fixture(loop_scope="session")
async def shelf(town: Town) -> AsyncIterator[Shelf]:
    [port] = free_ports(1)
    shelf, app = Shelf(town, port), web.Application()
    app.add_routes([
        web.get("/", shelf.by_redirect), web.get("/form", shelf.by_form), web.post("/acs", shelf.acs),
    ])  # fmt: skip
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield shelf
    await runner.cleanup()


async def register(town: Town, shelf: Shelf, **more: Any) -> str:
    body = {
        "name": "Shelf", "districts": ["ccps"], "entity_id": shelf.url, "acs": [{"url": f"{shelf.url}/acs"}],
        "name_id": "username",
    }  # fmt: skip
    made = await town.homeroom.post("auth", "/v1/operations/saml-applications", body | more, role="operator")
    return str(made.body["id"])


async def whom(town: Town, shelf: Shelf) -> str:
    """Whom the response names that was brought, as the application proves it."""
    form = await asyncio.wait_for(shelf.brought.get(), PATIENCE_MS / 1000)
    assert form["RelayState"] == "deep"
    async with town.homeroom.http.get(f"{shelf.provider}/certificate") as answer:
        certificate = x509.load_pem_x509_certificate(await answer.read())
    found = prove(etree.fromstring(base64.b64decode(form["SAMLResponse"])), certificate)
    return str(found.findtext(".//saml:NameID", None, NAMES))


async def sign_in(person: Person, username: str, password: str) -> None:
    await person.sees("Sign in to go on to Shelf.")
    await person.fill(username=username)
    await person.press("Go")
    await person.headed("Your password")
    await person.fill(password=password)
    await person.press("Go")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "none"])
async def test_somebody_goes_on_to_it(town: Town, somebody: Somebody, shelf: Shelf, scripts: bool) -> None:
    client_id = await register(town, shelf, unsolicited=True)
    pupil = await town.pupil()
    password = await claim(pupil)
    person = await somebody(java_script_enabled=scripts)

    async def arrives() -> None:
        if not scripts:
            await person.press("Go on")
        await expect(person.page.get_by_text("Welcome to the shelf")).to_be_visible(timeout=PATIENCE_MS)
        assert await whom(town, shelf) == pupil.username

    with person.without("asked another origin"):
        await person.page.goto(f"{shelf.url}/form")
        await person.page.get_by_role("button", name="Sign in").click()
        await sign_in(person, pupil.username, password)
        await arrives()
        await person.page.goto(shelf.url)  # signed in already: asked nothing
        await arrives()
        await person.page.goto(f"{shelf.provider}/applications/{client_id}?RelayState=deep")
        await arrives()
        await town.homeroom.call("operator", "DELETE", "auth", f"/v1/operations/clients/{client_id}")
