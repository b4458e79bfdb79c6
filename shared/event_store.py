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
        return [
            recorded_of(row, self.codec.service, self.codec.decode(row["type"], row["schema"], row["data"]))
            for row in await conn.fetch(_sql.load, stream_id)
        ]

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
        recorded: list[Recorded[Event]] = [
            Recorded(
                uuid4(), type(event).__name__, event.SCHEMA, self.codec.service, district, stream_id, version, now,
                event, cause,
            )
            for version, event in enumerate(events, start=expected_version + 1)
        ]  # fmt: skip
        if not await self._write(conn, recorded, self._encode(events)):
            raise VersionConflict(stream_id, expected_version)
        return recorded

    def wake(self) -> None:
        """Tell the relay that something was committed. Before the commit it would look in vain."""
        self._on_append()

    def _encode(self, events: Sequence[Event]) -> list[bytes]:
        if len(events) > MAX_EVENTS_PER_APPEND:
            raise EventTooLarge(f"{len(events)} events in one append, more than {MAX_EVENTS_PER_APPEND}")
        data = [self.codec.encode(event) for event in events]
        for event, encoded in zip(events, data, strict=True):
            if len(encoded) > MAX_EVENT_BYTES:
                raise EventTooLarge(f"{type(event).__name__} of {len(encoded)} bytes")
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
