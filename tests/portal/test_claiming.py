"""Claiming an account, as the guides show it, and without any of their warnings: do not press Back, do not close the
tab, mind the zero."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from playwright.async_api import expect

from services.cli.pupil import Pupil, employment
from services.portal.claim import Claim
from services.portal.seals import Seals
from shared import clock
from tests.journeys.town import Town, claim, new_password
from tests.portal.conftest import Somebody
from tests.portal.person import DESKTOP, PATIENCE_MS, PHONE, Person
from tests.portal.site import Site
from tests.portal.ways import (
    answer_questions,
    choose_password,
    claim_by_hand,
    claimed,
    signed_in,
    type_names,
)  # fmt: skip

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("portal"),
]
GREEN = re.compile(r"rgb\((\d+), (\d+), (\d+)\)")


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("language", ["en", "es"])
async def test_from_the_first_page_to_being_signed_in(
    town: Town, somebody: Somebody, language: str, size: tuple[int, int]
) -> None:
    pupil, password = await town.pupil(), new_password()
    person = await somebody(language=language, size=size)
    await person.open("/ccps/")
    await person.follow("Claim My Account")
    await person.headed("Claim My Account")
    await person.looks_well()
    await type_names(person, pupil)
    await person.headed("Choose your password")
    await person.sees(pupil.enrolled["first_name"], "Not you?")
    await person.looks_well()
    await choose_password(person, password)
    await person.headed("Your questions")
    await person.sees(pupil.username, "SAVE")
    color = await person.page.locator("main .username").first.evaluate("it => getComputedStyle(it).color")
    red, green, blue = (int(part) for part in GREEN.match(color).groups())  # type: ignore[union-attr]
    assert green > red, color
    assert green > blue, color
    await person.looks_well()
    await answer_questions(person, pupil)
    await claimed(person, pupil)
    await person.looks_well()
    await person.misses(password)
    await person.follow("A card with my username")
    await person.headed("My card")
    await person.sees(pupil.username, re.compile(r"/ccps/"))
    await person.misses(password)
    await person.looks_well()
    await person.page.emulate_media(media="print")
    await expect(person.page.locator("main").get_by_text(pupil.username)).to_be_visible()
    await expect(person.page.get_by_role("link", name=str(person.reads("Back")))).to_be_hidden()
    await person.page.emulate_media(media="null")
    await person.follow("Back")
    await person.press("Go to sign in")
    await person.headed("Sign in")
    assert await person.field("username").input_value() == pupil.username
    await person.press("Go")
    await person.fill(password=password)
    await person.press("Go")
    await signed_in(person, pupil.username)


@pytest.mark.parametrize("language", ["en", "es"])
async def test_what_is_mistyped_most_often_is_said_at_the_field(
    town: Town, somebody: Somebody, language: str
) -> None:
    pupil = await town.pupil()
    number = pupil.enrolled["number"]
    person = await somebody(language=language)
    for typed, hint in (
        ("O" + number[1:], "There is a letter O in it. Type the number 0 (zero)."),
        (
            number[1:],
            str(person.reads("A student number has %(digits)s digits. Keep the zero in front.", digits=7)),
        ),
        ("S" + number, str(person.reads("Leave out the %(letter)s. Type only the numbers.", letter="S"))),
        ("number", "Type only the number, as your school gave it to you."),
    ):
        await type_names(person, pupil, number=typed)
        await person.told("number", hint)
        await expect(person.page.locator(":focus")).to_have_attribute("role", "alert")
        assert await person.field("last_name").input_value() == pupil.enrolled["last_name"]
    await person.looks_well()
    await type_names(person, pupil, last_name=" ", first_name="")
    await person.told("last_name", "Type your last name.")


async def test_hints_come_while_somebody_types(town: Town, somebody: Somebody) -> None:
    person = await somebody()
    await person.open("/ccps/claim")
    for typed, hint in (
        ("O", "That is the letter O. Type the number 0 (zero)."),
        ("S0", "Leave out the S. Type only the numbers."),
        ("01234567", "That is too long. A student number has 7 digits."),
        ("0123456", "Looks good."),
    ):
        await person.field("number").fill("")
        await person.field("number").press_sequentially(typed)
        await person.sees(hint)
    await person.field("number").fill("012345")
    await person.field("first_name").focus()
    await person.sees("A student number has 7 digits. Keep the zero in front.")
    await person.looks_well()


async def test_a_name_that_differs_by_a_letter(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil(first_name="Mary-Ann")
    for typed in ({"first_name": "Mary Ann"}, {"number": "0999999"}):
        person = await somebody()
        await type_names(person, pupil, **typed)
        await person.sees("Claim Account Operation Failed", re.compile("C-[0-9A-Z]{4}-[0-9A-Z]{3}"))
        await person.misses("Mary-Ann" if "first_name" in typed else pupil.username)
        assert await person.field("last_name").input_value() == pupil.enrolled["last_name"]
    await person.looks_well()


@pytest.mark.parametrize("language", ["en", "es"])
async def test_who_is_new_is_told_the_moment(town: Town, somebody: Somebody, language: str) -> None:
    pupil = await town.pupil(entered_ago=timedelta(hours=1))
    person = await somebody(language=language)
    await type_names(person, pupil)
    opens = (
        r"Your account opens \w+, \w+ \d+ at \d+:\d\d\s[AP]M"
        if language == "en"
        else r"\w+, \d+ de \w+.* a las \d"
    )
    await person.sees(re.compile(opens))
    await person.looks_well()


async def test_an_account_that_is_claimed_leads_to_signing_in(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    await claim(pupil)
    person = await somebody()
    await type_names(person, pupil)
    await person.sees(pupil.username)
    await person.looks_well()
    await person.page.locator("main").get_by_role("link", name="Sign in").first.click()
    await person.headed("Sign in")
    assert await person.field("username").input_value() == pupil.username


async def test_passwords_that_will_not_do(town: Town, somebody: Somebody) -> None:
    person = await somebody()
    await type_names(person, await town.pupil())
    await person.headed("Choose your password")
    good = new_password()
    for first, second, field in (
        ("", "", "password"), ("short", "short", "password"), ("password", "password", "password"),
        ("x" * 300, "x" * 300, "password"), (good, good + "!", "again"),
    ):  # fmt: skip
        await person.fill(password=first, again=second)
        await person.press("Next")
        await expect(person.field(field)).to_have_attribute("aria-invalid", "true", timeout=PATIENCE_MS)
        assert await person.field("password").input_value() == ""
    await person.looks_well()
    await choose_password(person, good)
    await person.headed("Your questions")


async def test_the_eye_shows_what_was_typed_and_covers_it_before_it_is_sent(
    town: Town, somebody: Somebody
) -> None:
    person = await somebody()
    await type_names(person, await town.pupil())
    await person.headed("Choose your password")
    first = person.field("password")
    await first.fill("witty mouse")
    await person.page.get_by_role("button", name="Show the password").first.click()
    assert await first.get_attribute("type") == "text"
    await person.looks_well()
    await person.press("Next")
    await person.told("again", "")
    assert await first.get_attribute("type") == "password"


async def test_answers_that_will_not_do(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    person = await somebody()
    await type_names(person, pupil)
    await choose_password(person, new_password())
    await person.headed("Your questions")
    await person.press("SAVE")
    await person.told("question-1", "Choose question 1.")
    await person.looks_well()
    for n, question, answer in (
        (1, "birth_year", "14"),
        (2, "middle_name", "A"),
        (3, "school_mascot", "Tiger"),
    ):
        await person.field(f"question-{n}").select_option(question)
        await person.fill(**{f"answer-{n}": answer})
    await person.press("SAVE")
    await person.told("answer-1", "Type a year with four numbers, such as 2014.")
    assert await person.field("answer-3").input_value() == "Tiger"
    await person.looks_well()
    await person.fill(**{"answer-1": "2014"})
    await person.press("SAVE")
    await person.told("answer-2", "That answer is too short.")
    await person.fill(**{"answer-2": "Ann"})
    await person.press("SAVE")
    await claimed(person, pupil)


async def test_a_question_is_offered_once(town: Town, somebody: Somebody) -> None:
    person = await somebody()
    await type_names(person, await town.pupil())
    await choose_password(person, new_password())
    await person.headed("Your questions")
    await person.field("question-1").select_option("birth_month")
    assert await person.field("question-2").locator('[value="birth_month"]').is_disabled()
    assert await person.field("answer-1").evaluate("field => field.localName") == "select"


# ------------------------------------------------------------------ what the guides warn of


async def test_back_and_refresh_at_every_step(town: Town, somebody: Somebody) -> None:
    pupil, password = await town.pupil(), new_password()
    person = await somebody()
    await type_names(person, pupil)
    await person.headed("Choose your password")
    await person.page.reload()
    await person.headed("Choose your password")
    await person.back()
    await person.sees(person.reads("Go on as %(name)s", name=pupil.enrolled["first_name"]))
    await person.looks_well()
    await person.follow("Go on as")
    await choose_password(person, new_password())
    await person.headed("Your questions")
    await person.page.reload()
    await person.headed("Your questions")
    await person.back()  # another password, then
    await choose_password(person, password)
    await answer_questions(person, pupil)
    await claimed(person, pupil)
    await person.page.reload()
    await claimed(person, pupil)
    await person.back()
    await claimed(person, pupil)  # the questions are saved: there is nothing left to ask
    await person.press("Go to sign in")
    await person.press("Go")
    await person.fill(password=password)
    await person.press("Go")
    await signed_in(person, pupil.username)
    assert (await town.events(pupil, "claims")).count("AccountClaimed") == 1


async def test_back_to_what_was_refused_is_a_page(town: Town, somebody: Somebody) -> None:
    """Not the browser's own, which asks whether to send it once more."""
    pupil = await town.pupil()
    person = await somebody()
    await type_names(person, pupil, number="712")
    await person.headed("Claim My Account")
    await type_names_again(person, pupil)
    await person.headed("Choose your password")
    await person.fill(password="short", again="short")
    await person.press("Next")
    await expect(person.field("password")).to_have_attribute("aria-invalid", "true")
    await choose_password(person, new_password())
    await person.headed("Your questions")
    await person.back()
    await person.headed("Choose your password")
    await person.back()
    await person.headed("Choose your password")
    await person.back()
    await person.headed("Claim My Account")


async def type_names_again(person: Person, pupil: Pupil) -> None:
    await person.fill(**{name: pupil.enrolled[name] for name in ("last_name", "first_name", "number")})
    await person.press("Next")


async def test_a_double_click_at_every_step(town: Town, somebody: Somebody) -> None:
    """Without scripts nothing stops the second click: both requests arrive."""
    pupil, password = await town.pupil(), new_password()
    person = await somebody(java_script_enabled=False)
    person.clicks = 2
    await claim_by_hand(person, pupil, password)
    assert (await town.events(pupil, "claims")).count("AccountClaimed") == 1
    assert (await town.events(pupil, "auth")).count("CredentialsSet") == 1
    assert (await pupil.sign_in(password)).status == 201


async def test_two_tabs_of_one_pupil(town: Town, somebody: Somebody) -> None:
    pupil, passwords = await town.pupil(), [new_password(), new_password()]
    one = await somebody()
    await type_names(one, pupil)
    two = await one.another_tab()
    await two.open("/ccps/claim")
    await two.follow("Go on as")
    await choose_password(one, passwords[0])
    await one.headed("Your questions")
    await choose_password(two, passwords[1])
    await two.headed("Your questions")
    await answer_questions(one, pupil)
    await one.sees("Please choose your password again")
    await one.looks_well()
    await choose_password(one, passwords[0])
    await answer_questions(two, pupil)
    await two.sees("Please choose your password again")
    await choose_password(two, passwords[1])
    await answer_questions(two, pupil)
    await claimed(two, pupil)
    await one.page.reload()
    await claimed(one, pupil)
    assert (await pupil.sign_in(passwords[1])).status == 201


async def test_two_pupils_in_two_tabs_are_never_mixed_up(town: Town, somebody: Somebody) -> None:
    ann, bob = await town.pupil(first_name="Ann"), await town.pupil(first_name="Bob")
    one = await somebody()
    await type_names(one, ann)
    await one.headed("Choose your password")
    two = await one.another_tab()
    await two.open("/ccps/claim")
    await two.press("Not you? Start again")
    await type_names(two, bob)
    await two.headed("Choose your password")
    await choose_password(one, new_password())
    await one.sees("Somebody else has begun in another window", "Bob")
    await one.looks_well()
    password = new_password()
    await choose_password(two, password)
    await answer_questions(two, bob)
    await claimed(two, bob)
    assert (await bob.sign_in(password)).status == 201
    assert (await town.events(ann, "claims")).count("AccountClaimed") == 0


async def test_two_browsers_on_one_account(town: Town, somebody: Somebody) -> None:
    """The first one has it; the second reads so, and what to do."""
    pupil, passwords = await town.pupil(), [new_password(), new_password()]
    one, two = await somebody(), await somebody()
    for person, password in ((one, passwords[0]), (two, passwords[1])):
        await type_names(person, pupil)
        await choose_password(person, password)
        await person.headed("Your questions")
    await answer_questions(one, pupil)
    await claimed(one, pupil)
    await answer_questions(two, pupil)
    await two.sees("This account was claimed somewhere else")
    await two.looks_well()
    assert (await pupil.sign_in(passwords[0])).status == 201


async def test_a_browser_that_was_closed_begins_again(town: Town, somebody: Somebody) -> None:
    pupil, password = await town.pupil(), new_password()
    closed = await somebody()
    await type_names(closed, pupil)
    await choose_password(closed, new_password())
    await closed.headed("Your questions")
    kept = [each for each in (await closed.cookies()).values() if each["expires"] > 0]
    await closed.context.close()
    person = await somebody()
    await person.context.add_cookies(kept)  # what a browser keeps when it is closed
    await person.open("/ccps/claim")
    await person.misses(pupil.username, pupil.enrolled["last_name"])
    await claim_by_hand(person, pupil, password)
    assert (await pupil.sign_in(password)).status == 201


async def test_not_you_forgets_the_pupil_before(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil(last_name="Of-A-Kind")
    person = await somebody()
    await type_names(person, pupil)
    await person.headed("Choose your password")
    await person.press("Not you?")
    await person.headed("Claim My Account")
    await person.misses("Of-A-Kind", pupil.username)
    await person.back()
    await person.misses("Of-A-Kind", pupil.username)


async def test_the_next_person_sees_nothing_of_the_one_before(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil(last_name="Of-A-Kind")
    person = await somebody()
    await claim_by_hand(person, pupil, new_password())
    await person.press("Next person")
    await person.headed("Claim My Account")
    for _ in range(3):
        await person.back()
        await person.page.wait_for_load_state()
        await person.misses("Of-A-Kind", pupil.username)


async def test_a_step_asked_for_by_its_address_leads_to_where_one_is(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    person = await somebody()
    for step in ("password", "questions", "saving", "done", "card"):
        await person.open(f"/ccps/claim/{step}")
        await person.headed("Claim My Account")
    await type_names(person, pupil)
    await person.headed("Choose your password")
    for step in ("questions", "saving", "done"):
        await person.open(f"/ccps/claim/{step}")
        await person.headed("Choose your password")


async def test_auth_ends_between_two_steps(town: Town, somebody: Somebody) -> None:
    pupil, password = await town.pupil(), new_password()
    person = await somebody()
    await type_names(person, pupil)
    await person.headed("Choose your password")
    auth = town.fleet.part("auth")
    await auth.kill()
    try:
        await choose_password(person, password)
        await person.sees("We will be right back")
        await person.looks_well()
    finally:
        await auth.start()
        await town.fleet.ready("auth")
    await choose_password(person, password)
    await person.headed("Your questions")
    await auth.kill()
    try:
        await answer_questions(person, pupil)
        await person.sees("We will be right back")
        assert await person.field("answer-2").input_value() == pupil.answers[1]["answer"]
    finally:
        await auth.start()
        await town.fleet.ready("auth")
    await person.press("SAVE")
    await claimed(person, pupil)
    assert (await pupil.sign_in(password)).status == 201


async def test_without_a_network_the_page_stays(town: Town, somebody: Somebody) -> None:
    pupil = await town.pupil()
    person = await somebody()
    await type_names(person, pupil)
    await person.headed("Choose your password")
    with person.without("ERR_INTERNET_DISCONNECTED"):
        await person.context.set_offline(True)
        await choose_password(person, new_password())
        await person.context.set_offline(False)
        await person.open("/ccps/claim")
    await person.follow("Go on as")
    await person.headed("Choose your password")


async def test_a_reset_in_the_middle_begins_again(town: Town, somebody: Somebody) -> None:
    pupil, password = await town.pupil(), new_password()
    await claim(pupil)
    await town.reset(pupil)
    person = await somebody()
    await type_names(person, pupil)
    await choose_password(person, password)
    await person.headed("Your questions")
    again = await somebody()
    await claim_by_hand(again, pupil, password)
    await town.reset(pupil)
    await answer_questions(person, pupil)
    await person.sees("Please begin again")
    await person.looks_well()


@pytest.mark.parametrize("late", ["here", "there"])
async def test_whoever_takes_longer_than_a_ticket_lives(
    town: Town, portal: Site, somebody: Somebody, late: str
) -> None:
    """By the portal's clock, or by auth's: what was known stays, but for the number."""
    pupil, password = await town.pupil(), new_password()
    person = await somebody()
    await type_names(person, pupil)
    await person.headed("Choose your password")
    seals, name, now = Seals.read(Path(portal.key_file)), "__Host-ccps-claim", clock.now()
    cookie = (await person.cookies())[name]
    known = seals.open(name, cookie["value"], Claim, now)
    assert known is not None
    ended = {"expires_at": now - timedelta(seconds=1)} if late == "here" else {"ticket": "ended.long.ago"}
    sealed = seals.seal(name, replace(known, **ended), now + timedelta(minutes=10))
    await person.context.add_cookies([cookie | {"value": sealed}])
    await choose_password(person, password)
    await person.sees("That took a little too long")
    await person.looks_well()
    assert await person.field("last_name").input_value() == pupil.enrolled["last_name"]
    await person.fill(number=pupil.enrolled["number"])
    await person.press("Next")
    await choose_password(person, password)
    await answer_questions(person, pupil)
    await claimed(person, pupil)


async def test_a_claim_goes_on_after_the_portal_was_restarted(
    town: Town, portal: Site, somebody: Somebody
) -> None:
    pupil, password = await town.pupil(), new_password()
    person = await somebody()
    await type_names(person, pupil)
    await person.headed("Choose your password")
    await portal.restart()
    await choose_password(person, password)
    await person.headed("Your questions")
    await portal.restart()
    await answer_questions(person, pupil)
    await claimed(person, pupil)


async def test_a_claim_without_scripts(town: Town, somebody: Somebody) -> None:
    pupil, password = await town.pupil(), new_password()
    person = await somebody(java_script_enabled=False, size=PHONE)
    await claim_by_hand(person, pupil, password)
    assert (await pupil.sign_in(password)).status == 201


async def test_a_claim_with_the_keyboard_alone(town: Town, somebody: Somebody) -> None:
    pupil, password = await town.pupil(), new_password()
    person = await somebody()
    await person.open("/ccps/claim")
    for name in ("last_name", "first_name", "number"):
        await person.type_at(name, pupil.enrolled[name])
    await person.page.keyboard.press("Enter")
    await person.headed("Choose your password")
    await person.type_at("password", password)
    await person.type_at("again", password)
    await person.page.keyboard.press("Enter")
    await person.headed("Your questions")
    for n, each in enumerate(("In what year", "What is your middle", "What is your school mascot"), 1):
        await person.type_at(f"question-{n}", each)
        await person.type_at(f"answer-{n}", "2014")
    await person.page.keyboard.press("Enter")
    await claimed(person, pupil)


@pytest.mark.parametrize(
    ("last", "first"),
    [
        ("<b>Núñez</b>", "<script>alert(1)</script>"),
        ("O’Neill\u202e", "{{ 7*7 }}"),
        ("ﷺ" * 30, "𝒵oë %(name)s"),
    ],
)
async def test_names_are_shown_as_the_text_that_they_are(
    town: Town, somebody: Somebody, last: str, first: str
) -> None:
    pupil = await town.pupil(last_name=last, first_name=first)
    person = await somebody(size=PHONE)
    opened: list[object] = []
    person.page.on("dialog", lambda dialog: opened.append(dialog))
    await type_names(person, pupil)
    await person.headed("Choose your password")
    await person.sees(first)
    await person.looks_well()
    await choose_password(person, new_password())
    await answer_questions(person, pupil)
    await claimed(person, pupil)
    await person.looks_well()
    assert not opened


async def test_staff_claim_on_the_same_form(town: Town, somebody: Somebody) -> None:
    data = employment(now=clock.now())
    await town.say("StaffEmployed", data)
    teacher = Pupil(town.homeroom.ask, data, town.policy)
    await town.known(teacher)
    await claim_by_hand(await somebody(), teacher, new_password())
