"""What somebody has who is signed in: the district's places, another password, where else, and an end that comes by
itself."""

import re

import pytest
from playwright.async_api import expect

from tests.journeys.town import Town, claim, new_password
from tests.portal.conftest import Somebody
from tests.portal.person import DESKTOP, PATIENCE_MS, PHONE
from tests.portal.ways import sign_in, signed_in

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("portal"),
]
PAGE_BYTES = 100_000


@pytest.mark.parametrize(("language", "size"), [("en", DESKTOP), ("es", PHONE)], ids=["en", "es"])
async def test_another_password(town: Town, somebody: Somebody, language: str, size: tuple[int, int]) -> None:
    pupil, new = await town.pupil(), new_password()
    old = await claim(pupil)
    elsewhere, person = await somebody(), await somebody(language=language, size=size)
    await sign_in(elsewhere, pupil.username, old)
    await signed_in(elsewhere, pupil.username)
    await sign_in(person, pupil.username, old)
    await signed_in(person, pupil.username)
    for resource in town.policy["portal"]["resources"]:
        tile = person.page.get_by_role("link", name=resource["name"][language])
        assert await tile.get_attribute("href") == resource["url"]
    await person.follow("Change my password")
    await person.headed("Change my password")
    await person.looks_well()
    for current, first, second, field in (
        (new_password(), new, new, "current"), (old, new, new + "!", "again"), (old, old, old, "new"),
    ):  # fmt: skip
        await person.fill(current=current, new=first, again=second)
        await person.press("SAVE")
        await expect(person.field(field)).to_have_attribute("aria-invalid", "true", timeout=PATIENCE_MS)
    await person.looks_well()
    await person.fill(current=old, new=new, again=new)
    await person.press("SAVE")
    await person.headed("Your password is changed")
    await person.looks_well()
    await person.misses(old, new)
    await person.follow("Next")
    await signed_in(person, pupil.username)
    await elsewhere.page.reload()
    await elsewhere.headed("Sign in")
    assert (await pupil.sign_in(new)).status == 201


async def test_where_else_and_out_everywhere(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    password = await claim(pupil)
    one, two = await somebody(), await somebody(size=PHONE)
    for person in (one, two):
        await sign_in(person, pupil.username, password)
        await signed_in(person, pupil.username)
    await two.follow("Where am I signed in")
    await two.headed("Where am I signed in")
    await two.sees("this one", re.compile("on 2 devices"))
    await two.looks_well()
    await two.press("Sign out everywhere")
    await two.headed("You are signed out")
    await two.misses(pupil.username)
    await one.page.reload()
    await one.headed("Sign in")
    await one.misses(pupil.username)


async def test_whoever_leaves_the_device_is_asked_then_signed_out(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    person = await somebody()
    await person.page.clock.install()
    await sign_in(person, pupil.username, await claim(pupil))
    await signed_in(person, pupil.username)
    minutes = town.policy["session"]["idle_minutes"]
    await person.page.clock.fast_forward((minutes * 60 - 60) * 1000)
    await person.sees("Are you still there?")
    await person.looks_well()
    await person.press("Stay signed in")
    await expect(person.page.get_by_text("Are you still there?")).to_be_hidden()
    await person.page.clock.fast_forward((minutes * 60 - 60) * 1000)
    await person.sees("Are you still there?")
    await person.page.clock.fast_forward(61_000)
    await person.headed("You were signed out")
    await person.misses(pupil.username)
    await person.looks_well()
    assert {name.rpartition("-")[2] for name in await person.cookies()} <= {"device", "language"}
    await person.back()
    await person.misses(pupil.username)


async def test_a_reset_signs_out_and_says_what_to_do(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    person = await somebody()
    await sign_in(person, pupil.username, await claim(pupil))
    await signed_in(person, pupil.username)
    await town.reset(pupil)
    await person.page.reload()
    await person.headed("Sign in")
    await person.sees("Claim My Account")
    await person.looks_well()
    await person.misses(pupil.username)


async def test_languages_change_on_the_page_and_stay(town: Town, somebody: Somebody) -> None:
    person = await somebody(language="en")
    await person.open("/ccps/sign-in")
    await person.follow("Español")
    person.language = "es"
    await person.headed("Sign in")
    assert await person.page.locator("html").get_attribute("lang") == "es"
    await person.open("/ccps/claim")
    await person.headed("Claim My Account")
    await person.follow("English")
    person.language = "en"
    await person.headed("Claim My Account")


async def test_another_language_keeps_what_was_typed(somebody: Somebody) -> None:
    person = await somebody(language="en")
    await person.open("/ccps/claim")
    await person.fill(first_name="Ana")
    await person.follow("Español")
    person.language = "es"
    await person.headed("Claim My Account")
    assert await person.page.locator("html").get_attribute("lang") == "es"
    await expect(person.field("first_name")).to_have_value("Ana")
    await person.misses("Type your last name.")


@pytest.mark.parametrize("path", ["/ccps/", "/ccps/sign-in", "/ccps/claim", "/ccps/forgot"])
async def test_a_page_weighs_little_with_everything(somebody: Somebody, path: str) -> None:
    person = await somebody()
    await person.open(path)
    await person.page.wait_for_load_state("networkidle")
    sizes = [len(await answer.body()) for answer in person.answers if answer.status == 200]
    assert sum(sizes) < PAGE_BYTES


@pytest.mark.parametrize(
    "path", ["/", "/ccps/nothing-here", "/no-such-district/", "/ccps/idle", "/ccps/goodbye"]
)
async def test_pages_that_only_explain(somebody: Somebody, path: str) -> None:
    person = await somebody(size=PHONE)
    await person.open(path)
    await expect(person.page.get_by_role("heading", level=1)).to_have_count(1)
    await person.looks_well()
