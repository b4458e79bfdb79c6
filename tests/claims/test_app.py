"""The whole of claims on real PostgreSQL and Kafka; roster and auth are only what they would have published."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp.test_utils import TestClient
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from services.claims.app import create_app
from services.claims.consumer import AUTH, CredentialRevoked, CredentialsSet
from services.claims.events import CODEC
from services.claims.projections import ROSTER, EnrollmentVoided, Identity, StudentEnrolled, StudentWithdrawn
from shared import clock, testing
from shared.keys import make_key
from shared.messages import Event, EventCodec, from_kafka, partition_of, to_kafka, topic_of
from shared.service import KIT
from shared.settings import Settings, from_environment
from tests.claims.conftest import ISSUER, World

PATIENCE_S = 30


@pytest.fixture
def settings(database: str, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Settings:
    for service in ("auth", "claims"):
        make_key(service, tmp_path / "public", tmp_path / service, datetime(2026, 1, 1, tzinfo=UTC))
    return from_environment(
        {},
        service="claims",
        postgres=database,
        kafka=kafka_bootstrap,
        topic_prefix=topic_prefix,
        partitions=3,
        issuer=ISSUER,
        key_dir=str(tmp_path / "public"),
        signing_key_dir=str(tmp_path / "claims"),
    )


class Outside:
    """Publishes as roster and auth do, and reads what claims publishes."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer) -> None:
        self._settings, self._producer = settings, producer
        self._versions: dict[tuple[str, UUID], int] = {}

    async def tell(
        self, codec: EventCodec, person_id: UUID, *facts: Event, at: datetime | None = None
    ) -> None:
        for fact in facts:
            stream = (codec.service, person_id)
            version = self._versions[stream] = self._versions.get(stream, 0) + 1
            await self.publish(codec, person_id, fact, version, at)

    async def publish(
        self, codec: EventCodec, person_id: UUID, fact: Event, version: int, at: datetime | None = None
    ) -> None:
        told = testing.recorded(
            fact, version, at=at or clock.now(), service=codec.service, stream_id=person_id
        )
        key, value, headers = to_kafka(told, codec.encode(fact))
        await self._producer.send_and_wait(
            topic_of(self._settings.topic_prefix, codec.service), value, key, headers=headers,
            partition=partition_of(person_id, self._settings.partitions),
        )  # fmt: skip

    async def published(self, count: int) -> list[Any]:
        """The first events of claims' topic."""
        consumer = AIOKafkaConsumer(
            topic_of(self._settings.topic_prefix, "claims"),
            bootstrap_servers=self._settings.kafka,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            async with asyncio.timeout(PATIENCE_S):
                return [from_kafka(await consumer.getone(), CODEC) for _ in range(count)]
        finally:
            await consumer.stop()


@pytest.fixture
async def outside(settings: Settings) -> AsyncIterator[Outside]:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all")
    await producer.start()
    yield Outside(settings, producer)
    await producer.stop()


@pytest.fixture
async def world(
    settings: Settings, tmp_path: Path, aiohttp_client: Callable[..., Awaitable[TestClient[Any, Any]]]
) -> World:
    app = create_app(settings)
    world = World(app[KIT], await aiohttp_client(app), tmp_path)
    async with asyncio.timeout(PATIENCE_S):
        await app[KIT].readiness.wait()
    return world


async def until(look: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        while not wanted(found := await look()):
            await asyncio.sleep(0.01)
    return found


def enrolled(hours_ago: float = 48, enrollment_id: str = "e1", **differing: Any) -> StudentEnrolled:
    at = clock.now() - timedelta(hours=hours_ago)
    usual = {
        "enrollment_id": enrollment_id,
        "identity": Identity("sis-1", "0123456", "O'Neil", "Mary-Ann"),
        "received_at": at,
        "basis": at,
        "baseline": False,
        "current": True,
    }
    return StudentEnrolled(**(usual | differing))


async def opened(world: World) -> Any:
    status, claim = await until(world.claim, lambda answer: answer[0] == 201)
    assert status == 201
    return claim


async def test_from_an_enrollment_to_a_claimed_account_and_back(world: World, outside: Outside) -> None:
    person_id, credential_id = uuid4(), uuid4()
    await outside.tell(ROSTER, person_id, enrolled())
    claim = await opened(world)
    sealed = CredentialsSet(claim_id=UUID(claim["claim_id"]), credential_id=credential_id, generation=0)
    await outside.tell(AUTH, person_id, sealed)
    await until(lambda: world.standing(claim), lambda answer: answer[1]["state"] == "completed")
    status, batch = await world.desk("POST", f"/accounts/{person_id}/resets", json={"desk_ticket": "T-1"})
    assert status == 202
    await outside.tell(AUTH, person_id, CredentialRevoked(generation=1, sessions_ended=1))
    path = f"/reset-batches/{batch['batch_id']}"
    await until(lambda: world.desk("GET", path), lambda answer: answer[1]["state"] == "done")
    events = await outside.published(3)
    assert [(e.version, e.type, e.data.generation) for e in events] == [
        (1, "ClaimOpened", 0), (2, "AccountClaimed", 0), (3, "AccountReset", 1),
    ]  # fmt: skip
    assert {e.stream_id for e in events} == {person_id}
    assert events[1].cause.causation_id == str(
        testing.recorded(sealed, 1, service="auth", stream_id=person_id).id
    )


async def test_repeats_on_the_topics_have_no_effect(world: World, outside: Outside) -> None:
    person_id = uuid4()
    fact = enrolled()
    for _ in range(3):
        await outside.publish(ROSTER, person_id, fact, 1)
    claim = await opened(world)
    sealed = CredentialsSet(claim_id=UUID(claim["claim_id"]), credential_id=uuid4(), generation=0)
    for _ in range(3):
        await outside.publish(AUTH, person_id, sealed, 1)
    await until(lambda: world.standing(claim), lambda answer: answer[1]["state"] == "completed")
    # After them all.
    await outside.publish(AUTH, person_id, CredentialRevoked(generation=0, sessions_ended=0), 2)
    passed = "SELECT FROM gate WHERE consumer = 'credentials' AND version = 2"
    await until(lambda: world.fetch(passed), lambda rows: bool(rows))
    assert len(await world.events(person_id)) == 2


async def test_a_late_enrollment_opens_and_a_voided_one_closes(world: World, outside: Outside) -> None:
    person_id = uuid4()
    await outside.tell(ROSTER, person_id, enrolled(1))

    async def account() -> Any:
        return (await world.desk("GET", f"/accounts/{person_id}"))[1]

    assert (await until(account, lambda a: "basis" in a))["may_claim_now"] is False
    await outside.tell(ROSTER, person_id, enrolled(30, "e0", current=False))
    await until(account, lambda a: a["may_claim_now"])
    await outside.tell(ROSTER, person_id, EnrollmentVoided(enrollment_id="e0"))
    await until(account, lambda a: not a["may_claim_now"])


async def test_a_gap_in_the_rosters_history_parks_the_pupil_until_it_is_filled(
    world: World, outside: Outside
) -> None:
    """Nobody claims by a history of which a part is missing: the missing part may be the withdrawal."""
    person_id = uuid4()
    await outside.publish(ROSTER, person_id, enrolled(), 1)
    await opened(world)
    renamed = enrolled(48, "e2", identity=Identity("sis-1", "0123456", "O'Neil", "Mary"))
    await outside.publish(ROSTER, person_id, renamed, 3)

    async def account() -> Any:
        return (await world.desk("GET", f"/accounts/{person_id}"))[1]

    parked = await until(account, lambda a: a["parked"])
    assert parked["may_claim_now"] is False
    status, problem = await world.claim()
    assert (status, problem["reason"]) == (403, "claim_refused")
    _, refusal = await world.desk("GET", f"/refusals/{problem['reference']}")
    assert refusal["detail"]["reason"] == "history_parked"
    await outside.publish(ROSTER, person_id, StudentWithdrawn(), 2)
    mended = await until(account, lambda a: not a["parked"])
    assert (mended["first_name"], mended["enrolled"]) == ("Mary", True)


async def test_two_processes_share_the_resets_of_one_batch(
    world: World, settings: Settings, outside: Outside, aiohttp_client: Any
) -> None:
    """Two processes of claims work on one batch: whoever is free takes the next account, none is taken twice."""
    await aiohttp_client(create_app(settings))
    persons = [uuid4() for _ in range(8)]
    for n, person_id in enumerate(persons):
        await outside.tell(
            ROSTER, person_id, enrolled(identity=Identity(f"s{n}", f"000000{n}", "Li", f"N{n}"))
        )
    for n, person_id in enumerate(persons):
        _, claim = await until(lambda n=n: world.claim(f"000000{n}", "Li", f"N{n}"), lambda a: a[0] == 201)
        await outside.tell(
            AUTH,
            person_id,
            CredentialsSet(claim_id=UUID(claim["claim_id"]), credential_id=uuid4(), generation=0),
        )
        await until(lambda c=claim: world.standing(c), lambda a: a[1]["state"] == "completed")
    lines = [f"N{n} Li 000000{n}" for n in range(8)]
    _, batch = await world.desk("POST", "/reset-batches", json={"lines": lines})
    path = f"/reset-batches/{batch['batch_id']}"
    found = await until(lambda: world.desk("GET", path), lambda a: a[1]["counts"] == {"reset": 8})
    assert found[1]["state"] == "running"
    for person_id in persons:
        await outside.tell(AUTH, person_id, CredentialRevoked(generation=1, sessions_ended=0))
    await until(lambda: world.desk("GET", path), lambda a: a[1]["state"] == "done")
    for person_id in persons:
        assert [type(e).__name__ for e in await world.events(person_id)] == [
            "ClaimOpened", "AccountClaimed", "AccountReset",
        ]  # fmt: skip
