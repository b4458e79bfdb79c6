"""Idempotency-Key: sent twice, done once, told the same."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from aiohttp.test_utils import TestClient

from shared.database import migrate
from shared.service import Kit, build_app, build_kit
from shared.settings import Settings
from tests.shared.toy import SPEC

PATH = "/v1/districts/ccps/notes"
Client = TestClient[Any, Any]
Sign = Callable[..., str]

pytestmark = pytest.mark.usefixtures("backing")


@pytest.fixture
async def kit(settings: Settings, database: str) -> AsyncIterator[Kit]:
    await migrate(database, Path(__file__).parent / "toy" / "sql")
    kit = build_kit(SPEC, msgspec.structs.replace(settings, postgres=database))
    kit.policies.refresh()
    kit.keys.refresh()
    kit.readiness.has("migrations")
    kit.readiness.has("history")
    yield kit
    await kit.db.close()


@pytest.fixture
async def client(kit: Kit, aiohttp_client: Callable[..., Awaitable[Client]]) -> Client:
    return await aiohttp_client(build_app(kit))


@pytest.fixture
def send(client: Client, token: Sign) -> Callable[..., Awaitable[Any]]:
    bearer = token()

    async def send(key: str | None, as_: str = bearer, query: str = "", **body: Any) -> Any:
        headers = {"Authorization": f"Bearer {as_}"} | ({"Idempotency-Key": key} if key is not None else {})
        return await client.post(PATH + query, json={"text": "x"} | body, headers=headers)

    return send


async def notes(kit: Kit) -> int:
    async with kit.db.connection() as conn:
        return int(await conn.fetchval("SELECT count(*) FROM note"))


async def reason(response: Any) -> str:
    return str((await response.json(content_type=None))["reason"])


async def test_a_repeat_is_given_the_first_reply(kit: Kit, send: Any) -> None:
    first, second = await send("k1"), await send("k1")
    assert (first.status, second.status) == (201, 201)
    assert await first.json() == await second.json()
    assert first.headers["Location"] == second.headers["Location"]
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert await notes(kit) == 1


async def test_without_a_key_each_is_a_command_of_its_own(kit: Kit, send: Any) -> None:
    await send(None)
    await send(None)
    assert await notes(kit) == 2


async def test_another_body_under_the_key_is_refused(kit: Kit, send: Any) -> None:
    await send("k1")
    again = await send("k1", text="y")
    assert (again.status, await reason(again)) == (422, "idempotency_key_reused")
    assert await notes(kit) == 1


async def test_keys_of_two_callers_are_strangers(kit: Kit, send: Any, token: Sign) -> None:
    await send("k1")
    other = await send("k1", as_=token(sub="client-2"))
    assert other.status == 201
    assert await notes(kit) == 2


async def test_what_is_refused_may_be_tried_again_under_its_key(kit: Kit, send: Any) -> None:
    """A refusal changes nothing, so nothing is kept: tomorrow the same command may be right."""
    refused = await send("k1", mood="refuse")
    assert (refused.status, await reason(refused)) == (403, "toy_refused")
    assert await notes(kit) == 0
    assert (await send("k1")).status == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9"])
async def test_keys_are_bounded(send: Any, key: str) -> None:
    response = await send(key)
    assert (response.status, await reason(response)) == (400, "idempotency_key_invalid")


async def test_of_twenty_at_once_one_takes_effect(kit: Kit, send: Any) -> None:
    responses = await asyncio.gather(*(send("k1") for _ in range(20)))
    statuses = [r.status for r in responses]
    assert set(statuses) <= {201, 409}
    bodies = [await r.json() for r in responses if r.status == 201]
    assert bodies
    assert all(body == bodies[0] for body in bodies)
    assert await notes(kit) == 1


async def test_while_the_first_runs_a_repeat_is_told_so(kit: Kit, send: Any, database: str) -> None:
    blocker = await asyncpg.connect(database)
    try:
        transaction = blocker.transaction()
        await transaction.start()
        await blocker.execute("LOCK TABLE note")
        first = asyncio.create_task(send("k1"))
        await asyncio.sleep(0.3)
        second = await send("k1")
        assert (second.status, await reason(second)) == (409, "request_in_progress")
        assert second.headers["Retry-After"] == "1"
        await transaction.rollback()
        assert (await first).status == 201
        assert (await send("k1")).headers["Idempotency-Replayed"] == "true"
    finally:
        await blocker.close()


async def test_a_reply_that_is_shown_once_is_not_kept(kit: Kit, send: Any) -> None:
    assert (await send("k1", mood="secret")).status == 201
    again = await send("k1", mood="secret")
    assert (again.status, await reason(again)) == (409, "reply_withheld")
    assert await notes(kit) == 1
    async with kit.db.connection() as conn:
        assert await conn.fetchval("SELECT body FROM command") == b""
