"""The help desk and the operators at their pages."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from playwright.async_api import expect

from services.cli.pupil import Pupil, employment
from shared import clock
from tests.journeys.town import Town, claim
from tests.portal.conftest import Somebody
from tests.portal.person import PATIENCE_MS, PHONE, Person
from tests.portal.ways import sign_in, signed_in, type_names

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("portal"),
]
SCRIPT = "<img src=x onerror=alert(1)>"


class Worker:
    """A member of the staff with roles, and what they sign in with."""

    def __init__(self, pupil: Pupil, password: str) -> None:
        self.username, self.password = pupil.username, password

    async def at(self, person: Person, path: str = "/ccps/desk") -> Person:
        await sign_in(person, self.username, self.password)
        await signed_in(person, self.username)
        await person.open(path)
        return person


async def at_work(town: Town, *roles: str) -> Worker:
    data = employment(now=clock.now())
    await town.say("StaffEmployed", data)
    staff = Pupil(town.homeroom.ask, data, town.policy)
    person_id = (await town.known(staff))["person_id"]
    worker = Worker(staff, await claim(staff))
    for role in roles:
        await town.homeroom.call("operator", "PUT", "auth", f"/accounts/{person_id}/roles/{role}", {})
    return worker


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def desk(town: Town) -> AsyncIterator[Worker]:
    yield await at_work(town, "desk")


async def test_staff_find_the_way_and_pupils_do_not(town: Town, somebody: Somebody, desk: Worker) -> None:
    pupil = await town.pupil()
    child = await somebody()
    await sign_in(child, pupil.username, await claim(pupil))
    await signed_in(child, pupil.username)
    await child.misses("/ccps/desk")
    await child.open("/ccps/desk")
    await child.headed("These pages are for the help desk")
    await child.looks_well()
    nobody = await somebody()
    await nobody.open("/ccps/desk")
    await nobody.headed("Sign in")
    person = await desk.at(await somebody(), "/ccps/")
    await person.follow("Go to the help desk")
    await person.headed("Whom are you looking for?")
    await person.looks_well()
    assert (await person.open("/ccps/operations")).status == 403


@pytest.mark.parametrize(("language", "more"), [("en", {}), ("es", {"size": PHONE})], ids=["en", "es"])
async def test_from_a_code_to_the_true_reason_to_help(
    town: Town, somebody: Somebody, desk: Worker, language: str, more: dict[str, tuple[int, int]]
) -> None:
    pupil = await town.pupil(entered_ago=timedelta(hours=1), first_name="Mary-Ann")
    child = await somebody()
    await type_names(child, pupil, first_name="Mary Ann")
    await child.sees("Claim Account Operation Failed")
    code = re.search(r"C-[0-9A-Z]{4}-[0-9A-Z]{3}", await child.page.inner_text("main"))
    assert code
    person = await desk.at(await somebody(language=language, **more))
    await person.fill(search=code[0])
    await person.press("Search")
    await person.sees(re.compile("Mary-Ann"))
    await person.looks_well()
    await person.follow("Show this person")
    await person.sees(pupil.enrolled["number"])
    await person.looks_well()
    await person.follow("Waive the wait")
    await person.headed("Waive the wait")
    await person.press("Waive the wait")
    await person.told("ticket", "Type the number of the ticket.")
    await person.looks_well()
    await person.fill(ticket="INC-4711")
    person.clicks = 2
    await person.press("Waive the wait")
    await person.sees("The person can claim at once.")
    await type_names(child, pupil)
    await child.headed("Choose your password")


async def test_a_code_is_shown_once(town: Town, somebody: Somebody, desk: Worker) -> None:
    pupil = await town.pupil()
    await claim(pupil)
    person = await desk.at(await somebody())
    await person.fill(search=pupil.username)
    await person.press("Search")
    await person.follow("Make a one-time code")
    await person.fill(ticket="INC-1")
    await person.press("Make a one-time code")
    await person.sees(re.compile("Good until"))
    shown = (await person.page.locator("main .username.big").inner_text()).strip()
    await person.looks_well()
    await person.page.reload()
    await person.sees("The code was shown already.")
    await person.misses(shown)
    assert (await pupil.forgot_password()).status == 201
    assert (await pupil.show_code(shown)).status == 200


async def test_lines_of_a_ticket_are_looked_at_then_reset(
    town: Town, somebody: Somebody, desk: Worker
) -> None:
    pupil, other = await town.pupil(), await town.pupil(last_name=SCRIPT)
    await claim(pupil)
    name = " ".join(pupil.enrolled[part] for part in ("first_name", "last_name"))
    lines = f"{name} {pupil.enrolled['number']}\n{SCRIPT} Nobody 0999999\n{other.enrolled['number']}"
    person = await desk.at(await somebody(), "/ccps/desk/tickets")
    await person.headed("Reset from a ticket")
    await person.looks_well()
    await person.fill(ticket="INC-2", lines=lines)
    await person.press("Look first")
    await person.headed("What would be done")
    await person.sees(SCRIPT, "1 account would be reset")
    await person.looks_well()
    person.clicks = 2
    await person.press("Reset 1 account")
    person.clicks = 1
    await person.headed(f"Reset {'INC-2'}")
    await expect(person.page.locator("[data-live]").get_by_text("done").first).to_be_visible(
        timeout=2 * PATIENCE_MS
    )
    await person.looks_well()
    async with person.page.expect_download() as report:
        await person.follow("Download the report")
    content = (await (await report.value).path()).read_text()
    assert pupil.enrolled["number"] in content
    assert (await town.events(pupil, "claims")).count("AccountReset") == 1


async def test_an_account_is_closed_and_opened(town: Town, somebody: Somebody, desk: Worker) -> None:
    pupil = await town.pupil(first_name=SCRIPT)
    person = await desk.at(await somebody())
    await person.fill(search=pupil.enrolled["number"])
    await person.press("Search")
    for act, done in (
        ("Close the account", "The account is closed."),
        ("Open the account again", "The account is open again."),
    ):
        await person.follow(act)
        await person.fill(ticket="INC-3")
        await person.press(act)
        await person.sees(done, SCRIPT)
    await person.looks_well()


@pytest.mark.parametrize("language", ["en", "es"])
async def test_the_other_pages_of_the_desk(
    town: Town, somebody: Somebody, desk: Worker, language: str
) -> None:
    person = await desk.at(await somebody(language=language), "/ccps/desk/unclaimed")
    await person.headed("Who has not claimed yet")
    await person.looks_well()
    await person.page.locator("main table a").first.click()
    await person.page.wait_for_load_state()
    await person.looks_well()
    for path, heading in (
        ("waiting", "What waits for a colleague"),
        ("first-day", "The first day, as it goes"),
    ):
        await person.open(f"/ccps/desk/{path}")
        await person.headed(heading)
        await person.looks_well()
    await person.open("/ccps/desk?search=zzzzzz")
    await person.sees("Nobody was found")
    await person.looks_well()


@pytest.mark.parametrize("language", ["en", "es"])
async def test_an_operator_sees_how_all_is(town: Town, somebody: Somebody, language: str) -> None:
    operator = await at_work(town, "operator")
    person = await operator.at(await somebody(language=language), "/ccps/operations")
    await person.headed("Is all well?")
    await person.looks_well()
    await person.open("/ccps/operations/dead-letters")
    await person.headed("What was set aside")
    await person.looks_well()
