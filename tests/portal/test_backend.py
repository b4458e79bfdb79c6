"""What the portal makes of services that are away, slow, or answered for by something else."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.portal import backend
from services.portal.backend import MAX_ANSWER_BYTES, Answer, Backend
from services.portal.settings import PortalSettings
from tests.portal.scripted import POLICY

Say = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Elsewhere:
    """Something that listens where the services should be, and answers as it is told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.say: Say = self.policy

    async def policy(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/token"):
            return web.json_response({"access_token": "own", "expires_in": 300, "scope": "desk"})
        return web.json_response(dict(POLICY))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        return await self.say(request)


@pytest_asyncio.fixture
async def elsewhere() -> Elsewhere:
    return Elsewhere()


@pytest_asyncio.fixture
async def services(elsewhere: Elsewhere, tmp_path: Path) -> AsyncIterator[Backend]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", elsewhere.answer)
    (tmp_path / "ccps.json").write_bytes(msgspec.json.encode({"id": "portal", "secret": "secret"}))
    (tmp_path / "key").write_text(base64.b64encode(b"k" * 32).decode())
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        settings = PortalSettings(
            roster_url=url, claims_url=url, auth_url=url, portal_url=url, portal_key_file=tmp_path / "key",
            portal_client_dir=tmp_path,
        )  # fmt: skip
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as http:
            yield Backend(settings, http)


def telling(status: int = 200, body: bytes = b"", kind: str = "application/json", **headers: str) -> Say:
    async def say(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, content_type=kind, headers=headers)

    return say


async def cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def cut_in_the_middle(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"a": ')
    assert request.transport is not None
    request.transport.close()
    return response


class TestAnswers:
    @pytest.mark.parametrize(
        ("say", "status", "reason"),
        [
            (telling(200, b"<html>Sign in to the Wi-Fi</html>", "text/html"), 502, "unavailable"),
            (telling(200, b'{"half": '), 502, "unavailable"),
            (telling(200, b'"\xff\xfe"'), 502, "unavailable"),
            (telling(200, b"[" * 200_000), 502, "unavailable"),
            (telling(502, b"<html>Bad Gateway</html>", "text/html"), 502, "unavailable"),
            (telling(302, Location="https://wifi.example/"), 302, "unavailable"),
            (telling(500, b'"text"'), 500, "unavailable"),
            (telling(500, b'["list"]'), 500, "unavailable"),
            (telling(422, b'{"reason": "number_length"}'), 422, "number_length"),
            (telling(400, b'{"error": "invalid_scope"}'), 400, "invalid_scope"),
            (telling(200, b"x" * (MAX_ANSWER_BYTES + 1)), 503, "unavailable"),
            (cut, 503, "unavailable"),
            (cut_in_the_middle, 503, "unavailable"),
        ],
    )
    async def test_whatever_comes_is_an_answer(
        self, services: Backend, elsewhere: Elsewhere, say: Say, status: int, reason: str
    ) -> None:
        elsewhere.say = say
        answer = await services.ask("claims", "GET", "/anything")
        assert (answer.ok, answer.status, answer.reason) == (False, status, reason)
        assert answer.reference == ""

    async def test_nothing_is_an_answer_too(self, services: Backend, elsewhere: Elsewhere) -> None:
        elsewhere.say = telling(204)
        answer = await services.ask("auth", "DELETE", "/sessions/current")
        assert (answer.ok, answer.body) == (True, {})

    async def test_a_broken_connection_is_tried_once_more_where_that_changes_nothing(
        self, services: Backend, elsewhere: Elsewhere
    ) -> None:
        elsewhere.say = cut
        for method, times in (("GET", 2), ("POST", 1), ("PUT", 1), ("DELETE", 1)):
            elsewhere.asked.clear()
            assert (await services.ask("auth", method, "/x")).status == 503
            assert len(elsewhere.asked) == times, method

    @pytest.mark.parametrize(("said", "seconds"), [("7", 7), ("", 2), ("soon", 2), ("-1", 2), ("²", 2)])
    def test_how_long_to_wait(self, said: str, seconds: int) -> None:
        assert Answer(429, {}, {"Retry-After": said}).retry_after_s == seconds


class TestPolicy:
    async def test_many_at_once_are_one_question(self, services: Backend, elsewhere: Elsewhere) -> None:
        found = await asyncio.gather(*(services.policy("ccps") for _ in range(20)))
        assert {policy.district for policy in found if policy} == {"ccps"}
        assert len(elsewhere.asked) == 1

    async def test_it_is_kept_through_an_outage(
        self, services: Backend, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backend, "POLICY_LIFE_S", 0.0)
        known = await services.policy("ccps")
        for say in (telling(503), cut, telling(200, b"<html>", "text/html"), telling(200, b'{"odd": 1}')):
            elsewhere.say = say
            assert await services.policy("ccps") == known
        elsewhere.say = elsewhere.policy
        assert await services.policy("ccps") == known

    async def test_nobody_waits_for_a_new_one_for_long(
        self, services: Backend, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backend, "POLICY_LIFE_S", 0.0)
        monkeypatch.setattr(backend, "POLICY_PATIENCE_S", 0.05)
        known, gate = await services.policy("ccps"), asyncio.Event()

        async def hang(request: web.Request) -> web.StreamResponse:
            await gate.wait()
            return await elsewhere.policy(request)

        elsewhere.say = hang
        async with asyncio.timeout(1):
            assert await asyncio.gather(*(services.policy("ccps") for _ in range(5))) == [known] * 5
        assert len(elsewhere.asked) == 2
        gate.set()

    async def test_without_one_nothing_can_be_shown(self, services: Backend, elsewhere: Elsewhere) -> None:
        elsewhere.say = telling(503)
        with pytest.raises(TimeoutError):
            await services.policy("ccps")
        elsewhere.say = elsewhere.policy
        assert await services.policy("ccps")

    async def test_a_district_that_is_gone_is_gone(
        self, services: Backend, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backend, "POLICY_LIFE_S", 0.0)
        assert await services.policy("ccps")
        elsewhere.say = telling(404, b'{"reason": "district_unknown"}')
        assert await services.policy("ccps") is None

    async def test_whoever_tries_addresses_asks_for_each_once_and_fills_no_memory(
        self, services: Backend, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(backend, "MAX_POLICIES", 10)
        known = await services.policy("ccps")
        elsewhere.say = telling(404)
        for number in range(30):
            assert await services.policy(f"no-{number}") is None
            assert await services.policy(f"no-{number}") is None
        assert len(elsewhere.asked) == 31
        assert len(services._policies) <= 10
        assert await services.policy("ccps") == known


class TestTokens:
    async def test_many_at_once_ask_for_one(self, services: Backend, elsewhere: Elsewhere) -> None:
        assert set(await asyncio.gather(*(services.own_token("ccps") for _ in range(20)))) == {"own"}
        assert len(elsewhere.asked) == 1

    async def test_one_is_asked_for_again_after_a_failure(
        self, services: Backend, elsewhere: Elsewhere
    ) -> None:
        broken = (telling(503), telling(200, b"<html>", "text/html"), telling(200, b"{}"), telling(401), cut)
        for say in broken:
            elsewhere.say = say
            assert await services.own_token("ccps") is None
        elsewhere.say = elsewhere.policy
        assert await services.own_token("ccps") == "own"

    async def test_a_districts_without_a_client_has_none(
        self, services: Backend, elsewhere: Elsewhere
    ) -> None:
        assert await services.own_token("elsewhere") is None
        assert not elsewhere.asked

    async def test_a_sessions_is_nobody_elses(self, services: Backend, elsewhere: Elsewhere) -> None:
        given = iter(range(9))

        async def say(_: web.Request) -> web.StreamResponse:
            return web.json_response(
                {"access_token": f"t{next(given)}", "expires_in": 300, "scope": "desk operator"}
            )

        elsewhere.say = say
        one, two = await services.staff_token("ccps", "a"), await services.staff_token("ccps", "b")
        assert not isinstance(one, Answer)
        assert not isinstance(two, Answer)
        assert (one.value, two.value, one.scopes) == ("t0", "t1", frozenset(["desk", "operator"]))
        assert await services.staff_token("ccps", "a") == one

    async def test_a_refusal_is_handed_on_and_not_kept(self, services: Backend, elsewhere: Elsewhere) -> None:
        elsewhere.say = telling(403, b'{"error": "role_missing"}')
        refusal: Any = await services.staff_token("ccps", "a")
        assert refusal.reason == "role_missing"
        elsewhere.say = elsewhere.policy
        assert not isinstance(await services.staff_token("ccps", "a"), Answer)
