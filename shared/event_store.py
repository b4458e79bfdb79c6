"""The truth: each person's events in order, appended at an expected version, queued for Kafka by the same statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from shared.database import Connection, Database, Row, queries
from shared.errors import EventTooLarge, VersionConflict
from shared.messages import Cause, Event, EventCodec, Recorded, partition_of
from shared.projection import Projection

MAX_EVENT_BYTES = 64 * 1024
MAX_EVENTS_PER_APPEND = 100

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
        return [self._recorded(stream_id, row) for row in await conn.fetch(_sql.load, stream_id)]

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
        data = self._encode(events)
        recorded = self._envelopes(district, stream_id, expected_version, events, now=now, cause=cause)
        moved = await conn.fetchval(
            _sql.append_next if expected_version else _sql.append_first,
            stream_id,
            district,
            expected_version,
            [r.id for r in recorded],
            [r.type for r in recorded],
            [r.schema for r in recorded],
            data,
            now,
            cause.correlation_id,
            cause.causation_id,
            cause.traceparent,
            partition_of(stream_id, self.partitions),
        )
        if moved is None:
            raise VersionConflict(stream_id, expected_version)
        for projection in self.inline:
            await projection.apply(conn, recorded)
        return recorded

    def wake(self) -> None:
        """Tell the relay that something was committed. Before the commit it would look in vain."""
        self._on_append()

    def _envelopes(
        self,
        district: str,
        stream_id: UUID,
        after: int,
        events: Sequence[Event],
        *,
        now: datetime,
        cause: Cause,
    ) -> list[Recorded[Event]]:
        service = self.codec.service
        return [
            Recorded(
                uuid4(), type(e).__name__, e.SCHEMA, service, district, stream_id, version, now, e, cause
            )
            for version, e in enumerate(events, start=after + 1)
        ]

    def _encode(self, events: Sequence[Event]) -> list[bytes]:
        if len(events) > MAX_EVENTS_PER_APPEND:
            raise EventTooLarge(f"{len(events)} events in one append, more than {MAX_EVENTS_PER_APPEND}")
        data = [self.codec.encode(event) for event in events]
        for event, encoded in zip(events, data, strict=True):
            if len(encoded) > MAX_EVENT_BYTES:
                raise EventTooLarge(f"{type(event).__name__} of {len(encoded)} bytes")
        return data

    def _recorded(self, stream_id: UUID, row: Row) -> Recorded[Event]:
        return Recorded(
            row["event_id"],
            row["type"],
            row["schema"],
            self.codec.service,
            row["district"],
            stream_id,
            row["version"],
            row["occurred_at"],
            self.codec.decode(row["type"], row["schema"], row["data"]),
            Cause(row["correlation_id"], row["causation_id"], row["traceparent"]),
        )
