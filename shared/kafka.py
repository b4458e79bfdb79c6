"""Kafka's clients with the settings that held under faults, ways to be rid of them in bounded time, and topics.

aiokafka's own `stop()` waits for the broker without a bound and may leak a CancelledError that nobody sent. One
failed batch poisons its partition for that producer. So clients are made, used for one session and discarded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.helpers import create_ssl_context

from shared.errors import HomeroomError, Unavailable
from shared.fetched import Fetched
from shared.messages import ingress_topic, topic_of
from shared.settings import Settings

log = structlog.get_logger(__name__)

C = TypeVar("C", AIOKafkaProducer, AIOKafkaConsumer, AIOKafkaAdminClient)

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 2.0
READ_PATIENCE_S = 15.0
READ_CHUNK = 2000
DAY_MS = 24 * 3600 * 1000

fetcher.MemoryRecords = Fetched  # the client has no setting for it


def _common(settings: Settings) -> dict[str, Any]:
    """Where Kafka is, how to be let in, and how long to wait for it.

    5 s for a request: a leader that hangs instead of dying stalls a client for one or two of these.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka.split(","),
        "client_id": f"homeroom-{settings.service}",
        "request_timeout_ms": 5000,
        "retry_backoff_ms": 100,
        "metadata_max_age_ms": 30000,
        "security_protocol": settings.kafka_security,
    }
    if "SSL" in settings.kafka_security:
        options["ssl_context"] = create_ssl_context(
            cafile=settings.kafka_ca_file, certfile=settings.kafka_cert_file, keyfile=settings.kafka_key_file
        )
    if "SASL" in settings.kafka_security:
        password_file = settings.kafka_sasl_password_file
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = password_file.read_text().strip() if password_file else None
    return options


def new_producer(settings: Settings) -> AIOKafkaProducer:
    """A producer that loses nothing it has acknowledged; to be started by the caller."""
    return AIOKafkaProducer(
        **_common(settings), acks="all", enable_idempotence=True, linger_ms=0, max_batch_size=256 * 1024
    )


def new_consumer(settings: Settings, **options: Any) -> AIOKafkaConsumer:
    """A consumer without a group: partitions are assigned, positions are ours. To be started by the caller.

    `fetch_max_wait_ms` of 250: the broker answers an empty fetch soon, which keeps `seek` and stopping quick. Records
    come at once in any case; at 50 an idle stack took nearly twice the processor's time, the broker's above all.
    """
    fixed = {"group_id": None, "auto_offset_reset": "none", "enable_auto_commit": False}
    return AIOKafkaConsumer(**_common(settings), **fixed, **({"fetch_max_wait_ms": 250} | options))


def new_admin(settings: Settings) -> AIOKafkaAdminClient:
    """An administrator's client; to be started by the caller."""
    return AIOKafkaAdminClient(**_common(settings))


@asynccontextmanager
async def producing(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer, discarded at the end whatever is still in it. Raises Unavailable("kafka")."""
    async with _started(new_producer(settings), discard) as producer:
        yield producer


@asynccontextmanager
async def consuming(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A started consumer, stopped at the end. Raises Unavailable("kafka")."""
    async with _started(new_consumer(settings, **options), stop) as consumer:
        yield consumer


@asynccontextmanager
async def administering(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started administrator's client, closed at the end. Raises Unavailable("kafka")."""
    async with _started(new_admin(settings), close_admin) as admin:
        yield admin


@asynccontextmanager
async def _started(client: C, end: Callable[[C], Awaitable[None]]) -> AsyncIterator[C]:
    try:
        with unavailable_when_lost():
            async with asyncio.timeout(START_TIMEOUT_S):
                await client.start()
        yield client
    finally:
        await end(client)


@contextmanager
def unavailable_when_lost() -> Iterator[None]:
    """Turn what Kafka's clients raise, and time running out, into Unavailable("kafka")."""
    try:
        yield
    except (KafkaError, OSError) as error:  # a TimeoutError is an OSError
        raise Unavailable("kafka") from error


async def discard(producer: AIOKafkaProducer) -> None:
    """Be rid of a producer without waiting for the broker. What it has not sent, it never will.

    What it has sent may still arrive: records are only duplicated by this, never lost.
    """
    producer._closed = True  # or its destructor complains; `stop()` alone sets it, and that one waits
    sender = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
    await _bounded(producer.client.close(), "producer")
    if sender is not None and not sender.done():
        sender.cancel()


async def stop(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer in bounded time. Never raises what the client does."""
    await _bounded(consumer.stop(), "consumer")
    await _bounded(consumer._client.close(), "consumer")


async def close_admin(admin: AIOKafkaAdminClient) -> None:
    """Close an administrator's client in bounded time."""
    await _bounded(admin.close(), "admin")


async def _bounded(ending: Awaitable[None], what: str) -> None:
    """Run an ending as a task of its own, so that a CancelledError out of it is not taken for ours."""
    task = asyncio.ensure_future(ending)
    await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
    if not task.done():
        task.cancel()
        log.warning("kafka_client_hangs", client=what)
    elif not task.cancelled() and (error := task.exception()) is not None:
        log.warning("kafka_client_not_closed", client=what, error=repr(error))


async def topic_partitions(consumer: AIOKafkaConsumer, *topics: str) -> list[TopicPartition]:
    """Those that topics have, in order; none of a topic that does not exist.

    All metadata is asked for: asked for one topic by its name, the client would wait for that to appear.
    """
    cluster = await consumer._client.fetch_all_metadata()
    return [TopicPartition(t, part) for t in topics for part in sorted(cluster.partitions_for_topic(t) or ())]


async def read_ranges(
    consumer: AIOKafkaConsumer, ranges: Mapping[TopicPartition, tuple[int, int]]
) -> AsyncIterator[list[ConsumerRecord]]:
    """All records from the first up to (not with) the second offset of each partition, in chunks of one partition.

    `getmany` answers nothing for a topic that is gone or a broker that hangs; nothing for READ_PATIENCE_S is
    Unavailable("kafka").
    """
    left = {tp: end for tp, (start, end) in ranges.items() if start < end}
    consumer.assign(list(left))
    for tp in left:
        consumer.seek(tp, ranges[tp][0])
    heard_at = asyncio.get_running_loop().time()
    while left:
        with unavailable_when_lost():
            async with asyncio.timeout(READ_PATIENCE_S):
                batches = await consumer.getmany(*left, timeout_ms=500, max_records=READ_CHUNK)
        now = asyncio.get_running_loop().time()
        if batches:
            heard_at = now
        elif now - heard_at > READ_PATIENCE_S:
            raise Unavailable("kafka")
        for tp, records in batches.items():
            if wanted := [record for record in records if record.offset < left[tp]]:
                yield wanted
            if records[-1].offset + 1 >= left[tp]:
                del left[tp]


@dataclass(frozen=True)
class Topic:
    """A topic as it has to be."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)


class TopicRefused(HomeroomError):
    """Kafka would not make a topic: too few brokers, no permission, a name it does not take."""


def service_topic(settings: Settings, service: str) -> Topic:
    """Where a service's events stay for ever: the history that read models are rebuilt from, so never compacted."""
    return _topic(settings, topic_of(settings.topic_prefix, service), {"retention.ms": "-1"})


def side_topic(settings: Settings, service: str, what: str, kept: timedelta) -> Topic:
    """What a service tells beside its history: nothing is made from it, so it goes after a while."""
    name = f"{settings.topic_prefix}.{service}.{what}.v1"
    return _topic(settings, name, {"retention.ms": str(kept // timedelta(milliseconds=1))})


def enrollments_topic(settings: Settings, district: str) -> Topic:
    """Where a district's systems publish. The broker stamps what arrives: the wait may count from that moment."""
    name = ingress_topic(settings.topic_prefix, district)
    config = {"retention.ms": str(30 * DAY_MS), "message.timestamp.type": "LogAppendTime"}
    return _topic(settings, name, config)


def _topic(settings: Settings, name: str, config: dict[str, str]) -> Topic:
    safe = {
        "cleanup.policy": "delete",
        "retention.bytes": "-1",
        "unclean.leader.election.enable": "false",
        "max.message.bytes": "1048588",  # our batches must fit: one that does not poisons the producer
    }
    if settings.replication >= 3:
        safe["min.insync.replicas"] = str(settings.replication - 1)
    return Topic(name, settings.partitions, settings.replication, safe | config)


async def create_topics(settings: Settings, topics: Sequence[Topic]) -> list[str]:
    """Make what is missing, and wait until it is seen; answers the names made here.

    Raises Unavailable("kafka"), TopicRefused.
    """
    async with administering(settings) as admin:
        with unavailable_when_lost():
            existing = set(await admin.list_topics())
            missing = [topic for topic in topics if topic.name not in existing]
            if not missing:
                return []
            wanted = [
                NewTopic(t.name, t.partitions, t.replication, topic_configs=dict(t.config)) for t in missing
            ]
            answer = await admin.create_topics(wanted)
            made = _made(answer.topic_errors)
            async with asyncio.timeout(START_TIMEOUT_S):
                while not {topic.name for topic in missing} <= set(await admin.list_topics()):
                    await asyncio.sleep(0.05)
    return made


def _made(topic_errors: Sequence[Sequence[Any]]) -> list[str]:
    made = []
    for name, code, *message in topic_errors:
        if code == 0:
            made.append(name)
        elif for_code(code) is not TopicAlreadyExistsError:  # another process was faster
            raise TopicRefused(f"{name}: {for_code(code).__name__} {message}")
    return made


async def check_topics(settings: Settings, topics: Sequence[Topic]) -> list[str]:
    """What is not as it has to be, in sentences; none: all is well. Raises Unavailable("kafka")."""
    async with administering(settings) as admin:
        with unavailable_when_lost():
            existing = set(await admin.list_topics())
            problems = [f"{t.name} does not exist" for t in topics if t.name not in existing]
            present = [t for t in topics if t.name in existing]
            if not present:
                return problems
            described = {d["topic"]: d for d in await admin.describe_topics([t.name for t in present])}
            resources = [ConfigResource(ConfigResourceType.TOPIC, t.name) for t in present]
            answers = await admin.describe_configs(resources)
    configs = {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for answer in answers
        for resource in answer.resources
    }
    for topic in present:
        problems += _differences(topic, described[topic.name]["partitions"], configs.get(topic.name, {}))
    return problems


def _differences(topic: Topic, partitions: list[dict[str, Any]], config: dict[str, str]) -> list[str]:
    problems = []
    if len(partitions) != topic.partitions:
        problems.append(f"{topic.name} has {len(partitions)} partitions, not {topic.partitions}")
    if any(len(partition["replicas"]) < topic.replication for partition in partitions):
        problems.append(f"{topic.name} is kept in fewer than {topic.replication} copies")
    problems += [
        f"{topic.name} has {name}={config.get(name)}, not {wanted}"
        for name, wanted in topic.config.items()
        if config.get(name) != wanted
    ]
    return problems
