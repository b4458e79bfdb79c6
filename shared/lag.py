"""How far everything that reads Kafka is behind, whichever process runs it: checkpoints beside the topics' ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec
from aiokafka import TopicPartition

from shared import kafka
from shared.database import Connection, queries
from shared.errors import Unavailable
from shared.settings import Settings

KAFKA_TIMEOUT_S = 3.0

_sql = queries("shared", "consumer.sql")


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """`lag` in records, null while Kafka does not say. `still_s`: for how long a part that lags has not moved.

    `alarm` says why it stopped for good; `state` is what it is doing, when this process runs it.
    """

    consumer: str
    topic: str
    lag: int | None
    still_s: float
    parts: dict[int, int | None]
    alarm: str | None
    state: str | None


async def lags(conn: Connection, settings: Settings, states: Mapping[str, str], now: datetime) -> list[Lag]:
    """Every projection and consumer that has a checkpoint here, by name."""
    rows = await conn.fetch(_sql.all_checkpoints)
    partitions = [TopicPartition(row["topic"], row["part"]) for row in rows]
    ends = await _ends(settings, partitions)
    found: dict[tuple[str, str], Lag] = {}
    for row, tp in zip(rows, partitions, strict=True):
        behind = max(0, ends[tp] - row["next_offset"]) if tp in ends else None
        still_s = round((now - row["at"]).total_seconds(), 1) if behind else 0.0
        name = row["consumer"]
        before = found.get((name, tp.topic))
        found[name, tp.topic] = Lag(
            consumer=name,
            topic=tp.topic,
            lag=_sum(0 if before is None else before.lag, behind),
            still_s=max(still_s, before.still_s if before else 0.0),
            parts={**(before.parts if before else {}), tp.partition: behind},
            alarm=row["alarm"] or (before.alarm if before else None),
            state=states.get(name),
        )
    return list(found.values())


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


async def _ends(settings: Settings, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """Where topics end; nothing when Kafka does not answer soon, and nothing of topics that do not exist."""
    try:
        with kafka.unavailable_when_lost():
            async with asyncio.timeout(KAFKA_TIMEOUT_S), kafka.consuming(settings) as consumer:
                existing = await kafka.topic_partitions(consumer, *{tp.topic for tp in partitions})
                asked = sorted(set(partitions) & set(existing))
                ends: dict[TopicPartition, int] = await consumer.end_offsets(asked)
                return ends
    except Unavailable:
        return {}
