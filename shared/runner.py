"""What everything that reads Kafka has in common: a checkpoint that moves with its effect, a share of the work that is
its own, and going on by itself after whatever happened.

The partitions of a topic are dealt out in slots (partition modulo `settings.partitions`): see `shares`. Should two
processes believe for a moment that a slot is theirs, the checkpoint's compare-and-set lets one of them commit.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple
from uuid import UUID

import msgspec
import structlog
from aiokafka import ConsumerRecord

from shared import clock
from shared.database import Connection, Database, Row, queries
from shared.dead_letter import Attempt, Gate, settle, wished
from shared.errors import HomeroomError, Unavailable
from shared.letter import Letter
from shared.reader import Position, Reader, identity
from shared.settings import Settings

log = structlog.get_logger(__name__)

WISH_INTERVAL_S = 1.0
VERIFY_INTERVAL_S = 60.0
READ_AT_ONCE = 2000
LANE_BYTES = 16 * 1024 * 1024  # of records that wait in one lane

sql = queries("shared", "consumer.sql")


class NotOwner(HomeroomError):
    """The checkpoint is not where this process left it: another one works on the partition."""


class Move(NamedTuple):
    """A checkpoint's step over some records of one partition."""

    expected: int
    next_offset: int
    last_id: str | None

    @classmethod
    def over(cls, expected: int, records: Sequence[ConsumerRecord]) -> Move:
        return cls(expected, records[-1].offset + 1, identity(records[-1]))


class Lane:
    """What waits for one worker. The reader is paused while that is too much."""

    def __init__(self, parts: Sequence[int], reader: Reader, batch: int) -> None:
        self.parts = parts
        self._reader = reader
        self._batch = batch
        self._limit = max(4 * batch, 500)
        self._bytes = 0
        self._records: dict[int, deque[ConsumerRecord]] = {part: deque() for part in parts}
        self._lines: list[Row] = []
        self._paused = False
        self._filled = asyncio.Event()

    @property
    def _size(self) -> int:
        return sum(map(len, self._records.values()))

    def _fuller_than(self, share: float) -> bool:
        return self._size > self._limit * share or self._bytes > LANE_BYTES * share

    def put(self, part: int, records: Sequence[ConsumerRecord]) -> None:
        self._records[part].extend(records)
        self._bytes += sum(record.serialized_value_size for record in records)
        self._filled.set()
        if not self._paused and self._fuller_than(1):
            self._paused = True
            self._reader.pause(*self.parts)

    def grant(self, line: Row) -> None:
        if line not in self._lines:
            self._lines.append(line)
            self._filled.set()

    async def take(self) -> dict[int, list[ConsumerRecord]]:
        """The next records by partition, as soon as there are some; none when only a wish has come."""
        if not self._size and not self._lines:
            self._filled.clear()
            await self._filled.wait()
        room, taken = self._batch, {}
        for part, records in self._records.items():
            if count := min(room, len(records)):
                taken[part] = [records.popleft() for _ in range(count)]
                room -= count
                self._bytes -= sum(record.serialized_value_size for record in taken[part])
        if self._paused and not self._fuller_than(0.5):
            self._paused = False
            self._reader.resume(*self.parts)
        return taken

    def wished(self) -> list[Row]:
        lines, self._lines = self._lines, []
        return lines


class Runner(ABC):
    """One consumer or projection. `state` says for operators what it is doing: running, or why it is not."""

    batch: int  # records that are taken in one transaction
    versioned: ClassVar[bool] = True  # our own events, whose history is whole from offset 0 on

    def __init__(self, settings: Settings, db: Database, name: str, topic: str) -> None:
        self.settings = settings
        self.db = db
        self.name = name
        self.topic = topic
        self.state = "starting"
        self.slots: frozenset[int] = frozenset()
        self.positions: dict[int, int] = {}  # where each partition goes on, as committed
        # Runners gives all of a process the same.
        self.turns = asyncio.Semaphore(settings.postgres_connections)
        self._asked_at = 0.0

    @abstractmethod
    def lanes(self, parts: Sequence[int]) -> list[Sequence[int]]:
        """The partitions of each worker: those of one lane are taken one after another, lanes side by side."""

    @abstractmethod
    async def take(self, batch: Mapping[int, Sequence[ConsumerRecord]]) -> None:
        """The effect of a lane's next records. Whatever it raises, all begins again at the checkpoint."""

    @abstractmethod
    def read(self, record: ConsumerRecord) -> Letter:
        """What a record is, or its flaw. Never raises."""

    @abstractmethod
    async def line(self, conn: Connection, key: str | None) -> tuple[Gate | None, Attempt]:
        """How a line is gone on with: its gate (None: it has none), and what gives one letter its effect."""

    async def settle(
        self, conn: Connection, key: str | None, arrivals: Sequence[Letter], letter_id: int | None = None
    ) -> None:
        """Take one line as far as it goes, letter by letter, with what has just arrived for it."""
        gate, attempt = await self.line(conn, key)
        after = await settle(
            conn, self.name, key, arrivals, attempt=attempt, reread=self.read, now=clock.now(), gate=gate,
            letter_id=letter_id,
        )  # fmt: skip
        if key is not None and after is not None and after != gate:
            await self.move_gates(conn, {UUID(key): after})

    async def set_aside(self, conn: Connection, letters: Iterable[Letter]) -> None:
        """Settle the line of each of these."""
        lines: defaultdict[object, list[Letter]] = defaultdict(list)
        for n, letter in enumerate(letters):
            lines[n if letter.line is None else letter.line].append(letter)
        for waiting in lines.values():
            await self.settle(conn, waiting[0].line, waiting)

    async def grant(self, line: Row) -> None:
        """Take a line of which an operator wants something (part, key, id) as far as it goes."""
        async with self.stand(line["part"]) as conn:
            await self.settle(conn, line["key"], (), line["id"])

    async def run(self, slots: frozenset[int]) -> None:
        """Work on some slots until cancelled or something is wrong."""
        self.slots = slots
        async with Reader.open(self.settings, self.name, self.topic, self._positions) as reader:
            await self.set_alarm(None)
            self.state = "running"
            if not self.positions:  # fewer partitions than slots
                await asyncio.Event().wait()
            lanes = [Lane(parts, reader, self.batch) for parts in self.lanes(reader.parts)]
            tasks = [self._feed(reader, lanes), self._verify(), *map(self._serve, lanes)]
            await first_failure([asyncio.create_task(task) for task in tasks])

    async def _feed(self, reader: Reader, lanes: Sequence[Lane]) -> None:
        """Hand out what is read at once: records that stay in the client keep it from asking for others."""
        lane_of = {part: lane for lane in lanes for part in lane.parts}
        while True:
            for part, records in (await reader.read(READ_AT_ONCE, timeout_ms=500)).items():
                lane_of[part].put(part, records)
            for line in await self._wishes():
                lane_of[line["part"]].grant(line)

    async def _serve(self, lane: Lane) -> None:
        while True:
            if batch := await lane.take():
                await self.take(batch)
            for line in lane.wished():
                await self.grant(line)

    async def _positions(self, first: Mapping[int, int]) -> dict[int, Position]:
        """Where to go on in each of the topic's partitions that are ours; `first` are the topic's first offsets."""
        ours = {
            part: 0 if self.versioned else offset
            for part, offset in first.items()
            if part % self.settings.partitions in self.slots
        }
        await self._begin(ours)
        found = await self._checkpoints(ours)
        self.positions = {part: position.next_offset for part, position in found.items()}
        return found

    async def _begin(self, first: Mapping[int, int]) -> None:
        """Make the checkpoints that are missing."""
        async with self.db.connection() as conn:
            await conn.execute(
                sql.begin_checkpoints, self.name, self.topic, list(first), list(first.values())
            )

    async def _checkpoints(self, parts: Iterable[int]) -> dict[int, Position]:
        async with self.db.connection() as conn:
            rows = await conn.fetch(sql.checkpoints, self.name, self.topic, list(parts))
        return {row["part"]: Position(row["next_offset"], row["last_id"]) for row in rows}

    async def _verify(self) -> None:
        """A topic made anew while it is read goes on at our offset as if nothing were: compare now and then.

        Not the present checkpoints, which may be of the new topic already, but those of the time before.
        """
        noted = await self._checkpoints(self.positions)

        async def before(_: Mapping[int, int]) -> dict[int, Position]:
            return noted

        while True:
            await asyncio.sleep(VERIFY_INTERVAL_S)
            with contextlib.suppress(Unavailable):
                present = await self._checkpoints(self.positions)
                async with Reader.open(self.settings, self.name, self.topic, before):
                    noted = present

    @contextlib.asynccontextmanager
    async def step(self, moves: Mapping[int, Move]) -> AsyncIterator[Connection]:
        """A transaction that moves these partitions' checkpoints first. Raises NotOwner."""
        async with self.turns, self.db.transaction() as conn:
            await self._compare_and_set(conn, moves)
            yield conn
        self.positions |= {part: move.next_offset for part, move in moves.items()}

    async def _compare_and_set(self, conn: Connection, moves: Mapping[int, Move]) -> None:
        parts = sorted(moves)
        columns = [[moves[part][n] for part in parts] for n in range(3)]
        moved = await conn.execute(sql.move_checkpoints, self.name, self.topic, parts, *columns)
        if moved != f"UPDATE {len(parts)}":
            raise NotOwner(f"{self.name}: checkpoints of {self.topic} {parts}")

    @contextlib.asynccontextmanager
    async def stand(self, part: int) -> AsyncIterator[Connection]:
        """A transaction in which a partition's checkpoint stays where it is and nobody else moves it."""
        async with self.turns, self.db.transaction() as conn:
            rows = await conn.fetch(sql.checkpoints + " FOR UPDATE", self.name, self.topic, [part])
            if [row["next_offset"] for row in rows] != [self.positions[part]]:
                raise NotOwner(f"{self.name}: checkpoint of {self.topic} [{part}]")
            yield conn

    async def _wishes(self) -> list[Row]:
        """Lines of ours of which an operator wants something; asked for now and then."""
        now = asyncio.get_running_loop().time()
        if now - self._asked_at < WISH_INTERVAL_S:
            return []
        self._asked_at = now
        async with self.db.connection() as conn:
            return await wished(conn, self.name, self.positions)

    async def set_alarm(self, text: str | None) -> None:
        """What operators see of a consumer that has stopped, from any process."""
        async with self.db.connection() as conn:
            await conn.execute(sql.set_alarm, self.name, self.topic, list(self.positions), text)

    async def move_gates(self, conn: Connection, gates: Mapping[UUID, Gate]) -> None:
        if gates:
            moved = [
                {"stream_id": stream, "version": gate.version, "event_id": gate.event_id}
                for stream, gate in gates.items()
            ]
            await conn.execute(sql.move_gates, self.name, msgspec.json.encode(moved))


async def first_failure(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for tasks that never end by themselves; the first that fails ends them all and its error is raised.

    One that is cancelled by nobody has failed as well: Kafka's client does that.
    """
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task.cancelled():
                raise Unavailable("kafka")
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
