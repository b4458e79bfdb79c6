"""Topics as they have to be, and clients that one can be rid of."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from shared import kafka
from shared.errors import Unavailable
from shared.kafka import (
    Topic,
    TopicRefused,
    check_topics,
    consuming,
    create_topics,
    enrollments_topic,
    producing,
    read_ranges,
    service_topic,
)
from shared.settings import Settings
from tests.shared.kit import settings


@pytest.fixture
def stack(kafka_bootstrap: str, topic_prefix: str) -> Settings:
    return settings(kafka=kafka_bootstrap, topic_prefix=topic_prefix)


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """The address of a broker that hangs: it takes connections and says nothing."""
    held: list[asyncio.StreamWriter] = []

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for writer in held:
        writer.close()
    server.close()


async def test_topics_are_made_once_and_are_as_they_have_to_be(stack: Settings) -> None:
    wanted = [service_topic(stack, "roster"), enrollments_topic(stack, "ccps")]
    assert await check_topics(stack, wanted) == [f"{topic.name} does not exist" for topic in wanted]
    assert await create_topics(stack, wanted) == [topic.name for topic in wanted]
    assert await create_topics(stack, wanted) == []
    assert await check_topics(stack, wanted) == []


async def test_processes_that_start_together_may_all_make_them(stack: Settings) -> None:
    wanted = [service_topic(stack, "roster")]
    made = await asyncio.gather(*(create_topics(stack, wanted) for _ in range(4)))
    assert sum(map(len, made)) == 1


async def test_what_differs_is_told(stack: Settings) -> None:
    made = service_topic(stack, "roster")
    await create_topics(stack, [made])
    wanted = Topic(made.name, 4, 3, {"retention.ms": "7", "cleanup.policy": "delete"})
    assert await check_topics(stack, [wanted]) == [
        f"{made.name} has 3 partitions, not 4",
        f"{made.name} is kept in fewer than 3 copies",
        f"{made.name} has retention.ms=-1, not 7",
    ]


async def test_a_topic_that_kafka_refuses_is_said(stack: Settings) -> None:
    with pytest.raises(TopicRefused, match="InvalidReplicationFactor"):
        await create_topics(stack, [Topic(f"{stack.topic_prefix}.x", 1, 3)])


def test_in_production_a_write_needs_most_copies() -> None:
    assert "min.insync.replicas" not in service_topic(settings(), "roster").config
    assert service_topic(settings(replication=3), "roster").config["min.insync.replicas"] == "2"


def test_history_is_kept_for_ever_and_what_districts_publish_for_thirty_days() -> None:
    assert service_topic(settings(), "roster").config["retention.ms"] == "-1"
    ingress = enrollments_topic(settings(), "ccps").config
    assert (ingress["retention.ms"], ingress["message.timestamp.type"]) == ("2592000000", "LogAppendTime")


async def test_a_login_comes_from_the_settings(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    given = settings(
        kafka="a:1,b:2",
        kafka_security="SASL_SSL",
        kafka_sasl_username="roster",
        kafka_sasl_password_file=tmp_path / "password",
    )
    options = kafka._common(given)
    assert options["bootstrap_servers"] == ["a:1", "b:2"]
    assert options["security_protocol"] == "SASL_SSL"
    assert (options["sasl_mechanism"], options["sasl_plain_username"]) == ("SCRAM-SHA-512", "roster")
    assert options["sasl_plain_password"] == "secret"
    assert options["ssl_context"].check_hostname


async def test_a_broker_that_is_away_is_said_soon() -> None:
    for start in (producing, consuming, kafka.administering):
        with pytest.raises(Unavailable) as caught:
            async with start(settings()):
                pass
        assert caught.value.dependency == "kafka"


async def test_a_broker_that_hangs_is_given_up(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "START_TIMEOUT_S", 0.3)
    async with asyncio.timeout(5):
        for start in (producing, consuming, kafka.administering):
            with pytest.raises(Unavailable):
                async with start(settings(kafka=silent)):
                    pass


async def test_ranges_are_read_to_their_ends(stack: Settings) -> None:
    topic = service_topic(stack, "roster")
    await create_topics(stack, [topic])
    async with producing(stack) as producer:
        for n in range(30):
            await producer.send_and_wait(topic.name, b"%d" % n, partition=n % 3)
    a, b, c = (TopicPartition(topic.name, part) for part in range(3))
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    async with consuming(stack) as consumer:
        async for records in read_ranges(consumer, {a: (0, 10), b: (4, 6), c: (10, 10)}):
            seen[records[0].partition] += [record.offset for record in records]
    assert seen == {0: list(range(10)), 1: [4, 5], 2: []}


async def test_silence_is_not_taken_for_the_end(stack: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client answers nothing for a topic that does not exist."""
    monkeypatch.setattr(kafka, "READ_PATIENCE_S", 0.6)
    async with consuming(stack) as consumer:
        with pytest.raises(Unavailable):
            async for _ in read_ranges(consumer, {TopicPartition("nowhere", 0): (0, 10)}):
                pass


async def test_a_consumer_that_does_not_stop_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "STOP_TIMEOUT_S", 0.1)

    class Stuck:
        _client: Any

        async def stop(self) -> None:
            await asyncio.Event().wait()

        async def close(self) -> None:
            raise KafkaConnectionError

    consumer = Stuck()
    consumer._client = consumer
    async with asyncio.timeout(2):
        await kafka.stop(consumer)


async def test_a_cancellation_out_of_the_client_is_not_ours() -> None:
    class Leaky:
        _client: Any

        async def stop(self) -> None:
            raise asyncio.CancelledError

        async def close(self) -> None:
            return

    consumer = Leaky()
    consumer._client = consumer
    await kafka.stop(consumer)


async def test_a_consumer_belongs_to_no_group() -> None:
    consumer = kafka.new_consumer(settings(), fetch_max_wait_ms=5)
    assert isinstance(consumer, AIOKafkaConsumer)
    assert (consumer._group_id, consumer._auto_offset_reset, consumer._fetch_max_wait_ms) == (None, "none", 5)
    await kafka.stop(consumer)
