"""Attacks on single sign-on, each mounted as whoever would mount it."""

import asyncio
import base64
import hmac
import json
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from aiohttp import encode_basic_auth
from joserfc import jws, jwt
from joserfc.jwk import ECKey, RSAKey

from tests.auth.conftest import ISSUER, PORTAL, D, World
from tests.auth.relying import APPLICATIONS, BACK, FIELDS, GOODBYE, Browser, RelyingParty, accepted

TRICKS = (
    "https://app.example.org/callback/", "https://app.example.org/Callback", "https://APP.example.org/callback",
    "https://app.example.org/callback?x=1", "https://app.example.org/callback#x", "https://app.example.org",
    "http://app.example.org/callback", "https://app.example.org:443/callback", "https://evil.example/callback",
    "https://app.example.org.evil.example/callback", "https://app.example.org@evil.example/callback",
    "https://evil.example#@app.example.org/callback", "https://app.example.org/callback/../evil",
    "https://app.example.org/%63allback", "https://app.example.org\\@evil.example/callback",
    "//app.example.org/callback", "/callback", "https://аpp.example.org/callback", "https://app。example.org/callback",
    "https://app.example.org/callback\t", " https://app.example.org/callback",
    "https://app.example.org/callback\r\nSet-Cookie: x=1", "javascript:alert(1)//https://app.example.org/callback",
    "data:text/html,x", "",
)  # fmt: skip


class TestRedirects:
    """What is not registered, character by character, nobody is sent to."""

    async def test_tricks(self, world: World) -> None:
        library, browser = await RelyingParty.register(world), Browser(world)
        for uri in TRICKS:
            gone = await browser.go(library.link(redirect_uri=uri))
            assert (gone.status, gone.location) == (400, ""), uri
            assert "redirect_uri_unknown" in gone.text
            assert gone.headers["Content-Type"] == "text/html; charset=utf-8"
        code = await library.code(browser, await world.session(await world.claimed()))
        for uri in TRICKS:
            assert (await library.redeem(code, redirect_uri=uri)).body["error"] == "invalid_grant", uri
        assert (await library.redeem(code)).status == 200

    async def test_a_loopback_address_may_differ_in_its_port_alone(self, world: World) -> None:
        phone = await RelyingParty.register(world, "native", redirect_uris=["http://127.0.0.1/back"])
        for uri, status in (
            ("http://127.0.0.1:1/back", 303), ("http://127.0.0.1:65535/back", 303), ("http://127.0.0.1/back", 303),
            ("http://127.0.0.1:1/other", 400), ("http://[::1]:1/back", 400), ("http://localhost:1/back", 400),
            ("http://127.0.0.1:1@evil.example/back", 400), ("http://127.0.0.1.evil.example:1/back", 400),
            ("http://127.0.0.1:/back", 400), ("http://127.0.0.2:1/back", 400), ("https://127.0.0.1:1/back", 400),
        ):  # fmt: skip
            assert (await Browser(world).go(phone.link(redirect_uri=uri))).status == status, uri

    async def test_only_of_native_applications(self, world: World) -> None:
        web = await RelyingParty.register(world, redirect_uris=["http://127.0.0.1/back"])
        assert (await Browser(world).go(web.link(redirect_uri="http://127.0.0.1:1/back"))).status == 400

    async def test_what_cannot_be_registered(self, world: World) -> None:
        for type, uri in (
            ("web", "http://app.example.org/x"),
            ("web", "https://app.example.org/x#y"),
            ("web", "https://*.example.org/"),
            ("web", "https://u@app.example.org/"),
            ("web", "javascript:alert(1)"),
            ("web", "com.example.app:/x"),
            ("web", "https://app.example.org/a/../b"),
            ("web", "https://app.example.org/%2e%2e/b"),
            ("web", "https://app.example.org/a b"),
            ("web", "https://äpp.example.org/"),
            ("web", "https://A.example.org/"),
            ("native", "data:x.y"),
            ("native", "myapp:/x"),
            ("native", "http://192.168.0.1/x"),
            ("spa", "ftp://x.org/"),
        ):
            body = FIELDS | {"type": type, "redirect_uris": [uri]}
            answer = await world.ask("POST", APPLICATIONS, body, bearer=world.token("operator"))
            assert answer.reason == (422, "application_invalid"), uri

    async def test_after_signing_out(self, world: World) -> None:
        library, session = await RelyingParty.register(world), await world.session(await world.claimed())
        tokens = await library.signed_in(session)
        for uri in ("https://evil.example/", GOODBYE + "/", GOODBYE + "?x", BACK):
            query = urlencode({"id_token_hint": tokens["id_token"], "post_logout_redirect_uri": uri})
            gone = await Browser(world).go(f"{D}/logout?{query}")
            assert (gone.status, gone.location) == (400, "")
            assert await world.alive(session), "a request that is wrong does nothing"

    async def test_an_error_is_told_to_nobody_else(self, world: World) -> None:
        library = await RelyingParty.register(world)
        for differing in (
            {"client_id": "nobody"},
            {"client_id": "\u0130"},
            {"client_id": None},
            {"client_id": "\0"},
        ):
            gone = await Browser(world).go(library.link(**differing))
            assert (gone.status, gone.location) == (400, "")

    async def test_nothing_of_the_request_is_shown_on_the_page(self, world: World) -> None:
        gone = await Browser(world).go(f"{D}/authorize?client_id=%3Cscript%3Ealert(1)%3C/script%3E")
        assert gone.status == 400
        assert "script" not in gone.text
        assert gone.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"


class TestCodes:
    async def test_a_code_is_redeemed_once_and_its_replay_ends_what_came_of_it(self, world: World) -> None:
        library = await RelyingParty.register(world)
        code = await library.code(Browser(world), await world.session(await world.claimed()))
        tokens = (await library.redeem(code)).body
        replayed = await library.redeem(code)
        assert (replayed.status, replayed.body["error"]) == (400, "invalid_grant")
        assert (await library.userinfo(tokens["access_token"])).status == 401
        assert (await library.refresh(tokens["refresh_token"])).body["error"] == "invalid_grant"

    async def test_of_many_at_once_none_keeps_anything(self, world: World) -> None:
        library = await RelyingParty.register(world)
        code = await library.code(Browser(world), await world.session(await world.claimed()))
        answers = await asyncio.gather(*(library.redeem(code) for _ in range(10)))
        good = [answer.body for answer in answers if answer.status == 200]
        assert len(good) == 1
        assert (await library.userinfo(good[0]["access_token"])).status == 401

    async def test_too_late(self, world: World) -> None:
        library = await RelyingParty.register(world)
        code = await library.code(Browser(world), await world.session(await world.claimed()))
        world.later(seconds=60)
        assert (await library.redeem(code)).body["error"] == "invalid_grant"

    async def test_injected_into_another_application(self, world: World) -> None:
        """The attacker has a code of the library and brings it to an application of their own."""
        library, other = await RelyingParty.register(world), await RelyingParty.register(world)
        code = await library.code(Browser(world), await world.session(await world.claimed()))
        stolen = await other.redeem(code, code_verifier=library.verifier)
        assert stolen.body["error"] == "invalid_grant"
        assert (await library.redeem(code)).status == 200, "the attempt cost its owner nothing"

    async def test_injected_into_another_browsers_sign_in(self, world: World) -> None:
        """A code that was stolen on its way is brought to the library by the attacker's own browser: it proves another
        request (PKCE)."""
        library = await RelyingParty.register(world)
        code = await library.code(Browser(world), await world.session(await world.claimed()))
        library.link()  # the attacker's, with its own verifier
        assert (await library.redeem(code)).body["error"] == "invalid_grant"

    async def test_without_its_proof(self, world: World) -> None:
        phone = await RelyingParty.register(world, "native", redirect_uris=["http://127.0.0.1/back"])
        phone.redirect_uri = "http://127.0.0.1/back"
        code = await phone.code(Browser(world), await world.session(await world.claimed()))
        for verifier in (None, "", "x" * 43, "short", "ü" * 43, "x" * 129):
            assert (await phone.redeem(code, code_verifier=verifier)).body["error"] == "invalid_grant"

    async def test_a_weaker_proof_is_not_taken(self, world: World) -> None:
        tries: list[dict[str, str | None]] = [
            {"code_challenge": None, "code_challenge_method": None}, {"code_challenge_method": "plain"},
            {"code_challenge_method": None}, {"code_challenge_method": "s256"}, {"code_challenge": "x"},
            {"code_challenge": "x" * 44}, {"code_challenge": None},
        ]  # fmt: skip
        for type in ("web", "spa"):
            application = await RelyingParty.register(world, type)
            for differing in tries:
                gone = await Browser(world).go(application.link(**differing))
                assert gone.query["error"] == "invalid_request"

    async def test_an_application_that_knows_no_pkce_is_not_downgraded(self, world: World) -> None:
        """RFC 9700, 4.8.2: a code that was asked for without a challenge is redeemed without a verifier alone."""
        old, session = (
            await RelyingParty.register(world, pkce="optional"),
            await world.session(await world.claimed()),
        )
        none = {"code_challenge": None, "code_challenge_method": None}
        code = await old.code(Browser(world), session, **none)
        assert (await old.redeem(code)).body["error"] == "invalid_grant"
        assert (await old.redeem(code, code_verifier=None)).status == 200
        code = await old.code(Browser(world), session)
        assert (await old.redeem(code, code_verifier=None)).body["error"] == "invalid_grant"

    async def test_only_a_confidential_one_does_without(self, world: World) -> None:
        body = FIELDS | {"type": "spa", "pkce": "optional"}
        answer = await world.ask("POST", APPLICATIONS, body, bearer=world.token("operator"))
        assert (answer.reason, answer.body["field"]) == ((422, "application_invalid"), "pkce")


class TestAnotherBrowser:
    """Login CSRF, session fixation: what was begun in one browser is not ended in another."""

    async def test_a_link_back_that_the_attacker_prepared(self, world: World) -> None:
        library = await RelyingParty.register(world)
        attackers, victims = Browser(world), Browser(world)
        attacker = await world.session(await world.claimed("7654321"))
        asked = await attackers.go(library.link())
        back = await accepted(world, asked, attacker)
        await victims.go(library.link())  # has cookies of its own
        gone = await victims.go(back)
        assert (gone.status, gone.location) == (400, "")
        assert not [name for name in victims.cookies if "session" in name]
        assert (await attackers.go(back)).status == 303

    async def test_a_sign_in_that_the_attacker_began(self, world: World) -> None:
        """The victim is led to the portal by the attacker's request: the code goes to nobody."""
        library, session = await RelyingParty.register(world), await world.session(await world.claimed())
        asked = await Browser(world).go(library.link())
        back = await accepted(world, asked, session)
        assert (await Browser(world).go(back)).status == 400

    async def test_without_the_proof_of_the_front_end(self, world: World) -> None:
        library, browser = await RelyingParty.register(world), Browser(world)
        asked = await browser.go(library.link())
        path = f"{D}/authorizations/{asked.query['authorization']}/return"
        await accepted(world, asked, await world.session(await world.claimed()))
        for proof in ("", "?accepted=", "?accepted=x", f"?accepted={'x' * 5000}"):
            assert (await browser.go(path + proof)).status == 400

    async def test_whoever_accepts_last_counts(self, world: World) -> None:
        """An attacker who knows what is being asked accepts it too, with a session of their own: one is lost."""
        library, browser = await RelyingParty.register(world), Browser(world)
        victim, attacker = await world.claimed(), await world.session(await world.claimed("7654321"))
        asked = await browser.go(library.link())
        back = await accepted(world, asked, await world.session(victim))
        await accepted(world, asked, attacker)
        assert (await browser.go(back)).status == 400

    async def test_once(self, world: World) -> None:
        library, browser = await RelyingParty.register(world), Browser(world)
        back = await accepted(
            world, await browser.go(library.link()), await world.session(await world.claimed())
        )
        assert [(await browser.go(back)).status for _ in range(2)] == [303, 400]

    async def test_too_late(self, world: World) -> None:
        library, browser = await RelyingParty.register(world), Browser(world)
        asked = await browser.go(library.link())
        world.later(minutes=30)
        path = f"/authorizations/{asked.query['authorization']}"
        session = await world.session(await world.claimed())
        assert (await world.ask("GET", path)).reason == (404, "not_found")
        assert (await world.ask("POST", f"{path}/acceptance", bearer=session)).reason == (404, "not_found")

    async def test_a_cookie_that_somebody_chose(self, world: World) -> None:
        library = await RelyingParty.register(world)
        for planted in ("", "x", "x" * 5000, "'; DROP TABLE session", "ü"):
            browser = Browser(world, {"__Host-homeroom-browser": quote(planted)})
            await browser.go(library.link())
            assert browser.cookies["__Host-homeroom-browser"] != planted


class TestMixUp:
    async def test_the_answer_says_whose_it_is(self, world: World) -> None:
        """RFC 9207: also when it is an error; another district is another issuer, and redeems none of its codes."""
        policies = world.kit.policies
        policies._policies["other"] = msgspec.structs.replace(policies.get("ccps"), district="other")
        library = await RelyingParty.register(world, districts=["*"])
        gone = await Browser(world).go(library.link(response_type="token"))
        assert gone.query == {"error": "unsupported_response_type", "state": "s", "iss": f"{ISSUER}{D}"}
        code = await library.code(Browser(world), await world.session(await world.claimed()))
        data = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": BACK,
            "code_verifier": library.verifier,
        }
        headers = {"Authorization": encode_basic_auth(library.client_id, library.secret or "")}
        async with world.http.post("/v1/districts/other/token", data=data, headers=headers) as response:
            assert (response.status, (await response.json())["error"]) == (400, "invalid_grant")

    async def test_a_district_that_the_application_does_not_serve(self, world: World) -> None:
        policies = world.kit.policies
        policies._policies["other"] = msgspec.structs.replace(policies.get("ccps"), district="other")
        library = await RelyingParty.register(world)
        gone = await Browser(world).go(library.link().replace("/ccps/", "/other/"))
        assert (gone.status, "application_unknown" in gone.text) == (400, True)


class TestRefreshTokens:
    async def test_one_that_is_used_twice_ends_its_family(self, world: World) -> None:
        library, session = await RelyingParty.register(world), await world.session(await world.claimed())
        stolen = (await library.signed_in(session))["refresh_token"]
        other = await library.signed_in(session)
        newest = (await library.refresh(stolen)).body
        assert (await library.refresh(stolen)).body["error"] == "invalid_grant"
        assert (await library.refresh(newest["refresh_token"])).body["error"] == "invalid_grant"
        assert (await library.userinfo(newest["access_token"])).status == 401
        assert (await library.refresh(other["refresh_token"])).status == 200, (
            "another signing in is another family"
        )
        assert await world.alive(session)

    async def test_of_another_application(self, world: World) -> None:
        library, other = await RelyingParty.register(world), await RelyingParty.register(world)
        tokens = await library.signed_in(await world.session(await world.claimed()))
        assert (await other.refresh(tokens["refresh_token"])).body["error"] == "invalid_grant"
        assert (await library.refresh(tokens["refresh_token"])).status == 200

    async def test_no_token_is_taken_for_another_kind(self, world: World) -> None:
        library, session = await RelyingParty.register(world), await world.session(await world.claimed())
        tokens = await library.signed_in(session)
        for token in (tokens["access_token"], tokens["id_token"], session, "", "hrr_x"):
            assert (await library.refresh(token)).body["error"] in ("invalid_grant", "invalid_request")
        for token in (tokens["refresh_token"], tokens["id_token"], session, world.token("operator")):
            assert (await library.userinfo(token)).status == 401
        for token in (tokens["access_token"], tokens["refresh_token"], tokens["id_token"]):
            assert (await world.ask("GET", "/sessions/current", bearer=token)).status == 401
            assert (await world.ask("GET", "/v1/operations/clients", bearer=token)).status == 401


def forged(token: str, **header: Any) -> str:
    """The same claims under another header, without a signature."""
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{head}.{token.split('.')[1]}."


def by_hmac(token: str, secret: bytes, kid: str) -> str:
    """The same claims, signed by HS256; libraries refuse to take a public key for a secret, an attacker does not."""
    signed = forged(token, alg="HS256", typ="JWT", kid=kid).rstrip(".")
    mac = hmac.digest(secret, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


class TestForgedIdTokens:
    """An ID token comes back here as a hint at whose session is to be ended."""

    async def test_none_of_them_ends_anything(self, world: World) -> None:
        library, session = await RelyingParty.register(world), await world.session(await world.claimed())
        token = (await library.signed_in(session))["id_token"]
        header = jws.extract_compact(token.encode()).headers()
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        kid = header["kid"]
        [public] = [k for k in (await world.ask("GET", "/jwks")).body["keys"] if k["kid"] == kid]
        ours = next(k for k in (await world.ask("GET", "/jwks")).body["keys"] if k["kid"] != kid)["kid"]
        own = RSAKey.generate_key(2048, {"kid": kid})
        pem = RSAKey.import_key(public).as_pem(private=False)
        elliptic = ECKey.generate_key("P-256", {"kid": kid})

        def sign(key: Any, algorithm: str, said: Any = claims, **more: Any) -> str:
            head = {"alg": algorithm, "typ": "JWT", "kid": kid} | more
            return jwt.encode(head, said, key, algorithms=[algorithm])

        good = world.kit.signer
        tries = {
            "unsigned": forged(token, alg="none", typ="JWT", kid=kid),
            "unsigned, another spelling": forged(token, alg="NoNe", typ="JWT", kid=kid),
            "the public key as a secret": by_hmac(token, pem, kid),
            "the public key's JWK as a secret": by_hmac(token, json.dumps(public).encode(), kid),
            "somebody's key under our id": sign(own, "RS256"),
            "another algorithm": sign(elliptic, "ES256"),
            "another of our keys": sign(own, "RS256", kid=ours),
            "a key in the header": sign(own, "RS256", jwk=own.as_dict(private=False)),
            "a key elsewhere": sign(own, "RS256", jku="https://evil.example/jwks"),
            "no key id": sign(own, "RS256", kid=""),
            "a path for a key id": sign(own, "RS256", kid="../../auth"),
            "a very long key id": sign(own, "RS256", kid="x" * 3000),
            "critical": sign(own, "RS256", crit=["kid"]),
            "our own token, not an ID token": world.token("operator"),
            "another issuer": good.sign("JWT", claims | {"iss": "https://auth.example.org/v1/districts/x"}, "RS256"),
            "another type": good.sign("at+jwt", claims, "RS256"),
            "no session": good.sign("JWT", {k: v for k, v in claims.items() if k != "sid"}, "RS256"),
            "several audiences": good.sign("JWT", claims | {"aud": [library.client_id, "x"]}, "RS256"),
            "cut off": token[:-10],
            "nothing": "",
            "dots": "..",
            "oversized": "x" * 5000,
        }  # fmt: skip
        for name, each in tries.items():
            gone = await Browser(world).go(f"{D}/logout?id_token_hint={quote(each)}")
            assert gone.status == 400 or not each, name
            assert await world.alive(session), name
        gone = await Browser(world).go(f"{D}/logout?id_token_hint={token}&client_id=another")
        assert gone.status == 400
        assert await world.alive(session)


class TestWhoAsksForTokens:
    async def test_only_as_it_was_registered(self, world: World) -> None:
        web, spa = await RelyingParty.register(world), await RelyingParty.register(world, "spa")
        session = await world.session(await world.claimed())
        code = await web.code(Browser(world), session)
        nameless = RelyingParty(world, web.client_id, None, verifier=web.verifier)
        assert (await nameless.redeem(code)).reason == (401, "invalid_client")
        wrong = RelyingParty(world, web.client_id, "hrc_wrong", verifier=web.verifier)
        assert (await wrong.redeem(code)).reason == (401, "invalid_client")
        pretending = RelyingParty(world, spa.client_id, "", verifier=spa.verifier)
        assert (await pretending.redeem(code)).reason == (401, "invalid_client")
        both = await web.post("/token", grant_type="authorization_code", code=code, client_secret="x")
        assert both.reason == (401, "invalid_client")
        assert (await web.redeem(code)).status == 200

    async def test_a_machine_is_no_application_and_an_application_no_machine(self, world: World) -> None:
        body = {"name": "sis", "scopes": ["roster:write"], "districts": ["ccps"]}
        made = await world.ask("POST", "/v1/operations/clients", body, bearer=world.token("operator"))
        machine = RelyingParty(world, made.body["id"], made.body["secret"])
        assert (await Browser(world).go(machine.link())).status == 400
        assert (await machine.redeem("x")).reason == (401, "invalid_client")
        library = await RelyingParty.register(world)
        answer = await library.post("/token", grant_type="client_credentials")
        assert answer.body["error"] == "invalid_scope"
        token = await library.post("/introspect", token=await world.session(await world.claimed()))
        assert token.reason == (403, "scope_missing"), "a session is not an application's business"

    async def test_what_lacks_something_is_an_invalid_request(self, world: World) -> None:
        library = await RelyingParty.register(world)
        for fields in ({"grant_type": "authorization_code"}, {"grant_type": "refresh_token"}, {"code": "x"}):
            answer = await library.post("/token", **fields)
            assert (answer.status, answer.body["error"]) == (400, "invalid_request")


class TestOddRequests:
    async def test_are_answered_as_the_rfcs_say(self, world: World) -> None:
        library = await RelyingParty.register(world)
        tries: list[tuple[dict[str, str | None], str]] = [
            ({"response_type": None}, "invalid_request"),
            ({"response_type": "code id_token"}, "unsupported_response_type"),
            ({"scope": None}, "invalid_scope"),
            ({"scope": "profile"}, "invalid_scope"),
            ({"response_mode": "fragment"}, "invalid_request"),
            ({"prompt": "none login"}, "invalid_request"),
            ({"prompt": "sing"}, "invalid_request"),
            ({"max_age": "-1"}, "invalid_request"),
            ({"max_age": "9" * 20}, "invalid_request"),
            ({"request": "x.y.z"}, "request_not_supported"),
            ({"request_uri": "https://evil.example"}, "request_uri_not_supported"),
            ({"registration": "{}"}, "registration_not_supported"),
            ({"state": "x" * 513}, "invalid_request"),
            ({"nonce": "x" * 513}, "invalid_request"),
            ({"login_hint": "x" * 513}, "invalid_request"),
        ]
        for differing, error in tries:
            gone = await Browser(world).go(library.link(**differing))
            assert gone.status == 303
            assert gone.location.startswith(f"{BACK}?")
            assert (gone.query["error"], gone.query["iss"]) == (error, f"{ISSUER}{D}"), differing

    async def test_a_parameter_twice(self, world: World) -> None:
        library = await RelyingParty.register(world)
        gone = await Browser(world).go(library.link() + "&nonce=again")
        assert gone.query["error"] == "invalid_request"
        for name in ("client_id", "redirect_uri"):
            assert (await Browser(world).go(library.link() + f"&{name}=again")).status == 400

    async def test_what_nobody_knows_is_passed_over(self, world: World) -> None:
        library = await RelyingParty.register(world)
        gone = await Browser(world).go(library.link() + "&resource=x&claims=%7B%7D&empty=")
        assert gone.location.startswith(PORTAL)

    async def test_garbage(self, world: World) -> None:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        paths = ("authorize", "logout", "authorizations/00000000-0000-4000-8000-000000000000/return")
        for query in ("%ff", "a=%00", "&" * 100, "a=b&" * 60, "x" * 6000, "%", "=&=", "state=%0d%0aX"):
            for path in paths:
                assert (await Browser(world).go(f"{D}/{path}?{query}")).status in (303, 400), query
            for path in paths[:2]:
                async with world.http.post(
                    f"{D}/{path}", data=query, headers=headers, allow_redirects=False
                ) as posted:
                    assert posted.status in (303, 400), query

    async def test_a_state_with_line_breaks_stays_within_the_address(self, world: World) -> None:
        library = await RelyingParty.register(world)
        gone = await Browser(world).go(library.link(state="a\r\nSet-Cookie: x=1", prompt="none"))
        assert gone.query["state"] == "a\r\nSet-Cookie: x=1"
        assert "\r" not in gone.location
        assert "x" not in gone.headers.getall("Set-Cookie", [])

    async def test_oversized(self, world: World) -> None:
        library = await RelyingParty.register(world)
        too_long = "x" * 20_000
        for path in ("/token", "/introspect", "/revoke"):
            answer = await library.post(
                path, grant_type="refresh_token", refresh_token=too_long, token=too_long
            )
            assert (answer.status, answer.body["error"]) == (413, "invalid_request")
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        async with world.http.post(f"{D}/authorize", data=f"state={too_long}", headers=headers) as response:
            assert response.status == 413
        form = "client_id=x&state=" + "x" * 7000
        async with world.http.post(f"{D}/authorize", data=form, headers=headers) as response:
            assert response.status == 413

    async def test_an_authorization_that_there_is_not(self, world: World) -> None:
        session = await world.session(await world.claimed())
        for name in ("x", "00000000-0000-4000-8000-000000000000"):
            assert (await world.ask("GET", f"/authorizations/{name}")).reason == (404, "not_found")
            answer = await world.ask("POST", f"/authorizations/{name}/acceptance", bearer=session)
            assert answer.reason == (404, "not_found")
