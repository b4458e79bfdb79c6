"""Machines and staff at the OAuth endpoints, and the operator who makes them."""

import asyncio
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import msgspec
import pytest
import structlog
from aiohttp import encode_basic_auth
from joserfc import jwt
from joserfc.jwk import KeySet

from services.auth import tokens
from shared.database import migrate, queries
from tests.auth.conftest import DESK, ISSUER, Answer, D, World

CLIENTS = "/v1/operations/clients"
STANDING = {"name": "R. Alvarez", "scopes": ["desk"], "districts": ["ccps"], "human": True}
SQL = Path(tokens.__file__).parent / "sql"


async def form(
    world: World, path: str, auth: tuple[str, str] | None = None, bearer: str = "", **fields: str
) -> Answer:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    if auth:
        headers["Authorization"] = encode_basic_auth(quote(auth[0], safe=""), quote(auth[1], safe=""))
    async with world.http.post(f"{D}{path}", data=fields, headers=headers) as response:
        raw = await response.read()
        return Answer(response.status, msgspec.json.decode(raw) if raw else None, response.headers)


async def client(
    world: World, *scopes: str, districts: tuple[str, ...] = ("ccps",), **more: Any
) -> tuple[str, str]:
    body = {"name": "the portal", "scopes": list(scopes), "districts": list(districts)} | more
    answer = await world.ask("POST", CLIENTS, body, bearer=world.token("operator"))
    assert answer.status == 201, answer
    return answer.body["id"], answer.body["secret"]


async def access(world: World, who: tuple[str, str], **fields: str) -> Answer:
    return await form(world, "/token", who, grant_type="client_credentials", **fields)


async def rotate(
    world: World, who: tuple[str, str], overlap_minutes: int
) -> tuple[tuple[str, str], datetime]:
    """A new secret; and until when the one before counts."""
    body = {"overlap_minutes": overlap_minutes}
    answer = await world.ask("POST", f"{CLIENTS}/{who[0]}/rotate", body, bearer=world.token("operator"))
    assert answer.status == 200, answer
    return (who[0], answer.body["secret"]), datetime.fromisoformat(answer.body["previous_until"])


class TestTokens:
    async def test_a_client_gets_one_and_may_use_it(self, world: World) -> None:
        who = await client(world, "desk", "introspect", human=True)
        answer = await access(world, who)
        assert answer.status == 200
        assert (answer.body["token_type"], answer.body["expires_in"]) == ("Bearer", 600)
        assert answer.body["scope"] == "desk introspect"
        assert answer.headers["Cache-Control"] == "no-store"
        pupil = await world.claimed()
        path = f"/accounts/{pupil.person_id}/sessions"
        assert (await world.ask("DELETE", path, bearer=answer.body["access_token"])).status == 204

    async def test_it_is_what_rfc_9068_says(self, world: World) -> None:
        who = await client(world, "desk")
        token = (await access(world, who)).body["access_token"]
        keys = await world.ask("GET", "/jwks")
        opened = jwt.decode(token, KeySet.import_key_set(keys.body), algorithms=["Ed25519"])
        assert opened.header["typ"] == "at+jwt"
        said = opened.claims
        assert {k: said[k] for k in ("iss", "aud", "sub", "client_id", "scope", "district", "districts")} == {
            "iss": f"{ISSUER}{D}", "aud": "homeroom", "sub": who[0], "client_id": who[0], "scope": "desk",
            "district": "ccps", "districts": ["ccps"],
        }  # fmt: skip
        assert said["exp"] - said["iat"] == 600
        assert "d" not in keys.body["keys"][0]

    async def test_by_the_form_as_well(self, world: World) -> None:
        client_id, secret = await client(world, "desk")
        fields = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
        assert (await form(world, "/token", **fields)).status == 200

    async def test_fewer_scopes_on_request_never_more(self, world: World) -> None:
        who = await client(world, "desk", "teacher")
        assert (await access(world, who, scope="teacher")).body["scope"] == "teacher"
        answer = await access(world, who, scope="teacher operator")
        assert (answer.status, answer.body["error"]) == (400, "invalid_scope")

    async def test_only_in_its_districts(self, world: World) -> None:
        policies = world.kit.policies
        policies._policies["other"] = msgspec.structs.replace(policies.get("ccps"), district="other")
        elsewhere, everywhere = (
            await client(world, "desk", districts=("other",)),
            await client(world, "desk", districts=("*",)),
        )
        answer = await access(world, elsewhere)
        assert (answer.status, answer.body["error"]) == (400, "unauthorized_client")
        assert (await access(world, everywhere)).status == 200

    @pytest.mark.parametrize("secret", ["", "wrong", "hrc_wrong"])
    async def test_a_wrong_secret(self, world: World, secret: str) -> None:
        client_id, _ = await client(world, "desk")
        for who in (client_id, "nobody"):
            answer = await access(world, (who, secret))
            assert (answer.status, answer.body["error"]) == (401, "invalid_client")
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"grant_type": "password"}, "unsupported_grant_type"),
            ({}, "invalid_request"),
            ({"grant_type": "client_credentials", "client_secret": "twice"}, "invalid_client"),
            ({"grant_type": "client_credentials", "client_id": "somebody else"}, "invalid_client"),
        ],
    )
    async def test_a_wrong_request_is_answered_as_rfc_6749_says(
        self, world: World, fields: dict[str, str], error: str
    ) -> None:
        answer = await form(world, "/token", await client(world, "desk"), **fields)
        assert (answer.status, answer.body["error"]) == (401 if error == "invalid_client" else 400, error)

    @pytest.mark.parametrize(
        "header", ["Basic", "Basic ???", "Basic bm9jb2xvbg==", "Digest x", "Basic /w==", "Basic é"]
    )
    async def test_a_broken_header(self, world: World, header: str) -> None:
        data = {"grant_type": "client_credentials"}
        async with world.http.post(f"{D}/token", data=data, headers={"Authorization": header}) as response:
            assert (response.status, (await response.json())["error"]) == (401, "invalid_client")

    async def test_parameters_that_nobody_knows_are_passed_over(self, world: World) -> None:
        assert (await access(world, await client(world, "desk"), resource="x")).status == 200


class TestIntrospection:
    async def test_a_session(self, world: World) -> None:
        portal, pupil = await client(world, "introspect"), await world.claimed()
        session = await world.session(pupil)
        answer = await form(world, "/introspect", portal, token=session, token_type_hint="access_token")
        assert answer.status == 200
        assert answer.body["active"] is True
        assert (answer.body["sub"], answer.body["username"]) == (str(pupil.person_id), "S0123456")
        assert answer.body["iss"] == f"{ISSUER}{D}"
        await world.reset(pupil)
        assert (await form(world, "/introspect", portal, token=session)).body == {"active": False}

    async def test_a_clients_token(self, world: World) -> None:
        portal, sis = await client(world, "introspect"), await client(world, "roster:write")
        token = (await access(world, sis)).body["access_token"]
        answer = await form(world, "/introspect", portal, token=token)
        assert answer.body["active"] is True
        assert (answer.body["client_id"], answer.body["scope"]) == (sis[0], "roster:write")
        world.later(minutes=10)
        assert (await form(world, "/introspect", portal, token=token)).body == {"active": False}

    @pytest.mark.parametrize("token", ["nonsense", "hrs_nonsense", "a.b.c", ""])
    async def test_anything_else_is_worth_nothing(self, world: World, token: str) -> None:
        portal = await client(world, "introspect")
        assert (await form(world, "/introspect", portal, token=token)).body == {"active": False}

    async def test_who_may_ask(self, world: World) -> None:
        portal, sis = await client(world, "introspect"), await client(world, "roster:write")
        token = (await access(world, portal)).body["access_token"]
        assert (await form(world, "/introspect", bearer=token, token="x")).status == 200
        assert (await form(world, "/introspect", sis, token="x")).reason == (403, "scope_missing")
        assert (await form(world, "/introspect", token="x")).reason == (401, "invalid_client")


class TestRevocation:
    async def test_a_session_ends_and_again_is_fine(self, world: World) -> None:
        portal, session = await client(world, "introspect"), await world.session(await world.claimed())
        for _ in range(2):
            assert (await form(world, "/revoke", portal, token=session)).status == 200
        assert not await world.alive(session)

    async def test_a_clients_token_cannot_be_called_back(self, world: World) -> None:
        portal = await client(world, "introspect")
        token = (await access(world, portal)).body["access_token"]
        answer = await form(world, "/revoke", portal, token=token)
        assert (answer.status, answer.body["error"]) == (400, "unsupported_token_type")
        assert (await form(world, "/revoke", token=token)).status == 401


class TestClients:
    async def test_a_secret_is_shown_once_and_kept_nowhere(self, world: World) -> None:
        body = {"name": "sis", "scopes": ["roster:write"], "districts": ["ccps"]}
        key = {"Idempotency-Key": "k"}
        made = await world.ask("POST", CLIENTS, body, bearer=world.token("operator"), headers=key)
        again = await world.ask("POST", CLIENTS, body, bearer=world.token("operator"), headers=key)
        assert again.reason == (409, "reply_withheld")
        listed = await world.ask("GET", CLIENTS, bearer=world.token("operator"))
        assert [c["id"] for c in listed.body["clients"]] == [DESK, made.body["id"]]
        stored = str(await world.fetch("SELECT * FROM client")) + str(
            await world.fetch("SELECT * FROM command")
        )
        assert made.body["secret"] not in stored + str(listed.body)

    async def test_rotation_overlaps_for_a_while(self, world: World) -> None:
        old = await client(world, "desk")
        answer = await world.ask(
            "POST", f"{CLIENTS}/{old[0]}/rotate", {"overlap_minutes": 5}, bearer=world.token("operator")
        )
        assert answer.status == 200
        new = (old[0], answer.body["secret"])
        assert [(await access(world, who)).status for who in (old, new)] == [200, 200]
        world.later(minutes=5)
        assert [(await access(world, who)).status for who in (old, new)] == [401, 200]

    async def test_rotated_again_every_secret_ends_when_it_was_promised(self, world: World) -> None:
        """The reply of the first rotation was lost: the machine goes on with its secret for as long as it was told."""
        running = await client(world, "desk")
        lost, _ = await rotate(world, running, 60)
        world.later(minutes=10)
        newest, until = await rotate(world, running, 30)
        assert timedelta(minutes=29) < until - world.now() <= timedelta(minutes=30)
        secrets = (running, lost, newest)
        assert [(await access(world, who)).status for who in secrets] == [200, 200, 200]
        world.later(minutes=30)
        assert [(await access(world, who)).status for who in secrets] == [200, 401, 200]
        world.later(minutes=20)
        assert [(await access(world, who)).status for who in secrets] == [401, 401, 200]

    async def test_rotated_again_the_older_secret_lives_no_longer_than_was_promised(
        self, world: World
    ) -> None:
        old = await client(world, "desk")
        await rotate(world, old, 5)
        await rotate(world, old, 7 * 24 * 60)
        world.later(minutes=5)
        assert (await access(world, old)).status == 401

    async def test_secrets_that_still_count_are_bounded(self, world: World) -> None:
        first = await client(world, "desk")
        for _ in range(tokens.PREVIOUS_KEPT):
            newest, _ = await rotate(world, first, 60)
        path = f"{CLIENTS}/{first[0]}/rotate"
        refused = await world.ask("POST", path, {}, bearer=world.token("operator"))
        assert refused.reason == (409, "secrets_overlap")
        assert [(await access(world, who)).status for who in (first, newest)] == [200, 200]
        world.later(minutes=60)
        last, _ = await rotate(world, first, 60)
        assert [(await access(world, who)).status for who in (newest, last)] == [200, 200]

    async def test_without_an_overlap_every_secret_ends_but_the_new_one(self, world: World) -> None:
        old = await client(world, "desk")
        second, _ = await rotate(world, old, 60)
        newest, _ = await rotate(world, old, 0)
        assert [(await access(world, who)).status for who in (old, second, newest)] == [401, 401, 200]

    async def test_operators_see_until_when_an_older_secret_counts(self, world: World) -> None:
        old = await client(world, "desk")

        async def seen() -> Any:
            listed = await world.ask("GET", CLIENTS, bearer=world.token("operator"))
            return listed.body["clients"][-1]["previous_until"]

        assert await seen() is None
        await rotate(world, old, 60)
        await rotate(world, old, 5)
        assert await seen() is not None
        world.later(minutes=5)
        assert await seen() is not None
        world.later(minutes=55)
        assert await seen() is None

    async def test_rotations_at_once_lose_no_secret(self, world: World) -> None:
        old = await client(world, "desk")
        made = await asyncio.gather(*(rotate(world, old, 60) for _ in range(3)))
        assert [(await access(world, who)).status for who in (old, *(who for who, _ in made))] == [200] * 4

    async def test_a_leaked_secret_is_ended_at_once(self, world: World) -> None:
        old = await client(world, "desk")
        path = f"{CLIENTS}/{old[0]}/rotate"
        await world.ask("POST", path, {"overlap_minutes": 0}, bearer=world.token("operator"))
        assert (await access(world, old)).status == 401
        nobody = await world.ask("POST", f"{CLIENTS}/nobody/rotate", {}, bearer=world.token("operator"))
        assert nobody.reason == (404, "not_found")

    @pytest.mark.parametrize(
        ("differing", "reason"),
        [({"scopes": ["root"]}, "scope_unknown"), ({"districts": ["nowhere"]}, "client_district_unknown"),
         ({"scopes": []}, "invalid_body"), ({"name": ""}, "invalid_body")],
    )  # fmt: skip
    async def test_what_cannot_be_made(self, world: World, differing: Any, reason: str) -> None:
        body = {"name": "x", "scopes": ["desk"], "districts": ["ccps"]} | differing
        assert (await world.ask("POST", CLIENTS, body, bearer=world.token("operator"))).reason == (
            422,
            reason,
        )

    async def test_an_operator_of_some_districts_makes_no_clients_for_others(self, world: World) -> None:
        """What is of no district is for those who serve every district: else they could give themselves the rest."""
        theirs = (await access(world, await client(world, "operator"))).body["access_token"]
        body = {"name": "x", "scopes": ["operator"], "districts": ["*"]}
        assert (await world.ask("POST", CLIENTS, body, bearer=theirs)).reason == (403, "district_forbidden")
        assert (await world.ask("GET", CLIENTS, bearer=theirs)).reason == (403, "district_forbidden")
        all_districts = await client(world, "operator", districts=("*",))
        token = (await access(world, all_districts)).body["access_token"]
        assert (await world.ask("POST", CLIENTS, body, bearer=token)).status == 201

    async def test_removed_it_is_shut_out(self, world: World) -> None:
        """No new token; none of those it has counts here; the other services believe them for ten minutes at most."""
        portal, gone = await client(world, "introspect"), await client(world, "desk", "introspect")
        before, _ = await rotate(world, gone, 60)
        token = (await access(world, gone)).body["access_token"]
        operator = world.token("operator")
        assert (await world.ask("DELETE", f"{CLIENTS}/{gone[0]}", bearer=operator)).status == 204
        for who in (gone, before):
            assert (await access(world, who)).status == 401
        assert (await form(world, "/introspect", portal, token=token)).body == {"active": False}
        assert (await form(world, "/introspect", bearer=token, token="x")).status == 401
        pupil = await world.enroll()
        path = f"/accounts/{pupil.person_id}/sessions"
        assert (await world.ask("DELETE", path, bearer=token)).reason == (401, "token_invalid")

        for method, path, body in (("DELETE", "", None), ("POST", "/rotate", {}), ("PUT", "", STANDING)):
            answer = await world.ask(method, f"{CLIENTS}/{gone[0]}{path}", body, bearer=operator)
            assert answer.reason == (404, "not_found")

    async def test_who_removed_it_stays_on_record(self, world: World) -> None:
        gone, operator = await client(world, "desk"), world.token("operator")
        with structlog.testing.capture_logs() as logged:
            await world.ask("DELETE", f"{CLIENTS}/{gone[0]}", bearer=operator)
        assert {"client": gone[0], "by": DESK} in [
            {key: line.get(key) for key in ("client", "by")}
            for line in logged
            if line["event"] == "client_removed"
        ]
        present = (await world.ask("GET", CLIENTS, bearer=operator)).body["clients"]
        [removed] = (await world.ask("GET", f"{CLIENTS}?removed", bearer=operator)).body["clients"]
        assert [each["id"] for each in present] == [DESK]
        assert (removed["id"], removed["name"], removed["removed_by_name"]) == (gone[0], "the portal", DESK)
        assert removed["removed_at"]

    async def test_an_operator_that_was_removed_makes_itself_no_other(self, world: World) -> None:
        gone = await client(world, "operator", districts=("*",))
        token = (await access(world, gone)).body["access_token"]
        await world.ask("DELETE", f"{CLIENTS}/{gone[0]}", bearer=world.token("operator"))
        assert (await world.ask("POST", CLIENTS, STANDING, bearer=token)).reason == (401, "token_invalid")

    async def test_changed_it_may_do_what_is_said_now(self, world: World) -> None:
        who, operator = await client(world, "desk", "teacher"), world.token("operator")
        token = (await access(world, who, scope="teacher")).body["access_token"]
        path = f"{CLIENTS}/{who[0]}"
        assert (await world.ask("PUT", path, STANDING, bearer=operator)).status == 204
        seen = (await world.ask("GET", CLIENTS, bearer=operator)).body["clients"][-1]
        assert {key: seen[key] for key in STANDING} == STANDING
        assert (await access(world, who)).body["scope"] == "desk"
        portal = await client(world, "introspect")
        assert (await form(world, "/introspect", portal, token=token)).body == {"active": False}
        for differing, reason in (
            ({"scopes": ["root"]}, "scope_unknown"),
            ({"districts": ["x"]}, "client_district_unknown"),
        ):
            answer = await world.ask("PUT", path, STANDING | differing, bearer=operator)
            assert answer.reason == (422, reason)

    @pytest.mark.parametrize(
        "less",
        [None, {"scopes": ["desk"], "districts": ["*"]}, {"scopes": ["operator"], "districts": ["ccps"]}],
    )
    async def test_an_operator_of_every_district_is_always_left(self, world: World, less: Any) -> None:
        await client(world, "operator")  # of one district only
        await client(world, "desk", districts=("*",))

        async def take_away(client_id: str) -> int:
            body = None if less is None else {"name": "x"} | less
            method, path = "PUT" if less else "DELETE", f"{CLIENTS}/{client_id}"
            answer = await world.ask(method, path, body, bearer=world.token("operator"))
            assert answer.status == 204 or answer.reason in ((409, "last_operator"), (401, "token_invalid"))
            return answer.status

        assert await take_away(DESK) == 409
        others = [(await client(world, "operator", districts=("*",)))[0] for _ in range(2)]
        await asyncio.gather(*(take_away(each) for each in (*others, DESK)))
        assert await world.fetch(
            "SELECT 1 FROM client"
            " WHERE removed_at IS NULL AND 'operator' = ANY(scopes) AND '*' = ANY(districts)"
        )

    async def test_operators_only(self, world: World) -> None:
        assert (await world.ask("GET", CLIENTS, bearer=world.token("desk"))).reason == (403, "scope_missing")

    async def test_the_first_operator_comes_from_a_file_once(self, world: World, tmp_path: Path) -> None:
        file = tmp_path / "bootstrap.json"
        file.write_text('{"id": "operator", "secret": "s3cret"}')
        assert await tokens.ensure_bootstrap_client(world.auth, file, world.now())
        assert not await tokens.ensure_bootstrap_client(world.auth, file, world.now())
        answer = await access(world, ("operator", "s3cret"))
        assert (answer.status, answer.body["scope"]) == (200, "operator")
        assert (
            await world.ask("DELETE", f"{CLIENTS}/operator", bearer=world.token("operator"))
        ).status == 204
        assert not await tokens.ensure_bootstrap_client(world.auth, file, world.now()), "it stays removed"
        assert (await access(world, ("operator", "s3cret"))).status == 401


async def test_an_app_finds_its_district_by_the_code(world: World) -> None:
    answer = await world.ask("GET", "/v1/district-codes/jprqqh")
    assert (answer.status, answer.body["district"]) == (200, "ccps")
    assert answer.body["issuer"] == f"{ISSUER}{D}"
    assert (await world.ask("GET", "/v1/district-codes/nothing")).reason == (404, "not_found")


async def test_a_secret_replaced_before_the_migration_counts_as_long_as_was_promised(
    database: str, tmp_path: Path
) -> None:
    earlier = tmp_path / "auth" / "sql"
    earlier.mkdir(parents=True)
    shutil.copy(SQL / "0001_auth.sql", earlier)
    await migrate(database, earlier)
    conn = await asyncpg.connect(database)
    await conn.execute(
        "INSERT INTO client VALUES ('sis', 'SIS', '{roster:write}', '{ccps}', false, 'new', 'old',"
        " now() + interval '1 hour', now(), now())"
    )
    await migrate(database, SQL)
    row = await conn.fetchrow(queries("services.auth").find_client, "sis")
    await conn.close()
    assert row is not None
    assert (row["secret_hash"], row["previous_hashes"]) == (b"new", [b"old"])
