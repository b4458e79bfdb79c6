"""A member of the staff, through all three services: employed, in possession of an account at once, and gone."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import encode_basic_auth

from services.cli.client import Answer, Failed, Json
from services.cli.pupil import Pupil, bearer, employment
from shared import clock
from tests.journeys.town import Town, claim, district_beside, new_password

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("journeys"),
]

CODED = """extends = "ccps"
code = "CODEDC"
time_zone = "America/New_York"
names = { en = "Coded County", es = "Condado con Código" }
suspension_grace_hours = 0
staff_claim_code = "required"
"""
SCOPES = {"sis": ["roster:write"], "desk": ["desk"]}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def coded(town: Town) -> AsyncIterator[Town]:
    """A district that asks staff for a code, and gives nobody a grace."""
    async with district_beside(town, "coded", CODED, SCOPES, ["desk"]) as coded:
        yield coded


async def employed(town: Town, **changes: Any) -> Pupil:
    """Somebody of the staff whom claims has heard of, at a browser."""
    data = employment(now=clock.now(), **changes)
    await town.say("StaffEmployed", data)
    staff = Pupil(town.homeroom.ask, data, town.policy)
    await town.known(staff)
    return staff


async def signs_in(town: Town, staff: Pupil, password: str) -> None:
    async def tried() -> bool:
        return (await staff.sign_in(password)).status == 201

    await town.until(tried, "the password to sign in")


async def test_staff_claims_at_once_and_signs_in_with_the_employee_number(town: Town) -> None:
    staff = await employed(town)
    number = staff.enrolled["number"]
    assert (await staff.open_claim(number=number[1:])).body["reason"] == "number_without_e"
    assert (await staff.open_claim(number=number.upper())).status == 201
    assert (staff.claim["username"], staff.claim["code_required"]) == (number, False)
    password = await claim(staff)
    await signs_in(town, staff, password)
    assert (await staff.who_am_i()).body["username"] == number

    person = (await town.person(staff))["person_id"]
    batch = await _reset_by_two(town, staff)
    assert [line["state"] for line in batch["lines"]] == ["done"]
    assert (await staff.sign_in(password)).status == 401
    assert (await town.desk_sees(person) or {})["claimed"] is False


async def _reset_by_two(town: Town, staff: Pupil) -> Json:
    """Nobody resets staff alone: somebody asks, somebody else approves."""
    line = " ".join(staff.enrolled[name] for name in ("first_name", "last_name", "number"))
    asked = await town.homeroom.post("claims", "/reset-batches", {"lines": [line]})
    assert asked.body["state"] == "awaiting_approval"
    path = f"/reset-batches/{asked.body['batch_id']}"
    await town.homeroom.post("claims", f"{path}/approval", {}, role="desk2")

    async def done() -> Json | None:
        batch = dict(await town.homeroom.get("claims", path))
        return batch if batch["state"] == "done" else None

    return dict(await town.until(done, "the reset to be confirmed"))


async def test_staff_with_a_role_works_at_the_desk_under_their_own_name(town: Town) -> None:
    """An operator gives the role; a portal exchanges the session; what is done is done by a person, and not by two."""
    staff, pupil = await employed(town), await town.pupil()
    password, pupils = await claim(staff), await claim(pupil)
    await signs_in(town, staff, password)
    me = (await town.person(staff))["person_id"]
    assert (await _exchanged(town, staff)).body["reason"] == "role_missing"
    await town.homeroom.call("operator", "PUT", "auth", f"/accounts/{me}/roles/desk", {})
    token = bearer((await _exchanged(town, staff)).body["access_token"])

    person = (await town.person(pupil))["person_id"]
    path, ticket = f"/accounts/{person}/resets", {"desk_ticket": "T-29"}
    await signs_in(town, pupil, pupils)
    batch = await town.homeroom.ask(
        "POST", "claims", path, ticket, headers={**token, "Idempotency-Key": person}
    )
    assert (batch.status, batch.body["author"]) == (202, me)
    name = " ".join(staff.enrolled[part] for part in ("first_name", "last_name"))
    assert batch.body["author_name"] == name
    told = (await town.homeroom.ask("GET", "claims", f"/persons/{person}/timeline", headers=token)).body
    assert (told["events"][-1]["type"], told["events"][-1]["actor_name"]) == ("AccountReset", name)

    for service, question in (("roster", f"/persons/{person}"), ("auth", f"/accounts/{person}")):
        assert (await town.homeroom.ask("GET", service, question, headers=token)).status == 200

    async def protected() -> bool:
        refused = await town.homeroom.ask("PUT", "claims", f"/accounts/{me}/suspension", {}, headers=token)
        return refused.body.get("reason") == "role_not_below"

    await town.until(protected, "claims to hear of the role")
    await _reset_by_two(town, staff)
    assert (await town.homeroom.ask("GET", "auth", f"/accounts/{me}", headers=token)).status == 401
    assert (await town.homeroom.get("auth", f"/accounts/{me}"))["roles"] == []


async def _exchanged(town: Town, staff: Pupil) -> Answer:
    portal = town.homeroom.site.client("portal")
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": staff.session,
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
    }  # fmt: skip
    basic = {"Authorization": encode_basic_auth(portal.id, portal.secret)}
    return await town.homeroom.ask("POST", "auth", "/token", form=form, headers=basic)


async def test_a_teacher_has_the_pupils_of_the_class_and_no_others(town: Town) -> None:
    teacher, ann, ben = await employed(town), await town.pupil(), await town.pupil()
    room = f"class of {teacher.enrolled['number']}"
    for who, role in ((teacher, "teacher"), (ann, "student")):
        said = {"source_id": who.enrolled["source_id"], "class_id": room, "role": role, "title": "Homeroom 7"}
        await town.say("ClassAssigned", said)
    path = f"/persons/{(await town.person(teacher))['person_id']}/pupils"

    async def taught() -> bool:
        found = await town.homeroom.get("roster", path)
        return [pupil["number"] for pupil in found["pupils"]] == [ann.enrolled["number"]]

    await town.until(taught, "the class to have its teacher and its pupil")
    assert (await town.person(ben))["classes"] == []


async def test_where_the_district_asks_for_a_code_staff_shows_one_and_leaves_like_a_pupil(
    coded: Town,
) -> None:
    staff = await employed(coded)
    person = (await coded.person(staff))["person_id"]
    assert (await staff.open_claim()).status == 201
    assert staff.claim["code_required"] is True
    password = new_password()
    assert (await staff.set_password(password)).body["reason"] == "code_required"
    assert (await staff.set_password(password, code="AAAAA-AAAAA")).body["reason"] == "code_wrong"

    async def given() -> str | None:
        try:
            return str(
                (await coded.homeroom.post("auth", f"/accounts/{person}/recovery-codes", {})).body["code"]
            )
        except Failed as failure:
            if failure.reason != "person_unknown":
                raise
            return None

    code = await coded.until(given, "auth to hear of the person")
    assert (await staff.set_password(password, code=code)).status == 200
    assert (await staff.save_answers()).status in (200, 202)
    assert await staff.claim_settled() == "completed"
    await signs_in(coded, staff, password)

    await coded.say("StaffLeft", {"source_id": staff.enrolled["source_id"], "reason": "retired"})

    async def shut_out() -> bool:
        return (await staff.sign_in(password)).body.get("reason") == "account_suspended"

    await coded.until(shut_out, "who has left to be shut out")
    assert (await staff.who_am_i()).status == 401
    await coded.say("StaffEmployed", {**staff.enrolled, "entered_at": clock.now().isoformat()})
    await signs_in(coded, staff, password)
    assert await coded.events(staff, "roster") == ["StaffEmployed", "StaffLeft", "StaffEmployed"]
