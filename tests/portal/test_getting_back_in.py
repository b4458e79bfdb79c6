"""The way back in after a forgotten password, as somebody sees it."""

import re

import pytest

from services.cli.pupil import Pupil
from tests.journeys.town import Town, claim, new_password
from tests.portal.conftest import Somebody
from tests.portal.person import DESKTOP, PHONE, Person
from tests.portal.ways import sign_in, signed_in, type_username

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("portal"),
]
REFERENCE = re.compile("A-[0-9A-Z]{4}-[0-9A-Z]{3}")


async def forget(person: Person, username: str) -> None:
    await person.open("/ccps/forgot")
    await person.headed("Forgot my password")
    await person.fill(username=username)
    await person.press("Next")
    await person.headed("Your questions")


async def answer(person: Person, pupil: Pupil, **instead: str) -> None:
    for n, each in enumerate(pupil.answers, 1):
        field, typed = person.field(f"answer-{n}"), instead.get(each["question"], each["answer"])
        if await field.evaluate("field => field.localName") == "select":
            await field.select_option(typed)
        else:
            await field.fill(typed)
    await person.press("Next")


async def choose(person: Person, password: str) -> None:
    await person.headed("New password")
    await person.fill(password=password, again=password)
    await person.press("SAVE")


@pytest.mark.parametrize(("language", "size"), [("en", DESKTOP), ("es", PHONE)], ids=["en", "es"])
async def test_three_answers_and_a_new_password(
    town: Town, somebody: Somebody, language: str, size: tuple[int, int]
) -> None:
    pupil, password = await town.pupil(), new_password()
    old = await claim(pupil)
    elsewhere = await somebody()
    await sign_in(elsewhere, pupil.username, old)
    await signed_in(elsewhere, pupil.username)
    person = await somebody(language=language, size=size)
    await type_username(person, pupil.username)
    await person.follow("Forgot my password")
    await person.headed("Forgot my password")
    assert await person.field("username").input_value() == pupil.username
    await person.looks_well()
    await person.press("Next")
    await person.headed("Your questions")
    await person.sees("I have a code", "Not you?")
    await person.looks_well()
    await answer(person, pupil)
    await person.headed("New password")
    await person.looks_well()
    await choose(person, "short")
    await person.headed("New password")
    await choose(person, old)
    await person.headed("New password")
    await person.looks_well()
    await choose(person, password)
    await person.headed("Your new password counts")
    await person.looks_well()
    await person.misses(password)
    await person.press("Go to sign in")
    assert await person.field("username").input_value() == pupil.username
    await person.press("Go")
    await person.fill(password=password)
    await person.press("Go")
    await signed_in(person, pupil.username)
    await elsewhere.page.reload()
    await elsewhere.headed("Sign in")


async def test_wrong_answers_and_unknown_usernames_read_the_same(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    await claim(pupil)
    texts = []
    for username in (pupil.username, "S0000002"):
        person = await somebody()
        await forget(person, username)
        asked = await person.page.locator("main form").first.inner_text()
        for n in (1, 2, 3):
            field = person.field(f"answer-{n}")
            if await field.evaluate("field => field.localName") == "select":
                await field.select_option(index=1)
            else:
                await field.fill("1999")
        await person.press("Next")
        await person.sees("Challenge Questions Not Up to Date", REFERENCE)
        texts.append(REFERENCE.sub("", (await person.page.inner_text("main")).replace(username, "")))
        assert "?" in asked
    await person.looks_well()
    heads = [text.partition("Your questions")[0] for text in texts]
    assert heads[0] == heads[1]


async def test_the_help_desks_code_opens_what_rests(town: Town, somebody: Somebody) -> None:
    pupil, password = await town.pupil(), new_password()
    await claim(pupil)
    person_id = (await town.person(pupil))["person_id"]
    person = await somebody()
    await forget(person, pupil.username)
    for _ in range(6):
        await answer(person, pupil, birth_month="June" if pupil.answers[0]["answer"] == "May" else "May")
        await person.sees("Challenge Questions Not Up to Date")
    await answer(person, pupil)
    await person.sees("Challenge Questions Not Up to Date")
    path = f"/accounts/{person_id}/recovery-codes"
    made = await town.homeroom.call("desk", "POST", "auth", path, {"desk_ticket": "T-1"})
    await person.fill(code="AAAA-AAAA")
    await person.press("Use the code")
    await person.sees("Challenge Questions Not Up to Date")
    await person.fill(code=made.body["code"].lower())
    await person.press("Use the code")
    await choose(person, password)
    await person.headed("Your new password counts")
    assert (await pupil.sign_in(password)).status == 201


async def test_back_refresh_and_a_second_click(town: Town, somebody: Somebody) -> None:
    pupil, password = await town.pupil(), new_password()
    await claim(pupil)
    person = await somebody(java_script_enabled=False)
    person.clicks = 2
    await forget(person, pupil.username)
    await person.page.reload()
    await person.headed("Your questions")
    await answer(person, pupil)
    await person.headed("New password")
    await person.back()
    await person.page.reload()
    await person.open("/ccps/forgot/password")
    await choose(person, password)
    await person.headed("Your new password counts")
    await person.page.reload()
    await person.headed("Your new password counts")
    assert (await pupil.sign_in(password)).status == 201


async def test_two_pupils_in_two_tabs_are_never_mixed_up(town: Town, somebody: Somebody) -> None:
    ann, bob = await town.pupil(), await town.pupil()
    await claim(ann)
    old = await claim(bob)
    one = await somebody()
    await forget(one, ann.username)
    two = await one.another_tab()
    await forget(two, bob.username)
    await answer(one, ann)
    await one.sees("Somebody else has begun in another window", bob.username)
    await one.looks_well()
    assert (await bob.sign_in(old)).status == 201


async def test_not_you_and_steps_by_their_address(town: Town, somebody: Somebody) -> None:
    person = await somebody()
    for step in ("questions", "password", "done"):
        await person.open(f"/ccps/forgot/{step}")
        await person.headed("Forgot my password")
    await forget(person, "S7654321")
    await person.press("Not you?")
    await person.headed("Forgot my password")
    await person.misses("S7654321")


async def test_auth_away_loses_nothing_that_was_typed(town: Town, somebody: Somebody) -> None:
    pupil, password = await town.pupil(), new_password()
    await claim(pupil)
    person = await somebody()
    await forget(person, pupil.username)
    auth = town.fleet.part("auth")
    await auth.kill()
    try:
        await answer(person, pupil)
        await person.sees("We will be right back")
        await person.looks_well()
    finally:
        await auth.start()
        await town.fleet.ready("auth")
    await person.press("Next")
    await choose(person, password)
    await person.headed("Your new password counts")
