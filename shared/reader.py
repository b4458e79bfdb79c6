"""One reader of some partitions of a topic, from where a checkpoint says.

The checkpoint lives in PostgreSQL, so the reader belongs to no consumer group: it is assigned its partitions and seeks.
What the client hides is looked for here: a topic that is not there (it answers nothing), a topic made anew (it goes on
at the old offset), a broker that hangs (it waits without an end).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import CorruptRecordException, OffsetOutOfRangeError, TopicAuthorizationFailedError

from shared import clock, kafka, metrics
from shared.errors import Diverged, Unavailable
from shared.settings import Settings

log = structlog.get_logger(__name__)

OPEN_TIMEOUT_S = 10.0
# The client asks the broker several times a second: silence for three request timeouts means that it hangs.
STALE_AFTER_S = 15.0


class Position(NamedTuple):
    """Where to go on: the next record's offset, and the id of the record before it (None: there is none)."""

    next_offset: int
    last_id: str | None


# Chooses the partitions to read and where, from the first offset of each partition that the topic has.
Locate = Callable[[Mapping[int, int]], Awaitable[Mapping[int, Position]]]


def identity(record: ConsumerRecord) -> str:
    """What tells a record from another that may lie at its offset in a topic made anew: its ce_id, or a digest."""
    for name, value in record.headers:
        if name == "ce_id" and value is not None and len(value) <= 100:
            return str(value.decode(errors="backslashreplace")).replace("\0", "\\x00")
    digest = hashlib.blake2b(digest_size=16)
    for part in (str(record.timestamp).encode(), record.key or b"", record.value or b""):
        digest.update(b"%d:" % len(part) + part)
    return f"blake2b:{digest.hexdigest()}"


class Reader:
    """Use `open`. Everything raises Unavailable when Kafka does not answer, Diverged when it tells another history."""

    def __init__(self, consumer: AIOKafkaConsumer, name: str, topic: str) -> None:
        self.name = name
        self.topic = topic
        self.parts: tuple[int, ...] = ()
        self.measured: set[int] = set()
        self._consumer = consumer
        self._opened_at = clock.now().timestamp()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: Settings, name: str, topic: str, locate: Locate) -> AsyncIterator[Reader]:
        """A reader that stands where `locate` says; the record before each position was read again and compared."""
        # What a stranger's producer took back, its transaction aborted, was never said.
        async with kafka.consuming(settings, isolation_level="read_committed") as consumer:
            reader = cls(consumer, name, topic)
            with kafka.unavailable_when_lost():
                async with asyncio.timeout(OPEN_TIMEOUT_S):
                    await reader._seek(locate)
            try:
                yield reader
            finally:
                # Another process may go on with it: what is said here would be stale.
                for part in reader.measured:
                    with contextlib.suppress(KeyError):
                        metrics.lag_records.remove(name, part)

    async def read(self, max_records: int, timeout_ms: int) -> dict[int, list[ConsumerRecord]]:
        """The next records of each partition that has some; {} after `timeout_ms` without any."""
        with kafka.unavailable_when_lost():
            try:
                found = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=max_records)
            except OffsetOutOfRangeError as error:
                raise Diverged(f"{self.topic} no longer holds what comes next: {error}") from error
            except (CorruptRecordException, TopicAuthorizationFailedError) as error:
                # A checksum that is wrong is the broker's disk's: no producer can have written it. Never passed over.
                raise Unavailable(f"kafka topic {self.topic} ({error})") from error
        if not found:
            self._check_health()
        for partition in found or self._consumer.assignment():
            behind = (self._consumer.highwater(partition) or 0) - await self._consumer.position(partition)
            metrics.lag_records.labels(self.name, partition.partition).set(max(0, behind))
            self.measured.add(partition.partition)
        return {partition.partition: records for partition, records in found.items()}

    def pause(self, *parts: int) -> None:
        """Read no more of these partitions until `resume`."""
        self._consumer.pause(*(TopicPartition(self.topic, part) for part in parts))

    def resume(self, *parts: int) -> None:
        self._consumer.resume(*(TopicPartition(self.topic, part) for part in parts))

    async def _seek(self, locate: Locate) -> None:
        existing = await kafka.topic_partitions(self._consumer, self.topic)
        if not existing:
            raise Unavailable(f"kafka topic {self.topic}")
        begins = await self._consumer.beginning_offsets(existing)
        positions = await locate({tp.partition: offset for tp, offset in begins.items()})
        ends = await self._consumer.end_offsets(existing)  # after the checkpoints: they move meanwhile
        self.parts = tuple(sorted(positions))
        partitions = [TopicPartition(self.topic, part) for part in self.parts]
        self._consumer.assign(partitions)
        for tp in partitions:
            next_offset = positions[tp.partition].next_offset
            if not begins[tp] <= next_offset <= ends[tp]:
                held = f"offsets {begins[tp]} to {ends[tp]}"
                raise Diverged(f"{self.topic} [{tp.partition}] holds {held}, but {next_offset} comes next")
        await self._verify(
            {tp: p for tp in partitions if (p := positions[tp.partition]).next_offset > begins[tp]}
        )
        for tp in partitions:
            self._consumer.seek(tp, positions[tp.partition].next_offset)

    async def _verify(self, positions: Mapping[TopicPartition, Position]) -> None:
        """Read the record before each position again."""
        for tp, position in positions.items():
            self._consumer.seek(tp, position.next_offset - 1)
        for tp, (next_offset, last_id) in positions.items():
            if last_id is None:
                continue
            found = await self._consumer.getmany(tp, timeout_ms=int(OPEN_TIMEOUT_S * 1000), max_records=1)
            if not found:
                raise Unavailable("kafka")
            [record] = found[tp]
            if (record.offset, identity(record)) != (next_offset - 1, last_id):
                raise Diverged(
                    f"{self.topic} [{tp.partition}] has {identity(record)} at offset {record.offset}, where {last_id}"
                    f" was at {next_offset - 1}: the topic was made anew"
                )

    def _check_health(self) -> None:
        """Raises Unavailable when the broker has not answered for too long: the caller opens another reader."""
        paused = self._consumer.paused()
        for tp in self._consumer.assignment():
            polled_ms = self._consumer.last_poll_timestamp(tp)
            polled_at = self._opened_at if polled_ms is None else polled_ms / 1000
            if tp not in paused and clock.now().timestamp() - polled_at > STALE_AFTER_S:
                log.warning("reader_stale", consumer=self.name, topic=self.topic, partition=tp.partition)
                raise Unavailable("kafka")
