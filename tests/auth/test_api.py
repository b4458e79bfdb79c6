"""What the table of routes promises, and what none of them gives away."""

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
from openapi_spec_validator import validate

import services.auth
from services.auth import api
from shared.openapi import document, refusals_of
from shared.reasons import load_reasons
from tests.auth.conftest import ANSWERS, Answer, D, World, typed


def test_every_reason_is_explained() -> None:
    reasons = load_reasons("services.auth")
    told = {reason for route in ROUTES for reason in refusals_of(route)}
    assert told <= reasons.keys()
    own = load_reasons("services.auth").keys() - load_reasons().keys()
    assert own <= told, "what no route says needs no explanation"


ROUTES = [route for feature in api.FEATURES for route in feature(None).routes()]  # type: ignore[arg-type]


def test_the_document_is_openapi() -> None:
    validate(document("auth", "auth", ROUTES, load_reasons("services.auth")))


def test_the_package_says_which_routes_there_are() -> None:
    text = inspect.getdoc(services.auth) or ""
    for route in ROUTES:
        assert route.path.removeprefix(D.replace("ccps", "{district}")) in text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/claims/{id}/password"),
        ("PUT", "/claims/{id}/answers"),
        ("GET", "/claims/{id}"),
        ("GET", "/sessions/current"),
        ("DELETE", "/sessions/current"),
        ("PUT", "/password"),
        ("POST", "/recoveries/{id}/answers"),
        ("PUT", "/recoveries/{id}/password"),
        ("DELETE", "/accounts/{id}/sessions"),
        ("POST", "/accounts/{id}/recovery-codes"),
        ("DELETE", "/accounts/{id}/lockout"),
    ],
)
async def test_nobody_passes_with_another_kind_of_token(world: World, method: str, path: str) -> None:
    pupil = await world.claimed()
    begun = (await world.ask("POST", "/recoveries", {"username": pupil.username})).body
    tokens = {
        "ticket": pupil.ticket,
        "recovery": begun["ticket"],
        "session": await world.session(pupil),
        "introspect": world.token("introspect"),
    }
    own = {"claims": "ticket", "recoveries": "recovery", "sessions": "session", "password": "session"}.get(
        path.split("/")[1], ""
    )
    where = path.format(id=pupil.claim_id if own == "ticket" else begun["recovery_id"])
    for kind, token in tokens.items():
        if kind != own:
            answer = await world.ask(method, where, {}, bearer=token)
            assert answer.status in (401, 403), (kind, answer)
    assert (await world.ask(method, where, {})).reason == (401, "token_missing")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"username": 1, "password": "x"}', b'{"username": "x"}', b"\xff", b'"\\ud800"',
     b'{"username": "S0123456", "password": "x", "extra": 1}', b'{"username": "\\u0000", "password": "x"}',
     b'{"username": "' + b"x" * 300 + b'", "password": "x"}'],
)  # fmt: skip
async def test_bad_bodies_are_refused_with_a_reason(world: World, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    async with world.http.post(f"{D}/sessions", data=body, headers=headers) as response:
        problem: Any = await response.json(content_type=None)
        assert response.status in (400, 422)
        assert problem["reason"] in ("malformed_json", "invalid_body")


class TestUnknownUsernames:
    """They cost what known ones cost: the same statements, the same hash, an answer that leaves at the same beat."""

    async def statements(
        self, world: World, monkeypatch: pytest.MonkeyPatch, work: Awaitable[Answer]
    ) -> list[str]:
        seen: list[str] = []
        plain = world.kit.db.connection

        @contextlib.asynccontextmanager
        async def noting() -> AsyncIterator[Any]:
            async with plain() as conn:
                with conn.query_logger(lambda record: seen.append(record.query)):
                    yield conn

        with monkeypatch.context() as patch:
            patch.setattr(world.kit.db, "connection", noting)
            await work
        return seen

    async def test_signing_in(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        await world.claimed()
        known = await self.statements(world, monkeypatch, world.sign_in("S0123456", "wrong"))
        unknown = await self.statements(world, monkeypatch, world.sign_in("S7654321", "wrong"))
        assert known == unknown
        assert len(known) == 3, "look, count, and note the reason"

    async def test_recovering(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        await world.claimed()
        body = {"answers": typed((*ANSWERS[:2], ("favorite_season", "spring")))}
        seen = {}
        for username in ("S0123456", "S7654321"):
            begun = (await world.ask("POST", "/recoveries", {"username": username})).body
            path = f"/recoveries/{begun['recovery_id']}/answers"
            begins = await self.statements(
                world, monkeypatch, world.ask("POST", "/recoveries", {"username": username})
            )
            for n in range(7):
                answers = world.ask("POST", path, body, bearer=begun["ticket"])
                seen[username, n] = begins + await self.statements(world, monkeypatch, answers)
        for n in range(7):
            assert seen["S0123456", n] == seen["S7654321", n]
