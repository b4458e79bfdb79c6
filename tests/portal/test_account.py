"""What somebody who is signed in may do with the account."""

from datetime import timedelta

import pytest

from services.portal.backend import Answer
from shared import clock
from tests.portal.scripted import Surfer

CHANGE = "PUT /password"
TYPED = {"current": "the old one here", "new": "a new one there", "again": "a new one there"}


class TestChangingThePassword:
    async def test_it_is_changed_and_said(self, surfer: Surfer) -> None:
        surfer.signed_in()
        surfer.services.say(CHANGE, 204)
        answer = await surfer.send("/account/password", TYPED)
        assert (answer.status, answer.headers["Location"]) == (303, "/ccps/account/password/changed")
        (asked,) = (each for each in surfer.services.asked if each.path == "/password")
        assert asked.body == {"current": TYPED["current"], "new": TYPED["new"]}
        assert asked.bearer == "hrs_session"
        assert "Your password is changed" in await (await surfer.open("/account/password/changed")).text()

    @pytest.mark.parametrize(
        ("reason", "status", "shown", "said"),
        [
            ("authentication_failed", 403, 403, "This is not the password that you have now."),
            ("password_short", 422, 422, "It needs at least 8 letters"),
            ("password_long", 422, 422, "It may have 256 letters"),
            ("password_common", 422, 422, "too easy to guess"),
            ("password_used_before", 422, 422, "You had this password before"),
            ("malformed_request", 400, 422, "It may have 256 letters"),
            ("account_suspended", 403, 403, "Your account is closed"),
            ("sign_in_paused", 429, 429, "You can try again in 7 seconds."),
            ("unavailable", 503, 503, "Your password is still the old one."),
            ("busy", 500, 503, "Your password is still the old one."),
        ],
    )  # fmt: skip
    async def test_each_refusal_is_explained(
        self, surfer: Surfer, reason: str, status: int, shown: int, said: str
    ) -> None:
        surfer.signed_in()
        surfer.services.say(CHANGE, status, {"reason": reason}, **{"Retry-After": "7"})
        answer = await surfer.send("/account/password", TYPED)
        page = await answer.text()
        assert answer.status == shown
        assert said in page
        assert not [typed for typed in TYPED.values() if typed in page], "what was typed is not sent back"

    async def test_how_long_a_password_counts_as_used(self, surfer: Surfer) -> None:
        surfer.signed_in()
        surfer.services.say(CHANGE, 422, {"reason": "password_used_before", "history_days": 90})
        page = await (await surfer.send("/account/password", TYPED)).text()
        assert "You had this password in the last 90 days." in page

    @pytest.mark.parametrize(
        ("typed", "field", "said"),
        [
            (TYPED | {"current": ""}, "current", "Type the password that you have now."),
            (TYPED | {"new": ""}, "new", "Type a new password."),
            (TYPED | {"again": "another"}, "again", "The two passwords are not the same."),
        ],
    )
    async def test_what_the_eye_can_see_is_asked_of_nobody(
        self, surfer: Surfer, typed: dict[str, str], field: str, said: str
    ) -> None:
        surfer.signed_in()
        answer = await surfer.send("/account/password", typed)
        page = await answer.text()
        assert answer.status == 422
        assert f'href="#f-{field}">{said}' in page
        assert CHANGE not in surfer.services.requests()

    async def test_a_session_that_has_ended_leads_to_signing_in_and_back(self, surfer: Surfer) -> None:
        surfer.signed_in()
        surfer.services.answers["GET /sessions/current"] += [Answer(401, {"reason": "token_invalid"})]
        surfer.services.say(CHANGE, 401, {"reason": "token_invalid"})
        answer = await surfer.send("/account/password", TYPED)
        assert (answer.status, answer.headers["Location"]) == (303, "/ccps/sign-in")
        surfer.services.say("POST /sessions", 201, opened())
        await surfer.send("/sign-in", {"username": "S0123456"})
        answer = await surfer.send("/sign-in/password", {"password": "right"})
        assert answer.headers["Location"] == "/ccps/account/password"

    async def test_a_temporary_one_is_not_asked_about_again(self, surfer: Surfer) -> None:
        surfer.signed_in(must_change=True)
        surfer.services.say(CHANGE, 204)
        where = "/account/password?next=/ccps/sign-on?authorization%3D1"
        page = await (await surfer.open(where)).text()
        assert "Your password was only for now" in page
        answer = await surfer.send(where, TYPED)
        page = await (await surfer.open(answer.headers["Location"].removeprefix("/ccps"))).text()
        assert 'href="/ccps/sign-on?authorization=1"' in page
        assert (await surfer.open("/")).status == 200

    @pytest.mark.parametrize(
        "elsewhere", ["https://evil.example", "//evil.example", "/other/", "/ccps//evil", "x"]
    )
    async def test_it_leads_nowhere_else(self, surfer: Surfer, elsewhere: str) -> None:
        surfer.signed_in()
        page = await (await surfer.open(f"/account/password/changed?next={elsewhere}")).text()
        assert 'class="button primary" href="/ccps/"' in page


class TestWhereIAmSignedIn:
    async def test_each_device_is_shown(self, surfer: Surfer) -> None:
        surfer.signed_in()
        surfer.services.say(
            "GET /sessions", 200, {"sessions": [line(current=True), line(device_kind=None, hours=3)]}
        )
        page = await (await surfer.open("/account/sessions")).text()
        assert "You are signed in on 2 devices." in page
        assert "Chromebook" in page
        assert "Another device" in page
        assert "3 hours ago" in page
        assert page.count("this one") == 1

    async def test_signing_out_everywhere_leaves_nothing_here(self, surfer: Surfer) -> None:
        surfer.signed_in()
        surfer.services.say("DELETE /sessions", 204)
        answer = await surfer.send("/account/sessions/end")
        assert answer.headers["Location"] == "/ccps/goodbye?everywhere"
        assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'
        assert surfer.kept() == set()
        assert "signed out on all your devices" in await (await surfer.open("/goodbye?everywhere")).text()

    async def test_while_auth_is_away_nobody_is_told_that_it_was_done(self, surfer: Surfer) -> None:
        surfer.signed_in()
        answer = await surfer.send("/account/sessions/end")
        assert (answer.status, "You are still signed in." in await answer.text()) == (503, True)
        assert surfer.kept() == {"session"}


class TestWhoeverLeavesTheDevice:
    async def test_somebody_who_is_there_keeps_the_session_alive(self, surfer: Surfer) -> None:
        surfer.signed_in()
        assert (await surfer.send("/keep-alive")).status == 204
        assert surfer.services.requests() == ["GET /sessions/current"]

    async def test_a_session_that_has_ended_is_not_kept_alive(self, surfer: Surfer) -> None:
        assert (await surfer.send("/keep-alive")).status == 401
        surfer.signed_in()
        surfer.services.answers["GET /sessions/current"] = [Answer(401, {"reason": "token_invalid"})]
        assert (await surfer.send("/keep-alive")).status == 401
        assert surfer.kept() == set()

    async def test_while_auth_is_away_the_browser_keeps_the_session(self, surfer: Surfer) -> None:
        surfer.signed_in()
        surfer.services.answers["GET /sessions/current"] = [Answer(503, {"reason": "unavailable"})]
        assert (await surfer.send("/keep-alive")).status == 503
        assert surfer.kept() == {"session"}

    async def test_nobody_was_there(self, surfer: Surfer) -> None:
        surfer.signed_in()
        surfer.services.say("DELETE /sessions/current", 204)
        answer = await surfer.open("/idle", Sec_Fetch_Site="same-origin")
        assert "Nobody was here for a while" in await answer.text()
        assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'
        assert surfer.services.requests() == ["DELETE /sessions/current"]
        assert surfer.kept() == set()

    @pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
    async def test_a_link_from_elsewhere_signs_nobody_out(self, surfer: Surfer, site: str) -> None:
        surfer.signed_in()
        answer = await surfer.open("/idle", Sec_Fetch_Site=site, Referer="http://localhost/ccps/")
        assert answer.headers["Location"] == "/ccps/sign-out"
        assert surfer.services.requests() == []
        assert "Stay signed in" in await (await surfer.open("/sign-out")).text()


def opened(**more: object) -> dict[str, object]:
    """What auth answers to somebody who signs in."""
    return {
        "session": "hrs_another",
        "expires_at": (clock.now() + timedelta(hours=12)).isoformat(),
        "person_id": "00000000-0000-4000-8000-000000000001",
        "username": "S0123456",
        "device": "device",
    } | more


def line(
    *, current: bool = False, device_kind: str | None = "Chromebook", hours: int = 0
) -> dict[str, object]:
    """A session as auth lists it."""
    at = (clock.now() - timedelta(hours=hours)).isoformat()
    return {
        "current": current,
        "device_kind": device_kind,
        "created_at": at,
        "last_seen_at": at,
        "expires_at": at,
    }
