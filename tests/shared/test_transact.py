"""The one path that changes anything: refused, repeated, raced, and with its COMMIT lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.database import Connection, Database
from shared.errors import Rejected, Unavailable, VersionConflict, WrongDistrict
from shared.event_store import EventStore
from shared.messages import Cause, Event
from shared.testing import NOON, MemoryStore
from shared.transact import Outcome, transact
from tests.shared.kit import CODEC, COUNTS, DECIDER, Counted, count_on, migrated

CAUSE = Cause("journey")


class Woken:
    times = 0

    def __call__(self) -> None:
        self.times += 1


class LosingDatabase(Database):
    """PostgreSQL whose answer to COMMIT is lost. What becomes of each transaction in turn, "kept" after the last:

    "kept": nothing is lost; "committed", "rolled_back": it was so, but nobody said; "later": it commits a while after
    the connection was given up; "away": the server does not answer at all.
    """

    fates: list[str]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        fate = self.fates.pop(0) if self.fates else "kept"
        if fate == "away":
            raise Unavailable("postgres")
        stack = AsyncExitStack()
        conn = await stack.enter_async_context(self.connection())
        transaction = conn.transaction()
        await transaction.start()
        try:
            yield conn
        except BaseException:
            await transaction.rollback()
            await stack.aclose()
            raise
        if fate == "rolled_back":
            await transaction.rollback()
        elif fate == "later":
            self.late = asyncio.create_task(self._commit_later(transaction, stack))
            raise Unavailable("postgres")
        else:
            await transaction.commit()
        await stack.aclose()
        if fate != "kept":
            raise Unavailable("postgres")

    async def _commit_later(self, transaction: Any, stack: AsyncExitStack) -> None:
        await asyncio.sleep(0.1)
        await transaction.commit()
        await stack.aclose()


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
async def real(database: str, tmp_path: Path, woken: Woken) -> AsyncIterator[EventStore]:
    await migrated(database, tmp_path)
    db = LosingDatabase(database, max_size=16)
    db.fates = []
    yield EventStore(db, CODEC, 12, [COUNTS], on_append=woken)
    await db.close()


@pytest.fixture
def memory(woken: Woken) -> MemoryStore:
    return MemoryStore(CODEC, inline=[COUNTS], on_append=woken)


async def add(store: EventStore, person: UUID, by: int = 1, **options: Any) -> Outcome[int]:
    def decide(state: int, facts: Any) -> list[Event]:
        return count_on(state, facts, by)

    return await transact(store, DECIDER, "ccps", person, decide, now=NOON, cause=CAUSE, **options)


async def total(store: EventStore, person: UUID) -> int:
    async with store.db.connection() as conn:
        events = await store.load(conn, person)
    assert [event.version for event in events] == list(range(1, len(events) + 1)), "gapless"
    return DECIDER.state_after(events)


async def test_a_command_is_decided_on_what_happened(memory: MemoryStore, woken: Woken) -> None:
    person = uuid4()
    outcome = await add(memory, person, 3)
    assert (outcome.state, [e.data for e in outcome.events], outcome.facts) == (3, [Counted(by=3)], None)
    assert (await add(memory, person, 4)).state == 7
    assert woken.times == 2


async def test_a_repeat_appends_nothing_and_wakes_nobody(memory: MemoryStore, woken: Woken) -> None:
    person = uuid4()
    await add(memory, person, 3)
    outcome = await add(memory, person, 0)
    assert (outcome.state, outcome.events, woken.times) == (3, [], 1)


async def test_a_refusal_changes_nothing_and_is_not_tried_again(memory: MemoryStore) -> None:
    person, loads = uuid4(), []

    async def load(_: Connection) -> None:
        loads.append(1)

    with pytest.raises(Rejected) as caught:
        await add(memory, person, 101, load=load)
    assert (caught.value.reason, caught.value.details, caught.value.secret) == (
        "too_many",
        {"limit": 100},
        {"total": 0},
    )
    assert (len(loads), await total(memory, person)) == (1, 0)


async def test_the_stream_of_another_district_is_out_of_reach(memory: MemoryStore) -> None:
    person = uuid4()
    await add(memory, person)
    with pytest.raises(WrongDistrict):
        await transact(memory, DECIDER, "other", person, count_on, now=NOON, cause=CAUSE)


async def test_facts_and_rows_share_the_transaction(real: EventStore) -> None:
    person = uuid4()

    async def load(conn: Connection) -> int:
        return int(await conn.fetchval("SELECT count(*) FROM refusal"))

    async def then(conn: Connection, outcome: Outcome[int]) -> None:
        await conn.execute(
            "INSERT INTO refusal VALUES ($1, 'ccps', 'route', 'reason', $2, $3, $4)",
            f"C-{len(outcome.events)}-{outcome.facts}",
            {"state": outcome.state},
            person,
            NOON,
        )
        if outcome.state == 99:
            raise ZeroDivisionError

    assert (await add(real, person, 5, load=load, then=then)).facts == 0
    assert (await add(real, person, 0, load=load, then=then)).facts == 1, "also without events"
    with pytest.raises(ZeroDivisionError):
        await add(real, person, 94, load=load, then=then)
    assert await total(real, person) == 5
    async with real.db.connection() as conn:
        rows = await conn.fetch("SELECT reference, detail FROM refusal ORDER BY reference")
    assert [tuple(row) for row in rows] == [("C-0-1", {"state": 5}), ("C-1-0", {"state": 5})]


async def test_within_the_callers_transaction_it_runs_once(memory: MemoryStore, woken: Woken) -> None:
    person = uuid4()
    async with memory.db.transaction() as conn:
        await add(memory, person, 1, conn=conn)
        await add(memory, person, 2, conn=conn)
        assert await total(memory, person) == 0
    assert (await total(memory, person), woken.times) == (3, 0), "who commits, wakes"


async def test_within_the_callers_transaction_a_lost_race_is_the_callers(real: EventStore) -> None:
    person = uuid4()

    async def faster(_: Connection) -> None:
        await add(real, person, 1)

    async def try_it() -> None:
        async with real.db.transaction() as conn:
            await add(real, person, 1, conn=conn, load=faster)

    with pytest.raises(VersionConflict):
        await try_it()
    assert await total(real, person) == 1


async def test_who_loses_every_race_is_told(real: EventStore) -> None:
    person, races = uuid4(), []

    async def faster(_: Connection) -> None:
        races.append(1)
        await add(real, person, 1)

    with pytest.raises(VersionConflict):
        await add(real, person, 1, load=faster, attempts=3)
    assert (len(races), await total(real, person)) == (3, 3)


@pytest.mark.parametrize("kind", ["memory", "real"])
async def test_many_writers_of_one_stream_lose_nothing(
    kind: str, memory: MemoryStore, real: EventStore
) -> None:
    store, person = (memory if kind == "memory" else real), uuid4()
    outcomes = await asyncio.gather(*(add(store, person, 1, attempts=30) for _ in range(16)))
    assert sorted(outcome.state for outcome in outcomes) == list(range(1, 17))
    assert await total(store, person) == 16


async def test_twelve_writers_of_many_streams_lose_nothing(real: EventStore) -> None:
    persons = [uuid4() for _ in range(10)]

    async def writer(number: int) -> None:
        for n in range(20):
            await add(real, persons[(number + n * 7) % 10], 1, attempts=20)

    await asyncio.gather(*map(writer, range(12)))
    assert sum([await total(real, person) for person in persons]) == 240
    async with real.db.connection() as conn:
        rows = await conn.fetch("SELECT stream_id, version FROM outbox ORDER BY seq")
    for person in persons:
        queued = [row["version"] for row in rows if row["stream_id"] == person]
        assert queued == list(range(1, len(queued) + 1)), "the queue has each person's events in order"
    assert len(rows) == 240


@pytest.mark.parametrize("fates", [["committed"], ["rolled_back"], ["later"], ["rolled_back", "committed"]])
async def test_a_lost_commit_takes_effect_once(real: EventStore, woken: Woken, fates: list[str]) -> None:
    assert isinstance(real.db, LosingDatabase)
    person = uuid4()
    await add(real, person, 60)
    real.db.fates = list(fates)
    outcome = await add(real, person, 40, load=_nothing)
    assert (outcome.state, [event.data for event in outcome.events]) == (100, [Counted(by=40)])
    assert await total(real, person) == 100
    assert woken.times == 2
    async with real.db.connection() as conn:
        assert await real.load(conn, person) == [*(await real.load(conn, person))[:1], *outcome.events]


async def test_a_lost_commit_is_found_although_somebody_went_on(real: EventStore) -> None:
    """The events took effect and another command followed: a decision made anew would be refused."""
    assert isinstance(real.db, LosingDatabase)
    person = uuid4()
    real.db.fates = ["committed", "away", "away"]
    first = asyncio.create_task(add(real, person, 60))
    while await total(real, person) == 0:
        await asyncio.sleep(0.001)
    real.db.fates = []
    await add(real, person, 40)
    assert (await first).state == 60
    assert await total(real, person) == 100


async def test_an_outage_before_the_commit_is_said_at_once(real: EventStore) -> None:
    assert isinstance(real.db, LosingDatabase)
    real.db.fates = ["away"]
    with pytest.raises(Unavailable):
        await add(real, uuid4(), 1)
    assert real.db.fates == []


async def test_an_outage_that_outlasts_the_attempts_is_said(real: EventStore) -> None:
    assert isinstance(real.db, LosingDatabase)
    real.db.fates = ["committed", "away", "away"]
    with pytest.raises(Unavailable):
        await add(real, uuid4(), 1, attempts=3)
    assert real.db.fates == []


async def _nothing(_: Connection) -> None:
    return None
