"""PostgreSQL and Kafka go away under a service, dying or hanging, and come back: it says so, and goes on by itself."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import pytest
from aiohttp.test_utils import TestClient

from shared.service import create_app
from shared.settings import Settings
from shared.web import KIT
from tests.faults.proxy import KafkaProxy, PostgresProxy, Proxy, Snare
from tests.shared.toy import SPEC

D = "/v1/districts/ccps"
Client = TestClient[Any, Any]
BACK_WITHIN_S, BACK_WITHIN_AFTER_HANGING_S = 10, 30

pytestmark = pytest.mark.usefixtures("backing")


class Line(Proxy):
    """A line to PostgreSQL or Kafka that can be cut, or made to hang."""

    def __init__(self, target: str) -> None:
        super().__init__(target, Snare())
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._at = 0

    async def start(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._at)
        self._at = self.port
        return self

    async def die(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    async def hang(self) -> None:
        self.flowing.clear()

    async def come_back(self) -> None:
        if not self.flowing.is_set():
            self.flowing.set()
        else:
            await self.start()

    async def request(self, frame: bytes, produces: set[int]) -> bytes:
        await self.flowing.wait()
        return await super().request(frame, produces)

    async def answer(self, frame: bytes, produces: set[int]) -> bytes:
        await self.flowing.wait()
        return await super().answer(frame, produces)


class PostgresLine(Line, PostgresProxy):
    pass


class KafkaLine(Line, KafkaProxy):
    pass


@pytest.fixture
async def postgres_line(database: str) -> AsyncIterator[Line]:
    line = PostgresLine(urlsplit(database).netloc.rpartition("@")[2])
    await line.start()
    yield line
    await line.stop()


@pytest.fixture
async def kafka_line(kafka_bootstrap: str) -> AsyncIterator[Line]:
    line = KafkaLine(kafka_bootstrap)
    await line.start()
    yield line
    await line.stop()


@pytest.fixture
async def client(
    settings: Settings,
    database: str,
    topic_prefix: str,
    postgres_line: Line,
    kafka_line: Line,
    aiohttp_client: Callable[..., Awaitable[Client]],
) -> Client:
    parts = urlsplit(database)
    netloc = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{postgres_line.port}"
    real = msgspec.structs.replace(
        settings,
        postgres=urlunsplit(parts._replace(netloc=netloc)),
        kafka=f"127.0.0.1:{kafka_line.port}",
        topic_prefix=topic_prefix,
        partitions=2,
    )
    client = await aiohttp_client(create_app(SPEC, real))
    async with asyncio.timeout(30):
        await client.app[KIT].readiness.wait()  # type: ignore[union-attr]
    return client


async def until(client: Client, wanted: Callable[[dict[str, str]], bool], within_s: float) -> None:
    """Asks /health/ready until what is missing is as wanted."""
    began = time.monotonic()
    while not wanted(missing := (await (await client.get("/health/ready")).json())["missing"]):
        assert time.monotonic() - began < within_s, missing
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("how", "back_s"), [("die", BACK_WITHIN_S), ("hang", BACK_WITHIN_AFTER_HANGING_S)])
async def test_postgres_goes_away_and_comes_back(
    client: Client, postgres_line: Line, token: Callable[..., str], how: str, back_s: float
) -> None:
    headers = {"Authorization": f"Bearer {token()}"}

    async def write() -> Any:
        return await client.post(f"{D}/notes", json={"text": "x"}, headers=headers)

    assert (await write()).status == 201
    await getattr(postgres_line, how)()
    async with asyncio.timeout(15):
        response = await write()
    assert response.status == 503
    assert response.headers["Retry-After"]
    assert (await response.json(content_type=None))["dependency"] == "postgres"
    assert (await client.get("/v1/codes/x")).status == 200
    await until(client, lambda missing: "postgres" in missing, 15)
    assert (await client.get("/health/live")).status == 200
    assert (await client.get("/health/serving")).status == 503
    await postgres_line.come_back()
    await until(client, lambda missing: not missing, back_s)
    assert (await write()).status == 201


@pytest.mark.parametrize(("how", "back_s"), [("die", BACK_WITHIN_S), ("hang", BACK_WITHIN_AFTER_HANGING_S)])
async def test_kafka_goes_away_and_comes_back(
    client: Client, kafka_line: Line, token: Callable[..., str], how: str, back_s: float
) -> None:
    headers = {"Authorization": f"Bearer {token()}"}
    await getattr(kafka_line, how)()
    await until(client, lambda missing: "kafka" in missing, 15)
    assert (await client.get("/health/serving")).status == 200
    assert (await client.post(f"{D}/notes", json={"text": "x"}, headers=headers)).status == 201
    await kafka_line.come_back()
    await until(client, lambda missing: not missing, back_s)
