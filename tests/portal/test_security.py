"""What the portal says to every browser, and what it takes from none: forged, foreign, ended and oversized input."""

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from yarl import URL as Address

from services.portal import backend, languages, security, visit
from services.portal.app import PAGES
from services.portal.seals import MAX_SEALED_CHARACTERS, Seals
from services.portal.security import (
    CONTENT_SECURITY_POLICY,
    browser_address,
    from_own_page,
    local_path,
    origin_of,
)
from services.portal.visit import FORM_LIMIT_BYTES, MAX_FIELDS
from shared.settings import SettingsInvalid
from tests.portal.scripted import PERSON, URL, Surfer

NOW = datetime(2026, 8, 4, 9, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
KEY, OTHER = b"k" * 32, b"o" * 32
NAME = "__Host-ccps-session"
ALWAYS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "Server": "homeroom",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
NO_PAGES = (
    "/", "/nowhere/", "/ccps", "/CCPS/", "/ccps/nowhere", "/a/b/c/d", "/static/x/portal.css", "/static/x/none.css",
    "/health/live", "/metrics",
)  # fmt: skip


def addresses(method: str) -> list[str]:
    """Every page of the table, with something in each blank of its address."""
    return sorted({_filled(page.path) for page in PAGES if page.method == method})


def _filled(path: str) -> str:
    parts = (
        ("es" if part == "{code}" else "1") if part.startswith("{") else part for part in path.split("/")
    )
    return "/".join(parts)


# ------------------------------------------------------------------ headers


class TestHeaders:
    async def test_every_page_has_them(self, surfer: Surfer) -> None:
        for path in addresses("GET"):
            answer = await surfer.open(path)
            assert ALWAYS.items() <= answer.headers.items(), path
            if answer.content_type == "text/html":
                assert answer.headers["Cache-Control"] == "no-store", path

    async def test_so_has_what_is_no_page(self, surfer: Surfer) -> None:
        for path in NO_PAGES:
            answer = await surfer.client.get(path, allow_redirects=False)
            assert ALWAYS.items() <= answer.headers.items(), path

    async def test_so_has_an_error_of_ours(self, surfer: Surfer) -> None:
        surfer.signed_in()
        surfer.services.answers["GET /sessions"] = [None]  # type: ignore[list-item]
        answer = await surfer.open("/account/sessions")
        assert answer.status == 500
        assert ALWAYS.items() <= answer.headers.items()
        assert "Traceback" not in await answer.text()

    def test_the_policy_lets_nothing_in_from_elsewhere_and_nothing_inline(self) -> None:
        assert "unsafe" not in CONTENT_SECURITY_POLICY
        assert "http" not in CONTENT_SECURITY_POLICY
        assert CONTENT_SECURITY_POLICY.startswith("default-src 'none'")

    @pytest.mark.parametrize(
        ("url", "said"), [("https://portal.example", True), ("http://localhost:1", False)]
    )
    def test_browsers_are_told_to_stay_with_tls_where_there_is_tls(self, url: str, said: bool) -> None:
        response = aiohttp.web.Response()
        security.harden(response, url)
        assert ("Strict-Transport-Security" in response.headers) is said


# ------------------------------------------------------------------ where a form comes from


def request(**headers: str) -> Any:
    return make_mocked_request(
        "POST", "/ccps/sign-in", headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


class TestWhereAFormComesFrom:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Sec_Fetch_Site": "cross-site", "Origin": "https://evil.example"},
            {"Sec_Fetch_Site": "same-site", "Origin": "http://other.localhost"},
            {"Sec_Fetch_Site": "none"},
            {"Origin": "null"},
        ],
    )
    async def test_another_sites_form_does_nothing(self, surfer: Surfer, headers: dict[str, str]) -> None:
        surfer.signed_in()
        kept = dict(surfer.cookies)
        for path in addresses("POST"):
            answer = await surfer.send(path, {"username": "S0123456"}, **headers)
            assert (answer.status, surfer.cookies) == (403, kept), path
        assert not [asked for asked in surfer.services.asked if asked.method != "GET"]

    @pytest.mark.parametrize(
        ("headers", "own"),
        [
            ({"Sec_Fetch_Site": "same-origin", "Origin": URL}, True),
            ({"Sec_Fetch_Site": "same-origin"}, True),
            ({"Origin": URL}, True),  # a browser from before Fetch Metadata
            ({}, False),
            ({"Origin": "https://localhost"}, False),
            ({"Origin": "http://localhost:8080"}, False),
            ({"Origin": "http://localhost.evil.example"}, False),
            ({"Origin": f"{URL}/"}, False),
            ({"Referer": f"{URL}/ccps/"}, False),
        ],
    )
    def test_the_browser_says_so(self, headers: dict[str, str], own: bool) -> None:
        assert from_own_page(request(**headers), URL) is own

    @pytest.mark.parametrize(
        ("written", "origin"),
        [
            ("https://Portal.Example", "https://portal.example"),
            ("https://portal.example:443", "https://portal.example"),
            ("http://portal.example:80", "http://portal.example"),
            ("https://portal.example:8443", "https://portal.example:8443"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ],
    )
    def test_the_portals_address_may_be_spelled_as_people_do(self, written: str, origin: str) -> None:
        assert origin_of(written) == origin
        assert from_own_page(request(Origin=origin), written)


# ------------------------------------------------------------------ what a browser keeps


class TestSeals:
    def test_what_was_sealed_opens_until_it_ends(self) -> None:
        seals = Seals([KEY])
        sealed = seals.seal(NAME, "token", LATER)
        assert seals.open(NAME, sealed, str, NOW) == "token"
        assert seals.open(NAME, sealed, str, LATER - timedelta(seconds=1)) == "token"
        assert seals.open(NAME, sealed, str, LATER) is None

    def test_it_opens_under_its_own_name_alone(self) -> None:
        seals = Seals([KEY])
        sealed = seals.seal(NAME, "token", LATER)
        assert seals.open("__Host-other-session", sealed, str, NOW) is None
        assert seals.open("__Host-ccps-device", sealed, str, NOW) is None

    def test_an_older_key_opens_and_the_first_one_seals(self) -> None:
        before, after = Seals([KEY]), Seals([OTHER, KEY])
        assert after.open(NAME, before.seal(NAME, "token", LATER), str, NOW) == "token"
        assert before.open(NAME, after.seal(NAME, "token", LATER), str, NOW) is None
        assert Seals([OTHER]).open(NAME, before.seal(NAME, "token", LATER), str, NOW) is None

    def test_keys_are_turned_while_processes_run(self, tmp_path: Path) -> None:
        file = tmp_path / "key"
        write_keys(file, KEY)
        first, second = Seals.read(file), Seals.read(file)
        before = first.seal(NAME, "token", LATER)
        write_keys(file, OTHER, KEY)
        assert first.refresh()
        after = first.seal(NAME, "token", LATER)
        assert second.open(NAME, after, str, NOW) == "token", "whoever did not look yet looks"
        for seals in (first, second, Seals([OTHER, KEY])):
            assert seals.open(NAME, before, str, NOW) == "token"
        file.write_text("half a k")
        assert not first.refresh()
        assert first.open(NAME, after, str, NOW) == "token"
        write_keys(file, OTHER)
        assert first.refresh()
        assert first.open(NAME, before, str, NOW) is None

    def test_another_shape_is_nothing(self) -> None:
        seals = Seals([KEY])
        assert seals.open(NAME, seals.seal(NAME, {"token": 1}, LATER), str, NOW) is None

    @given(st.integers(min_value=0), st.integers(min_value=1, max_value=63))
    def test_a_changed_sign_is_noticed(self, place: int, by: int) -> None:
        signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        sealed = Seals([KEY]).seal(NAME, "a token of three bytes", LATER)
        place %= len(sealed) - 1  # the last sign holds bits that mean nothing
        changed = sealed[:place] + signs[(signs.index(sealed[place]) + by) % 64] + sealed[place + 1 :]
        assert Seals([KEY]).open(NAME, changed, str, NOW) is None

    @given(
        st.text(max_size=200)
        | st.binary(max_size=200).map(lambda raw: base64.urlsafe_b64encode(raw).decode())
    )
    def test_whatever_else_stands_there_is_nothing(self, said: str) -> None:
        assert Seals([KEY]).open(NAME, said, str, NOW) is None

    def test_what_a_browser_would_drop_is_not_sealed(self) -> None:
        with pytest.raises(AssertionError):
            Seals([KEY]).seal(NAME, "x" * MAX_SEALED_CHARACTERS, LATER)

    @pytest.mark.parametrize(
        "content", ["", "short", base64.b64encode(b"k" * 31).decode(), "not base64!", "\xff"]
    )
    def test_a_file_without_a_good_key_is_refused(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "key").write_bytes(content.encode("latin-1"))
        with pytest.raises(SettingsInvalid, match="HOMEROOM_PORTAL_KEY_FILE"):
            Seals.read(tmp_path / "key")

    async def test_a_forged_session_is_nobodys(self, surfer: Surfer) -> None:
        surfer.signed_in()
        genuine = surfer.cookies[NAME]
        for forged in (genuine[:-2], "A" + genuine[1:], "AAAA", "", "%00", '"quoted"'):
            surfer.cookies[NAME] = forged
            answer = await surfer.open("/account/password")
            assert answer.headers["Location"] == "/ccps/sign-in", forged
        assert "GET /sessions/current" not in surfer.services.requests()

    async def test_a_session_of_another_district_is_nobodys(self, surfer: Surfer) -> None:
        surfer.signed_in()
        surfer.cookies["__Host-elsewhere-session"] = surfer.cookies.pop(NAME)
        surfer.cookies[NAME] = surfer.cookies["__Host-elsewhere-session"] = surfer.seals.seal(
            "__Host-elsewhere-session", {"token": "hrs_x"}, datetime.now(UTC) + timedelta(hours=1)
        )
        assert (await surfer.open("/account/password")).headers["Location"] == "/ccps/sign-in"

    async def test_who_signs_out_leaves_other_districts_and_odd_names_alone(self, surfer: Surfer) -> None:
        surfer.signed_in()
        surfer.cookies |= {"__Host-ccps-east-session": "theirs", "__Host-ccps-a(b": "odd"}
        assert (await surfer.send("/sign-out")).status == 303
        assert surfer.cookies == {"__Host-ccps-east-session": "theirs", "__Host-ccps-a(b": "odd"}

    async def test_who_signs_in_meets_nothing_of_whoever_was_here_before(self, surfer: Surfer) -> None:
        until = datetime.now(UTC) + timedelta(hours=1)
        for what in ("claim", "claim-seed", "recovery", "code", "told"):
            surfer.cookies[f"__Host-ccps-{what}"] = surfer.seals.seal(f"__Host-ccps-{what}", "theirs", until)
        signed_in = {
            "session": "hrs_x",
            "person_id": str(PERSON),
            "username": "S0123456",
            "expires_at": until.isoformat(),
        }
        surfer.services.say("POST /sessions", 201, signed_in)
        await surfer.send("/sign-in", {"username": "S0123456"})
        assert (await surfer.send("/sign-in/password", {"password": "x"})).status == 303
        assert surfer.kept() == {"session"}

    async def test_cookies_go_to_this_origin_and_no_script(self, surfer: Surfer) -> None:
        answer = await surfer.send("/sign-in", {"username": "S0123456"})
        (cookie,) = answer.headers.getall("Set-Cookie")
        assert cookie.startswith("__Host-ccps-sign-in=")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
        assert "Domain" not in cookie


# ------------------------------------------------------------------ where a browser is led


class TestWhereABrowserIsLed:
    @pytest.mark.parametrize(
        "said",
        [
            "", "/", "//evil.example", "https://evil.example", "/ccps", "/other/", "/ccps//evil.example",
            "/ccps/\\evil", "\\/evil.example", "/ccps/\r\nSet-Cookie: a=b", "/ccps/\t", "/ccpsx/",
            "javascript:alert(1)", "/ccps/" + "x" * 1000, "/ccps/" + "é" * 500, "/ccps/\ud800", "/ccps/\u202e", "ccps/",
        ],
    )  # fmt: skip
    def test_nowhere_else_than_this_district(self, said: str) -> None:
        assert local_path(said, "ccps") is None

    @pytest.mark.parametrize(
        "said", ["/ccps/", "/ccps/claim", "/ccps/desk?search=o%27neil", "/ccps/desk?a=b&c=d"]
    )
    def test_its_own_pages_are_fine(self, said: str) -> None:
        assert local_path(said, "ccps") == said

    @given(st.text(alphabet="/\\.:@?#%ccps\t\n evil", max_size=30) | st.text(max_size=30))
    def test_whatever_is_said_stays_on_this_origin(self, said: str) -> None:
        for each in (said, f"/ccps/{said}"):
            path = local_path(each, "ccps")
            if path is not None:
                led = Address("https://portal.example/ccps/language/es").join(Address(path))
                assert led.origin() == Address("https://portal.example")
                assert path.startswith("/ccps/")

    @pytest.mark.parametrize(
        "back",
        [
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/ccps/\\evil.example",
            "/ccps//evil.example",
        ],
    )
    async def test_a_language_leads_back_to_no_other_site(self, surfer: Surfer, back: str) -> None:
        answer = await surfer.client.get("/ccps/language/es", params={"back": back}, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "/ccps/")

    @pytest.mark.parametrize(
        "path", ["/%5Cevil.example", "/%2Fevil.example", "/%2F%2Fevil.example", "/%0D%0Aa:b", "/%E2%80%AE"]
    )
    async def test_an_address_without_a_slash_leads_to_no_other_site(self, surfer: Surfer, path: str) -> None:
        answer = await surfer.client.get(Address(path, encoded=True), allow_redirects=False)
        assert answer.status == 404

    async def test_who_chose_a_language_on_a_page_that_was_only_sent_gets_back_to_a_page(
        self, surfer: Surfer
    ) -> None:
        surfer.signed_in()
        answer = await surfer.send("/account/password", {"current": "", "new": "", "again": ""})
        assert "/ccps/language/es?back=%2Fccps%2Faccount%2Fpassword" in await answer.text()

    @pytest.mark.parametrize("referer", [f"{URL}/ccps/" + "é" * 900, "http://[::1/ccps/", "\xff", ""])
    async def test_a_form_that_comes_from_no_address_leads_home(self, surfer: Surfer, referer: str) -> None:
        answer = await surfer.send("/account/sessions/end", Referer=referer)
        assert (answer.status, answer.headers["Location"]) == (303, "/ccps/sign-in")


class TestDistricts:
    @pytest.mark.parametrize("path", ["/CCPS/sign-in", "/Ccps/sign-in?a=b"])
    async def test_large_letters_lead_to_small_ones(self, surfer: Surfer, path: str) -> None:
        answer = await surfer.client.get(path, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, path.lower())

    @pytest.mark.parametrize(
        "district",
        [
            "-", "---", "c%20c", "ccps%00", "%C3%A9cole", "x" * 33, "..%2Fcps", "ccps%2F..",
            "%F0%9F%98%80", "cc.ps", "*", "{district}",
        ],
    )  # fmt: skip
    async def test_what_is_no_name_is_asked_of_nobody(self, surfer: Surfer, district: str) -> None:
        answer = await surfer.client.get(Address(f"/{district}/sign-in", encoded=True), allow_redirects=False)
        assert answer.status == 404
        assert not surfer.services.asked

    async def test_an_unknown_one_is_said_to_be_unknown(self, surfer: Surfer) -> None:
        surfer.services.answers["GET /policy"] = []
        surfer.services.say("GET /policy", 404, {"reason": "district_unknown"})
        assert (await surfer.open("/sign-in")).status == 404


# ------------------------------------------------------------------ languages


class TestLanguages:
    @pytest.mark.parametrize(
        ("accepted", "chosen"),
        [
            ("", "en"), ("es", "es"), ("es-MX,es;q=0.9,en;q=0.8", "es"), ("en-US,es;q=0.9", "en"),
            ("fr,es;q=0.5", "es"),
            ("es;q=0.5,en;q=0.9", "en"), ("en; q=0.5, es; q=0.7", "es"), ("es;q=0, fr", "en"), ("ES-419", "es"),
            ("*", "en"), ("es;q=nan,en", "en"), ("es;q=inf", "en"), ("es;q=2", "en"), (";;;,,,;q=", "en"),
            ("x" * 9000, "en"), ("fr", "en"), ("es_MX", "en"), ("\x00", "en"),
        ],
    )  # fmt: skip
    def test_the_browser_says_which(self, accepted: str, chosen: str) -> None:
        assert languages.choose(None, accepted) == chosen

    def test_what_was_chosen_here_wins(self) -> None:
        assert languages.choose("es", "en") == "es"
        assert languages.choose("xx", "es") == "es"

    @given(st.text(max_size=600))
    def test_anything_may_be_said(self, accepted: str) -> None:
        assert languages.choose(None, accepted) in languages.languages()


# ------------------------------------------------------------------ who asks


class TestTheBrowsersAddress:
    @pytest.mark.parametrize(
        ("proxies", "lines", "seen"),
        [
            (0, ["203.0.113.9"], "192.0.2.1"),
            (1, ["203.0.113.9"], "203.0.113.9"),
            (1, ["198.51.100.7, 203.0.113.9"], "203.0.113.9"),  # the first was the browser's own claim
            (2, ["198.51.100.7, 203.0.113.9"], "198.51.100.7"),
            (2, ["6.6.6.6, 198.51.100.7, 203.0.113.9"], "198.51.100.7"),
            (2, ["203.0.113.9"], "192.0.2.1"),  # it came past one of them
            (1, ["198.51.100.7", "203.0.113.9"], "203.0.113.9"),  # a proxy that adds a line of its own
            (1, ["[2001:db8::1]:4711"], "2001:db8::1"),
            (1, ["2001:DB8::1"], "2001:db8::1"),
            (1, ["203.0.113.9:4711"], "203.0.113.9"),
            (1, ['203.0.113.9", for="6.6.6.6'], "192.0.2.1"),
            (1, ["unknown"], "192.0.2.1"),
            (1, [""], "192.0.2.1"),
            (1, [], "192.0.2.1"),
        ],
    )  # fmt: skip
    def test_only_what_our_own_proxies_say_counts(self, proxies: int, lines: list[str], seen: str) -> None:
        headers = CIMultiDict([("X-Forwarded-For", line) for line in lines])
        asked = make_mocked_request("GET", "/", headers=headers)
        asked = asked.clone(remote="192.0.2.1")
        assert browser_address(asked, proxies) == seen


# ------------------------------------------------------------------ too much, and odd


class TestOddInput:
    async def test_a_form_up_to_the_limit_is_read_and_one_beyond_is_refused(self, surfer: Surfer) -> None:
        within = "username=" + "x" * (FORM_LIMIT_BYTES - 9)
        for body, status in ((within, 422), (within + "x", 413)):
            answer = await self._post(surfer, body)
            assert answer.status == status

    async def test_a_form_that_never_ends_is_not_waited_for(
        self, surfer: Surfer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(visit, "FORM_WITHIN_S", 0.05)

        async def slowly() -> AsyncIterator[bytes]:
            yield b"username="
            await asyncio.sleep(10)

        headers = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
        async with asyncio.timeout(5):
            answer = await surfer.client.post("/ccps/sign-in", data=slowly(), headers=headers)
        assert answer.status == 408

    async def test_a_zero_is_text_that_a_service_can_judge(self, surfer: Surfer) -> None:
        surfer.services.say("POST /recoveries", 403, {"reason": "recovery_refused"})
        assert (await surfer.send("/forgot", {"username": "S01\0"})).status == 403
        assert surfer.services.asked[-1].body == {"username": "S01\ufffd"}

    @pytest.mark.parametrize("content", [b"[]", b'"no"', b"null", b"7", b"<html>", b"\xff", b"[" * 100_000])
    def test_what_is_no_answer_of_a_service_is_none(self, content: bytes) -> None:
        for status, as_status in ((200, 502), (404, 404), (503, 503)):
            answer = backend._answer(status, content, {})
            assert (answer.status, answer.reason) == (as_status, "unavailable")

    async def test_many_fields_are_refused(self, surfer: Surfer) -> None:
        assert (await self._post(surfer, "&".join(f"a{n}=1" for n in range(MAX_FIELDS + 1)))).status == 400

    @pytest.mark.parametrize("body", ["username=%ff%fe", "username=\xe9", "username=%ed%a0%80", "\x00"])
    async def test_what_is_no_text_is_refused(self, surfer: Surfer, body: str) -> None:
        assert (await self._post(surfer, body.encode("latin-1"))).status in (400, 422)

    @pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/json", "text/plain"])
    async def test_another_kind_of_form_is_refused(self, surfer: Surfer, kind: str) -> None:
        assert (await self._post(surfer, "username=a", kind)).status == 415

    @pytest.mark.parametrize(
        "typed", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 77 * 777 }}", "%(x)s"]
    )
    async def test_what_is_typed_is_shown_as_text(self, surfer: Surfer, typed: str) -> None:
        await surfer.send("/sign-in", {"username": typed})
        page = await (await surfer.open("/sign-in/password")).text()
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "59829" not in page

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(username=st.text(max_size=80))
    async def test_any_text_is_a_page(self, surfer: Surfer, username: str) -> None:
        sent = username.encode(errors="replace").decode()
        answer = await surfer.send("/sign-in", {"username": sent})
        assert answer.status in (303, 422)

    async def test_an_odd_browsers_name_is_no_error(self, surfer: Surfer) -> None:
        surfer.signed_in()
        answer = await surfer.open("/account/password", **{"User-Agent": "Fire\xe9fox \ud83d"[:8]})
        assert answer.status == 200

    async def _post(
        self, surfer: Surfer, body: str | bytes, kind: str = "application/x-www-form-urlencoded"
    ) -> aiohttp.ClientResponse:
        headers = {"Content-Type": kind, "Origin": URL, "Sec-Fetch-Site": "same-origin"}
        raw = body.encode() if isinstance(body, str) else body
        return await surfer.client.post("/ccps/sign-in", data=raw, headers=headers, allow_redirects=False)


async def test_a_method_that_a_page_does_not_take_is_told_which_it_takes(surfer: Surfer) -> None:
    answer = await surfer.client.delete("/ccps/sign-in")
    assert answer.status == 405
    assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}
    assert "Nothing is here" in await answer.text()


def write_keys(file: Path, *keys: bytes) -> None:
    file.write_text("".join(f"{base64.b64encode(key).decode()}\n" for key in keys))
