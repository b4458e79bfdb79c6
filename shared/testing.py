"""What tests stand on: a store in memory, held to the same conformance suite as the real one, and given/when/then.

The double keeps events and inline rows. It has no SQL: a `load` or `then` that asks tables wants the real store.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast
from uuid import UUID, uuid5

import msgspec

from shared.database import Connection, Database
from shared.errors import Rejected
from shared.event_store import EventStore
from shared.messages import Cause, Event, EventCodec, Recorded
from shared.projection import Projection
from shared.transact import Decider

S = TypeVar("S")

PERSON = UUID("00000000-0000-4000-8000-000000000001")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
DISTRICT = "ccps"


@dataclass
class _Transaction:
    """What a transaction has written so far, and the streams that it has locked until its end."""

    events: defaultdict[UUID, list[tuple[Recorded[Event], bytes]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    rows: dict[tuple[str, UUID], msgspec.Struct | None] = field(default_factory=dict)
    locked: set[UUID] = field(default_factory=set)
    unlock: AsyncExitStack = field(default_factory=AsyncExitStack)


class MemoryDatabase(Database):
    """Transactions over dictionaries: seen by others when they commit, forgotten when they raise."""

    def __init__(self) -> None:
        self.events: defaultdict[UUID, list[tuple[Recorded[Event], bytes]]] = defaultdict(list)
        self.rows: dict[tuple[str, UUID], msgspec.Struct | None] = {}
        self.outbox: list[tuple[Recorded[Event], bytes]] = []
        self.locks: defaultdict[UUID, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Every block is a transaction here."""
        transaction = _Transaction()
        async with transaction.unlock:
            yield cast(Connection, transaction)
            for stream_id, written in transaction.events.items():
                self.events[stream_id] += written
                self.outbox += written
            self.rows |= transaction.rows

    transaction = connection

    async def close(self) -> None:
        """Nothing is open."""


class MemoryStore(EventStore):
    """The store's double: same answers, same conflicts, same visibility. `db.outbox` holds what a relay would send."""

    db: MemoryDatabase

    def __init__(
        self,
        codec: EventCodec,
        partitions: int = 12,
        inline: Sequence[Projection[Any]] = (),
        on_append: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(MemoryDatabase(), codec, partitions, inline, on_append)

    async def load(self, conn: Connection, stream_id: UUID) -> list[Recorded[Event]]:
        """As the real one: through the stored JSON, own uncommitted events included."""
        transaction = cast(_Transaction, conn)
        stored = [*self.db.events.get(stream_id, []), *transaction.events.get(stream_id, [])]
        return [
            msgspec.structs.replace(recorded, data=self.codec.decode(recorded.type, recorded.schema, data))
            for recorded, data in stored
        ]

    async def _write(
        self, conn: Connection, recorded: Sequence[Recorded[Event]], data: Sequence[bytes]
    ) -> bool:
        """As the real one: waits for who has appended and not yet committed."""
        transaction, first = cast(_Transaction, conn), recorded[0]
        stream_id = first.stream_id
        if stream_id not in transaction.locked:
            await transaction.unlock.enter_async_context(self.db.locks[stream_id])
            transaction.locked.add(stream_id)
        history = await self.load(conn, stream_id)
        if len(history) != first.version - 1 or any(e.district != first.district for e in history):
            return False
        transaction.events[stream_id] += zip(recorded, data, strict=True)
        for projection in self.inline:
            known = [event for event in recorded if event.type in projection.codec.types]
            row = projection.fold(self._row(transaction, projection, stream_id), known)
            transaction.rows[projection.name, stream_id] = row
        return True

    async def load_many(
        self, conn: Connection, stream_ids: Sequence[UUID]
    ) -> dict[UUID, list[Recorded[Event]]]:
        return {stream_id: found for stream_id in stream_ids if (found := await self.load(conn, stream_id))}

    async def _write_many(
        self,
        conn: Connection,
        streams: Mapping[UUID, Sequence[Recorded[Event]]],
        data: Mapping[UUID, Sequence[bytes]],
    ) -> set[UUID]:
        """As the real one: locks in the order of the ids."""
        return {i for i in sorted(streams) if await self._write(conn, streams[i], data[i])}

    def row(self, conn: Connection, projection: Projection[Any], person_id: UUID) -> Any:
        """An inline projection's row, or None: what `projection.load` is for the real store."""
        return self._row(cast(_Transaction, conn), projection, person_id)

    def _row(self, transaction: _Transaction, projection: Projection[Any], person_id: UUID) -> Any:
        key = (projection.name, person_id)
        return transaction.rows.get(key, self.db.rows.get(key))


def recorded(
    event: Event,
    version: int = 1,
    *,
    at: datetime = NOON,
    service: str = "test",
    district: str = DISTRICT,
    stream_id: UUID = PERSON,
) -> Recorded[Any]:
    """An event in an envelope; its id follows from stream and version, so that runs are alike."""
    name = type(event).__name__
    id = uuid5(stream_id, f"{service} {version}")
    return Recorded(
        id, name, event.SCHEMA, service, district, stream_id, version, at, event, Cause(f"journey of {id}")
    )


def history(*events: Event | tuple[datetime, Event], **envelope: Any) -> list[Recorded[Any]]:
    """Events as one person's stream, from version 1; each happened at NOON unless it comes with its own time."""
    timed: Iterable[tuple[datetime, Event]] = (e if isinstance(e, tuple) else (NOON, e) for e in events)
    return [recorded(event, n, at=at, **envelope) for n, (at, event) in enumerate(timed, 1)]


class given(Generic[S]):
    """`given(decider, *past).when(rule, *arguments).then(*events)`, or `.refused(reason, **details)`."""

    def __init__(self, decider: Decider[S], *past: Event | tuple[datetime, Event], **envelope: Any) -> None:
        self.decider = decider
        self.state = decider.state_after(history(*past, **envelope))

    def when(self, rule: Callable[..., Sequence[Event]], *arguments: Any, **named: Any) -> _Decided:
        """Ask a rule: it is given the state, then the arguments."""
        try:
            return _Decided(list(rule(self.state, *arguments, **named)), None)
        except Rejected as refusal:
            return _Decided([], refusal)


@dataclass(frozen=True)
class _Decided:
    events: list[Event]
    refusal: Rejected | None

    def then(self, *expected: Event) -> None:
        """Exactly these events were decided; none: a repeat, nothing changes."""
        assert self.refusal is None, f"refused: {self.refusal} {self.refusal.details}"
        assert self.events == list(expected)

    def refused(self, reason: str, **details: Any) -> dict[str, Any]:
        """It was refused so; answers the secret, for the help desk alone."""
        assert self.refusal is not None, f"not refused: {self.events}"
        assert (self.refusal.reason, self.refusal.details) == (reason, details)
        return self.refusal.secret
