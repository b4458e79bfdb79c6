"""Somebody at a browser, who knows of the portal only what is on the screen."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import BrowserContext, Locator, Page, Request, Response, expect

PATIENCE_MS = 8_000
PHONE, DESKTOP = (360, 740), (1280, 800)
NARROWEST = (320, 640)  # WCAG 2.2, 1.4.10: also what 400 % of zoom leaves of a desktop
AXE = {
    "resultTypes": ["violations"],
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}
# What Chromium writes of each refusal, as it should be: a page with status 422 is a page.
OF_A_STATUS = re.compile("Failed to load resource: the server responded with a status of 4(03|09|22|29)")


class Person:
    """What the browser complained about, or asked elsewhere, is kept: `complaints` has to stay empty."""

    def __init__(self, context: BrowserContext, page: Page, url: str) -> None:
        self.context, self.page, self.url = context, page, url
        self.complaints: list[str] = []
        self.answers: list[Response] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda said: self._heard(said.type, said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._asked)
        page.on("response", self.answers.append)

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not OF_A_STATUS.match(text):
            self.complaints.append(text)

    def _asked(self, request: Request) -> None:
        if urlsplit(request.url).scheme in ("http", "https") and not request.url.startswith(f"{self.url}/"):
            self.complaints.append(f"asked another origin: {request.url}")

    @contextmanager
    def without(self, *expected: str) -> Iterator[None]:
        """Complaints with one of these words in them are what this part of a test is about."""
        yield
        self.complaints = [each for each in self.complaints if not any(word in each for word in expected)]

    # ------------------------------------------------------------------ what somebody does

    async def open(self, path: str) -> Response | None:
        return await self.page.goto(f"{self.url}{path}")

    async def fill(self, **typed: str) -> None:
        """Into the fields of these names."""
        for name, text in typed.items():
            await self.field(name).fill(text)

    async def press(self, text: str) -> None:
        """The button with this text."""
        await self.page.get_by_role("button", name=text, exact=True).click()

    async def follow(self, text: str) -> None:
        await self.page.get_by_role("link", name=text).first.click()

    async def back(self) -> None:
        await self.page.go_back()

    async def another_tab(self) -> "Person":
        return Person(self.context, await self.context.new_page(), self.url)

    # ------------------------------------------------------------------ what somebody sees

    def field(self, name: str) -> Locator:
        return self.page.locator(f'[name="{name}"]:not([type="hidden"])')

    async def sees(self, *texts: str) -> None:
        """Each on the screen, now or in a moment."""
        for text in texts:
            shown = self.page.get_by_text(text).filter(visible=True).first
            await expect(shown, f"to see {text!r}").to_be_visible(timeout=PATIENCE_MS)

    async def misses(self, *texts: str) -> None:
        """None is anywhere in the page, seen or not."""
        content = await self.page.content()
        assert not [text for text in texts if text in content]

    async def headed(self, text: str) -> None:
        """The page's heading, once the page is there."""
        await expect(self.page.get_by_role("heading", level=1, name=text).first).to_be_visible(
            timeout=PATIENCE_MS
        )

    async def told(self, name: str, text: str) -> None:
        """An error at a field, tied to it so that it is read with it."""
        field = self.field(name).first
        await expect(field).to_have_attribute("aria-invalid", "true", timeout=PATIENCE_MS)
        described = (await field.get_attribute("aria-describedby") or "").split()
        told = [await self.page.locator(f'[id="{each}"]').inner_text() for each in described]
        assert any(text in each for each in told), f"{name}: {told}"

    @property
    def path(self) -> str:
        return urlsplit(self.page.url).path

    async def cookies(self) -> dict[str, Any]:
        return {each["name"]: each for each in await self.context.cookies()}

    # ------------------------------------------------------------------ how a page is

    async def looks_well(self) -> None:
        """Nothing that axe finds, in light and in dark; nothing beside the screen, however narrow it is."""
        await self.axe()
        size = self.page.viewport_size
        for width, height in (NARROWEST, PHONE, DESKTOP):
            await self.page.set_viewport_size({"width": width, "height": height})
            beside = await self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert beside <= 0, f"{self.page.url}: {beside} px beside a screen of {width}"
        if size:
            await self.page.set_viewport_size(size)

    async def axe(self, schemes: Sequence[str] = ("light", "dark")) -> None:
        for scheme in schemes:
            await self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            found = (await Axe().run(self.page, options=AXE)).response["violations"]
            assert not found, f"{self.page.url} ({scheme}): {_axe_says(found)}"
        await self.page.emulate_media(color_scheme="null", reduced_motion="null")


def _axe_says(found: list[Any]) -> str:
    return "\n".join(
        f"{each['id']}: {each['help']}: {[node['html'][:200] for node in each['nodes'][:3]]}"
        f" {[node.get('failureSummary', '') for node in each['nodes'][:1]]}"
        for each in found
    )
