"""What tests of everything that reads Kafka share: a topic, a database, events to put into one and rows to expect in
the other."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

from aiokafka import ConsumerRecord

from shared import kafka
from shared.database import Database
from shared.dead_letter import letters
from shared.messages import Cause, Event, Recorded, partition_of, to_kafka, topic_of
from shared.projection import Projection
from shared.runner import Runner
from shared.settings import Settings
from shared.shares import Runners
from shared.testing import DISTRICT, NOON
from tests.shared.kit import CODEC, SERVICE, Count, Counted, count, migrated
from tests.shared.kit import settings as settings_of

COUNTS = Projection("count", SERVICE, CODEC, Count, count)


class Scene:
    """One topic of the counter's events and the database of whoever reads it."""

    def __init__(self, settings: Settings, db: Database) -> None:
        self.settings = settings
        self.db = db
        self.topic = topic_of(settings.topic_prefix, SERVICE)

    async def publish(self, *events: Recorded[Any], data: bytes | None = None) -> None:
        """Events in order, each into its person's partition."""
        await self.send(
            *((partition_of(e.stream_id, self.settings.partitions), *wire(e, data)) for e in events)
        )

    async def send(
        self,
        *records: tuple[int, bytes | None, bytes | None, Sequence[tuple[str, bytes]]],
        topic: str | None = None,
    ) -> None:
        """Records as (partition, key, value, headers)."""
        async with kafka.producing(self.settings) as producer:
            sent = [
                await producer.send(
                    topic or self.topic, value, key=key, partition=part, headers=list(headers)
                )
                for part, key, value, headers in records
            ]
            await asyncio.gather(*sent)

    async def rows(self, table: str = "count") -> dict[UUID, Count]:
        async with self.db.connection() as conn:
            found = await conn.fetch(f"SELECT * FROM {table}")
        return {row["person_id"]: COUNTS.read(row) for row in found}

    async def gates(self, consumer: str = "count") -> dict[UUID, int]:
        async with self.db.connection() as conn:
            rows = await conn.fetch("SELECT stream_id, version FROM gate WHERE consumer = $1", consumer)
        return {row["stream_id"]: row["version"] for row in rows}

    async def letters(self, **which: Any) -> list[Any]:
        async with self.db.connection() as conn:
            return await letters(conn, **which)

    async def states(self) -> list[tuple[str, str]]:
        """(reason, state) of every dead letter that is open, oldest first."""
        return [(letter["reason"], letter["state"]) for letter in await self.letters()]

    async def execute(self, statement: str, *args: Any) -> None:
        async with self.db.connection() as conn:
            await conn.execute(statement, *args)

    async def value(self, statement: str, *args: Any) -> Any:
        async with self.db.connection() as conn:
            return await conn.fetchval(statement, *args)


@asynccontextmanager
async def scene_of(
    dsn: str, bootstrap: str, prefix: str, folder: Path, partitions: int = 3
) -> AsyncIterator[Scene]:
    await migrated(dsn, folder)
    settings = settings_of(postgres=dsn, kafka=bootstrap, topic_prefix=prefix, partitions=partitions)
    db = Database(dsn, max_size=partitions + 4)
    await kafka.create_topics(settings, [kafka.service_topic(settings, SERVICE)])
    yield Scene(settings, db)
    await db.close()


@asynccontextmanager
async def running(settings: Settings, *runners: Runner) -> AsyncIterator[Runners]:
    """A process that runs these."""
    process = Runners(settings, lambda: runners)
    task = asyncio.create_task(process.run())
    try:
        yield process
    finally:
        task.cancel()
        await asyncio.wait([task])


def wire(event: Recorded[Any], data: bytes | None = None) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    return to_kafka(event, CODEC.encode(event.data) if data is None else data)


def person(n: int = 1) -> UUID:
    return UUID(int=0xC0DE_0000_0000_4000_8000_0000_0000_0000 + n)


def event(stream: UUID, version: int, data: Event | None = None, *, again: bool = False) -> Recorded[Any]:
    """An event whose id follows from stream and version; `again` gives it another id."""
    data = data or Counted(by=version)
    id = uuid4() if again else uuid5(stream, str(version))
    name = type(data).__name__
    return Recorded(id, name, data.SCHEMA, SERVICE, DISTRICT, stream, version, NOON, data, Cause("journey"))


def stream(n: int, versions: int) -> list[Recorded[Any]]:
    return [event(person(n), version) for version in range(1, versions + 1)]


def folded(events: Iterable[Recorded[Any]]) -> dict[UUID, Count]:
    """The rows that events add up to."""
    by_person: dict[UUID, list[Recorded[Any]]] = {}
    for e in events:
        by_person.setdefault(e.stream_id, []).append(e)
    rows = {who: COUNTS.fold(None, theirs) for who, theirs in by_person.items()}
    return {who: row for who, row in rows.items() if row is not None}


async def until(condition: Callable[[], Awaitable[Any]], patience_s: float = 20.0) -> Any:
    """The first true answer."""
    deadline = asyncio.get_running_loop().time() + patience_s
    while not (answer := await condition()):
        assert asyncio.get_running_loop().time() < deadline, (
            f"not within {patience_s} s; last answer {answer!r}"
        )
        await asyncio.sleep(0.05)
    return answer


def record(part: int, offset: int, of: Recorded[Any]) -> ConsumerRecord:
    """An event as Kafka would hand it over."""
    key, value, headers = wire(of)
    return ConsumerRecord(
        topic="unread", partition=part, offset=offset, timestamp=0, timestamp_type=0, key=key, value=value,
        checksum=None, serialized_key_size=len(key), serialized_value_size=len(value), headers=headers,
    )  # fmt: skip


class Interrupted:
    """Awaits something, and cancels it where it waits for the nth time: a crash at every place where one can be."""

    def __init__(self, work: Coroutine[Any, Any, Any], nth: int) -> None:
        self._work = work
        self._nth = nth
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._work.__await__()
        step: Callable[[], Any] = lambda: inner.send(None)  # noqa: E731
        for n in itertools.count():
            try:
                waits_for = step()
            except StopIteration as stop:
                return stop.value
            if n == self._nth and waits_for is not None:
                self.reached = True
                waits_for.cancel()
            try:
                yield waits_for
                step = lambda: inner.send(None)  # noqa: E731
            except BaseException as error:
                step = lambda error=error: inner.throw(error)  # type: ignore[misc]  # noqa: E731
        return None


async def interrupt(work: Coroutine[Any, Any, Any], nth: int) -> bool:
    """Run with a cancellation at the nth wait; whether there was such a place."""
    interrupted = Interrupted(work, nth)
    with contextlib.suppress(asyncio.CancelledError):
        await interrupted
    return interrupted.reached
