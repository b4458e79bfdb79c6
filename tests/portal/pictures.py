"""The README's pictures, taken anew from a running stack: `python -m tests.portal.pictures`.

Whoever is seen there was made for it by `homeroom sample`; nobody's name is anybody's.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, async_playwright

from tests.portal.person import DESKTOP, PHONE, Person
from tests.portal.ways import sign_in, signed_in
from tests.support import chromium

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "docs" / "pictures"
HOMEROOM = Path(sys.executable).parent / "homeroom"


def homeroom(*words: str) -> Any:
    return json.loads(subprocess.run([HOMEROOM, *words, "--json"], check=True, capture_output=True).stdout)


@asynccontextmanager
async def somebody(
    browser: Browser, url: str, size: tuple[int, int], language: str = "en"
) -> AsyncIterator[Person]:
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]}, locale=f"{language}-US", reduced_motion="reduce"
    )
    yield Person(context, await context.new_page(), url, language)
    await context.close()


async def take(person: Person, name: str) -> None:
    await person.page.wait_for_load_state("networkidle")
    await person.page.screenshot(path=FOLDER / f"{name}.png")


async def pupils(browser: Browser, url: str, people: dict[str, Any]) -> None:
    async with somebody(browser, url, PHONE) as person:
        await person.open("/ccps/claim")
        await person.fill(last_name="Núñez-Soto", first_name="José", number="O712347")
        await take(person, "claim")
    async with somebody(browser, url, PHONE, "es") as person:
        await sign_in(person, people["claimed"]["username"], people["claimed"]["password"])
        await signed_in(person, people["claimed"]["username"])
        await take(person, "home-es")


async def staff(browser: Browser, url: str, people: dict[str, Any]) -> None:
    async with somebody(browser, url, DESKTOP) as person:
        await sign_in(person, people["desk"]["username"], people["desk"]["password"])
        await signed_in(person, people["desk"]["username"])
        shown = homeroom("account", "show", people["locked"]["number"])
        await person.open(f"/ccps/desk/people/{shown['person_id']}")
        await take(person, "desk")


async def main() -> None:
    program = chromium.find()
    if program is None:
        sys.exit(chromium.MISSING)
    FOLDER.mkdir(exist_ok=True)
    url = homeroom("status")["services"]["portal"]
    people = {each["state"]: each for each in homeroom("sample")}
    async with async_playwright() as playwright:
        browser = await chromium.launch(playwright, program)
        await pupils(browser, url, people)
        await staff(browser, url, people)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
