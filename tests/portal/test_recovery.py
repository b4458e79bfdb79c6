"""The way back in: one refusal, what to do under it, and nothing that tells whether a username exists."""

from datetime import timedelta
from typing import Any

import pytest

from services.portal.backend import Answer
from services.portal.recovery import Recovery
from shared import clock
from tests.portal.scripted import POLICY, Surfer
from tests.portal.test_claim import DETAILS, QUESTIONS, RIGHT_BACK, reasons

ANSWERED = {"username": "S0712347", "answer-1": "May", "answer-2": "2014", "answer-3": "Ms. Lovelace"}
CHOSEN = {"username": "S0712347", "password": "witty mouse 77", "again": "witty mouse 77"}
BEGIN, PROVE, SET = "POST /recoveries", "POST /recoveries/r1/answers", "PUT /recoveries/r1/password"
KNOWN_WORDS = "Challenge Questions Not Up to Date"


def begun(surfer: Surfer, left: timedelta = timedelta(minutes=20), **more: Any) -> None:
    """As a browser is in which somebody said who they are."""
    until = clock.now() + left
    known = Recovery(
        recovery_id="r1", ticket="ticket", username="S0712347", expires_at=until,
        questions=["birth_month", "birth_year", "teacher"], **more,
    )  # fmt: skip
    name = "__Host-ccps-recovery"
    surfer.cookies[name] = surfer.seals.seal(name, known, until + timedelta(minutes=10))


@pytest.fixture(autouse=True)
def district(surfer: Surfer) -> None:
    surfer.services.answers["GET /policy"] = [Answer(200, dict(POLICY) | {"questions": QUESTIONS})]


async def test_the_whole_way(surfer: Surfer) -> None:
    until = (clock.now() + timedelta(minutes=30)).isoformat()
    asked = [QUESTIONS[0], QUESTIONS[1], QUESTIONS[3]]
    begins = {"recovery_id": "r1", "ticket": "t", "questions": asked, "expires_at": until}
    surfer.services.say(BEGIN, 201, begins)
    surfer.services.say(PROVE, 200, {"state": "opened"})
    surfer.services.say(SET, 204, **{"Homeroom-Device": "device"})
    answer = await surfer.send("/forgot", {"username": " S0712347 "})
    assert answer.headers["Location"] == "/ccps/forgot/questions"
    page = await (await surfer.open("/forgot/questions")).text()
    assert "Which month?" in page
    assert "Which fruit?" not in page
    answer = await surfer.send("/forgot/questions", ANSWERED)
    assert answer.headers["Location"] == "/ccps/forgot/password"
    answer = await surfer.send("/forgot/password", CHOSEN)
    assert answer.headers["Location"] == "/ccps/forgot/done"
    assert "device" in surfer.kept()
    answer = await surfer.send("/forgot/sign-in")
    assert answer.headers["Location"] == "/ccps/sign-in"
    assert 'value="S0712347"' in await (await surfer.open("/sign-in")).text()
    assert "recovery" not in surfer.kept()


async def test_a_number_alone_is_the_username_without_its_letter(surfer: Surfer) -> None:
    await surfer.send("/forgot", {"username": "0712347"})
    assert surfer.services.asked[-1].body == {"username": "S0712347"}
    for typed, shown in (("0712347", "S0712347"), ("712347", "712347"), ("e12345", "e12345")):
        await surfer.send("/sign-in", {"username": typed})
        assert f'value="{shown}"' in await (await surfer.open("/sign-in/password")).text()


@pytest.mark.parametrize(
    ("proof", "advice"),
    [
        (ANSWERED, "help desk for a code"),
        ({"username": "S0712347", "code": "ABCDE-12345"}, "each letter of the code"),
    ],
)
async def test_one_text_says_what_to_do(surfer: Surfer, proof: dict[str, str], advice: str) -> None:
    begun(surfer)
    surfer.services.say(PROVE, 403, {"reason": "recovery_refused", "reference": "A-0000-000"})
    answer = await surfer.send("/forgot/questions", proof)
    page = await answer.text()
    assert answer.status == 403
    assert not [said for said in (KNOWN_WORDS, advice, "A-0000-000") if said not in page]


async def test_a_code_is_sent_alone(surfer: Surfer) -> None:
    begun(surfer)
    surfer.services.say(PROVE, 200, {"state": "opened"})
    answer = await surfer.send("/forgot/questions", {"username": "S0712347", "code": " ABCDE-12345 "})
    assert answer.headers["Location"] == "/ccps/forgot/password"
    (asked,) = (each for each in surfer.services.asked if each.path.endswith("/answers"))
    assert asked.body == {"code": "ABCDE-12345"}


async def test_a_district_that_says_it_at_once(surfer: Surfer) -> None:
    surfer.services.say(BEGIN, 403, {"reason": "recovery_refused", "reference": "A-0000-000"})
    page = await (await surfer.send("/forgot", {"username": "S0712347"})).text()
    assert KNOWN_WORDS in page
    assert 'value="S0712347"' in page


async def test_where_no_questions_are_asked_a_code_is(surfer: Surfer) -> None:
    surfer.services.answers["GET /policy"] = [Answer(200, dict(POLICY))]
    begun(surfer)
    page = await (await surfer.open("/forgot/questions")).text()
    assert "I have a code" in page
    assert "answer-1" not in page


async def test_an_answer_that_cannot_be_one(surfer: Surfer) -> None:
    begun(surfer)
    body = {"reason": "answer_invalid", "question": "birth_year", "hint": "not_an_answer"}
    surfer.services.say(PROVE, 422, body)
    page = await (await surfer.send("/forgot/questions", ANSWERED)).text()
    assert 'id="f-answer-2-error"' in page
    page = await (await surfer.send("/forgot/questions", ANSWERED | {"answer-3": " "})).text()
    assert "Type your answer to question 3." in page


async def test_nothing_is_lost_while_auth_is_away(surfer: Surfer) -> None:
    page = await (await surfer.send("/forgot", {"username": "S0712347"})).text()
    assert RIGHT_BACK in page
    assert 'value="S0712347"' in page
    begun(surfer)
    page = await (await surfer.send("/forgot/questions", ANSWERED)).text()
    assert RIGHT_BACK in page
    assert "Ms. Lovelace" in page


async def test_an_hour_later_it_begins_again_with_the_username(surfer: Surfer) -> None:
    begun(surfer, left=timedelta(minutes=-1), proved=True)
    for path in ("/forgot/questions", "/forgot/password", "/forgot/done"):
        assert (await surfer.open(path)).headers["Location"] == "/ccps/forgot"
    page = await (await surfer.open("/forgot")).text()
    assert "That took a little too long" in page
    assert 'value="S0712347"' in page


async def test_a_form_about_somebody_else_does_nothing(surfer: Surfer) -> None:
    begun(surfer, proved=True)
    for step, form in (("questions", ANSWERED), ("password", CHOSEN)):
        answer = await surfer.send(f"/forgot/{step}", form | {"username": "S0000001"})
        assert answer.status == 409
        assert "Somebody else has begun" in await answer.text()
    assert not surfer.services.requests()


async def test_not_you(surfer: Surfer) -> None:
    begun(surfer)
    await surfer.send("/forgot/again")
    assert "S0712347" not in await (await surfer.open("/forgot")).text()


@pytest.mark.parametrize(
    ("step", "reason", "status"),
    [("questions", *each) for each in reasons("auth", "/recoveries/{recovery_id}/answers", "post")]
    + [("password", *each) for each in reasons("auth", "/recoveries/{recovery_id}/password", "put")],
)
async def test_every_reason_has_its_words(surfer: Surfer, step: str, reason: str, status: int) -> None:
    begun(surfer, proved=step == "password")
    surfer.services.say(PROVE if step == "questions" else SET, status, DETAILS | {"reason": reason})
    answer = await surfer.send(f"/forgot/{step}", ANSWERED if step == "questions" else CHOSEN)
    if answer.status == 303:
        answer = await surfer.open(answer.headers["Location"].removeprefix("/ccps"))
    page = await answer.text()
    assert "notice" in page
    assert RIGHT_BACK not in page
    assert "witty mouse" not in page
