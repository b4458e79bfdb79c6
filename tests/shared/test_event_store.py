"""One suite for the real store and its double: what holds for one holds for the other."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.database import Connection, Database
from shared.errors import EventTooLarge, UnknownEventType, VersionConflict
from shared.event_store import (
    MAX_EVENT_BYTES,
    MAX_EVENTS_PER_APPEND,
    MAX_STREAMS_PER_APPEND,
    EventStore,
)
from shared.messages import Cause, Event, Recorded, partition_of
from shared.testing import NOON, MemoryStore
from tests.shared.kit import CODEC, COUNTS, Cleared, Count, Counted, Removed, migrated

CAUSE = Cause("journey", "parent", "trace")


class Woken:
    """Counts how often a relay would have been woken."""

    times = 0

    def __call__(self) -> None:
        self.times += 1


class Bench:
    """A store, and what differs in looking at it from outside."""

    def __init__(self, store: EventStore) -> None:
        self.store = store

    async def row(self, person: UUID) -> Count | None:
        async with self.store.db.connection() as conn:
            if isinstance(self.store, MemoryStore):
                found: Count | None = self.store.row(conn, COUNTS, person)
                return found
            return (await COUNTS.load(conn, [person])).get(person)

    async def outbox(self) -> list[tuple[UUID, int]]:
        if isinstance(self.store, MemoryStore):
            return [(event.stream_id, event.version) for event, _ in self.store.db.outbox]
        async with self.store.db.connection() as conn:
            rows = await conn.fetch("SELECT stream_id, version FROM outbox ORDER BY seq")
            return [(row["stream_id"], row["version"]) for row in rows]

    async def append(self, person: UUID, expected: int, *events: Event, district: str = "ccps") -> Any:
        async with self.store.db.transaction() as conn:
            return await append(self.store, conn, person, expected, *events, district=district)

    async def load(self, person: UUID) -> list[Recorded[Event]]:
        async with self.store.db.connection() as conn:
            return await self.store.load(conn, person)


async def append_many(
    store: EventStore, conn: Connection, given: dict[UUID, tuple[int, list[Event]]], district: str = "ccps"
) -> list[Recorded[Event]]:
    recorded = [
        each
        for person, (expected, events) in given.items()
        for each in store.record(district, person, expected, events, now=NOON, cause=CAUSE)
    ]
    await store.append_many(conn, recorded)
    return recorded


async def append(
    store: EventStore, conn: Connection, person: UUID, expected: int, *events: Event, district: str = "ccps"
) -> list[Recorded[Event]]:
    return await store.append(conn, district, person, expected, events, now=NOON, cause=CAUSE)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.backing)])
def dsn(request: pytest.FixtureRequest) -> str | None:
    """None: the double."""
    return None if request.param == "memory" else str(request.getfixturevalue("database"))


@pytest.fixture
async def bench(dsn: str | None, tmp_path: Path) -> AsyncIterator[Bench]:
    if dsn is None:
        yield Bench(MemoryStore(CODEC, inline=[COUNTS]))
        return
    await migrated(dsn, tmp_path)
    db = Database(dsn)
    yield Bench(EventStore(db, CODEC, 12, [COUNTS]))
    await db.close()


async def test_nothing_is_known_of_a_stranger(bench: Bench) -> None:
    assert await bench.load(uuid4()) == []
    assert await bench.row(uuid4()) is None


async def test_what_was_appended_is_loaded(bench: Bench) -> None:
    person = uuid4()
    first = await bench.append(person, 0, Counted(by=1, note="año"), Counted(by=2))
    second = await bench.append(person, 2, Cleared())
    assert await bench.load(person) == first + second
    assert [event.version for event in first + second] == [1, 2, 3]
    event = first[0]
    assert (event.type, event.schema, event.service, event.district) == ("Counted", 1, "counter", "ccps")
    assert (event.stream_id, event.time, event.cause) == (person, NOON, CAUSE)
    assert len({event.id for event in first + second}) == 3


async def test_no_events_are_no_append(bench: Bench) -> None:
    person = uuid4()
    assert await bench.append(person, 0) == []
    assert await bench.append(person, 7) == []
    assert await bench.load(person) == []


@pytest.mark.parametrize("expected", [0, 1, 3, 99])
async def test_another_version_than_expected_conflicts_and_leaves_nothing(
    bench: Bench, expected: int
) -> None:
    person = uuid4()
    await bench.append(person, 0, Counted(by=1), Counted(by=1))
    with pytest.raises(VersionConflict) as caught:
        await bench.append(person, expected, Counted(by=5))
    assert (caught.value.stream_id, caught.value.expected_version) == (person, expected)
    assert len(await bench.load(person)) == 2
    assert len(await bench.outbox()) == 2
    row = await bench.row(person)
    assert row is not None
    assert (row.total, row.version) == (2, 2)


async def test_a_stranger_at_a_version_conflicts(bench: Bench) -> None:
    with pytest.raises(VersionConflict):
        await bench.append(uuid4(), 1, Counted(by=1))
    assert await bench.outbox() == []


async def test_another_district_cannot_append(bench: Bench) -> None:
    person = uuid4()
    await bench.append(person, 0, Counted(by=1))
    with pytest.raises(VersionConflict):
        await bench.append(person, 1, Counted(by=1), district="other")
    assert len(await bench.load(person)) == 1


async def test_inline_rows_are_the_fold_of_the_stream(bench: Bench) -> None:
    person = uuid4()
    await bench.append(person, 0, Counted(by=3, note="x"), Counted(by=4))
    row = await bench.row(person)
    assert row is not None
    assert (row.total, [step.by for step in row.steps], row.note, row.version) == (7, [3, 4], None, 2)
    assert row == COUNTS.fold(None, await bench.load(person))
    await bench.append(person, 2, Cleared())
    row = await bench.row(person)
    assert row is not None
    assert (row.total, row.steps, row.cleared_at, row.version) == (0, [], NOON, 3)
    await bench.append(person, 3, Removed())
    assert await bench.row(person) is None
    await bench.append(person, 4, Counted(by=1))
    row = await bench.row(person)
    assert row is not None
    assert (row.total, row.version) == (1, 5)


async def test_a_transaction_sees_its_own_events_and_others_do_not(bench: Bench) -> None:
    person = uuid4()
    async with bench.store.db.transaction() as conn:
        await append(bench.store, conn, person, 0, Counted(by=1))
        await append(bench.store, conn, person, 1, Counted(by=2))
        assert [event.version for event in await bench.store.load(conn, person)] == [1, 2]
        assert await bench.load(person) == []
        assert await bench.row(person) is None
    assert len(await bench.load(person)) == 2


async def test_a_transaction_that_fails_leaves_nothing(bench: Bench) -> None:
    person = uuid4()
    with contextlib.suppress(ZeroDivisionError):
        async with bench.store.db.transaction() as conn:
            await append(bench.store, conn, person, 0, Counted(by=1))
            raise ZeroDivisionError
    assert await bench.load(person) == []
    assert await bench.row(person) is None
    assert await bench.outbox() == []
    await bench.append(person, 0, Counted(by=1))


@pytest.mark.parametrize("expected", [0, 2])
async def test_the_second_of_two_waits_for_the_first_and_then_conflicts(bench: Bench, expected: int) -> None:
    person = uuid4()
    if expected:
        await bench.append(person, 0, Counted(by=1), Counted(by=1))
    async with bench.store.db.transaction() as conn:
        await append(bench.store, conn, person, expected, Counted(by=1))
        second = asyncio.create_task(bench.append(person, expected, Counted(by=9)))
        await asyncio.wait({second}, timeout=0.2)
        assert not second.done()
    with pytest.raises(VersionConflict):
        await second
    assert len(await bench.load(person)) == expected + 1


@pytest.mark.parametrize("expected", [0, 2])
async def test_the_second_of_two_goes_on_when_the_first_gives_up(bench: Bench, expected: int) -> None:
    person = uuid4()
    if expected:
        await bench.append(person, 0, Counted(by=1), Counted(by=1))
    with contextlib.suppress(ZeroDivisionError):
        async with bench.store.db.transaction() as conn:
            await append(bench.store, conn, person, expected, Counted(by=1))
            second = asyncio.create_task(bench.append(person, expected, Counted(by=9)))
            await asyncio.sleep(0.05)
            raise ZeroDivisionError
    assert [event.data for event in await second] == [Counted(by=9)]


async def test_persons_do_not_wait_for_each_other(bench: Bench) -> None:
    async with bench.store.db.transaction() as conn:
        await append(bench.store, conn, uuid4(), 0, Counted(by=1))
        async with asyncio.timeout(5):
            await bench.append(uuid4(), 0, Counted(by=1))


async def test_events_leave_in_the_order_of_their_versions(bench: Bench) -> None:
    person = uuid4()
    await bench.append(person, 0, *[Counted(by=n) for n in range(10)])
    await bench.append(person, 10, *[Counted(by=n) for n in range(5)])
    assert await bench.outbox() == [(person, n) for n in range(1, 16)]


async def test_events_are_bounded(bench: Bench) -> None:
    person = uuid4()
    fits = "x" * (MAX_EVENT_BYTES - len('{"by":1,"note":""}'))
    await bench.append(person, 0, Counted(by=1, note=fits))
    with pytest.raises(EventTooLarge):
        await bench.append(person, 1, Counted(by=1, note=fits + "x"))
    await bench.append(person, 1, *[Counted(by=1)] * MAX_EVENTS_PER_APPEND)
    with pytest.raises(EventTooLarge):
        await bench.append(person, 1 + MAX_EVENTS_PER_APPEND, *[Counted(by=1)] * (MAX_EVENTS_PER_APPEND + 1))
    assert len(await bench.load(person)) == 1 + MAX_EVENTS_PER_APPEND


async def test_only_the_services_own_events_are_taken(bench: Bench) -> None:
    class Foreign(Event):
        pass

    with pytest.raises(UnknownEventType):
        await bench.append(uuid4(), 0, Foreign())


async def test_waking_is_said_once_and_at_once() -> None:
    woken = Woken()
    store = MemoryStore(CODEC, on_append=woken)
    async with store.db.transaction() as conn:
        await append(store, conn, uuid4(), 0, Counted(by=1))
    assert woken.times == 0, "an append does not wake: its transaction is not committed yet"
    store.wake()
    assert woken.times == 1


async def test_stored_data_is_the_text_that_was_encoded(database: str, tmp_path: Path) -> None:
    """PostgreSQL neither sorts keys nor folds blanks: what leaves for Kafka is what was encoded, each time."""
    await migrated(database, tmp_path)
    db = Database(database)
    event = Counted(note='"\\ \u0000 é 😀', by=-1)
    async with db.transaction() as conn:
        await append(EventStore(db, CODEC, 12), conn, uuid4(), 0, event)
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT data FROM event") == CODEC.encode(event)
    await db.close()


async def test_events_lie_in_the_partition_of_their_person(database: str, tmp_path: Path) -> None:
    await migrated(database, tmp_path)
    db = Database(database)
    store = EventStore(db, CODEC, 12)
    persons = [uuid4() for _ in range(20)]
    # Without inline projections an append is one statement, in autocommit.
    async with db.connection() as conn:
        for person in persons:
            await append(store, conn, person, 0, Counted(by=1))
        parts = {r["stream_id"]: r["part"] for r in await conn.fetch("SELECT stream_id, part FROM outbox")}
    assert parts == {person: partition_of(person, 12) for person in persons}
    await db.close()


async def test_many_streams_are_appended_at_once(bench: Bench) -> None:
    known, *new = uuid4(), uuid4(), uuid4()
    before = await bench.append(known, 0, Counted(by=1))
    async with bench.store.db.transaction() as conn:
        given: dict[UUID, tuple[int, list[Event]]] = {
            known: (1, [Counted(by=2), Cleared()]),
            new[0]: (0, [Counted(by=3)]),
            new[1]: (0, [Counted(by=4), Counted(by=5)]),
        }
        recorded = await append_many(bench.store, conn, given)
    async with bench.store.db.connection() as conn:
        loaded = await bench.store.load_many(conn, [known, *new, uuid4()])
    assert loaded == {
        known: before + recorded[:2],
        new[0]: recorded[2:3],
        new[1]: recorded[3:],
    }
    assert await bench.load(new[1]) == recorded[3:]
    rows = [await bench.row(person) for person in (known, *new)]
    assert [row and (row.total, row.version) for row in rows] == [(0, 3), (3, 1), (9, 2)]
    queued = await bench.outbox()
    assert sorted(queued) == sorted(
        [(known, n) for n in (1, 2, 3)] + [(e.stream_id, e.version) for e in recorded[2:]]
    )
    for person in (known, *new):
        versions = [version for stream, version in queued if stream == person]
        assert versions == sorted(versions)


async def test_nothing_of_many_is_appended_when_one_stream_has_moved_on(bench: Bench) -> None:
    known, new = uuid4(), uuid4()
    await bench.append(known, 0, Counted(by=1), Counted(by=1))
    for expected in (0, 1, 3):
        with pytest.raises(VersionConflict) as caught:
            async with bench.store.db.transaction() as conn:
                await append_many(
                    bench.store, conn, {new: (0, [Counted(by=1)]), known: (expected, [Counted(by=1)])}
                )
        assert (caught.value.stream_id, caught.value.expected_version) == (known, expected)
    with pytest.raises(VersionConflict):
        async with bench.store.db.transaction() as conn:
            await append_many(bench.store, conn, {known: (2, [Counted(by=1)])}, district="other")
    assert await bench.load(new) == []
    assert len(await bench.load(known)) == len(await bench.outbox()) == 2


async def test_what_is_too_large_is_refused_among_many_as_well(bench: Bench) -> None:
    async with bench.store.db.transaction() as conn:
        await bench.store.append_many(conn, [])
    too_many: list[Event] = [Counted(by=1)] * (MAX_EVENTS_PER_APPEND + 1)
    crowd: dict[UUID, tuple[int, list[Event]]] = {
        uuid4(): (0, [Counted(by=1)]) for _ in range(MAX_STREAMS_PER_APPEND + 1)
    }
    for given in ({uuid4(): (0, too_many)}, crowd):
        with pytest.raises(EventTooLarge):
            async with bench.store.db.transaction() as conn:
                await append_many(bench.store, conn, given)
    assert await bench.outbox() == []


async def test_of_two_appends_of_the_same_many_one_wins(bench: Bench) -> None:
    """In opposite orders: they wait for each other, never in a circle."""
    people = [uuid4() for _ in range(20)]
    for person in people[::2]:
        await bench.append(person, 0, Counted(by=1))

    async def all_of(order: list[UUID]) -> bool:
        given: dict[UUID, tuple[int, list[Event]]] = {
            person: (1 if person in people[::2] else 0, [Counted(by=1)]) for person in order
        }
        try:
            async with bench.store.db.transaction() as conn:
                await append_many(bench.store, conn, given)
        except VersionConflict:
            return False
        return True

    won = await asyncio.gather(all_of(people), all_of(people[::-1]), all_of(people))
    assert sorted(won) == [False, False, True]
    assert [len(await bench.load(person)) for person in people] == [2, 1] * 10
