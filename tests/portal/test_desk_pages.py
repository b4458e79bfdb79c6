"""The help desk and the operators at their pages."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Dialog, expect

from services.cli.pupil import Pupil, employment
from shared import clock
from tests.journeys.town import Town, claim
from tests.portal.conftest import Somebody
from tests.portal.person import PATIENCE_MS, PHONE, Person
from tests.portal.ways import sign_in, signed_in, type_names
from tests.roster import exports

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
    async with person.page.expect_popup() as beside:
        await person.page.get_by_role("link", name=f"S{pupil.enrolled['number']}").click()
    await expect((await beside.value).get_by_role("heading", level=1)).to_contain_text(
        pupil.enrolled["last_name"]
    )
    await (await beside.value).close()
    asked: list[str] = []

    async def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        await dialog.dismiss()

    person.page.once("dialog", stay)
    await person.follow("People")
    assert asked == ["beforeunload"], "who leaves would lose the list"
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
        ("year", "A new school year"),
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


LEAVING = 12  # more than one in twenty of a small district: an import of them asks for a second person


async def leaving_by_export(town: Town, folder: Path) -> list[Pupil]:
    """Pupils whom an export says to be gone, which waits for somebody to agree."""
    pupils = [await town.pupil() for _ in range(LEAVING)]
    rows = [
        exports.Pupil(
            **{name: pupil.enrolled[name] for name in ("source_id", "number", "last_name", "first_name")},
            school=0,
            grade="07",
            status="tobedeleted",
        )
        for pupil in pupils
    ]
    homeroom = town.homeroom
    url = (
        f"{homeroom.site.services['roster']}/v1/districts/{homeroom.site.district}/imports?file_name=leaving"
    )
    export = exports.write_export(folder / "leaving.zip", rows, mode="delta")
    headers = {"Authorization": f"Bearer {await homeroom.token('sis')}", "Content-Type": "application/zip"}
    async with homeroom.http.post(url, data=export.read_bytes(), headers=headers) as answer:
        assert answer.status == 202, await answer.text()
    return pupils


async def test_an_operator_lets_an_import_go_on(town: Town, somebody: Somebody, tmp_path: Path) -> None:
    pupils = await leaving_by_export(town, tmp_path)
    person = await (await at_work(town, "operator")).at(await somebody(), "/ccps/operations")
    await person.sees("waits for a second person")
    await person.looks_well()
    await person.page.locator("main table a", has_text="leaving").first.click()
    await person.sees("It waits for a second person")
    await person.looks_well()
    await person.follow("Look who it is")
    await person.sees(pupils[0].enrolled["number"])
    await person.looks_well()
    await person.back()
    await person.press("Let it go on")
    await person.sees("It goes on.", "finished")
    await person.looks_well()
    assert {(await town.person(pupil))["status"] for pupil in pupils} == {"withdrawn"}


async def test_an_operator_gives_a_colleague_a_role_and_takes_it_back(town: Town, somebody: Somebody) -> None:
    colleague = await at_work(town)
    person = await (await at_work(town, "operator")).at(await somebody())

    async def does(act: str, done: str) -> None:
        await person.follow(act)
        await person.fill(ticket="INC-9")
        await person.press(act)
        await person.sees(done)

    await person.fill(search=colleague.username)
    await person.press("Search")
    await does("Give the role of the help desk", "The person works at the help desk from now on.")
    await person.sees("Was given the role desk.")
    await person.looks_well()
    await (await colleague.at(await somebody())).headed("Whom are you looking for?")
    await does("Take the role of the help desk back", "The person works at the help desk no more.")
    await (await colleague.at(await somebody())).headed("These pages are for the help desk")


async def test_an_operator_gives_up_what_was_set_aside(town: Town, somebody: Somebody) -> None:
    await town.producer.send_and_wait(town.fleet.ingress, b"not json", key=b"broken-at-a-desk")

    async def set_aside() -> list[Any]:
        found = await town.homeroom.get("roster", "/dead-letters", role="operator")
        return [each for each in found["dead_letters"] if each["key"] == "broken-at-a-desk"]

    [letter] = await town.until(set_aside, "the record to be set aside")
    operator = await at_work(town, "operator")
    person = await operator.at(await somebody(), "/ccps/operations/dead-letters")
    await person.page.get_by_role("link", name=str(letter["id"]), exact=True).click()
    await person.sees("Mend the cause first. What waits behind this record follows in order.")
    await person.looks_well()
    await person.press("Try again")
    await person.sees("It was tried again and still cannot be taken.")
    await person.press("Give it up")
    await person.told("reason", "Say why, for whoever asks later.")
    await person.looks_well()
    await person.fill(reason="published again with its zeros")
    await person.press("Give it up")
    await person.sees("It was given up, and whatever waited behind it went on.")
    await person.looks_well()
