"""A service of no meaning, for the kit's own tests: it counts."""

import asyncio
from collections import defaultdict
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from shared import clock
from shared.database import Database, migrate
from shared.errors import Rejected
from shared.event_store import EventStore
from shared.kafka import administering, consuming, create_topics, read_ranges, service_topic
from shared.messages import Cause, Event, EventCodec, Recorded, from_kafka, partition_of, topic_of
from shared.projection import Projection
from shared.relay import Relay, backlog
from shared.settings import Settings
from shared.transact import Decider, transact

SERVICE = "counter"


class Counted(Event):
    """Somebody counted on."""

    by: int
    note: str = ""


class Cleared(Event):
    """The count began anew."""


class Removed(Event):
    """There is nothing to count any more."""


class Step(msgspec.Struct, frozen=True):
    """One item of a row's list."""

    by: int
    at: datetime


class Count(msgspec.Struct, frozen=True):
    """One row, with a column of each kind."""

    person_id: UUID
    district: str
    total: int
    steps: list[Step]
    cleared: bool = False
    cleared_at: datetime | None = None
    note: str | None = None
    version: int = 0


def count(row: Count | None, event: Recorded[Any]) -> Count | None:
    match event.data:
        case Counted(by=by, note=note):
            row = row or Count(event.stream_id, event.district, 0, [])
            steps = [*row.steps, Step(by, event.time)]
            return msgspec.structs.replace(row, total=row.total + by, steps=steps, note=note or None)
        case Cleared():
            return row and msgspec.structs.replace(
                row, total=0, steps=[], cleared=True, cleared_at=event.time
            )
        case _:
            return None


CODEC = EventCodec(SERVICE, [Counted, Cleared, Removed])
COUNTS = Projection("count", SERVICE, CODEC, Count, count, inline=True)
COUNTS_TABLE = """
    CREATE TABLE count (person_id uuid PRIMARY KEY, district text NOT NULL, total bigint NOT NULL, steps jsonb NOT NULL,
        cleared boolean NOT NULL, cleared_at timestamptz, note text, version bigint NOT NULL)
"""


def evolve(state: int, event: Recorded[Any]) -> int:
    return state + event.data.by if isinstance(event.data, Counted) else 0


DECIDER = Decider(0, evolve)


def count_on(state: int, facts: Any, by: int = 1) -> list[Event]:
    """Counts up to a hundred. Nothing to count is a repeat."""
    if state + by > 100:
        raise Rejected("too_many", secret={"total": state}, limit=100)
    return [Counted(by=by)] if by else []


def settings(**given: Any) -> Settings:
    unused = {"postgres": "postgresql://127.0.0.1:1/none", "kafka": "127.0.0.1:1"}
    return Settings(**({"service": SERVICE, "partitions": 3} | unused | given))


async def migrated(dsn: str, folder: Path) -> None:
    """Makes the counter's tables: its own migration comes from a folder `counter/sql`, as a service's does."""
    sql = folder / SERVICE / "sql"
    sql.mkdir(parents=True, exist_ok=True)
    (sql / "0001_count.sql").write_text(COUNTS_TABLE)
    await migrate(dsn, sql)


class Publishing:
    """A database, a topic, a store over both, and what a reader of the topic sees."""

    def __init__(self, dsn: str, kafka: str, prefix: str) -> None:
        self.settings = settings(postgres=dsn, kafka=kafka, topic_prefix=prefix)
        self.topic = topic_of(prefix, SERVICE)
        self.db = Database(dsn, max_size=16)
        self.relay = Relay(self.settings)
        self.store = EventStore(self.db, CODEC, self.settings.partitions, on_append=self.relay.wake)

    async def make_topic(self, **config: str) -> None:
        wanted = service_topic(self.settings, SERVICE)
        await create_topics(self.settings, [replace(wanted, config={**wanted.config, **config})])

    async def drop_topic(self) -> None:
        async with administering(self.settings) as admin:
            await admin.delete_topics([self.topic])
            while self.topic in await admin.list_topics():
                await asyncio.sleep(0.05)

    async def add(self, person: UUID, *by: int) -> list[Recorded[Event]]:
        def decide(state: int, facts: Any) -> list[Event]:
            return [Counted(by=n) for n in by or (1,)]

        now = clock.now()
        outcome = await transact(
            self.store, DECIDER, "ccps", person, decide, now=now, cause=Cause.new(), attempts=30
        )
        return outcome.events

    async def drained(self, patience_s: float = 30) -> None:
        """Returns when nothing waits in the outbox."""
        async with asyncio.timeout(patience_s):
            while True:
                async with self.db.connection() as conn:
                    if (await backlog(conn)).pending == 0:
                        return
                await asyncio.sleep(0.02)

    async def records(self) -> list[ConsumerRecord]:
        """Everything in the topic, each partition in order."""
        found: list[ConsumerRecord] = []
        async with consuming(self.settings) as consumer:
            tps = [TopicPartition(self.topic, part) for part in range(self.settings.partitions)]
            ends = await consumer.end_offsets(tps)
            async for records in read_ranges(consumer, {tp: (0, end) for tp, end in ends.items()}):
                found += records
        return sorted(found, key=lambda record: (record.partition, record.offset))

    async def versions(self) -> dict[UUID, list[int]]:
        """Each person's versions as they lie in the topic."""
        seen: dict[UUID, list[int]] = defaultdict(list)
        for record in await self.records():
            event = from_kafka(record, CODEC)
            assert record.partition == partition_of(event.stream_id, self.settings.partitions)
            seen[event.stream_id].append(event.version)
        return seen

    async def stored(self) -> dict[UUID, int]:
        async with self.db.connection() as conn:
            rows = await conn.fetch("SELECT stream_id, version FROM stream")
        return {row["stream_id"]: row["version"] for row in rows}


def first_seen(versions: list[int]) -> list[int]:
    """What a gate lets through: versions in the order in which each is new."""
    return list(dict.fromkeys(versions))
