"""Somebody at a real browser before the real portal: one town and one portal for all tests of a worker, one Chromium,
and for each person a browser context that has never been anywhere."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.journeys.town import Town, new_town
from tests.portal.person import DESKTOP, Person
from tests.portal.scripted import Surfer, surfing
from tests.portal.site import Site
from tests.support import chromium

Somebody = Callable[..., Awaitable[Person]]


@pytest.fixture(scope="session")
def browser_program() -> Any:
    if chromium.unwanted():
        pytest.skip("HOMEROOM_NO_BROWSER=1")
    return chromium.find() or pytest.fail(chromium.MISSING, pytrace=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(browser_program: Any) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await chromium.launch(playwright, browser_program)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def town(browser_program: Any, backing: dict[str, str]) -> AsyncIterator[Town]:
    async with new_town(backing) as town:
        yield town


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def portal(town: Town) -> AsyncIterator[Site]:
    site = Site(town, port=town.fleet.ports["portal"])  # where auth sends people
    try:
        yield await site.start()
    finally:
        await site.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def somebody(browser: Browser, portal: Site) -> AsyncIterator[Somebody]:
    """Makes a person at a browser of their own. At the end no browser may have had anything to complain about."""
    people: list[Person] = []
    async with AsyncExitStack() as stack:

        async def sit_down(
            url: str = portal.url, *, language: str = "en", size: tuple[int, int] = DESKTOP, **more: Any
        ) -> Person:
            context = await browser.new_context(
                viewport={"width": size[0], "height": size[1]}, locale=f"{language}-US", **more
            )
            stack.push_async_callback(context.close)
            people.append(Person(context, await context.new_page(), url, language))
            return people[-1]

        yield sit_down
    assert not [complaint for person in people for complaint in person.complaints]


@pytest_asyncio.fixture
async def surfer(tmp_path: Path) -> AsyncIterator[Surfer]:
    """Somebody at a browser without a screen, before services that answer what the test says."""
    async with surfing(tmp_path) as surfer:
        yield surfer
