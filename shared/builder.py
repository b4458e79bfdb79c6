"""The child process of a rebuild: `python -m shared.builder` folds some partitions of a topic from their beginning.

Its job comes as JSON on stdin, which stays open: when it closes, the parent is gone and the child ends too. On stdout
it writes a line of JSON now and then: {"done": records so far}, at last {"error": null or why, "curable": bool}.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from uuid import UUID

import msgspec
import structlog
import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from shared import child, kafka
from shared.database import Connection, Database, queries
from shared.errors import Diverged, HomeroomError, Unavailable
from shared.letter import Letter, curable, read_event
from shared.log import configure_logging
from shared.messages import from_kafka, topic_of
from shared.projection import Projection
from shared.projector import LiveProjection
from shared.reader import identity
from shared.settings import Settings

log = structlog.get_logger(__name__)

NICENESS = 5
READ_AT_ONCE = 5000
REPORT_INTERVAL_S = 0.5
WRITE_TIMEOUT_S = 600.0
# Persons of one partition whose events cannot be applied: beyond that it is the code's fault.
MOST_TROUBLED = 1000
GC_THRESHOLDS = (100_000, 50, 1000)

_sql = queries("shared", "rebuild.sql")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is to do: fold partitions up to `ends` into `table`, with gates under `consumer`."""

    settings: Settings
    source: str
    projection: str
    rebuild_id: UUID
    consumer: str
    table: str
    ends: dict[int, int]


class BuildFailed(HomeroomError):
    """A child process ended with an error that trying again does not cure."""


async def run_child(job: Job, report: Callable[[int], None]) -> None:
    """Run a child process to its end; `report` is told the records done. Raises BuildFailed, Unavailable."""
    told: dict[str, Any] = {}
    async with child.running("shared.builder") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(msgspec.json.encode(job, enc_hook=str) + b"\n")
        async for line in process.stdout:
            told = msgspec.json.decode(line)
            report(told.get("done", 0))
    error = told.get("error", f"it ended with {process.returncode}")
    if error is not None:
        message = f"the builder of {job.projection}: {error}"
        # By a signal: by whoever is short of memory, or by an operator.
        killed = (process.returncode or 0) < 0
        raise Unavailable(message) if told.get("curable", killed) else BuildFailed(message)


def find_projection(source: str, name: str) -> Projection[Any]:
    """A projection of "module:attribute", which is a service's description or a sequence of projections."""
    module, _, attribute = source.partition(":")
    described = getattr(importlib.import_module(module), attribute)
    known: Iterable[Projection[Any]] = (
        described if isinstance(described, (list, tuple)) else [*described.inline, *described.projections]
    )
    found = {projection.name: projection for projection in known}
    if name not in found:
        raise BuildFailed(f"{source} has no projection {name}")
    return found[name]


class _Stream:
    """One person's fold. `letters` holds everything from the first event on that is not in order."""

    __slots__ = ("event_id", "folded", "letters", "row", "version")

    def __init__(self) -> None:
        self.row: Any = None
        self.version = 0  # of the last event
        self.folded = 0  # of the last event of a known type
        self.event_id: UUID | None = None
        self.letters: list[Letter] | None = None


@dataclass
class Fold:
    """One partition of the history, as far as it is folded."""

    part: int
    end: int
    last: ConsumerRecord | None = None
    streams: dict[bytes, _Stream] = field(default_factory=dict)
    nobodys: list[Letter] = field(default_factory=list)


class Build:
    """Folds one partition after the other; while PostgreSQL writes one, the next is read."""

    def __init__(self, job: Job, db: Database) -> None:
        self.job = job
        self.db = db
        self.done = 0
        self.projection = find_projection(job.source, job.projection)
        self.topic = topic_of(job.settings.topic_prefix, self.projection.source)
        self.live = LiveProjection(self.projection, job.settings, db, name=job.consumer, table=job.table)

    async def run(self) -> None:
        async with kafka.consuming(self.job.settings, max_partition_fetch_bytes=4 * 1024 * 1024) as consumer:
            writing = asyncio.create_task(asyncio.sleep(0))
            try:
                for part, end in self.job.ends.items():
                    fold = Fold(part, end)
                    async for records in self._read(consumer, part, end):
                        self.fold(fold, records)
                        self.done += len(records)
                    await writing
                    writing = asyncio.create_task(self.write(fold))
                await writing
            finally:
                writing.cancel()

    async def _read(
        self, consumer: AIOKafkaConsumer, part: int, end: int
    ) -> AsyncIterator[list[ConsumerRecord]]:
        tp = TopicPartition(self.topic, part)
        with kafka.unavailable_when_lost():
            async with asyncio.timeout(kafka.READ_PATIENCE_S):
                begin = (await consumer.beginning_offsets([tp]))[tp]
        if begin:
            raise Diverged(f"{self.topic} [{part}] begins at offset {begin}: its history is not whole")
        async for records in kafka.read_ranges(consumer, {tp: (0, end)}):
            yield records

    def fold(self, fold: Fold, records: Sequence[ConsumerRecord]) -> None:
        """Fold the next records of a partition."""
        codec, evolve, streams = self.projection.codec, self.projection.evolve, fold.streams
        fold.last = records[-1]
        for record in records:
            stream = streams.get(record.key)
            if stream is None:
                stream = streams[record.key] = _Stream()
            try:
                event = from_kafka(record, codec)
            except HomeroomError:  # of an unknown type, or flawed
                self._aside(fold, stream, record)
                continue
            if stream.letters is not None or event.version > stream.version + 1:
                self._aside(fold, stream, record)
            elif event.version <= stream.version:
                if event.version == stream.version and event.id != stream.event_id:
                    raise Diverged(f"stream {event.stream_id} has two events of version {event.version}")
            else:
                try:
                    stream.row = evolve(stream.row, event)
                except Exception:  # told again, and kept, when the stream is settled
                    self._aside(fold, stream, record)
                else:
                    stream.version = stream.folded = event.version
                    stream.event_id = event.id

    def _aside(self, fold: Fold, stream: _Stream, record: ConsumerRecord) -> None:
        letter = read_event(record, self.projection.codec)
        if letter.stream_id is None:
            fold.nobodys.append(letter)
        elif stream.letters is not None:
            stream.letters.append(letter)
        elif letter.event is None and letter.flaw is None and letter.version == stream.version + 1:
            stream.version, stream.event_id = letter.version, letter.event_id  # of an unknown type
        elif letter.flaw is not None or letter.version is None or letter.version > stream.version:
            stream.letters = [letter]

    async def write(self, fold: Fold) -> None:
        """Checkpoint, rows, gates and dead letters of a partition, in one transaction."""
        troubled = [stream.letters for stream in fold.streams.values() if stream.letters is not None]
        if len(troubled) > MOST_TROUBLED:
            raise BuildFailed(f"events of {len(troubled)} persons of partition {fold.part} cannot be applied")
        last_id = None if fold.last is None else identity(fold.last)
        async with self.db.transaction() as conn:
            for timeout in ("statement_timeout", "lock_timeout"):
                await conn.execute(f"SET LOCAL {timeout} = '{WRITE_TIMEOUT_S:.0f}s'")
            if not await conn.fetchval(_sql.still_building, self.job.rebuild_id):
                raise Unavailable("a rebuild that is building")
            checkpoint = self.job.consumer, self.topic, fold.part, fold.end, last_id
            if await conn.execute(_sql.put_checkpoint, *checkpoint, timeout=WRITE_TIMEOUT_S) != "INSERT 0 1":
                return  # a builder that outlived its parent has done it meanwhile
            await self._copy(conn, fold)
            given_up = {
                (row["key"], row["version"]) for row in await conn.fetch(_sql.discarded, self.job.consumer)
            }
            for letters in troubled:
                for letter in letters:
                    if (str(letter.stream_id), letter.version) in given_up:
                        letter.wish = "discard"
            await self.live.set_aside(conn, [*chain(*troubled), *fold.nobodys])

    async def _copy(self, conn: Connection, fold: Fold) -> None:
        rows, gates = [], []
        for key, stream in fold.streams.items():
            if stream.event_id is not None:
                gates.append((self.job.consumer, UUID(key.decode()), stream.version, stream.event_id))
            if stream.row is not None:
                row = msgspec.structs.replace(stream.row, version=stream.folded)
                rows.append(msgspec.structs.astuple(row))
        for table, records, columns in (
            (self.job.table, rows, self.projection.columns),
            ("gate", gates, ("consumer", "stream_id", "version", "event_id")),
        ):
            await conn.copy_records_to_table(table, records=records, columns=columns, timeout=WRITE_TIMEOUT_S)


async def _main(job: Job, say: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    db = Database(
        job.settings.postgres, max_size=2, application_name=f"homeroom-{job.settings.service}-build"
    )
    try:
        build = Build(job, db)
        reporting = asyncio.create_task(_report(build, say))
        await build.run()
        reporting.cancel()
    except Exception as error:
        if not curable(error):
            log.error("build_failed", projection=job.projection, exc_info=error)
        return {"error": f"{type(error).__name__}: {error}", "curable": curable(error)}
    finally:
        await db.close()
    return {"error": None, "done": build.done}


async def _report(build: Build, say: Callable[[dict[str, Any]], None]) -> None:
    while True:
        await asyncio.sleep(REPORT_INTERVAL_S)
        say({"done": build.done})


def _end_with_parent() -> None:
    """What is under way is rolled back by PostgreSQL."""
    while os.read(0, 4096):  # not by way of sys.stdin, whose lock would be held when the interpreter ends
        pass
    os._exit(1)


def main() -> None:
    asked = sys.stdin.buffer.readline()
    if not asked.endswith(b"\n"):
        sys.exit("the parent is gone")
    job = msgspec.json.decode(asked, type=Job, dec_hook=lambda kind, value: kind(value))
    parent = os.dup(1)
    os.dup2(2, 1)  # what is logged goes where the parent's errors go

    def say(what: dict[str, Any]) -> None:
        os.write(parent, msgspec.json.encode(what) + b"\n")

    os.nice(NICENESS)
    gc.set_threshold(*GC_THRESHOLDS)
    configure_logging(job.settings.service, level=job.settings.log_level, form=job.settings.log_format)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    say(uvloop.run(_main(job, say)))
    os._exit(0)  # what stdin's thread holds would keep the interpreter from ending


if __name__ == "__main__":
    main()
