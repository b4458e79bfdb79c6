"""Applications are told that a session has ended, over real HTTP."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from joserfc import jwt
from joserfc.jwk import KeySet

from services.auth import logout_notices
from tests.auth.conftest import ISSUER, D, World, differing
from tests.auth.relying import APPLICATIONS, FIELDS, RelyingParty


class Told:
    """An application that listens, and answers as it is told to."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.paths: list[str] = []
        self.answers: list[int] = []

    async def hear(self, request: web.Request) -> web.Response:
        self.paths.append(request.path)
        self.tokens.append(str((await request.post())["logout_token"]))
        status = self.answers.pop(0) if self.answers else 204
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else {})


@pytest.fixture
async def told() -> Told:
    return Told()


@pytest.fixture
async def listening(told: Told) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/{path:.*}", told.hear)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("/ended"))


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=logout_notices.PATIENCE) as http:
        yield http


async def send(world: World, http: aiohttp.ClientSession) -> int:
    return await logout_notices.send(world.auth, http, world.now())


async def test_a_reset_is_told_at_once_with_the_session_that_it_ended(
    world: World, told: Told, listening: str, http: aiohttp.ClientSession
) -> None:
    pupil, library = (
        await world.claimed(),
        await RelyingParty.register(world, backchannel_logout_uri=listening),
    )
    quiet = await RelyingParty.register(world)
    session = await world.session(pupil)
    tokens = await library.signed_in(session)
    await quiet.signed_in(session)
    assert await send(world, http) == 0
    await world.reset(pupil)
    assert await send(world, http) == 1
    keys = KeySet.import_key_set((await world.ask("GET", "/jwks")).body)
    heard = jwt.decode(told.tokens[0], keys, algorithms=["RS256"])
    known = jwt.decode(tokens["id_token"], keys, algorithms=["RS256"]).claims
    assert heard.header["typ"] == "logout+jwt"
    said: Any = heard.claims
    assert {name: said[name] for name in ("iss", "aud", "sub", "sid", "events")} == {
        "iss": f"{ISSUER}{D}", "aud": library.client_id, "sub": str(pupil.person_id), "sid": known["sid"],
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    }  # fmt: skip
    assert said["jti"]
    assert "nonce" not in said
    assert await send(world, http) == 0, "once"


async def test_by_the_name_that_the_application_knows(
    world: World, told: Told, listening: str, http: aiohttp.ClientSession
) -> None:
    differing(world.kit, applications=type(world.kit.policies.get("ccps").applications)("pairwise"))
    library = await RelyingParty.register(world, backchannel_logout_uri=listening)
    session = await world.session(await world.claimed())
    tokens = await library.signed_in(session)
    await world.ask("DELETE", "/sessions/current", bearer=session)
    await send(world, http)
    keys = KeySet.import_key_set((await world.ask("GET", "/jwks")).body)
    heard, known = (
        jwt.decode(token, keys, algorithms=["RS256"]).claims for token in (told.tokens[0], tokens["id_token"])
    )
    assert heard["sub"] == known["sub"]


async def test_it_is_sent_again_until_it_is_heard(
    world: World, told: Told, listening: str, http: aiohttp.ClientSession
) -> None:
    library = await RelyingParty.register(world, backchannel_logout_uri=listening)
    session = await world.session(await world.claimed())
    await library.signed_in(session)
    await world.ask("DELETE", "/sessions/current", bearer=session)
    told.answers = [500, 302, 400]
    pause = logout_notices.FIRST_PAUSE
    for number in range(4):
        assert await send(world, http) == 1, number
        assert await send(world, http) == 0, "a pause, which grows"
        world.late += pause * 2**number
    assert await send(world, http) == 0
    assert (len(told.tokens), set(told.paths)) == (4, {"/ended"}), "no redirect is followed"


async def test_nobody_who_listens_is_given_up_within_an_hour(
    world: World, http: aiohttp.ClientSession
) -> None:
    library = await RelyingParty.register(world, backchannel_logout_uri="http://127.0.0.1:9/nobody")
    session = await world.session(await world.claimed())
    await library.signed_in(session)
    await world.ask("DELETE", "/sessions/current", bearer=session)
    tries = 0
    for _ in range(200):
        tries += await send(world, http)
        world.late += timedelta(minutes=1)
    assert 5 <= tries <= 10


async def test_two_processes_send_one_notice_once(
    world: World, told: Told, listening: str, http: aiohttp.ClientSession
) -> None:
    library = await RelyingParty.register(world, backchannel_logout_uri=listening)
    for _ in range(5):
        session = await world.session(await world.claimed())
        await library.signed_in(session)
        await world.ask("DELETE", "/sessions/current", bearer=session)
    await asyncio.gather(*(send(world, http) for _ in range(4)))
    assert len(told.tokens) == 5


@pytest.mark.parametrize(
    "uri", ["http://app.example.org/x", "https://u@app.example.org/x", "file:///etc/passwd", "x"]
)
async def test_where_nobody_is_told(world: World, uri: str) -> None:
    body = FIELDS | {"type": "web", "backchannel_logout_uri": uri}
    answer = await world.ask("POST", APPLICATIONS, body, bearer=world.token("operator"))
    assert (answer.reason, answer.body["field"]) == ((422, "application_invalid"), "backchannel_logout_uri")
