"""Single sign-on, as the portal has its part in it."""

from datetime import timedelta
from typing import ClassVar

import pytest

from services.portal.backend import Answer
from services.portal.security import CONTENT_SECURITY_POLICY
from shared import clock
from tests.portal.scripted import Surfer
from tests.portal.test_account import opened

ID = "6f1f7e3c-9d55-4a51-8a2f-4a3c1d7f0b11"
PATH = f"/sign-on?authorization={ID}"
ASKED = f"GET /authorizations/{ID}"
ACCEPT = f"POST /authorizations/{ID}/acceptance"
LOCATION = f"https://auth.example.org/v1/districts/ccps/authorizations/{ID}/return?accepted=proof&x=1"
FROM_ELSEWHERE = {"Sec_Fetch_Site": "cross-site"}
AFTER_A_FORM = {"Sec_Fetch_Site": "same-origin"}


@pytest.fixture
def waiting(surfer: Surfer) -> Surfer:
    """An application waits for somebody at this browser."""
    wait(surfer)
    surfer.services.say(ACCEPT, 200, {"location": LOCATION})
    surfer.services.say("POST /sessions", 201, opened())
    surfer.services.say("DELETE /sessions/current", 204)
    return surfer


def wait(surfer: Surfer, **more: object) -> None:
    until = (clock.now() + timedelta(minutes=30)).isoformat()
    body = {"application": "Library", "prompts": [], "login_hint": None, "expires_at": until} | more
    surfer.services.answers[ASKED] = [Answer(200, body)]


async def test_who_is_signed_in_goes_straight_on(waiting: Surfer) -> None:
    waiting.signed_in()
    answer = await waiting.open(PATH, **FROM_ELSEWHERE)
    assert (answer.status, answer.headers["Location"]) == (303, LOCATION)
    assert waiting.services.asked[-1].bearer == "hrs_session"


async def test_after_a_form_a_page_leads_on(waiting: Surfer) -> None:
    """Browsers hold a redirect to another site there, for the content security policy."""
    waiting.signed_in()
    answer = await waiting.open(PATH, **AFTER_A_FORM)
    page = await answer.text()
    assert answer.status == 200
    escaped = LOCATION.replace("&", "&amp;")
    assert f'<meta http-equiv="refresh" content="0; url={escaped}">' in page
    assert f'href="{escaped}"' in page
    assert "Going on to Library" in page


async def test_an_older_browser_that_says_nothing_gets_the_page(waiting: Surfer) -> None:
    waiting.signed_in()
    answer = await waiting.client.get(
        f"/ccps{PATH}", headers={"Cookie": f"__Host-ccps-session={waiting.cookies['__Host-ccps-session']}"},
        allow_redirects=False,
    )  # fmt: skip
    assert answer.status == 200


async def test_who_is_not_signs_in_and_comes_back(waiting: Surfer) -> None:
    wait(waiting, login_hint="S0123456")
    assert (await waiting.open(PATH, **FROM_ELSEWHERE)).headers["Location"] == "/ccps/sign-in"
    page = await (await waiting.open("/sign-in")).text()
    assert "Sign in to go on to Library." in page
    assert 'value="S0123456"' in page
    await waiting.send("/sign-in", {"username": "S0123456"})
    assert "Sign in to go on to Library." in await (await waiting.open("/sign-in/password")).text()
    answer = await waiting.send("/sign-in/password", {"password": "right"})
    assert answer.headers["Location"] == f"/ccps{PATH}"


async def test_not_you_still_goes_on_to_the_application(waiting: Surfer) -> None:
    await waiting.open(PATH, **FROM_ELSEWHERE)
    await waiting.send("/sign-in", {"username": "S0123456"})
    await waiting.send("/sign-in/again")
    page = await (await waiting.open("/sign-in")).text()
    assert "S0123456" not in page.replace("such as S0123456", "")
    assert "Sign in to go on to Library." in page


async def test_an_application_that_wants_to_be_sure_asks_for_the_password_alone(waiting: Surfer) -> None:
    waiting.signed_in()
    waiting.services.answers[ACCEPT].insert(0, Answer(403, {"reason": "sign_in_again"}))
    assert (await waiting.open(PATH, **FROM_ELSEWHERE)).headers["Location"] == "/ccps/sign-in/password"
    page = await (await waiting.open("/sign-in/password")).text()
    assert "Library wants to be sure that it is you." in page
    assert "S0123456" in page
    answer = await waiting.send("/sign-in/password", {"password": "right"})
    assert answer.headers["Location"] == f"/ccps{PATH}"
    assert "DELETE /sessions/current" in waiting.services.requests(), "one browser, one session"
    assert (await waiting.open(PATH, **AFTER_A_FORM)).status == 200


async def test_a_session_that_has_ended_signs_in_again(waiting: Surfer) -> None:
    waiting.signed_in()
    waiting.services.answers[ACCEPT] = [Answer(401, {"reason": "token_invalid"})]
    assert (await waiting.open(PATH, **FROM_ELSEWHERE)).headers["Location"] == "/ccps/sign-in"
    assert "You were signed out" in await (await waiting.open("/sign-in")).text()
    assert "session" not in waiting.kept()


async def test_a_temporary_password_is_changed_on_the_way(waiting: Surfer) -> None:
    waiting.signed_in(must_change=True)
    where = (await waiting.open(PATH, **FROM_ELSEWHERE)).headers["Location"]
    assert where.startswith("/ccps/account/password?next=")
    waiting.services.say("PUT /password", 204)
    typed = {"current": "for now only", "new": "one of my own", "again": "one of my own"}
    answer = await waiting.send(where.removeprefix("/ccps"), typed)
    page = await (await waiting.open(answer.headers["Location"].removeprefix("/ccps"))).text()
    assert f'href="/ccps{PATH}"' in page
    assert (await waiting.open(PATH, **AFTER_A_FORM)).status == 200


class TestWhichAccount:
    async def test_it_is_asked_where_the_application_wants_it(self, waiting: Surfer) -> None:
        wait(waiting, prompts=["select_account"])
        waiting.signed_in()
        page = await (await waiting.open(PATH, **FROM_ELSEWHERE)).text()
        assert "Go on as S0123456" in page
        assert ACCEPT not in waiting.services.requests()
        await waiting.send("/sign-on", {"authorization": ID, "account": "this"})
        assert "Going on to Library" in await (await waiting.open(PATH, **AFTER_A_FORM)).text()

    async def test_another_one_ends_this_one(self, waiting: Surfer) -> None:
        wait(waiting, prompts=["select_account"], login_hint="S0123456")
        waiting.signed_in()
        waiting.cookies |= {"__Host-ccps-sign-in": "older", "__Host-ccps-sign-on": "older"}
        answer = await waiting.send("/sign-on", {"authorization": ID, "account": "another"})
        assert answer.headers["Location"] == "/ccps/sign-in"
        assert "DELETE /sessions/current" in waiting.services.requests()
        assert "session" not in waiting.kept()
        page = await (await waiting.open("/sign-in")).text()
        assert 'value="S0123456"' not in page
        await waiting.send("/sign-in", {"username": "S0765432"})
        await waiting.send("/sign-in/password", {"password": "right"})
        assert "Going on to Library" in await (await waiting.open(PATH, **AFTER_A_FORM)).text(), "asked once"

    async def test_who_has_just_signed_in_has_chosen(self, waiting: Surfer) -> None:
        wait(waiting, prompts=["select_account"])
        await waiting.open(PATH, **FROM_ELSEWHERE)
        await waiting.send("/sign-in", {"username": "S0123456"})
        await waiting.send("/sign-in/password", {"password": "right"})
        assert "Going on to Library" in await (await waiting.open(PATH, **AFTER_A_FORM)).text()

    async def test_another_site_chooses_for_nobody(self, waiting: Surfer) -> None:
        wait(waiting, prompts=["select_account"])
        waiting.signed_in()
        form = {"authorization": ID, "account": "this"}
        answer = await waiting.send(
            "/sign-on", form, Sec_Fetch_Site="cross-site", Origin="https://evil.example"
        )
        assert answer.status == 403
        assert "Go on as S0123456" in await (await waiting.open(PATH, **FROM_ELSEWHERE)).text()


@pytest.mark.parametrize("said", ["", "no-such", ID[:-1], f"{ID}/../x", "../../token", "é" * 36])
async def test_what_is_no_authorization_is_asked_of_nobody(waiting: Surfer, said: str) -> None:
    answer = await waiting.open(f"/sign-on?authorization={said}")
    assert (answer.status, "Go back to the app" in await answer.text()) == (404, True)
    assert waiting.services.requests() == []


async def test_one_that_is_over_leads_back_to_the_application(waiting: Surfer) -> None:
    waiting.services.answers[ASKED] = [Answer(404, {"reason": "not_found"})]
    answer = await waiting.open(PATH)
    assert (answer.status, "Go back to the app" in await answer.text()) == (404, True)


async def test_while_auth_is_away_nobody_is_signed_out(waiting: Surfer) -> None:
    waiting.signed_in()
    waiting.services.answers[ACCEPT] = [Answer(503, {"reason": "unavailable"})]
    answer = await waiting.open(PATH)
    assert (answer.status, "load this page again" in await answer.text()) == (503, True)
    assert waiting.kept() == {"session"}


async def test_an_application_with_a_name_for_a_trap(waiting: Surfer) -> None:
    wait(waiting, application="<script>alert(1)</script>" * 9, login_hint="x" * 500)
    await waiting.open(PATH)
    page = await (await waiting.open("/sign-in")).text()
    assert "<script>alert" not in page
    assert "x" * 65 not in page


class TestSigningOutAtAnApplicationsWord:
    async def test_who_is_signed_in_is_asked(self, surfer: Surfer) -> None:
        surfer.signed_in()
        assert (await surfer.open("?sign-out")).headers["Location"] == "/ccps/sign-out"
        page = await (await surfer.open("/sign-out")).text()
        assert "Sign out?" in page
        assert surfer.services.requests() == []

    async def test_who_is_not_is_told(self, surfer: Surfer) -> None:
        assert (await surfer.open("/sign-out")).headers["Location"] == "/ccps/goodbye"

    async def test_the_address_alone_leads_to_the_first_page(self, surfer: Surfer) -> None:
        assert (await surfer.open("")).headers["Location"] == "/ccps/"


class TestFormsForApplicationsThatSpeakSaml:
    WORD = "/sign-on/answer?answer=word"
    FORM: ClassVar[dict[str, object]] = {
        "application": "Library", "acs": "https://library.example.org/acs?a=1&b=2", "relay_state": "\"><b>",
        "origin": "https://library.example.org", "saml_response": "PHg+",
    }  # fmt: skip

    async def test_a_page_posts_it_there(self, surfer: Surfer) -> None:
        surfer.services.say("POST /saml/answers", 200, self.FORM)
        answer = await surfer.open(self.WORD, **FROM_ELSEWHERE)
        page = await answer.text()
        assert answer.status == 200
        assert surfer.services.asked[-1].body == {"answer": "word"}
        assert 'action="https://library.example.org/acs?a=1&amp;b=2" data-send' in page
        assert 'name="SAMLResponse" value="PHg+"' in page
        assert 'name="RelayState" value="&#34;&gt;&lt;b&gt;"' in page
        assert "<button" in page
        policy = answer.headers["Content-Security-Policy"].split("; ")
        assert "form-action 'self' https://library.example.org https:" in policy
        assert answer.headers["Cache-Control"] == "no-store"

    async def test_without_a_relay_state_none_is_posted(self, surfer: Surfer) -> None:
        surfer.services.say("POST /saml/answers", 200, self.FORM | {"relay_state": None})
        assert "RelayState" not in await (await surfer.open(self.WORD)).text()

    async def test_one_that_is_over_leads_back_to_the_application(self, surfer: Surfer) -> None:
        surfer.services.say("POST /saml/answers", 400, {"reason": "authorization_ended"})
        answer = await surfer.open(self.WORD)
        assert (answer.status, "Go back to the app" in await answer.text()) == (404, True)
        assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY

    async def test_who_only_looks_takes_nothing(self, surfer: Surfer) -> None:
        async with surfer.client.head(f"/ccps{self.WORD}") as answer:
            assert answer.status == 200
        assert surfer.services.requests() == []

    @pytest.mark.parametrize("reason", ["acs_unknown", "saml_request_invalid"])
    async def test_what_auth_does_not_know_is_told(self, surfer: Surfer, reason: str) -> None:
        answer = await surfer.open(f"/sign-on/refused?reason={reason}", **FROM_ELSEWHERE)
        page = await answer.text()
        assert (answer.status, f"<code>{reason}</code>" in page, "Go back to the app" in page) == (
            400,
            True,
            True,
        )

    @pytest.mark.parametrize("reason", ["", "Call%20555", "%3Cb%3E"])
    async def test_and_no_words_of_others(self, surfer: Surfer, reason: str) -> None:
        answer = await surfer.open(f"/sign-on/refused?reason={reason}")
        assert (answer.status, "<code>" in await answer.text()) == (404, False)
