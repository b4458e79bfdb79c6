"""`homeroom sample`: for who builds a portal, new people in every state that a portal meets, and what to type."""

import asyncio
import secrets
from datetime import datetime, timedelta
from functools import partial

import msgspec

from services.cli.client import Answer, AsJson, Failed, Homeroom, Json, connect, out, show
from services.cli.pupil import Pupil, cloud_event, employment, enrollment, stranger
from shared import clock
from shared.policies import load_policy

SOURCE = "/sample/people"
KNOWN_WITHIN_S = 30
STAFF, ROLES = ("staff", "desk", "operator"), ("desk", "operator")
DAY = timedelta(hours=25)
STATES = {
    "open": "claims at once",
    "staff": "claims at once, with an employee number",
    "desk": "signs in, and works at the help desk with this account",
    "operator": "signs in, works at the help desk, and gives roles",
    "waiting": "claim: waiting_period, with the moment",
    "withdrawn": "claim: claim_refused, as for whoever is unknown",
    "claimed": "signs in; claim: account_claimed",
    "suspended": "sign-in with the right password: account_suspended",
    "locked": "signs in; the three questions are refused until tomorrow, right answers too",
}
COLUMNS = ("state", "first_name", "last_name", "number", "username", "password", "what")


class Sampled(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody in a state; `password` and `answers` if the account is claimed, made now and kept nowhere."""

    state: str
    first_name: str
    last_name: str
    number: str
    username: str
    password: str | None
    answers: list[Json] | None
    what: str


async def sample_people(*, json: AsJson = False) -> None:
    """New people for who builds a portal, one in every state: names, numbers, and passwords made now."""
    async with connect() as homeroom:
        policy = await homeroom.get("claims", "/policy")
        rules = homeroom.site.settings().policy_dir / f"{homeroom.site.district}.toml"
        tries = load_policy(rules).recovery.tries_a_day
        people = await enrolled(homeroom, policy)
        passwords = dict(
            zip(("claimed", "suspended", "locked", *ROLES), await asyncio.gather(
                claimed(people["claimed"]),
                suspended(homeroom, people["suspended"]),
                locked(people["locked"], tries),
                *(at_work(homeroom, people[role], role) for role in ROLES),
            ), strict=True)
        )  # fmt: skip
    rows = [sampled(state, people[state], passwords.get(state)) for state in STATES]
    show([msgspec.to_builtins(row) for row in rows], json, *(() if json else COLUMNS))
    if not json:
        answers = ", ".join(f"{each['question']}: {each['answer']}" for each in people["claimed"].answers)
        out.print(f"\nTheir answers: {answers}. The passwords are kept nowhere else.")
        if portal := homeroom.site.services.get("portal"):
            out.print(f"Where to type them: {portal}/{homeroom.site.district}/")


def made(state: str, now: datetime) -> Json:
    if state in STAFF:
        return employment(now=now)
    return enrollment(timedelta(0) if state == "waiting" else DAY, now=now)


async def enrolled(homeroom: Homeroom, policy: Json) -> dict[str, Pupil]:
    """One person for each state, whom claims has heard of."""
    now = clock.now()
    people = {state: await stranger(homeroom, partial(made, state, now)) for state in STATES}
    facts = [
        cloud_event("StaffEmployed" if state in STAFF else "StudentEnrolled", data, source=SOURCE, now=now)
        for state, data in people.items()
    ]
    gone = {"source_id": people["withdrawn"]["source_id"], "reason": "moved away"}
    after = now + timedelta(milliseconds=1)  # of two facts the later one counts
    facts.append(cloud_event("StudentWithdrawn", gone, source=SOURCE, now=after))
    headers = {"Content-Type": "application/cloudevents-batch+json"}
    await homeroom.call("sis", "POST", "roster", "/enrollments", facts, headers=headers)
    pupils = {state: Pupil(homeroom.ask, data, policy) for state, data in people.items()}
    await asyncio.gather(*(heard_of(homeroom, pupil, state) for state, pupil in pupils.items()))
    return pupils


async def heard_of(homeroom: Homeroom, pupil: Pupil, state: str) -> Json:
    """The account, as soon as claims knows how things are."""
    for _ in range(KNOWN_WITHIN_S * 10):
        accounts = (await homeroom.get("claims", "/accounts", username=pupil.username))["accounts"]
        if accounts and accounts[0]["enrolled"] == (state != "withdrawn"):
            return dict(accounts[0])
        await asyncio.sleep(0.1)
    raise Failed("sample_failed", f"claims has not heard of {pupil.username}: homeroom lag")


async def claimed(pupil: Pupil) -> str:
    """The password."""
    password = f"sample {secrets.token_urlsafe(8)}"
    done(pupil, await pupil.open_claim())
    done(pupil, await pupil.set_password(password))
    done(pupil, await pupil.save_answers())
    if (state := await pupil.claim_settled()) != "completed":
        raise Failed("sample_failed", f"the claim of {pupil.username} is {state}")
    return password


def done(pupil: Pupil, answer: Answer) -> None:
    if answer.status >= 400:
        raise Failed("sample_failed", f"{pupil.username}: {answer.body}")


async def at_work(homeroom: Homeroom, pupil: Pupil, role: str) -> str:
    """A member of the staff to whom an operator gave a role."""
    password = await claimed(pupil)
    person = (await heard_of(homeroom, pupil, role))["person_id"]
    await homeroom.call("operator", "PUT", "auth", f"/accounts/{person}/roles/{role}", {})
    return password


async def suspended(homeroom: Homeroom, pupil: Pupil) -> str:
    password = await claimed(pupil)
    person = (await heard_of(homeroom, pupil, "suspended"))["person_id"]
    await homeroom.call("desk", "PUT", "claims", f"/accounts/{person}/suspension", {})
    for _ in range(KNOWN_WITHIN_S * 10):
        if (await pupil.sign_in(password)).status == 403:
            return password
        await asyncio.sleep(0.1)
    raise Failed("sample_failed", f"auth has not heard that {pupil.username} is suspended: homeroom lag")


async def locked(pupil: Pupil, tries: int) -> str:
    """Wrong answers, as often as the policy bears them in a day."""
    password = await claimed(pupil)
    wrong = [
        answer | {"answer": "June" if answer["answer"] == "May" else answer["answer"]}
        for answer in pupil.answers
    ]
    for answers in [wrong] * tries + [pupil.answers]:
        await pupil.forgot_password()
        if (answer := await pupil.answer_questions(answers)).status != 403:
            raise Failed("sample_failed", f"{pupil.username} is not locked: {answer.body}")
    return password


def sampled(state: str, pupil: Pupil, password: str | None) -> Sampled:
    names = {name: pupil.enrolled[name] for name in ("first_name", "last_name", "number")}
    answers = pupil.answers if password else None
    return Sampled(
        state=state, username=pupil.username, password=password, answers=answers, what=STATES[state], **names
    )
