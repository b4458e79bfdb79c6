"""Applications that register themselves (RFC 7591), and whoever would like to without being asked."""

import asyncio
from typing import Any

import pytest

from tests.auth.conftest import Answer, D, World
from tests.auth.relying import APPLICATIONS, BACK, RelyingParty

TOKENS = "/v1/operations/registration-tokens"
SAID = {
    "redirect_uris": [BACK],
    "client_name": "Library",
    "scope": "openid profile",
    "logo_uri": "https://x.example/l",
}


async def token(world: World, **said: Any) -> str:
    body = {"name": "Library Ltd", "district": "ccps", "redirect_hosts": ["app.example.org"],
            "scopes": ["openid", "profile"]} | said  # fmt: skip
    answer = await world.ask("POST", TOKENS, body, bearer=world.token("operator"))
    assert answer.status == 201, answer
    return str(answer.body["token"])


async def register(world: World, token: str, district: str = D, **said: Any) -> Answer:
    return await world.ask("POST", f"{district}/register", SAID | said, bearer=token)


async def registered(world: World) -> list[Any]:
    answer = await world.ask("GET", APPLICATIONS, bearer=world.token("operator"))
    return list(answer.body["applications"])


class TestAnApplicationThatRegistersItself:
    async def test_signs_people_in_from_then_on(self, world: World) -> None:
        answer = await register(world, await token(world))
        assert answer.status == 201, answer
        told = answer.body
        assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
        assert told["client_secret_expires_at"] == 0
        assert {name: told[name] for name in ("client_name", "redirect_uris", "scope", "grant_types")} == {
            "client_name": "Library", "redirect_uris": [BACK], "scope": "openid profile",
            "grant_types": ["authorization_code"],
        }  # fmt: skip
        assert "logo_uri" not in told, "what is not heeded is not promised"
        library = RelyingParty(world, told["client_id"], told["client_secret"], told["scope"])
        tokens = await library.signed_in(await world.session(await world.claimed()))
        assert (await library.userinfo(tokens["access_token"])).body["given_name"] == "Mary-Ann"

    async def test_is_found_by_discovery(self, world: World) -> None:
        answer = await world.ask("GET", "/.well-known/openid-configuration")
        assert answer.body["registration_endpoint"].endswith(f"{D}/register")

    async def test_is_shown_to_operators_as_one(self, world: World) -> None:
        await register(world, await token(world))
        [application] = await registered(world)
        assert application["registered_by"] is not None
        assert application["districts"] == ["ccps"]

    async def test_is_written_down(self, world: World) -> None:
        made = (await register(world, await token(world))).body
        await world.auth.trail.write(world.kit.db)
        async with world.kit.db.connection() as conn:
            rows = await conn.fetch("SELECT what, client FROM audit ORDER BY at")
        assert [tuple(row) for row in rows] == [
            ("create_registration_token", None), ("register_application", made["client_id"]),
        ]  # fmt: skip


class TestATokenIsGoodFor:
    async def test_so_many_applications_also_when_they_all_come_at_once(self, world: World) -> None:
        once = await token(world, uses=3)
        answers = await asyncio.gather(*(register(world, once) for _ in range(12)))
        assert sorted(answer.status for answer in answers) == [201] * 3 + [401] * 9
        assert len(await registered(world)) == 3

    async def test_no_fewer_because_of_one_that_was_refused(self, world: World) -> None:
        once = await token(world)
        assert (await register(world, once, redirect_uris=["https://evil.example/"])).status == 400
        assert (await register(world, once)).status == 201

    async def test_so_many_days(self, world: World) -> None:
        late = await token(world, days=1, uses=2)
        world.later(days=1, seconds=1)
        assert (await register(world, late)).status == 401
        answer = await world.ask("GET", TOKENS, bearer=world.token("operator"))
        assert answer.body == {"registration_tokens": []}

    async def test_as_long_as_nobody_took_it_back(self, world: World) -> None:
        removed = await token(world, uses=2)
        assert (await register(world, removed)).status == 201
        answer = await world.ask("GET", TOKENS, bearer=world.token("operator"))
        [shown] = answer.body["registration_tokens"]
        assert (shown["uses_left"], shown["name"]) == (1, "Library Ltd")
        gone = await world.ask("DELETE", f"{TOKENS}/{shown['id']}", bearer=world.token("operator"))
        assert gone.status == 204
        assert (await register(world, removed)).status == 401
        assert len(await registered(world)) == 1, "what it registered stays"

    async def test_one_district(self, world: World) -> None:
        elsewhere = await world.ask(
            "POST", TOKENS, {"name": "x", "district": "atlantis", "redirect_hosts": ["app.example.org"]},
            bearer=world.token("operator"),
        )  # fmt: skip
        assert elsewhere.reason == (422, "client_district_unknown")
        async with world.kit.db.connection() as conn:
            other = await token(world)
            await conn.execute("UPDATE registration_token SET district = 'atlantis'")
        assert (await register(world, other)).status == 401


class TestRefusals:
    @pytest.mark.parametrize("bearer", ["", "hrr_guessed", "hrc_guessed", "x" * 4000])
    async def test_without_a_token_there_is_nothing(self, world: World, bearer: str) -> None:
        await token(world)
        answer = await register(world, bearer)
        assert answer.status == 401
        assert answer.body["error"] == ("invalid_token" if bearer else "invalid_client")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert await registered(world) == []

    async def test_a_secret_of_a_client_is_no_token(self, world: World) -> None:
        library = await RelyingParty.register(world)
        assert library.secret
        assert (await register(world, library.secret)).status == 401

    @pytest.mark.parametrize(
        ("said", "error"),
        [
            ({"redirect_uris": ["https://evil.example/"]}, "invalid_redirect_uri"),
            ({"redirect_uris": ["http://app.example.org/"]}, "invalid_redirect_uri"),
            ({"redirect_uris": ["https://app.example.org/#fragment"]}, "invalid_redirect_uri"),
            ({"redirect_uris": ["https://app.example.org/../x"]}, "invalid_redirect_uri"),
            ({"redirect_uris": []}, "invalid_client_metadata"),
            ({"redirect_uris": "https://app.example.org/"}, "invalid_client_metadata"),
            ({"redirect_uris": [BACK] * 51}, "invalid_client_metadata"),
            ({"jwks_uri": "http://169.254.169.254/latest"}, "invalid_client_metadata"),
            ({"jwks": {"keys": [{"kty": "oct", "k": "AA", "alg": "HS256"}]},
              "token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
            ({"token_endpoint_auth_method": "private_key_jwt"}, "invalid_client_metadata"),
            ({"application_type": "native", "token_endpoint_auth_method": "client_secret_basic"},
             "invalid_client_metadata"),
            ({"client_name": "a\0b"}, "invalid_client_metadata"),
            ({"client_name": "x" * 101}, "invalid_client_metadata"),
            ({"client_name": {"en": "x"}}, "invalid_client_metadata"),
            ({"id_token_signed_response_alg": "none"}, "invalid_client_metadata"),
            ({"scope": "school"}, "invalid_client_metadata"),
        ],
    )  # fmt: skip
    async def test_each_is_told_as_the_rfc_says(self, world: World, said: dict[str, Any], error: str) -> None:
        answer = await register(world, await token(world), **said)
        assert (answer.status, answer.body["error"]) == (400, error)
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Cache-Control"] == "no-store"
        assert await registered(world) == []

    async def test_what_is_huge_is_not_read(self, world: World) -> None:
        answer = await register(world, await token(world), contacts=["x" * 40_000])
        assert answer.status == 413

    async def test_who_is_no_operator_gives_no_tokens(self, world: World) -> None:
        body = {"name": "x", "district": "ccps", "redirect_hosts": ["app.example.org"]}
        answer = await world.ask("POST", TOKENS, body, bearer=world.token("desk"))
        assert answer.reason == (403, "scope_missing")

    @pytest.mark.parametrize("host", ["https://app.example.org", "app.example.org/x", "*", "", "a b"])
    async def test_a_host_is_a_host(self, world: World, host: str) -> None:
        body = {"name": "x", "district": "ccps", "redirect_hosts": [host]}
        answer = await world.ask("POST", TOKENS, body, bearer=world.token("operator"))
        assert answer.reason == (422, "invalid_body")
