"""A district that cannot read Kafka is told of its audit over real HTTP: signed, at least once, and nobody waits for
whoever does not listen."""

import asyncio
import base64
import contextlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from jsonschema import Draft202012Validator

from services.auth import webhooks
from services.auth.webhooks import SecretUnread, read_secret, sign
from shared.policy import Policy, WebhookRule
from tests.auth.conftest import World

SCHEMA = Path(__file__).parents[2] / "contracts" / "audit" / "RequestAnswered.v1.json"
KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


class Told:
    """A district's system that listens, and answers as it is told to."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.refuses: set[str] = set()  # ids

    async def hear(self, request: web.Request) -> web.Response:
        self.heard.append((dict(request.headers), await request.read()))
        if request.headers["webhook-id"] in self.refuses:
            return web.Response(status=500)
        status = self.answers.pop(0) if self.answers else 204
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else {})

    def said(self) -> list[Any]:
        return [json.loads(body) for _, body in self.heard]

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.heard]


@pytest.fixture
async def told() -> Told:
    return Told()


@pytest.fixture
async def listening(told: Told) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/{path:.*}", told.hear)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("/hooks"))


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=webhooks.PATIENCE) as http:
        yield http


def write_secret(world: World, *keys: bytes) -> None:
    folder = world.kit.settings.webhook_secret_dir
    assert folder is not None
    folder.mkdir(exist_ok=True)
    (folder / "ccps").write_text("".join(f"whsec_{base64.b64encode(key).decode()}\n" for key in keys))


@pytest.fixture
async def hooked(world: World, listening: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A district whose policy names an address."""
    settings = msgspec.structs.replace(world.kit.settings, webhook_secret_dir=tmp_path / "webhooks")
    monkeypatch.setattr(world.kit, "settings", settings)
    write_secret(world, KEY)
    has_hook(world, monkeypatch, WebhookRule(listening))
    await webhooks.follow(world.auth, world.now())
    return world


def has_hook(world: World, monkeypatch: pytest.MonkeyPatch, rule: WebhookRule | None) -> None:
    policy: Policy = msgspec.structs.replace(world.kit.policies.get("ccps"), webhook=rule)
    monkeypatch.setattr(world.kit.policies, "find", lambda district: policy if district == "ccps" else None)


async def refused(world: World, count: int = 1, first: int = 0) -> list[str]:
    """So many lines, written to the table; their ids."""
    before = {row["event_id"] for row in await world.fetch("SELECT event_id FROM audit")}
    for n in range(first, first + count):
        await world.sign_in(f"S76543{n:02}", "wrong")
    await world.auth.trail.write(world.kit.db)
    rows = await world.fetch("SELECT event_id FROM audit ORDER BY audit_id")
    return [str(row["event_id"]) for row in rows if row["event_id"] not in before]


async def waiting(world: World) -> int:
    return int((await world.fetch("SELECT count(*) AS n FROM webhook_line"))[0]["n"])


async def send(world: World, http: aiohttp.ClientSession) -> int:
    return await webhooks.send(world.auth, http, world.now())


def test_it_signs_as_the_specification_does() -> None:
    """The example of Standard Webhooks' own libraries."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_line_is_told_once_signed_and_as_the_contract_says(
    hooked: World, told: Told, http: aiohttp.ClientSession
) -> None:
    [line] = await refused(hooked)
    now = int(hooked.now().timestamp())
    assert await send(hooked, http) == 1
    assert await send(hooked, http) == 0
    [(headers, body)] = told.heard
    said = json.loads(body)
    assert (said["type"], said["data"]["outcome"]) == ("audit.sign_in", "authentication_failed")
    assert said["timestamp"] == said["data"]["at"]
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(said["data"])
    assert headers["webhook-id"] == line
    assert now <= int(headers["webhook-timestamp"]) <= now + 5
    signed = b".".join((line.encode(), headers["webhook-timestamp"].encode(), body))
    wanted = base64.b64encode(hmac.digest(KEY, signed, "sha256")).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"
    assert "wrong" not in body.decode()
    assert await waiting(hooked) == 0


async def test_while_a_secret_is_turned_both_sign(
    hooked: World, told: Told, http: aiohttp.ClientSession
) -> None:
    write_secret(hooked, OTHER, KEY)
    await refused(hooked)
    await send(hooked, http)
    [(headers, body)] = told.heard
    said = headers["webhook-id"], headers["webhook-timestamp"], body
    assert headers["webhook-signature"].split(" ") == [sign(key, *said) for key in (OTHER, KEY)]


@pytest.mark.parametrize("status", [302, 400, 404, 500, 503])
async def test_what_is_not_taken_is_told_again_under_the_same_id(
    hooked: World, told: Told, http: aiohttp.ClientSession, status: int
) -> None:
    told.answers = [status]
    await refused(hooked)
    assert await send(hooked, http) == 0
    assert await send(hooked, http) == 0, "not before the pause is over"
    assert len(told.heard) == 1
    hooked.later(seconds=11)
    assert await send(hooked, http) == 1
    assert told.ids()[0] == told.ids()[1]
    assert told.heard[0][1] == told.heard[1][1], "the same to the byte"


async def test_pauses_grow_to_five_minutes_and_end_with_the_first_that_is_taken(
    hooked: World, told: Told, http: aiohttp.ClientSession
) -> None:
    await refused(hooked)
    told.answers = [500] * 8
    for seconds in (10, 20, 40, 80, 160, 300, 300, 300):
        await send(hooked, http)
        seen = len(told.heard)
        hooked.later(seconds=seconds - 1)
        await send(hooked, http)
        assert len(told.heard) == seen
        hooked.later(seconds=2)
    assert await send(hooked, http) == 1
    await refused(hooked, first=1)
    assert await send(hooked, http) == 1, "at once"


async def test_one_that_is_never_taken_holds_up_no_other(
    hooked: World, told: Told, http: aiohttp.ClientSession
) -> None:
    [bad] = await refused(hooked)
    told.refuses = {bad}
    good = await refused(hooked, 3, first=1)
    await send(hooked, http)
    assert set(told.ids()) == {bad, *good}
    assert await waiting(hooked) == 1
    more = await refused(hooked, 2, first=4)
    await send(hooked, http)
    assert told.ids()[-2:] == more, "and it is not asked again and again meanwhile"


async def test_an_address_that_is_gone_is_left_alone_for_a_day(
    hooked: World, told: Told, http: aiohttp.ClientSession
) -> None:
    told.answers = [410]
    await refused(hooked)
    await send(hooked, http)
    hooked.later(hours=23)
    assert await send(hooked, http) == 0
    hooked.later(hours=2)
    assert await send(hooked, http) == 1
    assert len(told.heard) == 2


@pytest.mark.parametrize("content", [None, "", "whsec_c2hvcnQ=", "whsec_!!", "\xff"])
async def test_without_a_secret_nothing_is_sent_and_nothing_lost(
    hooked: World, told: Told, http: aiohttp.ClientSession, content: str | None
) -> None:
    folder = hooked.kit.settings.webhook_secret_dir
    assert folder is not None
    (folder / "ccps").unlink()
    if content is not None:
        (folder / "ccps").write_bytes(content.encode("latin-1"))
    with pytest.raises(SecretUnread):
        read_secret(folder, "ccps")
    await refused(hooked)
    assert await send(hooked, http) == 0
    assert told.heard == []
    write_secret(hooked, KEY)
    hooked.later(seconds=11)
    assert await send(hooked, http) == 1


async def test_only_what_the_policy_names_is_told(
    hooked: World, told: Told, listening: str, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_hook(hooked, monkeypatch, WebhookRule(listening, ["issue_code"]))
    await refused(hooked, 2)
    pupil = await hooked.claimed()
    await hooked.desk("POST", f"/accounts/{pupil.person_id}/recovery-codes", {"desk_ticket": "T-1"})
    await hooked.auth.trail.write(hooked.kit.db)
    while await send(hooked, http):
        pass
    assert {said["data"]["what"] for said in told.said()} == {"issue_code"}
    assert await waiting(hooked) == 0


async def test_lines_are_kept_from_when_a_policy_names_an_address_to_when_it_does_no_more(
    world: World, hooked: World, told: Told, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    await refused(hooked)
    assert await waiting(hooked) == 1
    monkeypatch.setattr(hooked.kit.policies, "find", lambda district: None)  # its file is missing
    await webhooks.follow(hooked.auth, hooked.now())
    assert await send(hooked, http) == 0
    assert await waiting(hooked) == 1
    has_hook(hooked, monkeypatch, None)
    await webhooks.follow(hooked.auth, hooked.now())
    assert await waiting(hooked) == 0
    await refused(hooked, first=1)
    assert await waiting(hooked) == 0


async def test_of_two_processes_each_tells_its_own(
    hooked: World, told: Told, http: aiohttp.ClientSession
) -> None:
    lines = await refused(hooked, 12)
    await asyncio.gather(*(send(hooked, http) for _ in range(4)))
    assert sorted(told.ids()) == sorted(lines)


async def test_whoever_dies_with_a_line_leaves_it_to_the_next_try(
    hooked: World, told: Told, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    await refused(hooked)
    with monkeypatch.context() as patched:
        patched.setattr(webhooks, "_tell", dies)
        with pytest.raises(asyncio.CancelledError):
            await send(hooked, http)
    assert await send(hooked, http) == 0
    hooked.later(seconds=11)
    assert await send(hooked, http) == 1


async def dies(*_: object) -> None:
    raise asyncio.CancelledError


async def test_it_runs_by_itself(hooked: World, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "LOOK_EVERY_S", 0.01)
    task = asyncio.create_task(webhooks.run(hooked.auth))
    try:
        lines = await refused(hooked, 30)
        async with asyncio.timeout(20):
            while len(told.heard) < 30:
                await asyncio.sleep(0.01)
        assert sorted(told.ids()) == sorted(lines)
        await webhooks.count(hooked.kit.db)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


PAGE = Path(__file__).parents[2] / "docs/how-to/receive-webhooks.md"


@pytest.mark.parametrize(
    ("key", "late_s", "body", "accepted"),
    [
        (KEY, 0, b"{}", True),
        (OTHER, 0, b"{}", False),
        (KEY, 0, b"{ }", False),
        (KEY, 600, b"{}", False),
    ],
    ids=["as it came", "another's", "changed", "an old one"],
)
def test_the_listener_of_the_docs_believes_what_we_sign_and_nothing_else(
    key: bytes, late_s: int, body: bytes, accepted: bool
) -> None:
    listener: dict[str, Any] = {}
    exec(PAGE.read_text().split("```python\n")[1].split("```")[0], listener)
    stamp = str(int(time.time()) - late_s)
    signed = " ".join(sign(each, "a", stamp, b"{}") for each in (bytes(32), key))
    headers = {"webhook-id": "a", "webhook-timestamp": stamp, "webhook-signature": signed}
    assert listener["verified"](f"whsec_{base64.b64encode(KEY).decode()}", headers, body) is accepted
