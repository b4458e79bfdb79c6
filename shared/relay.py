"""From the outbox to the topic: every committed event, each person's in order, at least once.

A crash at any point, or two relays for a moment, makes duplicates, which every reader's gate drops; never a gap.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaProducer

from shared.database import Connection, Row, close, connect, queries, unavailable_when_lost
from shared.errors import Diverged, Unavailable
from shared.event_store import recorded_of
from shared.history import Disagreement, compare
from shared.kafka import consuming, producing
from shared.kafka import unavailable_when_lost as kafka_unavailable_when_lost
from shared.messages import Event, to_kafka, topic_of
from shared.settings import Settings

log = structlog.get_logger(__name__)

_sql = queries("shared", "relay.sql")

# How late we are for what another process commits: at work, and once nothing was to be sent for a while.
POLL_S, QUIET_POLL_S = 0.025, 0.1
QUIET_AFTER_S = 5.0
FULL_POLL_S = 1.0
RECOMPARE_S = 10.0
MAX_ROWS = 5000
ACKNOWLEDGE_PATIENCE_S = 120.0
LONGEST_PAUSE_S = 2.0
BACKLOG_COUNTED = 100_000

# A relay that hangs loses its locks after this, and another takes over. Longer than any of its own waits.
SILENCE_ALLOWED = "180s"


_UNREAD = Event()


@dataclass(frozen=True)
class Backlog:
    """What Kafka has not acknowledged: events waiting (counted up to BACKLOG_COUNTED) and since when."""

    pending: int
    oldest_at: datetime | None

    def oldest_age_s(self, now: datetime) -> float:
        """Seconds that the oldest event has been waiting; 0 when none is."""
        return 0.0 if self.oldest_at is None else max(0.0, (now - self.oldest_at).total_seconds())


async def backlog(conn: Connection) -> Backlog:
    """The outbox as it is now, whoever's relay works on it."""
    row = await conn.fetchrow(_sql.backlog, BACKLOG_COUNTED)
    assert row is not None
    return Backlog(row["pending"], row["oldest_at"])


class _Acknowledged(NamedTuple):
    """Rows of a part that Kafka has, and the offset of the last, if it was said."""

    part: int
    rows: Sequence[Row]
    last_offset: int | None


class Relay:
    """Publishes the events of one service. As many may run as there are processes: each part has one at work.

    For readiness and metrics: `parts` (published from here), `halted` (where store and topic disagree: nothing is
    published), `failure` (what stops it at the moment), `published` and `failures` (counters).
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = topic_of(settings.topic_prefix, settings.service)
        self._woken = asyncio.Event()
        self._stopping = False
        self._recompare_at = 0.0
        self._locked: frozenset[int] = frozenset()
        self.parts: frozenset[int] = frozenset()
        self.halted: Mapping[int, Disagreement] = {}
        self.failure: str | None = None
        self.published = 0
        self.failures = 0

    def wake(self) -> None:
        """Something was committed in this process: look now, not at the next poll."""
        self._woken.set()

    def stop(self) -> None:
        """Let `run` return after what is under way. Who cannot wait cancels it, and makes duplicates at most."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Publish until stopped. Whatever fails: the producer is discarded, the locks are let go, and it begins anew.

        That includes programmers' errors: logged loudly and tried again, for without a relay nothing goes on.
        """
        pause_s = 0.1
        while not self._stopping:
            sent_before = self.published
            try:
                await self._session()
            except Exception as error:
                self.failures += 1
                self.failure = str(error) or repr(error)
                log.warning("relay_failed", error=repr(error), exc_info=not isinstance(error, Unavailable))
            finally:
                self.parts = frozenset()
            if self.published > sent_before:
                pause_s = 0.1
            if not self._stopping:
                await asyncio.sleep(random.uniform(pause_s / 2, pause_s))
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)

    async def _session(self) -> None:
        """Publish with one producer and one connection, until one of them fails.

        All SQL runs on the connection that holds the locks, so a relay that has lost them cannot mark anything.
        """
        async with producing(self._settings) as producer:  # first: who cannot reach Kafka must hold no part
            name = f"homeroom-{self._settings.service}-relay"
            conn = await connect(
                self._settings.postgres, application_name=name, idle_session_timeout=SILENCE_ALLOWED
            )
            try:
                with unavailable_when_lost(conn):
                    await self._publish(conn, producer)
            finally:
                await close(conn)

    async def _publish(self, conn: Connection, producer: AIOKafkaProducer) -> None:
        """Round after round: a look at the outbox above the floor, each second at all of it."""
        loop = asyncio.get_running_loop()
        floor = _Floor()
        full_poll_at, quiet_at = 0.0, loop.time() + QUIET_AFTER_S
        self._locked = frozenset()
        while not self._stopping:
            self._woken.clear()  # before the SELECT: a commit after it wakes us again
            full = loop.time() >= full_poll_at
            if full:
                full_poll_at = loop.time() + FULL_POLL_S
                if await self._take_parts(conn):
                    floor.seq = 0  # in a part that was another's, more than we send at once may lie below
                await floor.look(conn)
            rows = await conn.fetch(_sql.pending, 0 if full else floor.seq, list(self.parts), MAX_ROWS)
            all_sent = await self._send(conn, producer, rows) if rows else True
            if full and all_sent and len(rows) < MAX_ROWS:
                floor.rise()
            self.failure = None
            if rows:
                quiet_at = loop.time() + QUIET_AFTER_S
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S if loop.time() < quiet_at else QUIET_POLL_S):
                        await self._woken.wait()

    async def _take_parts(self, conn: Connection) -> bool:
        """Lock what nobody else holds; publish only where store and topic agree, and look at the others again.
        Whether there is more to publish now.

        What an earlier session found to disagree stays `halted` until it has been compared again.
        """
        wanted = [part for part in range(self._settings.partitions) if part not in self._locked]
        new = [row["part"] for row in await conn.fetch(_sql.take_parts, wanted)] if wanted else []
        self._locked |= set(new)
        halted = self.halted.keys() & self._locked
        now = asyncio.get_running_loop().time()
        if not new and not (halted and now >= self._recompare_at):
            self.halted = {part: self.halted[part] for part in halted}
            return False
        self._recompare_at = now + RECOMPARE_S
        asked = sorted({*new, *halted})
        async with consuming(self._settings) as consumer:
            self.halted = await compare(conn, consumer, self._topic, asked)
        for problem in self.halted.values():
            log.error("history_diverged", topic=self._topic, part=problem.part, detail=problem.detail)
        self.parts |= set(asked) - self.halted.keys()
        log.info("relay_holds", topic=self._topic, parts=sorted(self.parts), halted=sorted(self.halted))
        return True

    async def _send(self, conn: Connection, producer: AIOKafkaProducer, rows: Sequence[Row]) -> bool:
        """Send rows, each part's in order, and mark what was acknowledged; were they all sent?

        Raises what failed first, if anything: nothing of that part is marked, and this producer is poisoned.
        """
        by_part: dict[int, list[Row]] = defaultdict(list)
        for row in rows:
            by_part[row["part"]].append(row)
        tasks = [asyncio.create_task(self._send_part(producer, part, of)) for part, of in by_part.items()]
        try:
            await asyncio.wait(tasks, timeout=ACKNOWLEDGE_PATIENCE_S)
        finally:
            for task in tasks:
                task.cancel()  # does nothing to those that are done
        errors = [task.exception() if task.done() else TimeoutError() for task in tasks]
        acknowledged = [task.result() for task, error in zip(tasks, errors, strict=True) if error is None]
        await self._mark(conn, acknowledged)
        with kafka_unavailable_when_lost():
            for error in filter(None, errors):
                raise error
        return sum(len(part.rows) for part in acknowledged) == len(rows)

    async def _send_part(self, producer: AIOKafkaProducer, part: int, rows: Sequence[Row]) -> _Acknowledged:
        """Send as many of one part's rows, from the first, as one batch holds.

        One batch is taken or refused as a whole. Of two, the second could be taken after the first was refused, and a
        person's events would lie in the topic in another order than they happened.
        """
        batch = producer.create_batch()
        for row in rows:
            key, value, headers = to_kafka(recorded_of(row, self._settings.service, _UNREAD), row["data"])
            if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                break
        batch.close()
        taken = batch.record_count()
        metadata = await (await producer.send_batch(batch, self._topic, partition=part))
        # A batch that the broker had already (a retry of the client's) is acknowledged without its offset: -1.
        last_offset = metadata.offset + taken - 1 if metadata.offset >= 0 else None
        return _Acknowledged(part, rows[:taken], last_offset)

    async def _mark(self, conn: Connection, sent: Sequence[_Acknowledged]) -> None:
        """Take acknowledged rows out of the outbox and note each part's last record, in one statement.

        Raises Diverged when a part's offsets have begun anew: so has the topic, and the next comparison tells.
        """
        if not sent:
            return
        last = [(part, offset, rows[-1]["event_id"]) for part, rows, offset in sent if offset is not None]
        parts, offsets, event_ids = ([entry[n] for entry in last] for n in range(3))
        seqs = [row["seq"] for part in sent for row in part.rows]
        noted = await conn.execute(_sql.mark_sent, seqs, parts, offsets, event_ids)
        self.published += len(seqs)
        if noted != f"INSERT 0 {len(parts)}":
            raise Diverged(f"{self._topic} was made anew")


class _Floor:
    """A number at or below which no row can appear in the outbox any more, and none is left.

    Polling above it keeps the poll quick while a long snapshot (a backup) keeps dead rows from being vacuumed. The
    last number sent will not do: a transaction that drew a lower number may commit later, and its person's next
    event must not overtake it. So: note the last number drawn, then draw a transaction id. Whoever holds a number
    up to the first has an id below the second (an append takes its transaction id before its numbers). Once every
    transaction below that id has ended, a poll of everything sees all rows up to that number, and none will follow.
    """

    def __init__(self) -> None:
        self.seq = 0
        self._settled = 0
        self._noted: tuple[int, int] | None = None  # last number drawn, then a transaction id

    async def look(self, conn: Connection) -> None:
        """Before a poll of everything."""
        if self._noted is not None and await conn.fetchval(_sql.oldest_running) > self._noted[1]:
            self._settled, self._noted = self._noted[0], None
        if self._noted is None:
            last_number = await conn.fetchval(_sql.last_number)
            if last_number > self._settled:
                self._noted = (last_number, await conn.fetchval(_sql.next_transaction))

    def rise(self) -> None:
        """After a poll of everything whose rows have all been sent and removed."""
        self.seq = self._settled
