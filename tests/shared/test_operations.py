"""What operators ask over HTTP, of a service that runs: lag, dead letters, rebuilds."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient

from shared import kafka
from shared.messages import ingress_topic
from shared.service import create_app
from shared.settings import Settings
from shared.web import KIT
from tests.shared.kit import SERVICE
from tests.shared.tally.app import SPEC
from tests.shared.topics import Scene, event, person, stream, until

O = "/v1/operations"  # noqa: E741
DISTRICT = "/v1/districts/ccps"
OWN = f"{DISTRICT}/dead-letters"


class Desk:
    """Somebody with a token, at a service that runs."""

    def __init__(self, client: TestClient[Any, Any], scene: Scene, token: Callable[..., str]) -> None:
        self.client = client
        self.scene = scene
        self.token = token

    async def ask(
        self, method: str, path: str, scope: str = "operator", *, status: int = 200, **more: Any
    ) -> Any:
        headers = {"Authorization": f"Bearer {self.token(scope=scope)}", **more.pop("headers", {})}
        response = await self.client.request(method, path, headers=headers, **more)
        body = await response.json()
        assert response.status == status, body
        return body

    async def get(self, path: str, scope: str = "operator", **more: Any) -> Any:
        return await self.ask("GET", path, scope, **more)

    async def post(self, path: str, body: Any = None, **more: Any) -> Any:
        return await self.ask("POST", path, json=body, **more)

    async def letters(self, **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get(f"{O}/dead-letters", params=query))["dead_letters"]
        return found

    async def publish(self, *said: tuple[str, str]) -> None:
        """What a district says: keys and values."""
        topic = ingress_topic(self.scene.settings.topic_prefix, "ccps")
        await self.scene.send(*((0, k.encode(), v.encode(), []) for k, v in said), topic=topic)


@pytest.fixture
async def desk(
    settings: Settings,
    database: str,
    kafka_bootstrap: str,
    topic_prefix: str,
    aiohttp_client: Callable[..., Awaitable[TestClient[Any, Any]]],
    token: Callable[..., str],
) -> Desk:
    real = msgspec.structs.replace(
        settings, postgres=database, kafka=kafka_bootstrap, topic_prefix=topic_prefix, partitions=3
    )
    await kafka.create_topics(real, [kafka.service_topic(real, SERVICE)])
    client = await aiohttp_client(create_app(SPEC, real))
    kit = client.app[KIT]  # type: ignore[union-attr]
    async with asyncio.timeout(30):
        await kit.readiness.wait()
    scene = Scene(real, kit.db)
    scene.topic = f"{topic_prefix}.{SERVICE}.v1"
    return Desk(client, scene, token)


async def test_lag_is_told_for_everything_that_reads(desk: Desk) -> None:
    await desk.scene.publish(*stream(1, 3))

    async def caught_up() -> dict[str, Any] | None:
        told = await desk.get(f"{O}/lag")
        consumers = {c["consumer"]: c for c in told["consumers"]}
        ready = consumers.get("count", {}).get("state") == "running" and "ingress.ccps" in consumers
        return consumers if ready and consumers["count"]["lag"] == 0 and await desk.scene.rows() else None

    consumers = await until(caught_up)
    assert consumers["count"]["alarm"] is None
    assert consumers["count"]["parts"] == {"0": 0, "1": 0, "2": 0}
    assert consumers["ingress.ccps"]["lag"] == 0
    assert (await desk.get(f"{O}/lag"))["relay"] == {"pending": 0, "oldest_s": 0.0}


async def test_operators_alone_may_ask(desk: Desk) -> None:
    for path in ("lag", "dead-letters", "rebuilds"):
        refusal = await desk.get(f"{O}/{path}", "desk roster:write", status=403)
        assert refusal["reason"] == "scope_missing"


async def test_a_dead_letter_is_shown_retried_and_discarded(desk: Desk) -> None:
    await desk.publish(("a", "bad"), ("a", "1"), ("b", "2"))
    await until(lambda: desk.letters())
    parked, queued = await until(lambda: pair(desk))
    assert (parked["state"], parked["reason"], parked["key"]) == ("parked", "number_malformed", "a")
    assert (await desk.get(f"{O}/dead-letters/{parked['id']}"))["value"] == "bad"
    await desk.post(f"{O}/dead-letters/{queued['id']}/retry", status=409)
    again = await desk.post(f"{O}/dead-letters/{parked['id']}/retry")
    assert (again["state"], again["attempts"], again["wish"]) == ("parked", 2, None)
    await desk.post(f"{O}/dead-letters/{parked['id']}/discard", {"reason": ""}, status=422)
    key = {"Idempotency-Key": "k1"}
    gone = await desk.post(f"{O}/dead-letters/{parked['id']}/discard", {"reason": "typo"}, headers=key)
    assert (gone["state"], gone["note"], gone["changed_by"]) == ("discarded", "typo", "client-1")
    assert (
        await desk.post(f"{O}/dead-letters/{parked['id']}/discard", {"reason": "typo"}, headers=key) == gone
    )
    refusal = await desk.post(f"{O}/dead-letters/{parked['id']}/retry", status=409)
    assert refusal["reason"] == "dead_letter_settled"
    assert await desk.letters() == []
    assert [letter["id"] for letter in await desk.letters(state="applied")] == [queued["id"]]
    assert await desk.scene.value("SELECT array_agg(what ORDER BY what) FROM taken") == ["1", "2"]


async def pair(desk: Desk) -> list[dict[str, Any]] | None:
    found = await desk.letters()
    return found if len(found) == 2 else None


async def test_a_district_sees_its_own_and_nothing_else(desk: Desk) -> None:
    await desk.publish(("a", "bad"))
    await desk.scene.publish(event(person(1), 1), event(person(1), 3))
    [own, gap] = await until(lambda: pair(desk))
    if own["consumer"] == "count":
        own, gap = gap, own
    listed = (await desk.get(OWN, "roster:write"))["dead_letters"]
    assert [letter["id"] for letter in listed] == [own["id"]]
    assert (await desk.get(f"{OWN}/{own['id']}", "roster:write"))["value"] == "bad"
    await desk.get(f"{OWN}/{gap['id']}", "roster:write", status=404)
    await desk.get(f"{OWN}/nonsense", "roster:write", status=404)
    await desk.get(OWN, "desk", status=403)
    refusal = await desk.post(f"{O}/dead-letters/{gap['id']}/discard", {"reason": "x"}, status=409)
    assert refusal["reason"] == "history_missing"


async def test_a_districts_operator_sees_all_of_the_district_and_mends_what_it_published(desk: Desk) -> None:
    await desk.publish(("a", "bad"))
    await desk.scene.publish(event(person(1), 1), event(person(1), 3))
    [own, gap] = await until(lambda: pair(desk))
    if own["consumer"] == "count":
        own, gap = gap, own
    listed = (await desk.get(OWN))["dead_letters"]
    assert {letter["id"] for letter in listed} == {own["id"], gap["id"]}
    assert (await desk.get(f"{OWN}/{gap['id']}"))["reason"] == "version_gap"
    await desk.get(f"/v1/districts/elsewhere/dead-letters/{gap['id']}", status=404)
    assert (await desk.post(f"{OWN}/{own['id']}/retry"))["attempts"] == 2
    refusal = await desk.post(f"{OWN}/{gap['id']}/discard", {"reason": "x"}, status=403)
    assert refusal["reason"] == "dead_letter_of_ours"
    for what in ("retry", "discard"):
        await desk.post(f"{OWN}/{own['id']}/{what}", {"reason": "x"}, scope="roster:write", status=403)
    assert (await desk.post(f"{OWN}/{own['id']}/discard", {"reason": "typo"}))["state"] == "discarded"


async def test_a_districts_operator_watches_what_serves_every_district(desk: Desk) -> None:
    await desk.scene.publish(*stream(1, 3))
    await until(desk.scene.rows)
    await desk.post(f"{O}/rebuilds", {"projection": "count", "purpose": "replay"}, status=202)

    async def compared() -> dict[str, Any] | None:
        [found] = (await desk.get(f"{DISTRICT}/rebuilds"))["rebuilds"]
        return found if found["state"] == "dropped" else None

    found = await until(compared, patience_s=40)
    assert (found["compared"], found["different"], found["done"]) == (1, 0, 3)
    assert not {"started_by", "report", "error"} & set(found)
    consumers = {each["consumer"] for each in (await desk.get(f"{DISTRICT}/lag"))["consumers"]}
    assert {"count", "ingress.ccps"} <= consumers
    for path in ("lag", "rebuilds"):
        await desk.get(f"{DISTRICT}/{path}", "desk roster:write", status=403)


async def test_a_district_does_not_hear_of_what_others_publish(desk: Desk) -> None:
    topic = ingress_topic(desk.scene.settings.topic_prefix, "elsewhere")
    await desk.scene.value(
        "INSERT INTO checkpoint (consumer, topic, part, next_offset, at)"
        f" VALUES ('ingress.elsewhere', '{topic}', 0, 0, now()) RETURNING 1"
    )
    told = [each["consumer"] for each in (await desk.get(f"{O}/lag"))["consumers"]]
    theirs = [each["consumer"] for each in (await desk.get(f"{DISTRICT}/lag"))["consumers"]]
    assert "ingress.elsewhere" in told
    assert "ingress.elsewhere" not in theirs


async def test_long_lists_are_cut_and_gone_on_with(desk: Desk) -> None:
    await desk.publish(*((f"k{n}", "bad") for n in range(5)))
    await until(lambda: five(desk))
    first = await desk.get(f"{O}/dead-letters", params={"limit": 3})
    rest = await desk.get(f"{O}/dead-letters", params={"limit": 3, "after": first["next_after"]})
    assert [len(first["dead_letters"]), len(rest["dead_letters"]), rest["next_after"]] == [3, 2, None]


async def five(desk: Desk) -> bool:
    return len(await desk.letters()) == 5


async def test_a_rebuild_from_start_to_drop(desk: Desk) -> None:
    await desk.scene.publish(*(e for n in range(20) for e in stream(n, 3)))
    await until(desk.scene.rows)
    refusal = await desk.post(f"{O}/rebuilds", {"projection": "none"}, status=422)
    assert refusal["known"] == ["count"]
    refusal = await desk.get(f"{O}/rebuilds", params={"projection": "none"}, status=422)
    assert (refusal["reason"], refusal["known"]) == ("projection_unknown", ["count"])
    started = await desk.post(f"{O}/rebuilds", {"projection": "count"}, status=202)
    assert started["state"] == "building"
    refusal = await desk.post(f"{O}/rebuilds", {"projection": "count"}, status=409)
    assert refusal["reason"] == "rebuild_open"
    one = f"{O}/rebuilds/{started['id']}"
    refusal = await desk.post(f"{one}/switch", status=409)
    assert (refusal["reason"], refusal["state"]) == ("rebuild_not_ready", "building")

    async def follows() -> dict[str, Any] | None:
        found: dict[str, Any] = await desk.get(one)
        return found if "compared" in found["report"] else None

    found = await until(follows, patience_s=40)
    assert (found["done"], found["total"], found["report"]["different"]) == (60, 60, 0)
    assert (await desk.post(f"{one}/compare"))["report"]["compared"] == 20
    assert (await desk.post(f"{one}/switch"))["state"] == "switched"
    assert len(await desk.scene.rows()) == 20
    refusal = await desk.post(f"{one}/compare", status=409)
    assert refusal["reason"] == "rebuild_finished"
    dropped = await desk.post(f"{one}/drop")
    assert dropped["finished_at"] is not None
    assert await desk.post(f"{one}/drop") == dropped
    listed = (await desk.get(f"{O}/rebuilds", params={"projection": "count"}))["rebuilds"]
    assert [rebuild["state"] for rebuild in listed] == ["switched"]


async def test_a_replay_compares_and_drops_by_itself(desk: Desk) -> None:
    await desk.scene.publish(*stream(1, 3))
    await until(desk.scene.rows)
    started = await desk.post(f"{O}/rebuilds", {"projection": "count", "purpose": "replay"}, status=202)
    one = f"{O}/rebuilds/{started['id']}"

    async def dropped() -> bool:
        return bool((await desk.get(one))["state"] == "dropped")

    await until(dropped, patience_s=40)
    compared = await desk.post(f"{one}/compare")
    assert (compared["report"]["compared"], compared["report"]["different"]) == (1, 0)
    assert (await desk.post(f"{one}/drop"))["state"] == "dropped"
