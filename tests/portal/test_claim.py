"""Claiming an account: what each refusal becomes on the screen, and what a browser's cookie leads to."""

import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from services.portal.backend import Answer
from services.portal.claim import Claim, key
from shared import clock
from tests.portal.scripted import POLICY, Surfer

ROOT = Path(__file__).parents[2]
CLAIM_ID = UUID("00000000-0000-4000-8000-00000000000c")
TYPED = {"last_name": "Núñez-Soto", "first_name": "José", "number": "0712347"}
CHOSEN = {"password": "witty mouse 77", "again": "witty mouse 77", "username": "S0712347"}
QUESTIONS = [
    {"id": "birth_month", "text": {"en": "Which month?", "es": "¿Qué mes?"}, "answer": {"kind": "month"}},
    {"id": "birth_year", "text": {"en": "Which year?", "es": "¿Qué año?"}, "answer": {"kind": "year"}},
    {
        "id": "fruit",
        "text": {"en": "Which fruit?", "es": "¿Qué fruta?"},
        "answer": {"kind": "choice", "choices": ["apple", "peach"], "choices_es": ["manzana", "durazno"]},
    },
    {"id": "teacher", "text": {"en": "Which teacher?"}, "answer": {"kind": "text", "min_length": 2}},
]
ANSWERED = {
    "username": "S0712347", "etag": '"e1"', "question-1": "birth_month", "answer-1": "May",
    "question-2": "birth_year", "answer-2": "2014", "question-3": "teacher", "answer-3": "Ms. Lovelace",
}  # fmt: skip
BEGIN, STANDING = "POST /claims", f"GET /claims/{CLAIM_ID}"
PASSWORD, ANSWERS = f"PUT /claims/{CLAIM_ID}/password", f"PUT /claims/{CLAIM_ID}/answers"
# Enough of a refusal's details for every reason.
DETAILS = {
    "reference": "C-0000-000", "field": "last_name", "eligible_at": "2026-11-27T14:14:00Z", "username": "S0712347",
    "retry_at": "2026-11-27T14:14:00Z", "question": "birth_year", "hint": "not_a_year", "history_days": 90,
}  # fmt: skip
RIGHT_BACK = "We will be right back"


def begun(surfer: Surfer, left: timedelta = timedelta(minutes=20), **more: Any) -> None:
    """As a browser is that began a claim."""
    until = clock.now() + left
    known = Claim(
        claim_id=str(CLAIM_ID), ticket="ticket", username="S0712347", last_name="Núñez-Soto", first_name="José",
        expires_at=until, **more,
    )  # fmt: skip
    name = "__Host-ccps-claim"
    surfer.cookies[name] = surfer.seals.seal(name, known, until + timedelta(minutes=10))


@pytest.fixture(autouse=True)
def district(surfer: Surfer) -> None:
    surfer.services.answers["GET /policy"] = [Answer(200, dict(POLICY) | {"questions": QUESTIONS})]


async def type_names(surfer: Surfer, **instead: str) -> tuple[int, str]:
    await surfer.open("/claim")
    answer = await surfer.send("/claim", TYPED | instead)
    return answer.status, await answer.text()


class TestWhoAreYou:
    async def test_a_claim_is_begun(self, surfer: Surfer) -> None:
        ticket = {"claim_id": str(CLAIM_ID), "ticket": "t", "username": "S0712347", "code_required": False}
        until = (clock.now() + timedelta(minutes=30)).isoformat()
        surfer.services.say(BEGIN, 201, ticket | {"expires_at": until})
        status, _ = await type_names(surfer)
        assert status == 303
        page = await (await surfer.open("/claim/password")).text()
        assert "José Núñez-Soto" in page
        assert "Not you?" in page

    def test_what_is_typed_again_in_the_same_browser_is_the_same_claim(self) -> None:
        assert key("seed", TYPED) == key("seed", TYPED | {"number": "0712347 "})
        assert key("seed", TYPED) != key("seed", TYPED | {"first_name": "Jose"})
        assert key("seed", TYPED) != key("of another browser", TYPED)

    @pytest.mark.parametrize(
        ("reason", "status", "said"),
        [
            ("number_letter_o", 422, "There is a letter O in it."),
            ("number_length", 422, "A student number has 7 digits."),
            ("number_leading_s", 422, "Leave out the S."),
            ("number_without_e", 422, "Staff: type the e in front of the number."),
            ("number_malformed", 422, "Type only the number"),
            ("name_missing", 422, "Type your last name."),
            ("name_long", 422, "Type only your last name."),
            ("claim_refused", 403, "Claim Account Operation Failed"),
            ("waiting_period", 403, "Your account opens Friday, November 27 at 9:14"),
            ("account_claimed", 409, "S0712347"),
            ("account_suspended", 403, "Your account is closed"),
            ("claims_exhausted", 429, "Your account can be claimed again Friday, November 27"),
            ("unavailable", 503, RIGHT_BACK),
        ],
    )
    async def test_a_refusal_is_explained_and_what_was_typed_is_kept(
        self, surfer: Surfer, reason: str, status: int, said: str
    ) -> None:
        surfer.services.say(BEGIN, status, DETAILS | {"reason": reason})
        shown, page = await type_names(surfer)
        assert shown == status
        assert said in page
        assert not [typed for typed in TYPED.values() if f'value="{typed}"' not in page]
        if status != 422:
            assert "C-0000-000" in page

    async def test_whatever_was_left_empty_is_pointed_out_at_once(self, surfer: Surfer) -> None:
        await surfer.open("/claim")
        answer = await surfer.send("/claim", {"last_name": " ", "first_name": "Ana"})
        page = await answer.text()
        assert answer.status == 422
        assert 'id="f-last_name-error"' in page
        assert 'id="f-number-error"' in page
        assert 'id="f-first_name-error"' not in page
        assert not surfer.services.requests("claims")[1:], "nothing to ask for"

    async def test_whoever_has_an_account_finds_the_username_filled_in(self, surfer: Surfer) -> None:
        surfer.services.say(BEGIN, 409, DETAILS | {"reason": "account_claimed"})
        await type_names(surfer)
        for path in ("/sign-in", "/forgot"):
            assert 'value="S0712347"' in await (await surfer.open(path)).text()

    async def test_a_browser_without_cookies_is_told_so(self, surfer: Surfer) -> None:
        answer = await surfer.send("/claim", TYPED)
        assert "keeps no cookies" in await answer.text()
        assert surfer.services.requests("claims") == ["GET /policy"]

    async def test_who_has_begun_goes_on_or_starts_again(self, surfer: Surfer) -> None:
        begun(surfer, etag='"e1"')
        page = await (await surfer.open("/claim")).text()
        assert "Go on as José" in page
        assert 'href="/ccps/claim/questions"' in page
        await surfer.send("/claim/again")
        assert "José" not in await (await surfer.open("/claim")).text()

    async def test_a_claim_that_has_ended_is_begun_again_with_the_number(self, surfer: Surfer) -> None:
        begun(surfer, left=timedelta(minutes=-1), etag='"e1"')
        for path in ("/claim/password", "/claim/questions", "/claim/done"):
            assert (await surfer.open(path)).headers["Location"] == "/ccps/claim"
        page = await (await surfer.open("/claim")).text()
        assert "That took a little too long" in page
        assert 'value="José"' in page
        assert "0712347" not in page


class TestAPassword:
    async def test_it_opens_the_questions(self, surfer: Surfer) -> None:
        begun(surfer)
        surfer.services.say(PASSWORD, 200, ETag='"e1"')
        answer = await surfer.send("/claim/password", CHOSEN)
        assert answer.headers["Location"] == "/ccps/claim/questions"
        page = await (await surfer.open("/claim/questions")).text()
        assert "S0712347" in page
        assert "witty mouse" not in page

    @pytest.mark.parametrize(
        ("reason", "status", "said"),
        [
            ("password_short", 422, "at least 8"),
            ("password_common", 422, "too easy to guess"),
            ("password_used_before", 422, "90 days"),
            ("code_required", 403, "Type the code"),
            ("code_wrong", 403, "This code does not work."),
            ("unavailable", 503, RIGHT_BACK),
        ],
    )
    async def test_a_refusal_is_explained_and_no_password_comes_back(
        self, surfer: Surfer, reason: str, status: int, said: str
    ) -> None:
        begun(surfer, code_required=True)
        surfer.services.say(PASSWORD, status, DETAILS | {"reason": reason})
        answer = await surfer.send("/claim/password", CHOSEN | {"code": "ABCDE-12345"})
        page = await answer.text()
        assert answer.status == status
        assert said in page
        assert "witty mouse" not in page
        assert 'value="ABCDE-12345"' in page

    @pytest.mark.parametrize(
        ("reason", "said"),
        [
            ("claim_expired", "That took a little too long"),
            ("token_expired", "That took a little too long"),
            ("claim_superseded", "The help desk has reset your account"),
            ("account_suspended", "Your account is closed"),
            ("claim_passwords_used_up", "You tried many times"),
            ("claim_rejected", "This account was claimed somewhere else"),
        ],
    )
    async def test_what_ends_a_claim_begins_it_again(self, surfer: Surfer, reason: str, said: str) -> None:
        begun(surfer)
        surfer.services.say(PASSWORD, 409, {"reason": reason})
        assert (await surfer.send("/claim/password", CHOSEN)).headers["Location"] == "/ccps/claim"
        page = await (await surfer.open("/claim")).text()
        assert said in page
        assert 'value="José"' in page

    async def test_used_up_tries_leave_the_password_that_was_taken(self, surfer: Surfer) -> None:
        begun(surfer, etag='"e1"')
        surfer.services.say(PASSWORD, 409, {"reason": "claim_passwords_used_up"})
        answer = await surfer.send("/claim/password", CHOSEN)
        assert answer.headers["Location"] == "/ccps/claim/questions"
        assert "The last password that was good" in await (await surfer.open("/claim/questions")).text()

    async def test_a_form_about_somebody_else_does_nothing(self, surfer: Surfer) -> None:
        begun(surfer)
        answer = await surfer.send("/claim/password", CHOSEN | {"username": "S0000001"})
        page = await answer.text()
        assert answer.status == 409
        assert "Somebody else has begun" in page
        assert "Go on as José" in page
        assert not surfer.services.requests()


class TestQuestions:
    @pytest.fixture(autouse=True)
    def with_a_password(self, surfer: Surfer) -> None:
        begun(surfer, etag='"e1"')

    async def test_the_last_one_makes_the_claim(self, surfer: Surfer) -> None:
        surfer.services.say(ANSWERS, 200, {"state": "completed"})
        answer = await surfer.send("/claim/questions", ANSWERED)
        assert answer.headers["Location"] == "/ccps/claim/done"
        (asked,) = (each for each in surfer.services.asked if each.path.endswith("/answers"))
        assert asked.body["answers"][0] == {"question": "birth_month", "answer": "May"}
        page = await (await surfer.open("/claim/done")).text()
        assert "Well done, José!" in page
        answer = await surfer.send("/claim/sign-in")
        assert answer.headers["Location"] == "/ccps/sign-in"
        assert 'value="S0712347"' in await (await surfer.open("/sign-in")).text()
        assert "claim" not in surfer.kept()

    async def test_the_card_has_no_password_and_is_for_whoever_is_done(self, surfer: Surfer) -> None:
        assert (await surfer.open("/claim/card")).headers["Location"] == "/ccps/claim/questions"
        begun(surfer, completed=True)
        page = await (await surfer.open("/claim/card")).text()
        assert "S0712347" in page
        assert "localhost/ccps/" in page

    async def test_a_field_fits_its_question(self, surfer: Surfer) -> None:
        answer = await surfer.send(
            "/claim/questions", ANSWERED | {"question-3": "fruit", "answer-3": "durazno", "answer-2": ""},
            Accept_Language="es",
        )  # fmt: skip
        page = await answer.text()
        assert '<option value="peach" selected>durazno</option>' in page
        assert '<option value="May" selected>mayo</option>' in page
        assert "Escribe tu respuesta a la pregunta 2." in page

    @pytest.mark.parametrize(
        ("details", "field", "said"),
        [
            ({"question": "birth_year", "hint": "not_a_year"}, "answer-2", "Type a year with four numbers"),
            ({"question": "birth_month", "hint": "not_a_month"}, "answer-1", "Choose a month."),
            ({"question": "teacher", "hint": "too_short"}, "answer-3", "That answer is too short."),
            ({"question": "teacher", "hint": "too_long"}, "answer-3", "That answer is too long."),
            ({"question": "teacher", "hint": "control_character"}, "answer-3", "nobody can see"),
            ({"question": "teacher", "hint": "of tomorrow"}, "answer-3", "This cannot be an answer"),
        ],
    )
    async def test_a_refused_answer_is_explained_at_its_field(
        self, surfer: Surfer, details: Mapping[str, str], field: str, said: str
    ) -> None:
        surfer.services.say(ANSWERS, 422, {"reason": "answer_invalid"} | dict(details))
        answer = await surfer.send("/claim/questions", ANSWERED)
        page = await answer.text()
        assert answer.status == 422
        assert said in page
        assert f'id="f-{field}-error"' in page
        assert "Ms. Lovelace" in page

    async def test_a_question_taken_twice_is_pointed_out(self, surfer: Surfer) -> None:
        surfer.services.say(ANSWERS, 422, {"reason": "answers_repeated"})
        answer = await surfer.send("/claim/questions", ANSWERED | {"question-3": "birth_month"})
        assert 'id="f-question-3-error"' in await answer.text()

    async def test_nothing_is_lost_while_auth_is_away(self, surfer: Surfer) -> None:
        answer = await surfer.send("/claim/questions", ANSWERED)
        page = await answer.text()
        assert answer.status == 503
        assert RIGHT_BACK in page
        assert "Ms. Lovelace" in page

    async def test_a_password_of_another_tab_is_chosen_again(self, surfer: Surfer) -> None:
        answer = await surfer.send("/claim/questions", ANSWERED | {"etag": '"e0"'})
        assert answer.headers["Location"] == "/ccps/claim/password"
        assert "Please choose your password again" in await (await surfer.open("/claim/password")).text()
        assert not surfer.services.requests()

    @pytest.mark.parametrize("reason", ["password_replaced", "password_missing", "if_match_missing"])
    async def test_a_password_that_auth_does_not_have_is_chosen_again(
        self, surfer: Surfer, reason: str
    ) -> None:
        surfer.services.say(ANSWERS, 412, {"reason": reason})
        answer = await surfer.send("/claim/questions", ANSWERED)
        assert answer.headers["Location"] == "/ccps/claim/password"

    async def test_what_was_saved_already_is_done(self, surfer: Surfer) -> None:
        surfer.services.say(ANSWERS, 409, {"reason": "claim_sealed"})
        surfer.services.say(STANDING, 200, {"state": "completed"})
        answer = await surfer.send("/claim/questions", ANSWERED)
        assert answer.headers["Location"] == "/ccps/claim/done"
        assert "It was saved already" in await (await surfer.open("/claim/done")).text()

    @pytest.mark.parametrize(
        ("standing", "leads_to", "said"),
        [
            ({"state": "completed"}, "/ccps/claim/done", "Well done, José!"),
            ({"state": "rejected", "reason": "account_claimed"}, "/ccps/claim", "claimed somewhere else"),
            ({"state": "rejected", "reason": "claim_superseded"}, "/ccps/claim", "Please begin again"),
            ({"state": "expired"}, "/ccps/claim", "That took a little too long"),
        ],
    )
    async def test_saving_takes_its_time_and_ends(
        self, surfer: Surfer, standing: Mapping[str, str], leads_to: str, said: str
    ) -> None:
        surfer.services.say(ANSWERS, 202, {"state": "open", "sealed": True})
        answer = await surfer.send("/claim/questions", ANSWERED)
        assert answer.headers["Location"] == "/ccps/claim/saving"
        for status in (503, 200):  # auth away, and auth not knowing yet
            surfer.services.answers[STANDING] = [Answer(status, {"state": "open", "sealed": True})]
            answer = await surfer.open("/claim/saving")
            assert answer.headers["Refresh"]
            assert "Saving" in await answer.text()
        surfer.services.answers[STANDING] = [Answer(200, dict(standing))]
        assert (await surfer.open("/claim/saving")).headers["Location"] == leads_to
        assert said in await (await surfer.open(leads_to.removeprefix("/ccps"))).text()

    async def test_a_district_without_questions_asks_none(self, surfer: Surfer) -> None:
        surfer.services.answers["GET /policy"] = [Answer(200, dict(POLICY) | {"questions_required": 0})]
        assert "Question 1" not in await (await surfer.open("/claim/questions")).text()
        surfer.services.say(ANSWERS, 200, {"state": "completed"})
        await surfer.send("/claim/questions", ANSWERED)
        (asked,) = (each for each in surfer.services.asked if each.path.endswith("/answers"))
        assert asked.body == {"answers": []}


def reasons(service: str, path: str, method: str) -> list[tuple[str, int]]:
    """What the contract says that a route refuses with, but for what is no doing of whoever asks."""
    shared = tomllib.loads((ROOT / "shared/reasons.toml").read_text())
    contract = msgspec.json.decode((ROOT / f"contracts/openapi/{service}.json").read_bytes())
    answers = contract["paths"][f"/v1/districts/{{district}}{path}"][method]["responses"]
    return [
        (reason, int(status))
        for status, answer in answers.items()
        for schema in answer.get("content", {}).get("application/problem+json", {}).values()
        for reason in schema["allOf"][1]["properties"]["reason"]["enum"]
        if reason not in shared or reason.startswith("token_")
    ]


@pytest.mark.parametrize(("reason", "status"), reasons("claims", "/claims", "post"))
async def test_every_reason_of_the_first_step_has_its_words(surfer: Surfer, reason: str, status: int) -> None:
    surfer.services.say(BEGIN, status, DETAILS | {"reason": reason})
    shown, page = await type_names(surfer)
    assert shown == status
    assert RIGHT_BACK not in page


@pytest.mark.parametrize(
    ("step", "reason", "status"),
    [("password", *each) for each in reasons("auth", "/claims/{claim_id}/password", "put")]
    + [("questions", *each) for each in reasons("auth", "/claims/{claim_id}/answers", "put")],
)
async def test_every_reason_of_the_other_steps_has_its_words(
    surfer: Surfer, step: str, reason: str, status: int
) -> None:
    begun(surfer, etag='"e1"')
    request, form = (PASSWORD, CHOSEN) if step == "password" else (ANSWERS, ANSWERED)
    surfer.services.say(request, status, DETAILS | {"reason": reason})
    surfer.services.say(STANDING, 200, {"state": "completed"})
    answer = await surfer.send(f"/claim/{step}", form)
    if answer.status == 303:
        answer = await surfer.open(answer.headers["Location"].removeprefix("/ccps"))
    page = await answer.text()
    assert "notice" in page
    assert RIGHT_BACK not in page
