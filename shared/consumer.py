"""Consumers: something foreign becomes a command of our own, exactly once.

A *reaction* takes another service's events, which have versions and a gate. An *intake* takes what strangers publish,
which has neither. Both put checkpoint and effect into one transaction, keep one key's records in order, and set aside
what cannot be taken (dead_letter). They are never replayed: a rebuild runs projections only.
"""

from __future__ import annotations

import asyncio
import random
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from aiokafka import ConsumerRecord

from shared import dead_letter, metrics
from shared.database import LOST_RACE, Connection, Database, Row
from shared.dead_letter import Attempt, Gate
from shared.errors import Diverged
from shared.letter import Letter, Unacceptable, curable, flaw_of, line_of, read_event
from shared.messages import EventCodec, Recorded, topic_of
from shared.runner import Move, Runner, sql
from shared.settings import Settings

__all__ = ["Intake", "Reaction", "Unacceptable", "runner_of"]

log = structlog.get_logger(__name__)

LONGEST_CONFLICT_PAUSE_S = 1.0


@dataclass(frozen=True)
class Reaction:
    """`react(conn, event)` runs in the transaction that moves gate and checkpoint, in order for each person.

    It may raise VersionConflict (tried again); Rejected or anything else sets the event aside, so a refusal that is
    part of the rules must become an event of our own. `after(event)` is called when it was committed, and may be
    missed after a crash. `source` is the service whose topic it is; `codec` knows the types that matter here.
    """

    name: str
    source: str
    codec: EventCodec
    react: Callable[[Connection, Recorded[Any]], Awaitable[None]]
    after: Callable[[Recorded[Any]], None] | None = None
    batch: int = 8  # events of one partition in one transaction, when so many wait


@dataclass(frozen=True)
class Intake:
    """`handle(conn, record)` runs in the transaction that moves the checkpoint, in order for each key.

    It raises Unacceptable for what its sender has to mend. `key(record)` names the line that a record which cannot be
    taken holds up; None holds up nothing. `district` is the topic's, by the naming of ingress topics.

    `check(record)` raises for what can be seen without the database. `handle_all(conn, records)` does for several what
    `handle` does for one; when it raises, each is tried by itself.
    """

    name: str
    topic: str
    handle: Callable[[Connection, ConsumerRecord], Awaitable[None]]
    key: Callable[[ConsumerRecord], str | None]
    check: Callable[[ConsumerRecord], object] = lambda record: None
    handle_all: Callable[[Connection, Sequence[ConsumerRecord]], Awaitable[None]] | None = None
    batch: int = 100

    @property
    def district(self) -> str:
        return self.topic.rsplit(".", 2)[-2]


def runner_of(
    consumer: Reaction | Intake, settings: Settings, db: Database, wake: Callable[[], None]
) -> Runner:
    """What runs a consumer. `wake` tells the relay that something was committed."""
    if isinstance(consumer, Reaction):
        return ReactionRunner(consumer, settings, db, wake)
    return IntakeRunner(consumer, settings, db, wake)


class ConsumerRunner(Runner):
    """Each partition has a worker of its own."""

    def __init__(
        self, settings: Settings, db: Database, name: str, topic: str, wake: Callable[[], None]
    ) -> None:
        super().__init__(settings, db, name, topic)
        self._wake = wake

    def lanes(self, parts: Sequence[int]) -> list[Sequence[int]]:
        return [[part] for part in parts]

    async def take(self, batch: Mapping[int, Sequence[ConsumerRecord]]) -> None:
        for part, records in batch.items():
            await self._take(part, [self.read(record) for record in records])

    async def _take(self, part: int, letters: Sequence[Letter]) -> None:
        """Apply letters in as few transactions as go well.

        All in one, without savepoints. If one of them fails: all in one again, each in a savepoint, and what fails is
        set aside. If somebody else was faster: one by one, again until it succeeds. What needs PostgreSQL back is
        raised: the runner begins again at the checkpoint, which also tells how a lost commit ended.
        """
        size, apart, pause = len(letters), False, 0.005
        while letters:
            chunk = letters[:size]
            move = Move.over(self.positions[part], [letter.record for letter in chunk])
            try:
                async with self.step({part: move}) as conn:
                    applied = await self.apply(conn, chunk, apart)
            except LOST_RACE as conflict:
                log.debug("lost_race", consumer=self.name, partition=part, error=str(conflict))
                size = 1
                await asyncio.sleep(random.uniform(0, pause))
                pause = min(pause * 2, LONGEST_CONFLICT_PAUSE_S)
            except Exception as error:
                if apart or curable(error) or isinstance(error, Diverged):
                    raise
                apart = True
            else:
                self.committed(applied)
                letters = letters[len(chunk) :]
                pause = 0.005

    async def grant(self, line: Row) -> None:
        try:
            await super().grant(line)
        except LOST_RACE:
            return  # the wish stands, and is found again
        self._wake()

    async def attempts(self, conn: Connection, letter: Letter, apart: bool) -> bool:
        """Apply one letter; whether it went well. Raises what fails when letters do not stand apart."""
        if not apart:
            await self.attempt(conn, letter)
            return True
        try:
            async with conn.transaction():
                await self.attempt(conn, letter)
        except Exception as error:
            if curable(error) or isinstance(error, Diverged):
                raise
            letter.stands(error)
            return False
        return True

    def committed(self, applied: Sequence[Letter]) -> None:
        """What follows a commit."""
        metrics.consumed.labels(self.name, "applied").inc(len(applied))
        self._wake()

    @abstractmethod
    async def attempt(self, conn: Connection, letter: Letter) -> None:
        """The effect of one letter."""

    @abstractmethod
    async def apply(self, conn: Connection, letters: Sequence[Letter], apart: bool) -> list[Letter]:
        """The effect of letters in order, those aside that cannot have theirs; answers the ones that had it."""


class ReactionRunner(ConsumerRunner):
    def __init__(
        self, reaction: Reaction, settings: Settings, db: Database, wake: Callable[[], None]
    ) -> None:
        super().__init__(settings, db, reaction.name, topic_of(settings.topic_prefix, reaction.source), wake)
        self.reaction = reaction
        self.batch = reaction.batch

    def read(self, record: ConsumerRecord) -> Letter:
        return read_event(record, self.reaction.codec)

    async def attempt(self, conn: Connection, letter: Letter) -> None:
        if letter.event is not None:
            await self.reaction.react(conn, letter.event)

    async def apply(self, conn: Connection, letters: Sequence[Letter], apart: bool) -> list[Letter]:
        gates, parked = await self._gates(conn, {letter.stream_id for letter in letters if letter.stream_id})
        moved: dict[UUID, Gate] = {}
        aside: list[Letter] = []
        held: set[UUID | None] = {*parked}
        applied, outcomes = [], {"unknown": 0, "repeated": 0}
        for letter in letters:
            stream = letter.stream_id
            gate = gates.get(stream, Gate())
            if stream is None or letter.version is None or letter.flaw or stream in held:
                aside.append(letter)
                held.add(stream)
            elif gate.is_past(letter):
                outcomes["repeated"] += 1
            elif letter.version != gate.version + 1 or not await self.attempts(conn, letter, apart):
                aside.append(letter)
                held.add(stream)
            else:
                gates[stream] = moved[stream] = Gate(letter.version, letter.event_id)
                if letter.event is None:
                    outcomes["unknown"] += 1
                else:
                    applied.append(letter)
        await self.move_gates(conn, moved)
        await self.set_aside(conn, aside)
        for outcome, count in outcomes.items():
            metrics.consumed.labels(self.name, outcome).inc(count)
        return applied

    async def _gates(self, conn: Connection, streams: set[UUID]) -> tuple[dict[UUID | None, Gate], set[UUID]]:
        rows = await conn.fetch(sql.gates, self.name, list(streams)) if streams else []
        gates: dict[UUID | None, Gate] = {
            row["stream_id"]: Gate(row["version"], row["event_id"]) for row in rows
        }
        return gates, {row["stream_id"] for row in rows if row["parked"]}

    async def line(self, conn: Connection, key: str | None) -> tuple[Gate | None, Attempt]:
        gate = None
        if key is not None:
            gates, _ = await self._gates(conn, {UUID(key)})
            gate = gates.get(UUID(key), Gate())
        return gate, partial(self.attempt, conn)

    def committed(self, applied: Sequence[Letter]) -> None:
        super().committed(applied)
        if self.reaction.after is not None:
            for letter in applied:
                assert letter.event is not None
                self.reaction.after(letter.event)


class IntakeRunner(ConsumerRunner):
    versioned = False

    def __init__(self, intake: Intake, settings: Settings, db: Database, wake: Callable[[], None]) -> None:
        super().__init__(settings, db, intake.name, intake.topic, wake)
        self.intake = intake
        self.batch = intake.batch

    def read(self, record: ConsumerRecord) -> Letter:
        key = None
        try:
            # A tombstone says nothing of anybody.
            key = None if record.value is None else line_of(self.intake.key(record))
            self.intake.check(record)
        except Exception as flaw:  # a stranger's bytes against our parsing: they are the record's fault
            return Letter(record, self.intake.district, key, flaw=flaw_of(record, flaw))
        return Letter(record, self.intake.district, key)

    async def attempt(self, conn: Connection, letter: Letter) -> None:
        await self.intake.handle(conn, letter.record)

    async def apply(self, conn: Connection, letters: Sequence[Letter], apart: bool) -> list[Letter]:
        standing = await dead_letter.open_keys(
            conn, self.name, {letter.key for letter in letters if letter.key}
        )
        handle_all = None if apart else self.intake.handle_all
        applied = []
        aside: list[Letter] = []
        for letter in letters:
            fit = not letter.flaw and letter.key not in standing
            if fit and (handle_all is not None or await self.attempts(conn, letter, apart)):
                applied.append(letter)
            else:
                aside.append(letter)
                if letter.key is not None:
                    standing.add(letter.key)
        if handle_all is not None and applied:
            await handle_all(conn, [letter.record for letter in applied])
        await self.set_aside(conn, aside)
        return applied

    async def line(self, conn: Connection, key: str | None) -> tuple[Gate | None, Attempt]:
        return None, partial(self.attempt, conn)
