"""Signing in and out, as somebody sees it who shares the browser with others."""

import asyncio
import re

import pytest

from tests.journeys.town import Town, claim, new_password
from tests.portal.conftest import Somebody
from tests.portal.person import DESKTOP, PHONE
from tests.portal.ways import sign_in, signed_in, type_username

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("portal"),
]
REFERENCE = re.compile("A-[0-9A-Z]{4}-[0-9A-Z]{3}")


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("language", ["en", "es"])
async def test_the_way_in_and_out(
    town: Town, somebody: Somebody, language: str, size: tuple[int, int]
) -> None:
    pupil = await town.pupil()
    password = await claim(pupil)
    person = await somebody(language=language, size=size)
    await person.open("/ccps/")
    await person.headed("Sign in")
    await person.looks_well()
    await person.fill(username=pupil.username.lower())
    await person.press("Go")
    await person.headed("Your password")
    await person.sees(pupil.username.lower(), "Not you?")
    await person.looks_well()
    await person.fill(password=password)
    await person.press("Go")
    await signed_in(person, pupil.username)
    assert person.path == "/ccps/"
    await person.looks_well()
    await person.press("Sign out")
    await person.headed("You are signed out")
    await person.looks_well()
    await person.misses(pupil.username)
    assert {name.rpartition("-")[2] for name in await person.cookies()} <= {"device", "language"}


async def test_a_wrong_password_and_an_unknown_username_read_the_same(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    await claim(pupil)
    texts = []
    for username in (pupil.username, "S0000001"):
        person = await somebody()
        await sign_in(person, username, new_password())
        await person.sees("Authentication Failed")
        await person.looks_well()
        texts.append(REFERENCE.sub("…", (await person.page.inner_text("main")).replace(username, "…")))
    assert texts[0] == texts[1]


async def test_who_waits_is_told_how_long(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    password = await claim(pupil)
    person = await somebody()
    await type_username(person, pupil.username)
    for _ in range(6):
        await person.fill(password=new_password())
        await person.press("Go")
        await person.sees(re.compile("Authentication Failed|Wait a little"))
        if await person.page.get_by_text("Wait a little").count():
            break
    await person.sees("Wait a little", re.compile(r"try again in \d+ seconds?"))
    await person.looks_well()
    seconds = int(re.search(r"in (\d+) second", await person.page.inner_text("main"))[1])  # type: ignore[index]
    assert seconds <= 60
    await asyncio.sleep(seconds)
    await person.fill(password=password)
    await person.press("Go")
    await signed_in(person, pupil.username)


async def test_not_you_begins_again_with_nobody(town: Town, somebody: Somebody) -> None:
    person = await somebody()
    await type_username(person, "S7654321")
    await person.press("Not you?")
    await person.headed("Sign in")
    await person.misses("S7654321")


async def test_the_password_page_asked_for_by_its_address_begins_with_the_username(
    somebody: Somebody,
) -> None:
    person = await somebody()
    await person.open("/ccps/sign-in/password")
    await person.headed("Sign in")


async def test_back_and_refresh_lose_nothing(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    password = await claim(pupil)
    person = await somebody()
    await type_username(person, pupil.username)
    await person.back()
    await person.headed("Sign in")
    assert await person.field("username").input_value() == pupil.username
    await person.press("Go")
    await person.fill(password=new_password())
    await person.press("Go")
    await person.sees("Authentication Failed")
    await person.page.reload()  # sends the form again; a browser asks first, this one does not
    await person.fill(password=password)
    await person.press("Go")
    await signed_in(person, pupil.username)
    await person.page.reload()
    await signed_in(person, pupil.username)


async def test_back_after_signing_out_shows_nobody(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    person = await somebody()
    await sign_in(person, pupil.username, await claim(pupil))
    await signed_in(person, pupil.username)
    cookies = await person.cookies()
    await person.press("Sign out")
    await person.headed("You are signed out")
    for _ in range(3):
        await person.back()
        await person.page.wait_for_load_state()
        await person.misses(pupil.username)
    assert (await pupil.ask("GET", "auth", "/sessions/current")).status == 401
    await person.context.add_cookies(list(cookies.values()))  # somebody kept them
    await person.open("/ccps/")
    await person.headed("Sign in")
    await person.misses(pupil.username)


async def test_nothing_is_kept_in_the_browser_but_files_that_everybody_gets(
    town: Town, somebody: Somebody
) -> None:
    pupil = await town.pupil()
    person = await somebody()
    await sign_in(person, pupil.username, await claim(pupil))
    await signed_in(person, pupil.username)
    await person.press("Sign out")
    await person.headed("You are signed out")
    for answer in person.answers:
        kind, kept = (answer.headers.get(name, "") for name in ("content-type", "cache-control"))
        assert "no-store" in kept if "html" in kind or answer.status == 303 else "public" in kept, answer.url
    left = await person.page.evaluate(
        "async () => [localStorage.length, sessionStorage.length, (await caches.keys()).length,"
        " (await indexedDB.databases()).length, (await navigator.serviceWorker.getRegistrations()).length]"
    )
    assert left == [0, 0, 0, 0, 0]
    assert {name.rpartition("-")[2] for name in await person.cookies()} <= {"device", "language"}


async def test_cookies_are_of_this_site_alone(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    person = await somebody()
    await sign_in(person, pupil.username, await claim(pupil))
    await signed_in(person, pupil.username)
    for name, cookie in (await person.cookies()).items():
        assert name.startswith("__Host-ccps-")
        assert (cookie["secure"], cookie["httpOnly"], cookie["path"], cookie["sameSite"]) == (
            True, True, "/", "Lax",
        )  # fmt: skip
        assert pupil.username not in cookie["value"]
    other = await town.pupil()
    await person.open("/ccps/sign-out")  # a link leads nobody out: it asks
    await person.headed("Sign out?")
    await person.open("/ccps/")
    await signed_in(person, pupil.username)
    await person.misses(other.username)


async def test_a_browser_with_another_district_is_nobody_there(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    person = await somebody()
    await sign_in(person, pupil.username, await claim(pupil))
    await signed_in(person, pupil.username)
    await person.open("/nist/")
    await person.misses(pupil.username)


async def test_the_keyboard_alone(town: Town, somebody: Somebody) -> None:
    """Tab and Enter, and what has the focus can be seen."""
    pupil = await town.pupil()
    password = await claim(pupil)
    person = await somebody()
    await person.open("/ccps/")
    await person.tab_to("username")
    await person.page.keyboard.type(pupil.username)
    await person.page.keyboard.press("Enter")
    await person.headed("Your password")
    await person.tab_to("password")
    await person.page.keyboard.type(password)
    await person.page.keyboard.press("Enter")
    await signed_in(person, pupil.username)


async def test_without_scripts(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    person = await somebody(java_script_enabled=False)
    await sign_in(person, pupil.username, await claim(pupil))
    await signed_in(person, pupil.username)
    await person.press("Sign out")
    await person.headed("You are signed out")


async def test_a_double_click_signs_in_once(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    password = await claim(pupil)
    person = await somebody()
    await type_username(person, pupil.username)
    await person.fill(password=password)
    await person.page.get_by_role("button", name="Go", exact=True).dblclick()
    await signed_in(person, pupil.username)


async def test_a_suspended_account_is_told_to_whoever_knows_the_password(
    town: Town, somebody: Somebody
) -> None:
    pupil = await town.pupil()
    password = await claim(pupil)
    person_id = (await town.person(pupil))["person_id"]
    await town.homeroom.call("desk", "PUT", "claims", f"/accounts/{person_id}/suspension", {})

    async def closed() -> bool:
        return (await pupil.sign_in(password)).status == 403

    await town.until(closed, "auth to hear of it")
    person = await somebody()
    await sign_in(person, pupil.username, password)
    await person.sees("Your account is closed")
    await person.looks_well()


async def test_while_auth_is_away_everybody_is_told_and_nobody_is_signed_out(
    town: Town, somebody: Somebody
) -> None:
    pupil = await town.pupil()
    password = await claim(pupil)
    inside, outside = await somebody(), await somebody()
    await sign_in(inside, pupil.username, password)
    await signed_in(inside, pupil.username)
    await type_username(outside, pupil.username)
    auth = town.fleet.part("auth")
    await auth.kill()
    try:
        await inside.page.reload()
        await inside.sees("We will be right back")
        await inside.looks_well()
        await outside.fill(password=password)
        await outside.press("Go")
        await outside.sees("We will be right back")
        await outside.looks_well()
    finally:
        await auth.start()
        await town.fleet.ready("auth")
    await inside.page.reload()
    await signed_in(inside, pupil.username)
    await outside.fill(password=password)
    await outside.press("Go")
    await signed_in(outside, pupil.username)
