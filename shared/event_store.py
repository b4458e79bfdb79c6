"""The truth: each person's events in order, appended at an expected version, queued for Kafka by the same statement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from shared.database import Connection, Database, Row, queries
from shared.errors import EventTooLarge, VersionConflict
from shared.messages import Cause, Event, EventCodec, Recorded, partition_of
from shared.projection import Projection

MAX_EVENT_BYTES = 64 * 1024
MAX_EVENTS_PER_APPEND = 100
MAX_STREAMS_PER_APPEND = 1000

_sql = queries("shared", "event_store.sql")


class EventStore:
    """The events of one service.

    `inline` projections are what the service decides and serves by: they change in the append's transaction.
    `on_append` wakes the relay of this process; it must return at once.
    """

    def __init__(
        self,
        db: Database,
        codec: EventCodec,
        partitions: int,
        inline: Sequence[Projection[Any]] = (),
        on_append: Callable[[], None] = lambda: None,
    ) -> None:
        self.db = db
        self.codec = codec
        self.partitions = partitions
        self.inline = tuple(inline)
        self._on_append = on_append

    async def load(self, conn: Connection, stream_id: UUID) -> list[Recorded[Event]]:
        """All events of a person, in order; none: nothing has been recorded of them here."""
        return [
            recorded_of(row, self.codec.service, self.codec.decode(row["type"], row["schema"], row["data"]))
            for row in await conn.fetch(_sql.load, stream_id)
        ]

    async def load_many(
        self, conn: Connection, stream_ids: Sequence[UUID]
    ) -> dict[UUID, list[Recorded[Event]]]:
        """What `load` answers, of many persons; whom nothing is known of has none."""
        found = defaultdict[UUID, list[Recorded[Event]]](list)
        for row in await conn.fetch(_sql.load_many, stream_ids) if stream_ids else ():
            data = self.codec.decode(row["type"], row["schema"], row["data"])
            found[row["stream_id"]].append(recorded_of(row, self.codec.service, data))
        return found

    def record(
        self,
        district: str,
        stream_id: UUID,
        expected_version: int,
        events: Sequence[Event],
        *,
        now: datetime,
        cause: Cause,
    ) -> list[Recorded[Event]]:
        """Events as they will be recorded after version `expected_version`; nothing is, until they are appended."""
        return [
            Recorded(
                uuid4(), type(event).__name__, event.SCHEMA, self.codec.service, district, stream_id, version, now,
                event, cause,
            )
            for version, event in enumerate(events, start=expected_version + 1)
        ]  # fmt: skip

    async def append(
        self,
        conn: Connection,
        district: str,
        stream_id: UUID,
        expected_version: int,
        events: Sequence[Event],
        *,
        now: datetime,
        cause: Cause,
    ) -> list[Recorded[Event]]:
        """Record events after version `expected_version` (0: a new stream). Raises VersionConflict, EventTooLarge.

        Also queues them for Kafka and applies the inline projections, all in the caller's transaction. The caller
        calls `wake` after its commit; `transact` and `once` do. Without inline projections one statement does it
        all, so that it may also run on a bare connection, in autocommit.
        """
        if not events:
            return []
        recorded = self.record(district, stream_id, expected_version, events, now=now, cause=cause)
        if not await self._write(conn, recorded, self._encode(recorded)):
            raise VersionConflict(stream_id, expected_version)
        return recorded

    async def append_many(self, conn: Connection, recorded: Sequence[Recorded[Event]]) -> None:
        """Append what `record` made of many persons of one district at one moment, in one statement.

        Each stream's events follow one another. Raises VersionConflict for the first stream that has moved on, and
        EventTooLarge; either way the caller's transaction must come to nothing.
        """
        streams = defaultdict[UUID, list[Recorded[Event]]](list)
        for event in recorded:
            streams[event.stream_id].append(event)
        if not streams:
            return
        if len(streams) > MAX_STREAMS_PER_APPEND:
            raise EventTooLarge(f"{len(streams)} streams in one append, more than {MAX_STREAMS_PER_APPEND}")
        data = {stream_id: self._encode(events) for stream_id, events in streams.items()}
        held = await self._write_many(conn, streams, data)
        for stream_id, events in streams.items():
            if stream_id not in held:
                raise VersionConflict(stream_id, events[0].version - 1)

    def wake(self) -> None:
        """Tell the relay that something was committed. Before the commit it would look in vain."""
        self._on_append()

    def _encode(self, recorded: Sequence[Recorded[Event]]) -> list[bytes]:
        if len(recorded) > MAX_EVENTS_PER_APPEND:
            raise EventTooLarge(f"{len(recorded)} events in one append, more than {MAX_EVENTS_PER_APPEND}")
        data = [self.codec.encode(event.data) for event in recorded]
        for event, encoded in zip(recorded, data, strict=True):
            if len(encoded) > MAX_EVENT_BYTES:
                raise EventTooLarge(f"{event.type} of {len(encoded)} bytes")
        return data

    async def _write(
        self, conn: Connection, recorded: Sequence[Recorded[Event]], data: Sequence[bytes]
    ) -> bool:
        """Write events with their JSON if the stream is where they begin, and what follows from them; were they?"""
        first = recorded[0]
        written = await conn.fetchval(
            _sql.append,
            first.stream_id,
            first.district,
            first.version - 1,
            [event.id for event in recorded],
            [event.type for event in recorded],
            [event.schema for event in recorded],
            data,
            first.time,
            first.cause.correlation_id,
            first.cause.causation_id,
            first.cause.traceparent,
            partition_of(first.stream_id, self.partitions),
        )
        if written is None:
            return False
        for projection in self.inline:
            await projection.apply(conn, recorded)
        return True

    async def _write_many(
        self,
        conn: Connection,
        streams: Mapping[UUID, Sequence[Recorded[Event]]],
        data: Mapping[UUID, Sequence[bytes]],
    ) -> set[UUID]:
        """Write events with their JSON to the streams that are where theirs begin, and what follows; those streams."""
        events = [event for of_one in streams.values() for event in of_one]
        rows = await conn.fetch(
            _sql.append_many,
            list(streams),
            [of_one[0].version - 1 for of_one in streams.values()],
            [len(of_one) for of_one in streams.values()],
            [partition_of(stream_id, self.partitions) for stream_id in streams],
            events[0].district,
            [event.stream_id for event in events],
            [event.version for event in events],
            [event.id for event in events],
            [event.type for event in events],
            [event.schema for event in events],
            [encoded for of_one in data.values() for encoded in of_one],
            events[0].time,
            [event.cause.correlation_id for event in events],
            [event.cause.causation_id for event in events],
            [event.cause.traceparent for event in events],
        )
        held = {row["stream_id"] for row in rows}
        for projection in self.inline:
            for stream_id in held:
                await projection.apply(conn, streams[stream_id])
        return held


def recorded_of(row: Row, service: str, data: Event) -> Recorded[Event]:
    """An event of a row of `event`; its data is read, or left unread, by the caller."""
    return Recorded(
        row["event_id"],
        row["type"],
        row["schema"],
        service,
        row["district"],
        row["stream_id"],
        row["version"],
        row["occurred_at"],
        data,
        Cause(row["correlation_id"], row["causation_id"], row["traceparent"]),
    )
