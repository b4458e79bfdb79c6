"""Somebody at a browser, who knows of the portal only what is on the screen: in their own language."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import BrowserContext, Locator, Page, Request, Response, expect

from services.portal.languages import ENGLISH, translations

PATIENCE_MS = 15_000  # a machine that is busy is no failure
MOST_TABS = 60
PHONE, DESKTOP = (360, 740), (1280, 800)
NARROWEST = (320, 640)  # WCAG 2.2, 1.4.10: also what 400 % of zoom leaves of a desktop
EVERYTHING = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
COLORS = {"type": "rule", "values": ["color-contrast"]}  # all that the dark looks could differ in
OF_A_STATUS = (
    "Failed to load resource: the server responded with a status of"  # a refusal is a page: see _answered
)
Text = str | re.Pattern[str]


class Person:
    """Texts are given in English, and looked for in the language that the person reads.

    What the browser complained about, or asked elsewhere, is kept: `complaints` has to stay empty.
    """

    def __init__(self, context: BrowserContext, page: Page, url: str, language: str = ENGLISH) -> None:
        self.context, self.page, self.url, self.language = context, page, url, language
        self.clicks = 1  # at each button; two are what impatient people do
        self.complaints: list[str] = []
        self.answers: list[Response] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda said: self._heard(said.type, said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._asked)
        page.on("response", self._answered)

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not text.startswith(OF_A_STATUS):
            self.complaints.append(text)

    def _asked(self, request: Request) -> None:
        if urlsplit(request.url).scheme in ("http", "https") and not request.url.startswith(f"{self.url}/"):
            self.complaints.append(f"asked another origin: {request.url}")

    def _answered(self, answer: Response) -> None:
        self.answers.append(answer)
        missing = answer.status >= 400 and answer.request.resource_type in ("stylesheet", "script", "image")
        if answer.status == 500 or missing:
            self.complaints.append(f"{answer.status} {answer.url}")

    @contextmanager
    def without(self, *expected: str) -> Iterator[None]:
        """Complaints with one of these words in them are what this part of a test is about."""
        yield
        self.complaints = [each for each in self.complaints if not any(word in each for word in expected)]

    def reads(self, text: Text, **values: object) -> Text:
        if isinstance(text, re.Pattern):
            return text
        translated = translations(self.language).gettext(text)
        return translated % values if values else translated

    # ------------------------------------------------------------------ what somebody does

    async def open(self, path: str) -> Response:
        answer = await self.page.goto(f"{self.url}{path}")
        assert answer is not None
        return answer

    async def fill(self, **typed: str) -> None:
        """Into the fields of these names."""
        for name, text in typed.items():
            await self.field(name).fill(text)

    async def press(self, text: str) -> None:
        """The button with this text."""
        await self.button(text).first.click(click_count=self.clicks)

    async def follow(self, text: str) -> None:
        await self.page.get_by_role("link", name=self.reads(text)).first.click()

    async def tab_to(self, name: str) -> None:
        """The field of this name, with nothing but the tab key; all that the way leads through can be seen."""
        for _ in range(MOST_TABS):
            await self.page.keyboard.press("Tab")
            at = self.page.locator(":focus")
            assert await at.is_visible()
            if await at.get_attribute("name") == name:
                return
        raise AssertionError(f"the tab key does not lead to {name}")

    async def type_at(self, name: str, text: str) -> None:
        """With the keyboard alone; in a list this chooses what begins so."""
        await self.tab_to(name)
        await self.page.keyboard.type(text)

    async def back(self) -> None:
        await self.page.go_back()

    async def another_tab(self) -> "Person":
        return Person(self.context, await self.context.new_page(), self.url, self.language)

    # ------------------------------------------------------------------ what somebody sees

    def field(self, name: str) -> Locator:
        return self.page.locator(f'[name="{name}"]:not([type="hidden"], [hidden])')

    def button(self, text: str) -> Locator:
        return self.page.get_by_role("button", name=self.reads(text), exact=True)

    async def sees(self, *texts: Text) -> None:
        """Each on the screen, now or in a moment."""
        for text in texts:
            shown = self.page.get_by_text(self.reads(text)).filter(visible=True).first
            await expect(shown, f"to see {text!r}").to_be_visible(timeout=PATIENCE_MS)

    async def misses(self, *texts: str) -> None:
        """None is anywhere in the page, seen or not."""
        content = await self.page.content()
        assert not [text for text in texts if text in content]

    async def headed(self, text: str) -> None:
        """The page's heading, once the page is there."""
        heading = self.page.get_by_role("heading", level=1, name=self.reads(text))
        await expect(heading.first).to_be_visible(timeout=PATIENCE_MS)

    async def told(self, name: str, text: str) -> None:
        """An error at a field, tied to it so that it is read with it."""
        field = self.field(name).first
        await expect(field).to_have_attribute("aria-invalid", "true", timeout=PATIENCE_MS)
        described = (await field.get_attribute("aria-describedby") or "").split()
        told = [await self.page.locator(f'[id="{each}"]').inner_text() for each in described]
        assert any(str(self.reads(text)) in each for each in told), f"{name}: {told}"

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

    async def axe(self) -> None:
        for scheme, rules in (("light", EVERYTHING), ("dark", COLORS)):
            await self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            options = {"resultTypes": ["violations"], "runOnly": rules}
            found = (await Axe().run(self.page, options=options)).response["violations"]
            assert not found, f"{self.page.url} ({scheme}): {_axe_says(found)}"
        await self.page.emulate_media(color_scheme="null", reduced_motion="null")


def _axe_says(found: list[Any]) -> str:
    return "\n".join(
        f"{each['id']}: {each['help']}: {[node['html'][:200] for node in each['nodes'][:3]]}"
        f" {[node.get('failureSummary', '') for node in each['nodes'][:1]]}"
        for each in found
    )
