"""What an application pushes ahead of the browser, and how it shows who it is by a key."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from tests.auth.conftest import ISSUER, PORTAL, Answer, D, World
from tests.auth.relying import APPLICATIONS, FIELDS, Browser, RelyingParty, accepted

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEY = ECKey.generate_key("P-256", {"kid": "k", "alg": "ES256"})


async def push(library: RelyingParty, **differing: str | None) -> Answer:
    asked = dict(parse_qsl(urlsplit(library.link(**differing)).query))
    asked.pop("client_id")
    return await library.post("/par", **asked)


def go(library: RelyingParty, request_uri: str) -> str:
    return f"{D}/authorize?client_id={library.client_id}&request_uri={request_uri}"


class TestPushing:
    async def test_somebody_signs_in(self, world: World) -> None:
        library, browser = await RelyingParty.register(world, pushed="required"), Browser(world)
        pushed = await push(library)
        assert (pushed.status, pushed.body["expires_in"]) == (201, 90)
        asked = await browser.go(go(library, pushed.body["request_uri"]))
        returned = await browser.go(await accepted(world, asked, await world.session(await world.claimed())))
        assert returned.query["state"] == "s"
        assert (await library.redeem(returned.query["code"])).status == 200

    async def test_once_and_soon_and_by_whoever_pushed(self, world: World) -> None:
        library, other = await RelyingParty.register(world), await RelyingParty.register(world)
        uri = (await push(library)).body["request_uri"]
        assert (await Browser(world).go(go(other, uri))).status == 400
        shown = await world.ask("GET", f"/authorizations/{uri.rpartition(':')[2]}")
        assert shown.reason == (404, "not_found"), "it is no browser's yet"
        assert [(await Browser(world).go(go(library, uri))).status for _ in range(2)] == [303, 400]
        uri = (await push(library)).body["request_uri"]
        world.later(seconds=90)
        assert (await Browser(world).go(go(library, uri))).status == 400
        for uri in ("urn:ietf:params:oauth:request_uri:x", f"urn:ietf:params:oauth:request_uri:{uuid4()}"):
            assert (await Browser(world).go(go(library, uri))).status == 400

    async def test_what_is_wrong_is_told_at_once(self, world: World) -> None:
        library = await RelyingParty.register(world)
        for differing, error in (
            ({"redirect_uri": "https://evil.example/"}, "invalid_request"), ({"scope": "x"}, "invalid_scope"),
            ({"code_challenge": None}, "invalid_request"), ({"response_type": "token"}, "unsupported_response_type"),
            ({"request_uri": "x"}, "request_uri_not_supported"), ({"request": "x"}, "request_not_supported"),
        ):  # fmt: skip
            answer = await push(library, **differing)
            assert (answer.status, answer.body["error"]) == (400, error)
        stranger = RelyingParty(world, library.client_id, "hrc_wrong")
        assert (await push(stranger)).reason == (401, "invalid_client")

    async def test_where_it_is_required_nothing_else_counts(self, world: World) -> None:
        library = await RelyingParty.register(world, pushed="required")
        gone = await Browser(world).go(library.link())
        assert gone.query["error"] == "invalid_request"
        added = (
            go(library, (await push(library)).body["request_uri"])
            + "&scope=openid&redirect_uri=https://evil.example"
        )
        assert (await Browser(world).go(added)).location.startswith(PORTAL), "what was pushed counts alone"


class TestKeys:
    async def registered(self, world: World) -> RelyingParty:
        library = await RelyingParty.register(world, keys=[KEY.as_dict(private=False)])
        assert library.secret is None
        return library

    def assertion(
        self, world: World, library: RelyingParty, key: Any = KEY, alg: str = "ES256", **said: Any
    ) -> Any:
        now = int(world.now().timestamp())
        claims = {
            "iss": library.client_id, "sub": library.client_id, "aud": f"{ISSUER}{D}", "iat": now, "exp": now + 60,
            "jti": str(uuid4()),
        } | said  # fmt: skip
        return {
            "client_assertion_type": ASSERTION,
            "client_assertion": jwt.encode({"alg": alg, "kid": "k"}, claims, key, algorithms=[alg]),
        }

    async def test_an_application_shows_who_it_is(self, world: World) -> None:
        library = await self.registered(world)
        code = await library.code(Browser(world), await world.session(await world.claimed()))
        tokens = await library.redeem(code, **self.assertion(world, library))
        assert tokens.status == 200, tokens
        renewed = await library.refresh(tokens.body["refresh_token"], **self.assertion(world, library))
        assert renewed.status == 200
        told = await library.post(
            "/introspect",
            token=renewed.body["access_token"],
            **self.assertion(world, library, aud=[f"{ISSUER}{D}/token"]),
        )
        assert told.body["active"]

    async def test_each_assertion_counts_once(self, world: World) -> None:
        library = await self.registered(world)
        shown = self.assertion(world, library)
        answers = [await library.post("/revoke", token="hrr_x", **shown) for _ in range(2)]
        assert [answer.status for answer in answers] == [200, 401]

    async def test_what_is_no_proof(self, world: World) -> None:
        library, other = await self.registered(world), await RelyingParty.register(world)
        stranger = ECKey.generate_key("P-256", {"kid": "k"})
        now = int(world.now().timestamp())
        tries = {
            "another key": self.assertion(world, library, stranger),
            "another algorithm": self.assertion(world, library, RSAKey.generate_key(2048, {"kid": "k"}), "RS256"),
            "another audience": self.assertion(world, library, aud="https://evil.example"),
            "somebody else's word": self.assertion(world, library, iss=other.client_id),
            "an application with a secret": self.assertion(world, other),
            "nobody": self.assertion(world, library, sub="nobody", iss="nobody"),
            "too late": self.assertion(world, library, exp=now),
            "too long": self.assertion(world, library, exp=now + 3600),
            "no id": self.assertion(world, library, jti=None),
            "unsigned": self.assertion(world, library) | {"client_assertion": "eyJhbGciOiJub25lIn0.e30."},
            "another type": self.assertion(world, library) | {"client_assertion_type": "x"},
            "nothing": {"client_assertion_type": ASSERTION},
            "with a secret too": self.assertion(world, library) | {"client_secret": "x"},
            "another client id": self.assertion(world, library) | {"client_id": other.client_id},
            "oversized": self.assertion(world, library) | {"client_assertion": "x" * 5000},
        }  # fmt: skip
        for name, shown in tries.items():
            answer = await library.post("/revoke", token="hrr_x", **shown)
            assert answer.reason == (401, "invalid_client"), name
        assert (await library.post("/revoke", token="hrr_x")).reason == (401, "invalid_client"), (
            "its id alone"
        )

    @pytest.mark.parametrize(
        ("type", "keys"),
        [
            ("spa", [KEY.as_dict(private=False)]), ("web", [KEY.as_dict(private=True)]), ("web", [{"kty": "oct"}]),
            ("web", [{"kty": "oct", "k": "AA", "alg": "HS256"}]),
        ],
    )  # fmt: skip
    async def test_keys_that_cannot_be_registered(self, world: World, type: str, keys: Any) -> None:
        body = FIELDS | {"type": type, "keys": keys}
        answer = await world.ask("POST", APPLICATIONS, body, bearer=world.token("operator"))
        assert (answer.reason, answer.body["field"]) == ((422, "application_invalid"), "keys")
