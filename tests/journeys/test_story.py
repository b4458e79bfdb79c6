"""The main journey, from an enrollment to a pupil who is signed in, reset, and signed in again."""

import asyncio
from datetime import datetime, timedelta

import pytest

from services.cli.operations import replay_projection
from services.cli.pupil import Pupil, answers_for, enrollment
from shared import clock
from tests.journeys.town import Town, Way, claim, new_password

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("journeys"),
]


@pytest.mark.parametrize("way", ["binary", "structured", "http"])
async def test_a_new_pupil_waits_until_the_second_that_was_shown(town: Town, way: Way) -> None:
    """Refused with the moment; at that moment the claim opens."""
    pupil = await town.pupil(timedelta(hours=24, seconds=-4), way)
    refused = await pupil.open_claim()
    assert (refused.status, refused.body["reason"]) == (403, "waiting_period")
    opens = datetime.fromisoformat(refused.body["eligible_at"])
    entered = datetime.fromisoformat(pupil.enrolled["entered_at"])
    assert timedelta(0) <= opens - entered - timedelta(hours=24) < timedelta(seconds=1)
    while clock.now() < opens - timedelta(milliseconds=300):
        assert (await pupil.open_claim()).status == 403
        await asyncio.sleep(0.1)
    await asyncio.sleep((opens - clock.now()).total_seconds() + 0.05)
    assert (await pupil.open_claim()).status == 201


@pytest.mark.parametrize("way", ["binary", "structured", "http"])
async def test_the_whole_story(town: Town, way: Way) -> None:
    """Claim, sign in, change, forget, recover, be reset from a ticket line, claim again."""
    pupil = await town.pupil(way=way)
    first = await claim(pupil)
    assert (await pupil.sign_in(first)).status == 201
    assert (await pupil.who_am_i()).body["username"] == pupil.username

    second = new_password()
    assert (await pupil.change_password(first, second)).status == 204
    assert (await pupil.sign_in(first)).body["reason"] == "authentication_failed"
    assert (await pupil.sign_in(second)).status == 201

    third = await _recover(pupil, old=first)
    assert (await pupil.who_am_i()).status == 401, "a recovery ends every session"
    assert (await pupil.sign_in(third)).status == 201

    batch = await town.reset(pupil)
    assert [line["state"] for line in batch["lines"]] == ["done"]
    assert (await pupil.who_am_i()).status == 401
    assert (await pupil.sign_in(third)).status == 401

    assert (await pupil.open_claim()).status == 201
    for old in (first, second, third):
        refused = await pupil.set_password(old)
        assert (refused.status, refused.body["reason"]) == (422, "password_used_before")
    fourth = await claim(pupil)
    assert (await pupil.sign_in(fourth)).status == 201
    assert await town.events(pupil, "claims") == [
        "ClaimOpened", "AccountClaimed", "AccountReset", "ClaimOpened", "ClaimOpened", "AccountClaimed",
    ]  # fmt: skip


async def _recover(pupil: Pupil, old: str) -> str:
    assert (await pupil.forgot_password()).status == 201
    assert (await pupil.answer_questions()).status == 200
    assert (await pupil.recover_with(old)).body["reason"] == "password_used_before"
    new = new_password()
    assert (await pupil.recover_with(new)).status == 204
    return new


@pytest.mark.parametrize(
    ("service", "projection"), [("roster", "person"), ("claims", "admission"), ("auth", "person")]
)
async def test_history_replays_to_the_same_rows(town: Town, service: str, projection: str) -> None:
    """A replay is compared with the running read model and dropped."""
    await town.pupil()
    report = await replay_projection(town.homeroom, service, projection, quiet=True)
    assert report["different"] == 0
    assert report["compared"] >= 1


async def test_a_correction_published_late_changes_the_name_that_counts(town: Town) -> None:
    """The SIS is the truth, and the last word of the SIS counts."""
    pupil = await town.pupil(first_name="Mary Ann")
    data = {"source_id": pupil.enrolled["source_id"], "first_name": "Mary-Ann"}
    await town.say("StudentCorrected", data)
    pupil.enrolled["first_name"] = "Mary-Ann"

    async def opened() -> bool:
        return (await pupil.open_claim()).status == 201

    assert await town.until(opened, "the corrected name")
    assert (await pupil.open_claim(first_name="Mary Ann")).body["reason"] == "claim_refused"


async def test_a_withdrawn_pupil_cannot_begin_a_claim(town: Town) -> None:
    """To the outside it is the uniform refusal; the desk reads why."""
    pupil = await town.pupil()
    await town.say("StudentWithdrawn", {"source_id": pupil.enrolled["source_id"], "reason": "moved"})

    async def refused() -> bool:
        return (await pupil.open_claim()).status == 403

    await town.until(refused, "claims to hear of the withdrawal")
    answer = await pupil.open_claim()
    assert answer.body["reason"] == "claim_refused"
    assert (await town.truth(answer))["detail"]["reason"] == "withdrawn"


async def test_swapped_numbers_are_facts(town: Town) -> None:
    """Two pupils get each other's number: usernames follow, passwords stay with the person."""
    ann, bob = await town.pupil(), await town.pupil()
    passwords = await claim(ann), await claim(bob)
    assert (await ann.sign_in(passwords[0])).status == 201
    person = (await ann.who_am_i()).body["person_id"]
    numbers = ann.enrolled["number"], bob.enrolled["number"]
    for pupil, number in ((ann, numbers[1]), (bob, numbers[0])):
        await town.say("StudentCorrected", {"source_id": pupil.enrolled["source_id"], "number": number})
        pupil.enrolled["number"] = number

    async def swapped() -> bool:
        return (await ann.sign_in(passwords[0])).status == 201

    await town.until(swapped, "the swapped numbers to sign in")
    assert (await ann.who_am_i()).body["person_id"] == person
    assert (await bob.sign_in(passwords[1])).status == 201


async def test_the_desk_waives_the_wait(town: Town) -> None:
    """For one pupil, with a ticket; and sees from when the others can claim."""
    pupil = await town.pupil(timedelta(0))
    assert (await pupil.open_claim()).body["reason"] == "waiting_period"
    person = (await town.person(pupil))["person_id"]
    body = {"desk_ticket": "T-9", "reason": "starts today"}
    await town.homeroom.call("desk", "PUT", "claims", f"/accounts/{person}/waiver", body)
    password = await claim(pupil)
    assert (await pupil.sign_in(password)).status == 201


async def test_what_was_refused_is_explained_to_the_desk_only(town: Town) -> None:
    """One answer for every stranger; the reference tells the desk which field differed, never what was typed."""
    pupil = await town.pupil(last_name="O'Neill")
    wrong = await pupil.open_claim(last_name="ONeill-typed")
    nobody = await pupil.open_claim(number="9999999")
    assert {key: wrong.body[key] for key in ("reason", "status", "title")} == {
        key: nobody.body[key] for key in ("reason", "status", "title")
    }
    truth = await town.truth(wrong)
    assert truth["detail"]["reason"] == "names_differ"
    assert "ONeill-typed" not in str(truth)
    assert "O'Neill" in str(truth)


async def test_after_five_wrong_tries_only_the_desk_opens_the_way_back(town: Town) -> None:
    """The questions rest, for right answers too; the desk's code opens at once, and lifting the lockout as well."""
    pupil = await town.pupil()
    old = await claim(pupil)
    person = (await town.person(pupil))["person_id"]
    wrong = [
        {**answer, "answer": "2001" if answer["answer"].isdigit() else "June"} for answer in pupil.answers
    ]
    assert (await pupil.forgot_password()).status == 201
    for _ in range(5):
        assert (await pupil.answer_questions(wrong)).body["reason"] == "recovery_refused"
    refused = await pupil.answer_questions()
    assert refused.body["reason"] == "recovery_refused"
    truth = await town.homeroom.get("auth", f"/refusals/{refused.body['reference']}")
    assert truth["detail"]["cause"] == "resting"

    given = await town.homeroom.post("auth", f"/accounts/{person}/recovery-codes", {"desk_ticket": "T-2"})
    assert (await pupil.show_code("0000000000")).body["reason"] == "recovery_refused"
    assert (await pupil.show_code(given.body["code"])).status == 200
    new = new_password()
    assert (await pupil.recover_with(new)).status == 204
    assert (await pupil.sign_in(new)).status == 201
    assert (await pupil.sign_in(old)).status == 401

    await town.homeroom.call("desk", "DELETE", "auth", f"/accounts/{person}/lockout")
    assert (await pupil.forgot_password()).status == 201
    assert (await pupil.answer_questions()).status == 200


async def test_an_unknown_pupil_can_ask_all_the_same(town: Town) -> None:
    """Recovery asks three questions of everybody."""
    stranger = Pupil(town.homeroom.ask, enrollment(timedelta(0), now=clock.now()), town.policy)
    answer = await stranger.forgot_password()
    assert answer.status == 201
    assert len(answer.body["questions"]) == 3
    asked = [question["id"] for question in answer.body["questions"]]
    refused = await stranger.answer_questions(answers_for(town.policy, asked))
    assert (refused.status, refused.body["reason"]) == (403, "recovery_refused")
