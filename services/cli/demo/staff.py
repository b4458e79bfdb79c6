"""The second chapter: a school with a teacher and a pupil, a reset that spares the staff, a leaving and a return."""

import secrets
from typing import Any

from services.cli.accounts import find_account
from services.cli.client import Answer, Failed, Json
from services.cli.demo.stage import Stage, begin_claim, claim_on, expect, new_password, reset
from services.cli.pupil import Pupil, employment, stranger
from shared import clock


async def chapter(stage: Stage, pupil: Pupil, password: str) -> None:
    """`pupil`: signed in, with this password."""
    school = f"Demo Academy {secrets.token_hex(3)}"
    person = (await find_account(stage.homeroom, pupil.username))["person_id"]
    await moves(stage, pupil, person, school)
    teacher = await is_employed_and_claims(stage, school)
    await are_in_one_class(stage, teacher, pupil, school)
    password = await is_spared_by_a_reset(stage, teacher, pupil, school)
    await leaves_and_returns(stage, pupil, person, password)


async def moves(stage: Stage, pupil: Pupil, person: str, school: str) -> None:
    stage.step("The pupil moves to another school: account and session stay")
    await stage.tell("StudentCorrected", {"source_id": pupil.enrolled["source_id"], "school": school})
    pupil.enrolled["school"] = school
    await stage.account(
        person, until=lambda seen: seen["school"] == school, shown=("username", "school", "claimed")
    )
    expect(await pupil.who_am_i(), 200)


async def is_employed_and_claims(stage: Stage, school: str) -> Pupil:
    stage.step("A teacher is employed there, and claims with the employee number, on the same form")
    data = await stranger(stage.homeroom, lambda: employment(now=clock.now(), school=school))
    await stage.tell("StaffEmployed", data)
    teacher = Pupil(stage.ask, data, stage.policy)
    expect(await begin_claim(stage, teacher), 201)
    password, code = new_password(), {}
    if teacher.claim["code_required"]:
        stage.say("this district asks staff for a one-time code of the help desk as well")
        expect(await teacher.set_password(password), 403, "code_required")
        code = {"code": await one_time_code(stage, teacher)}
    await claim_on(teacher, password, **code)
    expect(await teacher.sign_in(password), 201)
    return teacher


async def one_time_code(stage: Stage, teacher: Pupil) -> str:
    """Given when auth has heard of the person."""
    person = (await find_account(stage.homeroom, teacher.username))["person_id"]
    path = f"/accounts/{person}/recovery-codes"

    async def given() -> Json | None:
        try:
            return dict((await stage.homeroom.post("auth", path, {})).body)
        except Failed as failure:
            if failure.reason != "person_unknown":
                raise
            return None

    body = await stage.until(given, "auth has not heard of the person")
    stage.sent("desk POST", "auth", path, None)
    stage.came(Answer(201, {}, body))
    return str(body["code"])


async def are_in_one_class(stage: Stage, teacher: Pupil, pupil: Pupil, school: str) -> None:
    stage.step("Both are in one class: whom the teacher may help, and nobody else")
    room = {"class_id": f"demo-{secrets.token_hex(4)}", "title": "Homeroom 7-1", "school": school}
    for who, role in ((teacher, "teacher"), (pupil, "student")):
        said = {"source_id": who.enrolled["source_id"], "role": role, **room}
        await stage.tell("ClassAssigned", said)
    person = (await find_account(stage.homeroom, teacher.username))["person_id"]
    path = f"/persons/{person}/pupils"

    async def taught() -> Json | None:
        found = dict(await stage.homeroom.get("roster", path))
        return found if found["pupils"] else None

    await stage.until(taught, "roster does not show the class")
    await stage.desk("GET", "roster", path)


async def is_spared_by_a_reset(stage: Stage, teacher: Pupil, pupil: Pupil, school: str) -> str:
    """The pupil's next password."""
    stage.step("Before the first day all students are reset: staff is spared")
    body: dict[str, Any] = {"all_students": True}
    await stage.desk("POST", "claims", "/reset-batches", body, dry_run="true")
    stage.say("these are figures: for all students a second person approves. This school is reset for real:")
    await reset(stage, {"school": school, "desk_ticket": "DEMO-2"})
    expect(await pupil.who_am_i(), 401)
    expect(await teacher.who_am_i(), 200)
    stage.say("the teacher is signed in still, the pupil claims anew")
    expect(await pupil.open_claim(), 201)
    password = new_password()
    await claim_on(pupil, password)
    return password


async def leaves_and_returns(stage: Stage, pupil: Pupil, person: str, password: str) -> None:
    stage.step("The pupil leaves, and comes back: no new claim")
    shown = ("username", "enrolled", "suspended", "open_until_local")
    gone = {"source_id": pupil.enrolled["source_id"], "reason": "moved away"}
    await stage.tell("StudentWithdrawn", gone)
    seen = await stage.account(
        person, until=lambda seen: seen["suspended"] or seen["open_until"], shown=shown
    )
    stage.say("a transfer may say the leaving first: until the grace is over the account stays open")
    expect(await pupil.sign_in(password), 403 if seen["suspended"] else 201)
    await stage.tell("StudentEnrolled", pupil.enrolled)
    await stage.account(person, until=lambda seen: seen["enrolled"] and not seen["suspended"], shown=shown)
    expect(await pupil.sign_in(password), 201)
    expect(await pupil.open_claim(), 409, "account_claimed")
