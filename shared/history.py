"""Store and topic must tell one history. Backups are restored and topics are recreated: found out here, at start
and on demand, never by a pupil.

Two ways to disagree. The topic knows events that the store lacks (a restored store): nothing may be decided or served
on it. The store knows events that the topic lacks (a topic lost, cut or made anew): nothing more may be published,
or the missing ones could never be put back in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from shared.database import Connection, queries
from shared.errors import MalformedRecord
from shared.kafka import READ_PATIENCE_S, read_ranges, topic_partitions, unavailable_when_lost

_sql = queries("shared", "history.sql")

STREAMS_PER_PAGE = 5000
FINDINGS_KEPT = 100

Ahead = Literal["topic", "store"]


@dataclass(frozen=True)
class Disagreement:
    """Where store and topic part ways. `ahead` is the side that knows more."""

    part: int
    ahead: Ahead
    detail: str


@dataclass(frozen=True)
class _Envelope:
    """As much of a record as comparing needs, whatever its type."""

    event_id: UUID
    stream_id: UUID
    version: int


def _envelope(record: ConsumerRecord) -> _Envelope:
    headers = dict(record.headers)
    try:
        return _Envelope(
            UUID(headers["ce_id"].decode()),
            UUID(headers["ce_subject"].decode()),
            int(headers["ce_sequence"]),
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise MalformedRecord(f"offset {record.offset} holds no event of ours: {error!r}") from error


async def compare(
    conn: Connection, consumer: AIOKafkaConsumer, topic: str, parts: Sequence[int]
) -> dict[int, Disagreement]:
    """Compare what was last published with what the topic holds; the parts that disagree. Raises Unavailable.

    Reads the last published record of each part, and what comes after it: sent, but not marked as sent. The store
    knows those, unless it was restored. (Events are committed before they are sent, and the topic is read before
    the store is asked: a relay at work meanwhile does no harm.)
    """
    published = {
        row["part"]: (row["last_offset"], row["last_event_id"])
        for row in await conn.fetch(_sql.publications, list(parts))
    }
    found: dict[int, Disagreement] = {}
    ranges: dict[TopicPartition, tuple[int, int]] = {}
    for tp, (begin, end) in (await _bounds(consumer, topic, parts)).items():
        last_offset = published[tp.partition][0] if tp.partition in published else -1
        if begin > 0:
            found[tp.partition] = Disagreement(tp.partition, "store", f"the topic begins at offset {begin}")
        elif end <= last_offset:
            detail = f"{last_offset + 1} records were published, the topic has {end}"
            found[tp.partition] = Disagreement(tp.partition, "store", detail)
        else:
            ranges[tp] = (max(last_offset, 0), end)
    async for records in read_ranges(consumer, ranges):
        part = records[0].partition
        if part not in found and (problem := await _first_stranger(conn, records, published.get(part))):
            found[part] = problem
    return found


async def _bounds(
    consumer: AIOKafkaConsumer, topic: str, parts: Sequence[int]
) -> dict[TopicPartition, tuple[int, int]]:
    """First offset, and the offset after the last, of each part; a part that does not exist is empty."""
    with unavailable_when_lost():
        async with asyncio.timeout(READ_PATIENCE_S):
            asked = [tp for tp in await topic_partitions(consumer, topic) if tp.partition in parts]
            begins, ends = await consumer.beginning_offsets(asked), await consumer.end_offsets(asked)
    tps = (TopicPartition(topic, part) for part in parts)
    return {tp: (begins.get(tp, 0), ends.get(tp, 0)) for tp in tps}


async def _first_stranger(
    conn: Connection, records: Sequence[ConsumerRecord], last: tuple[int, UUID] | None
) -> Disagreement | None:
    """The first of some records that should not be there: not known to the store, or not the one published last."""
    try:
        envelopes = [_envelope(record) for record in records]
    except MalformedRecord as error:
        return Disagreement(records[0].partition, "topic", str(error))
    known = await _known_ids(conn, envelopes)
    for record, envelope, event_id in zip(records, envelopes, known, strict=True):
        where = f"offset {record.offset}, version {envelope.version} of {envelope.stream_id}"
        if envelope.event_id != event_id:
            return Disagreement(record.partition, "topic", f"the store does not know the event at {where}")
        if last is not None and record.offset == last[0] and envelope.event_id != last[1]:
            return Disagreement(record.partition, "store", f"another event was published at {where}")
    return None


async def _known_ids(conn: Connection, envelopes: Sequence[_Envelope]) -> list[UUID | None]:
    rows = await conn.fetch(_sql.event_ids, [e.stream_id for e in envelopes], [e.version for e in envelopes])
    return [row["event_id"] for row in rows]


@dataclass
class Verification:
    """A whole topic held against the whole store. The lists keep the first FINDINGS_KEPT findings."""

    records: int = 0
    streams: int = 0
    duplicates: int = 0
    strangers: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Every event that was published is there, in order, and nothing else. Duplicates are no harm."""
        return not (self.strangers or self.gaps or self.missing)


async def verify(conn: Connection, consumer: AIOKafkaConsumer, topic: str, partitions: int) -> Verification:
    """Read the whole topic and hold it against the store. Raises Unavailable. May run beside live traffic.

    Keeps a version for each stream in memory: about 150 bytes for a person.
    """
    result = Verification()
    seen: dict[UUID, int] = {}
    read_to = dict.fromkeys(range(partitions), 0)
    await _read_on(conn, consumer, topic, read_to, seen, result)
    behind = {
        stream_id: version
        async for stream_id, version in _published_versions(conn)
        if seen.get(stream_id, 0) < version
    }
    # What was published while we read is in the topic by now: once more, up to its present end.
    await _read_on(conn, consumer, topic, read_to, seen, result)
    for stream_id, version in behind.items():
        if seen.get(stream_id, 0) < version:
            _keep(
                result.missing,
                f"{stream_id} is published to version {version}, found {seen.get(stream_id, 0)}",
            )
    result.streams = len(seen)
    return result


async def _read_on(
    conn: Connection,
    consumer: AIOKafkaConsumer,
    topic: str,
    read_to: dict[int, int],
    seen: dict[UUID, int],
    result: Verification,
) -> None:
    """Read from where we are to the topic's present end; note in `seen` how far each stream has come."""
    bounds = await _bounds(consumer, topic, list(read_to))
    ranges = {tp: (max(begin, read_to[tp.partition]), end) for tp, (begin, end) in bounds.items()}
    async for records in read_ranges(consumer, ranges):
        result.records += len(records)
        read_to[records[0].partition] = records[-1].offset + 1
        envelopes = []
        for record in records:
            try:
                envelopes.append(_envelope(record))
            except MalformedRecord as error:
                _keep(result.strangers, str(error))
        for envelope, event_id in zip(envelopes, await _known_ids(conn, envelopes), strict=True):
            which = f"{envelope.stream_id} version {envelope.version}"
            if envelope.event_id != event_id:
                _keep(result.strangers, f"{which}: event {envelope.event_id}, the store has {event_id}")
            before = seen.get(envelope.stream_id, 0)
            if envelope.version <= before:
                result.duplicates += 1
            elif envelope.version > before + 1:
                _keep(result.gaps, f"{which} comes after version {before}")
            seen[envelope.stream_id] = max(before, envelope.version)


async def _published_versions(conn: Connection) -> AsyncIterator[tuple[UUID, int]]:
    after = UUID(int=0)
    while rows := await conn.fetch(_sql.published_versions, after, STREAMS_PER_PAGE):
        for row in rows:
            yield row["stream_id"], row["version"]
        after = rows[-1]["stream_id"]


def _keep(findings: list[str], finding: str) -> None:
    if len(findings) < FINDINGS_KEPT:
        findings.append(finding)
