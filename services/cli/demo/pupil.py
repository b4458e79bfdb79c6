"""The first chapter: a pupil waits, claims, signs in, forgets, recovers, is reset and claims again."""

import asyncio
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from services.cli.client import Json, out
from services.cli.demo.stage import (
    SOURCE,
    Stage,
    begin_claim,
    claim_on,
    expect,
    new_password,
    reset,
)
from services.cli.pupil import Pupil, cloud_event, enrollment, stranger
from shared import clock


async def chapter(stage: Stage) -> tuple[Pupil, str]:
    """A pupil whose account is claimed in the end, and the password."""
    await newcomer(stage)
    await almost_a_day(stage)
    pupil, password = await claims_and_signs_in(stage)
    password = await forgets_and_recovers(stage, pupil, password)
    return pupil, await is_reset_and_claims_again(stage, pupil, password)


async def newcomer(stage: Stage) -> None:
    stage.step("A new pupil is enrolled, and has to wait")
    data = await pupil_unknown(stage, timedelta(0))
    await stage.tell("StudentEnrolled", data, structured=True)
    pupil = Pupil(stage.ask, data, stage.policy)
    refused = expect(await begin_claim(stage, pupil), 403, "waiting_period")
    stage.say(
        f"the account opens {local(refused.body['eligible_at'], stage.policy)}: a moment, not “24 hours after”"
    )
    wrong = expect(await pupil.open_claim(first_name="Somebody"), 403, "claim_refused")
    stage.say("a wrong name learns nothing; the help desk looks the reference up:")
    await stage.desk("GET", "claims", f"/refusals/{wrong.body['reference']}")


async def almost_a_day(stage: Stage) -> None:
    stage.step("A pupil entered 23 hours, 59 minutes and 40 seconds ago becomes claimable before our eyes")
    data = await pupil_unknown(stage, timedelta(hours=24, seconds=-20))
    event = cloud_event("StudentEnrolled", data, source=SOURCE, now=clock.now())
    stage.sent("sis POST", "roster", "/enrollments", event)
    stage.came(await stage.homeroom.post("roster", "/enrollments", event, role="sis"))
    pupil = Pupil(stage.ask, data, stage.policy)
    refused = expect(await begin_claim(stage, pupil), 403, "waiting_period")
    opens = datetime.fromisoformat(refused.body["eligible_at"])
    quiet = Pupil(stage.homeroom.ask, data, stage.policy)
    with out.status("") as line:
        while (answer := await quiet.open_claim()).status == 403:
            line.update(f"refused; opens in {max(0.0, (opens - clock.now()).total_seconds()):.0f} s")
            await asyncio.sleep(0.2)
    stage.came(expect(answer, 201))
    stage.say(
        f"opened {(clock.now() - opens).total_seconds():.1f} s after {local(refused.body['eligible_at'], stage.policy)}"
    )


async def claims_and_signs_in(stage: Stage) -> tuple[Pupil, str]:
    stage.step("A pupil entered 25 hours ago claims the account, and signs in")
    data = await pupil_unknown(stage, timedelta(hours=25))
    await stage.tell("StudentEnrolled", data)
    pupil = Pupil(stage.ask, data, stage.policy)
    expect(await begin_claim(stage, pupil), 201)
    password = new_password()
    await claim_on(pupil, password)
    expect(await pupil.sign_in(password), 201)
    expect(await pupil.who_am_i(), 200)
    return pupil, password


async def forgets_and_recovers(stage: Stage, pupil: Pupil, old: str) -> str:
    stage.step("The password is forgotten: three questions, and a new one; not an old one")
    expect(await pupil.forgot_password(), 201)
    expect(await pupil.answer_questions(), 200)
    expect(await pupil.recover_with(old), 422, "password_used_before")
    new = new_password()
    expect(await pupil.recover_with(new), 204)
    stage.say("the session of before is dead, and so is the old password")
    expect(await pupil.who_am_i(), 401)
    expect(await pupil.sign_in(old), 401, "authentication_failed")
    expect(await pupil.sign_in(new), 201)
    return new


async def is_reset_and_claims_again(stage: Stage, pupil: Pupil, password: str) -> str:
    stage.step("The help desk resets the account from a ticket line")
    line = " ".join(pupil.enrolled[name] for name in ("first_name", "last_name", "number"))
    body = {"lines": [line], "desk_ticket": "DEMO-1"}
    await stage.desk("POST", "claims", "/reset-batches", body, dry_run="true")
    await reset(stage, body)
    stage.say("done means: auth has confirmed it. The session is dead, and the password")
    expect(await pupil.who_am_i(), 401)
    expect(await pupil.sign_in(password), 401, "authentication_failed")
    stage.step("The pupil claims again, from the beginning; the old password is refused here too")
    expect(await pupil.open_claim(), 201)
    expect(await pupil.set_password(password), 422, "password_used_before")
    fresh = new_password()
    await claim_on(pupil, fresh)
    expect(await pupil.sign_in(fresh), 201)
    return fresh


async def pupil_unknown(stage: Stage, entered_ago: timedelta) -> Json:
    return await stranger(stage.homeroom, lambda: enrollment(entered_ago, now=clock.now()))


def local(moment: str, policy: Json) -> str:
    """The moment as the district's clocks show it."""
    return f"{datetime.fromisoformat(moment).astimezone(ZoneInfo(policy['time_zone'])):%A at %H:%M:%S}"
