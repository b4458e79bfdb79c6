"""What happens to pupils in a school year, through all three services: each change, and what it does to the account."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from services.cli.client import Answer, Json
from services.cli.pupil import Pupil
from shared import clock
from tests.journeys.town import Town, claim, district_beside, new_password

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("journeys"),
]

BRISK = """extends = "ccps"
code = "BRISK"
time_zone = "America/New_York"
names = { en = "Brisk County", es = "Condado Rápido" }
suspension_grace_hours = 0
"""
SCOPES = {"sis": ["roster:write"], "desk": ["desk"]}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def brisk(town: Town) -> AsyncIterator[Town]:
    """A district that gives nobody a grace, but graduates their summer."""
    async with district_beside(town, "brisk", BRISK, SCOPES, ["desk"]) as brisk:
        yield brisk


async def withdraw(town: Town, pupil: Pupil, **more: str) -> None:
    await town.say("StudentWithdrawn", {"source_id": pupil.enrolled["source_id"], **more})


async def enroll_again(town: Town, pupil: Pupil) -> None:
    """Back in the district, as a new enrollment."""
    await town.say("StudentEnrolled", {**pupil.enrolled, "entered_at": clock.now().isoformat()})


async def correct(town: Town, pupil: Pupil, **changed: str) -> None:
    await town.say("StudentCorrected", {"source_id": pupil.enrolled["source_id"], **changed})
    pupil.enrolled |= changed


async def account(town: Town, pupil: Pupil) -> Json:
    return dict(await town.desk_sees((await town.person(pupil))["person_id"]) or {})


async def signs_in(town: Town, pupil: Pupil, password: str) -> str:
    """As soon as auth has heard what was said; whose session it is."""

    async def tried() -> bool:
        return (await pupil.sign_in(password)).status == 201

    await town.until(tried, "the password to sign in")
    return str((await pupil.who_am_i()).body["person_id"])


async def is_told(town: Town, pupil: Pupil, password: str, reason: str) -> Answer:
    """As soon as auth has heard what was said."""

    async def tried() -> Answer | None:
        answer = await pupil.sign_in(password)
        return answer if answer.body.get("reason") == reason else None

    answer: Answer = await town.until(tried, f"sign-in to answer {reason}")
    return answer


async def sees(town: Town, pupil: Pupil, **expected: Any) -> Json:
    """What the desk sees, once it is so."""

    async def looked() -> Json | None:
        seen = await account(town, pupil)
        return seen if {name: seen.get(name) for name in expected} == expected else None

    return dict(await town.until(looked, f"the desk to see {expected}"))


# --- Leaving and coming back


async def test_who_left_signs_in_until_the_moment_that_the_desk_is_shown(town: Town) -> None:
    """A transfer may tell the withdrawal first: within the grace nothing happens to the account."""
    pupil = await town.pupil()
    password = await claim(pupil)
    assert (await pupil.sign_in(password)).status == 201
    await withdraw(town, pupil, withdrawn_at=(clock.now() - timedelta(days=9)).isoformat())
    seen = await sees(town, pupil, enrolled=False)
    left = datetime.fromisoformat(seen["open_until"]) - clock.now()
    assert timedelta(hours=71) < left < timedelta(hours=72)
    assert (await pupil.who_am_i()).status == 200
    assert (await pupil.sign_in(password)).status == 201
    await enroll_again(town, pupil)
    assert (await sees(town, pupil, enrolled=True))["open_until"] is None
    assert await town.events(pupil, "claims") == ["ClaimOpened", "AccountClaimed"]


async def test_after_the_grace_nobody_gets_in_and_a_return_opens_the_same_account(brisk: Town) -> None:
    pupil = await brisk.pupil()
    password = await claim(pupil)
    person = await signs_in(brisk, pupil, password)
    await withdraw(brisk, pupil, reason="moved away")
    refused = await is_told(brisk, pupil, password, "account_suspended")
    assert refused.status == 403
    assert (await pupil.who_am_i()).status == 401
    assert (await pupil.sign_in("wrong")).body["reason"] == "authentication_failed"
    assert (await pupil.forgot_password()).status == 201
    assert (await pupil.answer_questions()).body["reason"] == "recovery_refused"
    (why,) = (await sees(brisk, pupil, suspended=True))["suspensions"]
    assert (why["cause"], why["actor"]) == ("withdrawn", None)

    await enroll_again(brisk, pupil)
    assert await signs_in(brisk, pupil, password) == person
    await sees(brisk, pupil, suspended=False, claimed=True)
    assert await brisk.events(pupil, "claims") == [
        "ClaimOpened", "AccountClaimed", "AccountSuspended", "AccountRestored",
    ]  # fmt: skip
    assert (await brisk.events(pupil, "auth"))[-2:] == ["CredentialSuspended", "CredentialRestored"]
    assert await brisk.events(pupil, "roster") == ["StudentEnrolled", "StudentWithdrawn", "StudentEnrolled"]


async def test_who_left_before_claiming_claims_on_return_without_waiting_again(brisk: Town) -> None:
    pupil = await brisk.pupil()
    await withdraw(brisk, pupil)
    await sees(brisk, pupil, suspended=True)
    assert (await pupil.open_claim()).body["reason"] == "claim_refused"
    await enroll_again(brisk, pupil)
    await sees(brisk, pupil, suspended=False, may_claim_now=True)
    assert (await pupil.sign_in(await claim(pupil))).status == 201


async def test_a_return_does_not_lift_what_the_desk_closed(brisk: Town) -> None:
    pupil = await brisk.pupil()
    password = await claim(pupil)
    path = f"/accounts/{(await brisk.person(pupil))['person_id']}/suspension"
    await brisk.homeroom.call("desk", "PUT", "claims", path, {"desk_ticket": "T-1"})
    await is_told(brisk, pupil, password, "account_suspended")
    await withdraw(brisk, pupil)

    async def both() -> bool:
        return len((await account(brisk, pupil))["suspensions"]) == 2

    await brisk.until(both, "both causes to stand")
    await enroll_again(brisk, pupil)

    async def one() -> bool:
        return [s["cause"] for s in (await account(brisk, pupil))["suspensions"]] == ["desk"]

    await brisk.until(one, "the return to lift its own cause")
    assert (await pupil.sign_in(password)).body["reason"] == "account_suspended"
    await brisk.homeroom.call("desk", "DELETE", "claims", path, query={"desk_ticket": "T-2"})
    await signs_in(brisk, pupil, password)


async def test_a_graduate_keeps_the_account_over_the_summer(brisk: Town) -> None:
    pupil = await brisk.pupil()
    password = await claim(pupil)
    await withdraw(brisk, pupil, reason="Graduated")
    seen = await sees(brisk, pupil, enrolled=False)
    left = datetime.fromisoformat(seen["open_until"]) - clock.now()
    assert timedelta(days=89) < left < timedelta(days=90)
    other = await brisk.pupil()
    await withdraw(brisk, other)
    await sees(brisk, other, suspended=True)
    assert not (await account(brisk, pupil))["suspended"]
    await signs_in(brisk, pupil, password)


async def test_an_enrollment_that_never_should_have_been_leaves_no_open_account(brisk: Town) -> None:
    pupil = await brisk.pupil(enrollment_id="mistake")
    password = await claim(pupil)
    voided = {"source_id": pupil.enrolled["source_id"], "enrollment_id": "mistake"}
    await brisk.say("EnrollmentVoided", voided)
    await is_told(brisk, pupil, password, "account_suspended")


# --- Another school, another year


async def test_a_move_and_a_new_school_year_lock_nobody_out(town: Town) -> None:
    pupils = [await town.pupil(school="Mundy's Mill Middle", grade="08") for _ in range(3)]
    passwords = [await claim(pupil) for pupil in pupils]
    for pupil, password in zip(pupils, passwords, strict=True):
        assert (await pupil.sign_in(password)).status == 201
    await correct(town, pupils[0], school="Kendrick Middle")
    for pupil in pupils:
        await enroll_again(town, Pupil(pupil.ask, pupil.enrolled | {"grade": "09"}, pupil.policy))
    for pupil, password in zip(pupils, passwords, strict=True):
        seen = await sees(town, pupil, grade="09")
        assert (seen["school"], seen["claimed"]) == (pupil.enrolled["school"], True)
        assert (await pupil.who_am_i()).status == 200
        assert (await pupil.sign_in(password)).status == 201
    assert "PlacementChanged" in await town.events(pupils[0], "roster")


# --- Names and numbers


async def test_a_name_corrected_between_the_steps_of_a_claim(town: Town) -> None:
    """Whoever was identified goes on; the next one types the new name."""
    pupil = await town.pupil(first_name="Mary Ann")
    assert (await pupil.open_claim()).status == 201
    password = new_password()
    assert (await pupil.set_password(password)).status == 200
    await correct(town, pupil, first_name="Mary-Ann")
    await sees(town, pupil, first_name="Mary-Ann")
    assert (await pupil.save_answers()).status in (200, 202)
    assert await pupil.claim_settled() == "completed"
    await signs_in(town, pupil, password)


async def test_a_number_changed_between_the_steps_of_a_claim(town: Town) -> None:
    """The claim is the person's: it completes, and the new number signs in."""
    pupil = await town.pupil()
    assert (await pupil.open_claim()).status == 201
    password = new_password()
    assert (await pupil.set_password(password)).status == 200
    old = pupil.username
    await correct(town, pupil, number=f"1{pupil.enrolled['number'][1:]}")
    assert (await pupil.save_answers()).status in (200, 202)
    assert await pupil.claim_settled() == "completed"
    person = await signs_in(town, pupil, password)
    assert person == (await town.person(pupil))["person_id"]
    body = {"username": old, "password": password}
    assert (await town.homeroom.ask("POST", "auth", "/sessions", body)).status == 401


@pytest.mark.parametrize("first", [0, 1])
async def test_two_numbers_are_swapped_in_either_order(town: Town, first: int) -> None:
    """Between the two events both have one number: who had it first keeps signing in, sessions stay; then each has
    the right username."""
    pair = [await town.pupil(), await town.pupil()]
    passwords = [await claim(pupil) for pupil in pair]
    persons = [await signs_in(town, *each) for each in zip(pair, passwords, strict=True)]
    mover, stayer = pair[first], pair[1 - first]
    numbers = mover.enrolled["number"], stayer.enrolled["number"]

    await correct(town, mover, number=numbers[1])
    await sees(town, mover, number=numbers[1])
    assert (await stayer.sign_in(passwords[1 - first])).status == 201
    refused = await is_told(town, mover, passwords[first], "authentication_failed")
    detail = (await town.homeroom.get("auth", f"/refusals/{refused.body['reference']}"))["detail"]
    assert detail["same_number"] == [persons[first]]
    assert (await mover.who_am_i()).status == 200
    assert (await account(town, mover))["same_number"] == [persons[1 - first]]

    await correct(town, stayer, number=numbers[0])
    assert await signs_in(town, mover, passwords[first]) == persons[first]
    assert await signs_in(town, stayer, passwords[1 - first]) == persons[1 - first]


async def test_a_number_that_is_given_out_again(brisk: Town) -> None:
    """The old holder has left; the new one claims and signs in under the same username."""
    old = await brisk.pupil()
    old_password = await claim(old)
    await signs_in(brisk, old, old_password)
    await withdraw(brisk, old)
    await is_told(brisk, old, old_password, "account_suspended")
    new = await brisk.pupil(number=old.enrolled["number"])
    password = await claim(new)
    assert await signs_in(brisk, new, password) == (await brisk.person(new))["person_id"]
    assert (await old.sign_in(old_password)).body["reason"] == "authentication_failed"


# --- Two records that are one person


async def merged(town: Town, kind: str, stays: Pupil, goes: Pupil) -> None:
    data = {"source_id": stays.enrolled["source_id"], "merged_source_id": goes.enrolled["source_id"]}
    await town.say(kind, data)


async def test_two_records_of_one_pupil_are_merged_and_split_again(town: Town) -> None:
    """The survivor's account stays; the other's closes, and what is said of its record is the survivor's. After the
    split both are as they were."""
    stays, goes = await town.pupil(), await town.pupil()
    passwords = await claim(stays), await claim(goes)
    person = await signs_in(town, stays, passwords[0])
    await signs_in(town, goes, passwords[1])

    await merged(town, "PersonsMerged", stays, goes)
    assert (await is_told(town, goes, passwords[1], "account_suspended")).status == 403
    assert (await goes.who_am_i()).status == 401
    assert (await stays.who_am_i()).status == 200
    seen = await sees(town, goes, suspended=True, enrolled=False, merged_into=person)
    assert [each["cause"] for each in seen["suspensions"]] == ["merged"]

    number = f"1{stays.enrolled['number'][1:]}"
    await town.say("StudentCorrected", {"source_id": goes.enrolled["source_id"], "number": number})
    stays.enrolled["number"] = number
    assert await signs_in(town, stays, passwords[0]) == person
    await withdraw(town, goes)
    assert (await sees(town, stays, number=number))["enrolled"]

    await merged(town, "PersonsSplit", stays, goes)
    assert await signs_in(town, goes, passwords[1]) != person
    await sees(town, goes, suspended=False, enrolled=True, claimed=True, merged_into=None)
    assert await signs_in(town, stays, passwords[0]) == person
    assert await town.events(goes, "claims") == [
        "ClaimOpened", "AccountClaimed", "AccountSuspended", "AccountRestored",
    ]  # fmt: skip


async def test_a_pupil_known_for_long_under_another_record_does_not_wait_anew(town: Town) -> None:
    goes = await town.pupil()
    stays = await town.pupil(timedelta(0))
    assert (await stays.open_claim()).body["reason"] == "waiting_period"
    await merged(town, "PersonsMerged", stays, goes)
    await sees(town, stays, may_claim_now=True)
    assert (await stays.sign_in(await claim(stays))).status == 201
    assert (await goes.open_claim()).body["reason"] == "claim_refused"
