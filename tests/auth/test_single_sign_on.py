"""Somebody signs in to an application: from its link to its tokens, what they tell, and how it ends."""

import asyncio
import base64
import hashlib
from datetime import timedelta
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from services.auth import oidc_rules
from tests.auth.conftest import ISSUER, PORTAL, D, World, differing
from tests.auth.relying import APPLICATIONS, BACK, FIELDS, GOODBYE, Browser, RelyingParty, accepted

SESSION_COOKIE = "__Host-homeroom-session-ccps"


async def opened(world: World, token: str) -> Any:
    """An ID token, verified with the keys that everybody gets."""
    keys = await world.ask("GET", "/jwks")
    return jwt.decode(token, KeySet.import_key_set(keys.body), algorithms=["RS256", "ES256"])


class TestFromTheLinkToTheTokens:
    async def test_a_pupil_signs_in(self, world: World) -> None:
        pupil, library = await world.claimed(), await RelyingParty.register(world)
        session, browser = await world.session(pupil), Browser(world)

        asked = await browser.go(library.link(login_hint="S0123456"))
        shown = await world.ask("GET", f"/authorizations/{asked.query['authorization']}")
        assert (shown.status, shown.body["application"], shown.body["login_hint"]) == (
            200,
            "Library",
            "S0123456",
        )
        returned = await browser.go(await accepted(world, asked, session))
        assert returned.status == 303
        assert returned.location.startswith(f"{BACK}?code=")
        assert (returned.query["state"], returned.query["iss"]) == ("s", f"{ISSUER}{D}")

        answer = await library.redeem(returned.query["code"])
        assert answer.status == 200, answer
        assert (answer.body["token_type"], answer.body["expires_in"]) == ("Bearer", 600)
        assert answer.body["scope"] == "openid profile offline_access"
        assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
        told = await library.userinfo(answer.body["access_token"])
        assert told.body == {
            "sub": str(pupil.person_id), "name": "Mary-Ann O'Neil", "given_name": "Mary-Ann",
            "family_name": "O'Neil", "preferred_username": "S0123456",
        }  # fmt: skip

    async def test_the_id_token_is_what_openid_connect_says(self, world: World) -> None:
        pupil, library = await world.claimed(), await RelyingParty.register(world)
        before = int(world.now().timestamp())
        tokens = await library.signed_in(await world.session(pupil), nonce="a nonce")
        id_token = await opened(world, tokens["id_token"])
        assert (id_token.header["alg"], id_token.header["typ"]) == ("RS256", "JWT")
        said = id_token.claims
        half = hashlib.sha256(tokens["access_token"].encode()).digest()[:16]
        assert {name: said[name] for name in ("iss", "sub", "aud", "nonce", "acr", "amr", "at_hash")} == {
            "iss": f"{ISSUER}{D}", "sub": str(pupil.person_id), "aud": library.client_id, "nonce": "a nonce",
            "acr": "urn:homeroom:acr:password", "amr": ["pwd"],
            "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
        }  # fmt: skip
        assert before <= said["auth_time"] <= said["iat"] < said["exp"]
        assert said["sid"]
        assert not {"name", "preferred_username", "number"} & said.keys(), (
            "who somebody is, and nothing of them"
        )

    async def test_only_what_was_asked_for_is_told(self, world: World) -> None:
        library = await RelyingParty.register(world)
        session = await world.session(await world.claimed())
        for scope, told in (("openid", {"sub"}), ("openid school", {"sub", "district", "kind", "number"})):
            tokens = await library.signed_in(session, scope=scope)
            assert (await library.userinfo(tokens["access_token"])).body.keys() == told
            assert "refresh_token" not in tokens, "only with offline_access"

    async def test_what_the_application_may_not_know_it_does_not_get(self, world: World) -> None:
        library = await RelyingParty.register(world, scopes=["openid"])
        tokens = await library.signed_in(await world.session(await world.claimed()))
        assert tokens["scope"] == "openid"
        assert "refresh_token" not in tokens

    async def test_a_phone_signs_in_without_a_secret(self, world: World) -> None:
        phone = await RelyingParty.register(world, "native", redirect_uris=["http://127.0.0.1/back"])
        assert phone.secret is None
        phone.redirect_uri = "http://127.0.0.1:51004/back"  # whatever port is free there
        tokens = await phone.signed_in(await world.session(await world.claimed()))
        assert (await phone.userinfo(tokens["access_token"])).status == 200

    async def test_by_es256_where_that_is_wanted(self, world: World, tmp_path: Any) -> None:
        refused = FIELDS | {"type": "web", "id_token_algorithm": "ES256"}
        answer = await world.ask("POST", APPLICATIONS, refused, bearer=world.token("operator"))
        assert (answer.reason, answer.body["field"]) == ((422, "application_invalid"), "id_token_algorithm")
        world.rotate_key(tmp_path, "ES256")
        library = await RelyingParty.register(world, id_token_algorithm="ES256")
        tokens = await library.signed_in(await world.session(await world.claimed()))
        assert (await opened(world, tokens["id_token"])).header["alg"] == "ES256"
        described = await world.ask("GET", "/.well-known/openid-configuration")
        assert described.body["id_token_signing_alg_values_supported"] == ["RS256", "ES256"]

    async def test_a_new_key_is_known_before_it_signs(self, world: World, tmp_path: Any) -> None:
        library, session = await RelyingParty.register(world), await world.session(await world.claimed())

        async def kid() -> Any:
            return (await opened(world, (await library.signed_in(session))["id_token"])).header["kid"]

        old, new = await kid(), world.rotate_key(tmp_path, "RS256")
        assert new in [key["kid"] for key in (await world.ask("GET", "/jwks")).body["keys"]]
        assert await kid() == old
        world.later(minutes=10)
        assert await kid() == new
        keys = await world.ask("GET", "/jwks")
        assert old in [key["kid"] for key in keys.body["keys"]], "what the old one signed still holds"
        assert all("d" not in key for key in keys.body["keys"])

    async def test_pairwise_names_differ_by_application_and_stay(self, world: World) -> None:
        differing(world.kit, applications=type(world.kit.policies.get("ccps").applications)("pairwise"))
        pupil = await world.claimed()
        session = await world.session(pupil)
        library = await RelyingParty.register(world)
        sisters = await RelyingParty.register(world)
        bus = await RelyingParty.register(world, redirect_uris=["https://bus.example.org/back"])
        bus.redirect_uri = "https://bus.example.org/back"
        subs = []
        for application in (library, sisters, bus, library):
            tokens = await application.signed_in(session)
            said = (await opened(world, tokens["id_token"])).claims
            assert (await application.userinfo(tokens["access_token"])).body["sub"] == said["sub"]
            introspected = await application.post("/introspect", token=tokens["access_token"])
            assert introspected.body["sub"] == said["sub"]
            subs.append(said["sub"])
        assert subs[0] == subs[1] == subs[3] != subs[2], "one host is one sector"
        assert str(pupil.person_id) not in subs
        described = await world.ask("GET", "/.well-known/openid-configuration")
        assert described.body["subject_types_supported"] == ["pairwise"]

    async def test_a_post_is_repeated_as_a_get_which_brings_the_cookies(self, world: World) -> None:
        library, browser = await RelyingParty.register(world), Browser(world)
        path, _, query = library.link().partition("?")
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        async with world.http.post(path, data=query, headers=form, allow_redirects=False) as response:
            assert response.status == 303
            location = response.headers["Location"]
        assert location == f"{ISSUER}{path}?{query}"
        assert (await browser.go(location)).location.startswith(PORTAL)


class TestWhoIsSignedInAlready:
    async def test_nobody_is_asked_again(self, world: World) -> None:
        first, second = await RelyingParty.register(world), await RelyingParty.register(world)
        browser = Browser(world)
        await first.signed_in(await world.session(await world.claimed()), browser)
        for prompt in (None, "none", "consent"):
            returned = await browser.go(second.link(prompt=prompt))
            assert returned.location.startswith(BACK)
            assert (await second.redeem(returned.query["code"])).status == 200

    @pytest.mark.parametrize("prompt", ["login", "select_account"])
    async def test_unless_the_application_wants_it(self, world: World, prompt: str) -> None:
        library, browser = await RelyingParty.register(world), Browser(world)
        await library.signed_in(await world.session(await world.claimed()), browser)
        assert (await browser.go(library.link(prompt=prompt))).location.startswith(PORTAL)

    async def test_prompt_none_asks_nobody(self, world: World) -> None:
        library, browser = await RelyingParty.register(world), Browser(world)
        returned = await browser.go(library.link(prompt="none"))
        assert returned.query == {"error": "login_required", "state": "s", "iss": f"{ISSUER}{D}"}

    async def test_prompt_login_takes_no_older_session(self, world: World) -> None:
        library, pupil, browser = await RelyingParty.register(world), await world.claimed(), Browser(world)
        older = await world.session(pupil)
        world.later(seconds=1)
        asked = await browser.go(library.link(prompt="login"))
        path = f"/authorizations/{asked.query['authorization']}"
        assert (await world.ask("GET", path)).body["signed_in_since"]
        assert (await world.ask("POST", f"{path}/acceptance", bearer=older)).reason == (403, "sign_in_again")
        returned = await browser.go(await accepted(world, asked, await world.session(pupil)))
        assert "code" in returned.query

    async def test_max_age_takes_none_that_is_too_old(self, world: World) -> None:
        library, pupil, browser = await RelyingParty.register(world), await world.claimed(), Browser(world)
        older = await world.session(pupil)
        await library.signed_in(older, browser)
        world.later(minutes=5)
        assert "code" in (await browser.go(library.link(max_age="301"))).query
        asked = await browser.go(library.link(max_age="299"))
        path = f"/authorizations/{asked.query['authorization']}/acceptance"
        assert (await world.ask("POST", path, bearer=older)).reason == (403, "sign_in_again")
        assert (await browser.go(library.link(max_age="299", prompt="none"))).query[
            "error"
        ] == "login_required"

    async def test_idle_or_over_it_is_nobody(self, world: World) -> None:
        library, browser = await RelyingParty.register(world), Browser(world)
        tokens = await library.signed_in(await world.session(await world.claimed()), browser)
        world.later(minutes=60)
        assert (await browser.go(library.link(prompt="none"))).query["error"] == "login_required"
        assert (await library.refresh(tokens["refresh_token"])).body["error"] == "invalid_grant"


class TestRefreshing:
    async def test_it_goes_on_as_long_as_the_session(self, world: World) -> None:
        pupil, library = await world.claimed(), await RelyingParty.register(world)
        tokens = await library.signed_in(await world.session(pupil))
        first = (await opened(world, tokens["id_token"])).claims
        for _ in range(3):
            world.later(minutes=30)  # refreshing is using the session
            answer = await library.refresh(tokens["refresh_token"])
            assert answer.status == 200, answer
            assert answer.body["refresh_token"] != tokens["refresh_token"]
            tokens = answer.body
            assert (await library.userinfo(tokens["access_token"])).status == 200
        said = (await opened(world, tokens["id_token"])).claims
        for name in ("iss", "sub", "aud", "auth_time", "sid"):
            assert said[name] == first[name]
        world.later(hours=12)
        assert (await library.refresh(tokens["refresh_token"])).body["error"] == "invalid_grant"

    async def test_fewer_scopes_on_request_never_more(self, world: World) -> None:
        library = await RelyingParty.register(world)
        tokens = await library.signed_in(
            await world.session(await world.claimed()), scope="openid profile offline_access"
        )
        more = await library.refresh(tokens["refresh_token"], scope="openid school")
        assert (more.status, more.body["error"]) == (400, "invalid_scope")
        fewer = await library.refresh(tokens["refresh_token"], scope="openid")
        assert fewer.body["scope"] == "openid"
        assert (await library.userinfo(fewer.body["access_token"])).body.keys() == {"sub"}
        again = await library.refresh(fewer.body["refresh_token"])
        assert again.body["scope"] == "openid profile offline_access"


class TestRevokingAndAsking:
    async def test_an_application_is_told_of_its_own_tokens(self, world: World) -> None:
        pupil = await world.claimed()
        library, other = await RelyingParty.register(world), await RelyingParty.register(world)
        tokens = await library.signed_in(await world.session(pupil))
        told = (await library.post("/introspect", token=tokens["access_token"])).body
        assert (told["active"], told["client_id"], told["sub"]) == (
            True,
            library.client_id,
            str(pupil.person_id),
        )
        assert (told["scope"], told["token_type"]) == ("openid profile offline_access", "Bearer")
        assert "username" not in told
        assert (await library.post("/introspect", token=tokens["refresh_token"])).body["active"]
        assert (await other.post("/introspect", token=tokens["access_token"])).body == {"active": False}
        portal = await world.ask(
            "POST", "/v1/operations/clients", {"name": "api", "scopes": ["introspect"], "districts": ["ccps"]},
            bearer=world.token("operator"),
        )  # fmt: skip
        resource = RelyingParty(world, portal.body["id"], portal.body["secret"])
        told = (await resource.post("/introspect", token=tokens["access_token"])).body
        assert (told["active"], told["username"]) == (True, "S0123456")

    async def test_revoked_with_the_refresh_token_everything_ends(self, world: World) -> None:
        library, other = await RelyingParty.register(world), await RelyingParty.register(world)
        session = await world.session(await world.claimed())
        tokens = await library.signed_in(session)
        assert (await other.post("/revoke", token=tokens["refresh_token"])).status == 200
        assert (await library.userinfo(tokens["access_token"])).status == 200, "another's word ends nothing"
        for _ in range(2):
            assert (await library.post("/revoke", token=tokens["refresh_token"])).status == 200
        assert (await library.userinfo(tokens["access_token"])).reason == (401, "token_invalid")
        assert (await library.refresh(tokens["refresh_token"])).body["error"] == "invalid_grant"
        assert await world.alive(session), "the session is its person's"

    async def test_revoked_alone_an_access_token_ends_alone(self, world: World) -> None:
        library = await RelyingParty.register(world)
        tokens = await library.signed_in(await world.session(await world.claimed()))
        assert (await library.post("/revoke", token=tokens["access_token"])).status == 200
        refused = await library.userinfo(tokens["access_token"])
        assert refused.headers["WWW-Authenticate"] == 'Bearer realm="homeroom", error="invalid_token"'
        assert (await library.refresh(tokens["refresh_token"])).status == 200


class TestTheSessionEnds:
    @pytest.mark.parametrize(
        "how", ["signs out", "reset", "suspended", "changed", "recovered", "desk", "removed"]
    )
    async def test_and_with_it_everything_at_once(self, world: World, how: str) -> None:
        pupil, library, browser = await world.claimed(), await RelyingParty.register(world), Browser(world)
        session = await world.session(pupil)
        tokens = await library.signed_in(session, browser)
        code = await library.code(browser, session)
        await end(world, how, pupil, session, library)
        assert (await library.userinfo(tokens["access_token"])).status == 401
        expected = 401 if how == "removed" else 400
        assert (await library.refresh(tokens["refresh_token"])).status == expected
        assert (await library.redeem(code)).status == expected
        if how != "removed":
            answer = await library.post("/introspect", token=tokens["access_token"])
            assert answer.body == {"active": False}
            assert (await browser.go(library.link(prompt="none"))).query["error"] == "login_required"
            assert await left(world) == [], "in the same transaction"

    async def test_between_accepting_and_coming_back(self, world: World) -> None:
        pupil, library, browser = await world.claimed(), await RelyingParty.register(world), Browser(world)
        asked = await browser.go(library.link())
        back = await accepted(world, asked, await world.session(pupil))
        await world.reset(pupil)
        returned = await browser.go(back)
        assert (returned.status, "authorization_ended" in returned.text) == (400, True)

    async def test_whatever_is_made_at_the_same_moment_ends_too(self, world: World) -> None:
        pupil, library = await world.claimed(), await RelyingParty.register(world)
        for _ in range(5):
            session, browser = await world.session(pupil), Browser(world)
            codes = [(await library.code(browser, session), library.verifier) for _ in range(3)]
            ending = world.ask("DELETE", "/sessions/current", bearer=session)
            redeeming = (library.redeem(code, code_verifier=verifier) for code, verifier in codes)
            await asyncio.gather(*redeeming, ending)
            assert await left(world) == []


class TestSigningOut:
    async def test_the_id_token_alone_is_enough(self, world: World) -> None:
        library, browser = await RelyingParty.register(world), Browser(world)
        session = await world.session(await world.claimed())
        tokens = await library.signed_in(session, browser)
        world.later(minutes=20)  # its own time is over
        out = await browser.go(f"{D}/logout?id_token_hint={tokens['id_token']}")
        assert (out.status, out.location) == (303, f"{PORTAL}/ccps")
        assert not await world.alive(session)
        assert SESSION_COOKIE not in browser.cookies
        assert (await library.refresh(tokens["refresh_token"])).body["error"] == "invalid_grant"

    async def test_back_to_the_applications_own_page(self, world: World) -> None:
        library = await RelyingParty.register(world)
        tokens = await library.signed_in(await world.session(await world.claimed()))
        where = f"{D}/logout?id_token_hint={tokens['id_token']}&state=x&post_logout_redirect_uri="
        assert (await Browser(world).go(where + GOODBYE)).location == f"{GOODBYE}?state=x"
        again = await Browser(world).go(where + GOODBYE)
        assert again.location == f"{GOODBYE}?state=x", "who has signed out already gets there as well"

    async def test_without_one_nothing_is_ended(self, world: World) -> None:
        """A link that anybody can make (logout CSRF)."""
        library, browser = await RelyingParty.register(world), Browser(world)
        session = await world.session(await world.claimed())
        await library.signed_in(session, browser)
        out = await browser.go(f"{D}/logout?client_id={library.client_id}&post_logout_redirect_uri={GOODBYE}")
        assert out.location == f"{PORTAL}/ccps?sign-out", "where the person is asked"
        assert await world.alive(session)
        assert SESSION_COOKIE in browser.cookies

    async def test_somebody_elses_ends_only_theirs(self, world: World) -> None:
        library, browser = await RelyingParty.register(world), Browser(world)
        attacker = await world.session(await world.claimed("7654321"))
        theirs = await library.signed_in(attacker)
        session = await world.session(await world.claimed())
        await library.signed_in(session, browser)
        await browser.go(f"{D}/logout?id_token_hint={theirs['id_token']}")
        assert await world.alive(session)
        assert not await world.alive(attacker)
        assert SESSION_COOKIE in browser.cookies


async def end(world: World, how: str, pupil: Any, session: str, library: RelyingParty) -> None:
    match how:
        case "signs out":
            assert (await world.ask("DELETE", "/sessions/current", bearer=session)).status == 204
        case "reset":
            await world.reset(pupil)
        case "suspended":
            await world.suspend(pupil)
        case "changed":
            other = await world.session(pupil)
            body = {"current": "correct horse", "new": "another battery"}
            assert (await world.ask("PUT", "/password", body, bearer=other)).status == 204
        case "recovered":
            begun = (await world.ask("POST", "/recoveries", {"username": pupil.username})).body
            path = f"/recoveries/{begun['recovery_id']}"
            code = (await world.desk("POST", f"/accounts/{pupil.person_id}/recovery-codes", {})).body["code"]
            await world.ask("POST", f"{path}/answers", {"code": code}, bearer=begun["ticket"])
            body = {"password": "another battery"}
            answer = await world.ask("PUT", f"{path}/password", body, bearer=begun["ticket"])
            assert answer.status == 204, answer
        case "desk":
            assert (await world.desk("DELETE", f"/accounts/{pupil.person_id}/sessions")).status == 204
        case "removed":
            path = f"/v1/operations/clients/{library.client_id}"
            assert (await world.ask("DELETE", path, bearer=world.token("operator"))).status == 204


async def left(world: World) -> list[Any]:
    """What still lies there of people who have signed in."""
    tables = ("sign_on", "application_token", "browser_session", "authorization_code")
    return [row for table in tables for row in await world.fetch(f"SELECT * FROM {table}")]


class TestDiscovery:
    async def test_what_it_says_is_there_is_there(self, world: World) -> None:
        found = await world.ask("GET", "/.well-known/openid-configuration")
        assert found.status == 200
        described = found.body
        assert described["issuer"] == f"{ISSUER}{D}"
        endpoints = "authorization", "token", "userinfo", "introspection", "revocation", "end_session"
        assert {f"{name}_endpoint" for name in endpoints} <= described.keys()
        for name, url in described.items():
            if name.endswith("_endpoint") or name == "jwks_uri":
                assert url.startswith(f"{ISSUER}{D}/")
                answers = [
                    (await world.http.request(method, url.removeprefix(ISSUER), allow_redirects=False)).status
                    for method in ("GET", "POST")
                ]
                assert set(answers) & {200, 303, 400, 401, 415}, (name, answers)
        at_8414 = await world.ask("GET", f"/v1/../.well-known/oauth-authorization-server{D}")
        assert at_8414.body == described

    async def test_every_claim_and_scope_that_it_names_can_be_had(self, world: World) -> None:
        described = (await world.ask("GET", "/.well-known/openid-configuration")).body
        library = await RelyingParty.register(world)
        tokens = await library.signed_in(
            await world.session(await world.claimed()), scope=" ".join(described["scopes_supported"])
        )
        assert tokens["scope"].split() == described["scopes_supported"]
        had = (await opened(world, tokens["id_token"])).claims.keys()
        had |= (await library.userinfo(tokens["access_token"])).body.keys()
        assert set(described["claims_supported"]) == had


async def test_what_was_kept_goes_when_its_time_is_over(world: World) -> None:
    from services.auth.upkeep import EXPIRING

    library, browser = await RelyingParty.register(world), Browser(world)
    await library.signed_in(await world.session(await world.claimed()), browser)
    await browser.go(library.link(prompt="login"))
    world.later(hours=24)
    for each in EXPIRING:
        await each.delete(world.kit.db, world.now())
    assert await left(world) == []
    assert await world.fetch("SELECT * FROM authorization_request") == []


async def test_no_token_code_or_cookie_can_be_read_back(world: World) -> None:
    library, browser = await RelyingParty.register(world), Browser(world)
    session = await world.session(await world.claimed())
    code = await library.code(browser, session)
    tokens = (await library.redeem(code)).body
    tables = (
        "sign_on",
        "application_token",
        "browser_session",
        "authorization_code",
        "application",
        "client",
    )
    kept = str([await world.fetch(f"SELECT * FROM {table}") for table in tables])
    secrets = [
        code,
        tokens["access_token"],
        tokens["refresh_token"],
        library.secret,
        *browser.cookies.values(),
    ]
    assert not [secret for secret in secrets if str(secret) in kept]


async def test_requests_that_nobody_answers_are_bounded(world: World) -> None:
    library = await RelyingParty.register(world)
    object.__setattr__(world.auth, "requests", type(world.auth.requests)(a_second=0.0001, at_once=2))
    statuses = [(await Browser(world).go(library.link())).status for _ in range(3)]
    assert statuses == [303, 303, 503]


def test_a_request_lives_long_enough_to_recover_a_password() -> None:
    assert timedelta(minutes=30) <= oidc_rules.REQUEST_LIFE
