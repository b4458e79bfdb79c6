"""Roster as its callers see it: its application, on a real PostgreSQL and Kafka."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from aiohttp.test_utils import TestClient
from aiokafka import AIOKafkaProducer

from services.roster import import_worker
from services.roster.app import create_app
from shared import clock
from shared.keys import Signer, make_key
from shared.messages import ingress_topic
from shared.settings import Settings
from tests.roster.given import DISTRICT, POLICY_FOLDER, binary
from tests.roster.importing import District
from tests.support.service import ISSUER, migrated_database

PATIENCE_S = 20


class Roster:
    """The running service, and a district's system and a help desk that talk to it."""

    def __init__(
        self, client: Any, signer: Signer, producer: AIOKafkaProducer, topic: str, bootstrap: str
    ) -> None:
        self.client, self._signer, self.producer = client, signer, producer
        self.topic, self.bootstrap = topic, bootstrap

    def token(
        self, scope: str, district: str = DISTRICT, *, sub: str = "", human: bool = False, name: str = ""
    ) -> str:
        now = int(clock.now().timestamp())
        claims = {"iss": f"{ISSUER}/v1/districts/{district}", "aud": "homeroom", "sub": sub or scope}
        claims |= {"scope": scope, "human": human, "district": district}
        claims |= {"name": name} if name else {}
        return self._signer.sign("at+jwt", claims | {"iat": now, "exp": now + 600})

    async def ask(
        self,
        method: str,
        path: str,
        *,
        scope: str = "roster:write",
        sub: str = "",
        human: bool = False,
        name: str = "",
        district: str = DISTRICT,
        headers: dict[str, str] | None = None,
        **given: Any,
    ) -> tuple[int, Any]:
        token = self.token(scope, district, sub=sub, human=human, name=name)
        sent = {"Authorization": f"Bearer {token}"} | (headers or {})
        url = f"/v1/districts/{district}{path}"
        async with self.client.request(method, url, headers=sent, **given) as answer:
            return answer.status, await answer.json(content_type=None)

    async def publish(
        self, body: Any, *, kind: str = "application/cloudevents+json", query: str = "", **given: Any
    ) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {"Content-Type": kind} | given.pop("headers", {})
        return await self.ask("POST", f"/enrollments{query}", data=data, headers=headers, **given)

    async def produce(
        self,
        event: dict[str, Any],
        *,
        key: str | None = None,
        structured: bool = False,
        part: int | None = None,
    ) -> None:
        """Publish to the ingress topic, under the source_id unless a key is named."""
        if structured:
            value, headers = msgspec.json.encode(event), [("content-type", b"application/cloudevents+json")]
        else:
            value, headers = binary(event)
        key = key if key is not None else event["data"]["source_id"]
        await self.producer.send_and_wait(
            self.topic, value, key=key.encode(), partition=part, headers=headers
        )

    async def until(self, path: str, good: Callable[[int, Any], bool], *, scope: str = "roster:write") -> Any:
        """Ask again until the answer is good; the answer."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                status, body = await self.ask("GET", path, scope=scope)
                if good(status, body):
                    return body
                await asyncio.sleep(0.05)

    async def became(self, event: dict[str, Any], state: str | None = None) -> Any:
        """What became of an event, once roster has heard of it."""
        return await self.until(
            f"/enrollments/{event['id']}",
            lambda status, body: status == 200 and state in (None, body["state"]),
        )


@pytest.fixture(scope="session")
def migrated(backing: dict[str, str]) -> Iterator[str]:
    with migrated_database(backing["postgres"], "roster") as dsn:
        yield dsn


@pytest.fixture(scope="session")
def template(backing: dict[str, str]) -> Iterator[str]:
    """Roster's tables are made once: a copy takes a fifth of the time."""
    with migrated_database(backing["postgres"], "roster") as dsn:
        yield urlsplit(dsn).path.removeprefix("/")


@pytest.fixture
def policy_dir() -> Path:
    """Whose districts roster serves."""
    return POLICY_FOLDER


@pytest.fixture
async def roster(
    policy_dir: Path,
    database: str,
    topic_prefix: str,
    kafka_bootstrap: str,
    tmp_path: Path,
    aiohttp_client: Callable[..., Awaitable[TestClient[Any, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Roster]:
    """Started, and ready; it looks for what is to be imported, and tries again, sooner than it otherwise would."""
    monkeypatch.setattr(import_worker, "POLL_S", 0.02)
    monkeypatch.setattr(import_worker, "FIRST_PAUSE_S", 0.05)
    make_key("auth", tmp_path / "public", tmp_path / "auth", clock.now())
    settings = Settings(
        service="roster",
        postgres=database,
        kafka=kafka_bootstrap,
        topic_prefix=topic_prefix,
        partitions=3,
        issuer=ISSUER,
        key_dir=tmp_path / "public",
        policy_dir=policy_dir,
        provider_secret_dir=tmp_path / "secrets",
    )
    client = await aiohttp_client(create_app(settings))
    async with asyncio.timeout(PATIENCE_S):
        while (await client.get("/health/ready")).status != 200:
            await asyncio.sleep(0.05)
    signer = Signer(tmp_path / "auth", "auth")
    signer.refresh()
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, acks="all")
    await producer.start()
    try:
        yield Roster(client, signer, producer, ingress_topic(topic_prefix, DISTRICT), kafka_bootstrap)
    finally:
        await producer.stop()


@pytest.fixture
async def district(roster: Roster, tmp_path: Path, database: str) -> District:
    """It exports."""
    return District(roster, tmp_path, database)
