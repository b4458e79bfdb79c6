"""The audit on Kafka: every line, at least once, the same to the byte, whatever breaks in between."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import ConsumerRecord
from cloudevents.core.bindings import kafka as sdk
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft202012Validator

from services.auth import audit_topic
from services.auth.audit import KEPT
from shared import kafka
from shared.errors import Unavailable
from shared.life import clean_up
from shared.settings import Settings
from tests.auth.conftest import World

SCHEMA = Path(__file__).parents[2] / "contracts" / "audit" / "RequestAnswered.v1.json"


@pytest.fixture
async def settings(world: World, kafka_bootstrap: str, topic_prefix: str) -> Settings:
    """Those of an auth whose Kafka is there, with its topic."""
    own = {"kafka": kafka_bootstrap, "topic_prefix": topic_prefix, "partitions": 2}
    settings = msgspec.structs.replace(world.kit.settings, **own)
    await kafka.create_topics(settings, [audit_topic.topic(settings)])
    return settings


@contextlib.asynccontextmanager
async def forwarding(settings: Settings) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(audit_topic.run(settings))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def refused(world: World, count: int, first: int = 0) -> None:
    """So many lines, written to the table."""
    for n in range(first, first + count):
        await world.sign_in(f"S76543{n:02}", "wrong")
    await world.auth.trail.write(world.kit.db)


async def unsent(world: World) -> int:
    return (await world.fetch("SELECT count(*) AS lines FROM audit_outbox"))[0]["lines"]


async def drained(world: World, patience_s: float = 20) -> None:
    async with asyncio.timeout(patience_s):
        while await unsent(world):
            await asyncio.sleep(0.05)


async def records(settings: Settings) -> list[ConsumerRecord]:
    async with kafka.consuming(settings) as consumer:
        parts = await kafka.topic_partitions(consumer, audit_topic.topic(settings).name)
        ends = await consumer.end_offsets(parts)
        ranges = {part: (0, end) for part, end in ends.items()}
        return [record async for some in kafka.read_ranges(consumer, ranges) for record in some]


def event_id(record: ConsumerRecord) -> str:
    return dict(record.headers)["ce_id"].decode()


async def kept(world: World) -> set[str]:
    return {str(row["event_id"]) for row in await world.fetch("SELECT event_id FROM audit")}


async def test_a_line_travels_as_the_contract_says(world: World, settings: Settings) -> None:
    pupil = await world.claimed()
    await world.sign_in(pupil.username, address="198.51.100.7", agent="Mozilla/5.0 (X11; CrOS x86_64)")
    await world.sign_in("canary-username", "canary-password", device="hrd_canary")
    body = {"name": "portal", "scopes": ["introspect"], "districts": ["ccps"]}
    made = await world.ask("POST", "/v1/operations/clients", body, bearer=world.token("operator"))
    await world.auth.trail.write(world.kit.db)
    async with forwarding(settings):
        await drained(world)
    found = await records(settings)
    assert {event_id(record) for record in found} == await kept(world)
    contract = Draft202012Validator(msgspec.json.decode(SCHEMA.read_bytes()))
    told: dict[tuple[str, str], Any] = {}
    for record in found:
        event = sdk.from_binary(
            sdk.KafkaMessage(dict(record.headers), record.key, record.value), JSONFormat()
        )
        contract.validate(event.get_data())
        told[event.get_data()["what"], event.get_data()["outcome"]] = event
    signed_in = told["sign_in", "done"]
    assert signed_in.get_source() == "/homeroom/auth/ccps"
    assert signed_in.get_subject() == signed_in.get_data()["person_id"] == str(pupil.person_id)
    assert signed_in.get_data()["device_kind"] == "Chromebook"
    made_client = told["create_client", "done"]
    assert made_client.get_source() == "/homeroom/auth"
    assert made_client.get_data()["client"] == made.body["id"]
    assert all(secret not in str(found) for secret in ("canary", "198.51.100.7", made.body["secret"]))


async def test_the_topic_keeps_lines_as_long_as_the_table(settings: Settings) -> None:
    assert audit_topic.topic(settings).config["retention.ms"] == str(90 * 24 * 3600 * 1000)
    assert await kafka.check_topics(settings, [audit_topic.topic(settings)]) == []


async def test_a_crash_after_the_acknowledgement_sends_the_same_again(
    world: World, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await refused(world, 5)
    send, crashes = audit_topic._send, 2

    async def crash(*arguments: Any) -> None:
        nonlocal crashes
        await send(*arguments)
        crashes -= 1
        if crashes >= 0:
            raise ConnectionResetError

    monkeypatch.setattr(audit_topic, "_send", crash)
    for _ in range(2):
        with pytest.raises((ConnectionResetError, Unavailable)):
            await audit_topic.run(settings)
        assert await unsent(world) == 5
    async with forwarding(settings):
        await drained(world)
    found = await records(settings)
    assert len(found) == 15
    copies = {(event_id(r), r.key, r.value, tuple(r.headers)) for r in found}
    assert len(copies) == 5
    assert {copy[0] for copy in copies} == await kept(world)


async def test_whoever_is_killed_while_lines_are_written_nothing_is_lost(
    world: World, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_topic, "LOOK_EVERY_S", 0.01)
    writing = asyncio.create_task(_write_for_a_while(world))
    while not writing.done():
        async with forwarding(settings):
            await asyncio.sleep(0.15)
    async with forwarding(settings):
        await drained(world)
    assert {event_id(record) for record in await records(settings)} == await kept(world)


async def _write_for_a_while(world: World) -> None:
    for n in range(12):
        await refused(world, 3, first=3 * n)


async def test_a_line_that_is_committed_after_a_later_one_is_sent(
    world: World, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_topic, "LOOK_AT_ALL_EVERY_S", 0.5)
    async with forwarding(settings):
        async with world.kit.db.transaction() as conn:
            slow = await conn.fetchval("SELECT nextval(pg_get_serial_sequence('audit', 'audit_id'))")
            await refused(world, 2)
            await drained(world)
            await conn.execute(
                "INSERT INTO audit OVERRIDING SYSTEM VALUE SELECT $1, district, at, what, outcome, person_id, actor,"
                " client, device, device_kind, network, reference, correlation_id, gen_random_uuid()"
                " FROM audit LIMIT 1",
                slow,
            )
            await conn.execute("INSERT INTO audit_outbox VALUES ($1)", slow)
        await drained(world)
    assert {event_id(record) for record in await records(settings)} == await kept(world)


async def test_one_process_sends_and_another_takes_over(world: World, settings: Settings) -> None:
    async with forwarding(settings) as first:
        await refused(world, 1)
        await drained(world)
        async with forwarding(settings):
            await refused(world, 3, first=1)
            await drained(world)
            first.cancel()
            await asyncio.wait({first})
            await refused(world, 3, first=4)
            await drained(world)
    found = await records(settings)
    assert len(found) == len({event_id(record) for record in found}) == 7


async def test_lines_wait_for_kafka(world: World, settings: Settings) -> None:
    await refused(world, 3)
    away = msgspec.structs.replace(settings, kafka="127.0.0.1:9")
    with pytest.raises(Unavailable):
        await audit_topic.run(away)
    await audit_topic.count(world.kit.db)
    assert audit_topic._unsent._value.get() == 3
    async with forwarding(settings):
        await drained(world)
    assert len(await records(settings)) == 3


async def test_a_write_whose_outcome_was_lost_makes_one_line(
    world: World, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = world.kit.db.connection

    @contextlib.asynccontextmanager
    async def lost_on_the_way_back() -> AsyncIterator[Any]:
        async with connection() as conn:
            yield conn
        raise Unavailable("postgres")

    await world.sign_in("S7654321", "wrong")
    with monkeypatch.context() as broken:
        broken.setattr(world.kit.db, "connection", lost_on_the_way_back)
        with pytest.raises(Unavailable):
            await world.auth.trail.write(world.kit.db)
    await world.auth.trail.write(world.kit.db)
    assert (len(await world.fetch("SELECT FROM audit")), await unsent(world)) == (1, 1)


async def test_a_line_that_has_had_its_time_is_not_sent(world: World, settings: Settings) -> None:
    await refused(world, 1)
    world.later(days=KEPT.days + 1)
    await clean_up(world.kit)
    assert await unsent(world) == 0
