"""The projector: keeps the rows of projections up with their topic.

A batch of events of all partitions is one transaction: the checkpoints move, one join reads the gates and rows of
everybody in the batch, the fold runs in Python, one statement writes the rows and one the gates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import structlog
from aiokafka import ConsumerRecord

from shared import metrics
from shared.database import Connection, Database, Row
from shared.dead_letter import Attempt, Gate
from shared.letter import Letter, curable, read_event
from shared.messages import topic_of
from shared.projection import Projection
from shared.runner import Move, Runner
from shared.settings import Settings

log = structlog.get_logger(__name__)

LANES = 2  # while PostgreSQL writes the rows of one, Python reads the events of the other


class LiveProjection(Runner):
    """Follows a projection's topic. `table` and `name` differ from the projection's while it is made anew."""

    batch = 2000

    def __init__(
        self,
        projection: Projection[Any],
        settings: Settings,
        db: Database,
        *,
        name: str | None = None,
        table: str | None = None,
    ) -> None:
        super().__init__(
            settings, db, name or projection.name, topic_of(settings.topic_prefix, projection.source)
        )
        self.projection = projection
        self.table = table or projection.name
        columns = ", ".join(f"r.{column}" for column in projection.columns)
        # Looked up one by one: joined, PostgreSQL reads the whole of a growing table again and again, because it keeps
        # the plan that it made when there were few rows.
        self._load = (
            f"SELECT s.n, s.stream_id, g.version, g.event_id, g.parked_at IS NOT NULL, {columns}"
            " FROM unnest($2::text::uuid[]) WITH ORDINALITY AS s (stream_id, n)"
            " LEFT JOIN LATERAL"
            " (SELECT * FROM gate WHERE consumer = $1 AND gate.stream_id = s.stream_id OFFSET 0) g ON true"
            " LEFT JOIN LATERAL"
            f" (SELECT * FROM {self.table} AS t WHERE t.person_id = s.stream_id OFFSET 0) r ON true"
        )

    def lanes(self, parts: Sequence[int]) -> list[Sequence[int]]:
        return [lane for n in range(LANES) if (lane := parts[n::LANES])]

    def read(self, record: ConsumerRecord) -> Letter:
        return read_event(record, self.projection.codec)

    async def take(self, batch: Mapping[int, Sequence[ConsumerRecord]]) -> None:
        streams: defaultdict[bytes, list[Letter]] = defaultdict(list)
        aside = []  # what is nobody's to begin with
        for records in batch.values():
            for record in records:
                letter = self.read(record)
                if letter.stream_id is None:
                    aside.append(letter)
                else:
                    streams[record.key].append(letter)
        moves = {part: Move.over(self.positions[part], records) for part, records in batch.items()}
        async with self.step(moves) as conn:
            await self.set_aside(conn, [*await self._apply(conn, list(streams.values())), *aside])

    async def _apply(self, conn: Connection, streams: Sequence[list[Letter]]) -> list[Letter]:
        """Fold the events of many streams; answers those of the streams in which something is not in order."""
        gates: dict[UUID, Gate] = {}
        rows: dict[UUID, Any] = {}
        aside: dict[UUID, list[Letter]] = {}
        done = 0
        for found in await self._found(conn, [letters[0].record.key for letters in streams]):
            letters = streams[found[0] - 1]
            stream = letters[0].stream_id
            assert stream is not None
            due = None if found[4] else _due(letters, _gate(found))
            if due is None:
                aside[stream] = letters
            elif due:
                known = [letter.event for letter in due if letter.event is not None]
                try:
                    if known:
                        rows[stream] = self.projection.fold(self._row(found), known)
                except Exception:  # told again, and kept, when the stream is settled
                    aside[stream] = letters
                else:
                    gates[stream] = Gate(due[-1].version or 0, due[-1].event_id)
                    done += len(known)
        for stream in await self._write(conn, rows):
            del gates[stream]
            aside[stream] = next(letters for letters in streams if letters[0].stream_id == stream)
        await self.move_gates(conn, gates)
        metrics.consumed.labels(self.name, "applied").inc(done)
        return [letter for letters in aside.values() for letter in letters]

    async def _found(self, conn: Connection, keys: Sequence[bytes]) -> list[Row]:
        """Place in `keys` (from 1), id, gate and row of each stream. A text costs less than an array of objects."""
        return list(await conn.fetch(self._load, self.name, f"{{{b','.join(keys).decode()}}}"))

    def _row(self, found: Row) -> Any:
        """The projection's row out of what `_load` answered."""
        if found["person_id"] is None:
            return None
        return self.projection.read(dict(zip(self.projection.columns, tuple(found)[5:], strict=True)))

    async def _write(self, conn: Connection, rows: dict[UUID, Any]) -> list[UUID]:
        """Write rows; the streams whose row the table does not take, found by halving."""
        if not rows:
            return []
        try:
            async with conn.transaction():
                await self.projection.write(conn, rows, table=self.table)
        except Exception as error:
            if curable(error):
                raise
            streams = list(rows)
            if len(streams) == 1:
                return streams
            half = len(streams) // 2
            first = await self._write(conn, {stream: rows[stream] for stream in streams[:half]})
            return first + await self._write(conn, {stream: rows[stream] for stream in streams[half:]})
        return []

    async def line(self, conn: Connection, key: str | None) -> tuple[Gate | None, Attempt]:
        row, gate = None, None
        if key is not None:
            [found] = await self._found(conn, [key.encode()])
            row, gate = self._row(found), _gate(found)

        async def attempt(letter: Letter) -> None:
            nonlocal row
            if letter.event is not None:
                folded = self.projection.fold(row, [letter.event])
                await self.projection.write(conn, {letter.event.stream_id: folded}, table=self.table)
                row = folded

        return gate, attempt


def _gate(found: Row) -> Gate:
    return Gate(found[2] or 0, found[3])


def _due(letters: Sequence[Letter], gate: Gate) -> list[Letter] | None:
    """Those that come next, without repeats; None when something is not in order. Raises Diverged."""
    due: list[Letter] = []
    for letter in letters:
        if letter.flaw is not None or letter.version is None:
            return None
        if gate.is_past(letter):
            continue
        if letter.version != gate.version + 1:
            return None
        gate = Gate(letter.version, letter.event_id)
        due.append(letter)
    return due
