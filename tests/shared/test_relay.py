"""From the outbox to the topic: in order, at least once, whatever breaks in between."""

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from cloudevents.core.bindings import kafka as sdk
from cloudevents.core.formats.json import JSONFormat

from shared import clock, relay
from shared.database import Database
from shared.history import Disagreement
from shared.kafka import administering
from shared.messages import Cause, from_kafka, partition_of
from shared.relay import Backlog, Relay, _Floor, backlog
from shared.testing import NOON
from tests.shared.kit import CODEC, Counted, Publishing, first_seen, migrated, settings


@pytest.fixture
async def bench(
    database: str, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Publishing]:
    await migrated(database, tmp_path)
    bench = Publishing(database, kafka_bootstrap, topic_prefix)
    yield bench
    await bench.db.close()


@contextlib.asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(relay.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until(condition: Any, patience_s: float = 20) -> None:
    async with asyncio.timeout(patience_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_events_arrive_in_order_as_cloudevents(bench: Publishing) -> None:
    await bench.make_topic()
    persons = [uuid4() for _ in range(9)]
    async with running(bench.relay):
        appended = [event for n in range(5) for person in persons for event in await bench.add(person, n, n)]
        await bench.drained()
    records = await bench.records()
    assert {event.id: event for event in appended} == {
        event.id: event for event in (from_kafka(record, CODEC) for record in records)
    }
    assert await bench.versions() == {person: list(range(1, 11)) for person in persons}
    read = [sdk.from_binary(sdk.KafkaMessage(dict(r.headers), r.key, r.value), JSONFormat()) for r in records]
    assert {event.get_id() for event in read} == {str(event.id) for event in appended}
    async with bench.db.connection() as conn:
        rows = await conn.fetch("SELECT part, last_offset, last_event_id FROM publication")
    last = {record.partition: record for record in records}
    assert {row["part"]: (row["last_offset"], str(row["last_event_id"])) for row in rows} == {
        part: (record.offset, dict(record.headers)["ce_id"].decode()) for part, record in last.items()
    }
    assert bench.relay.published == len(appended)


async def test_a_commit_in_this_process_is_sent_without_waiting_for_a_poll(
    bench: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.make_topic()
    monkeypatch.setattr(relay, "POLL_S", 60.0)
    monkeypatch.setattr(relay, "FULL_POLL_S", 60.0)
    async with running(bench.relay):
        await until(lambda: len(bench.relay.parts) == 3)
        for _ in range(20):
            await bench.add(uuid4())
        await bench.drained(5)


async def test_a_commit_in_another_process_is_found_by_polling(bench: Publishing) -> None:
    await bench.make_topic()
    other = Publishing(bench.settings.postgres, bench.settings.kafka, bench.settings.topic_prefix)
    async with running(bench.relay):
        await until(lambda: len(bench.relay.parts) == 3)
        await other.add(uuid4())
        await bench.drained(5)
    await other.db.close()


async def test_a_crash_between_acknowledgement_and_mark_sends_the_same_again(
    bench: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Duplicates, the same to the byte; never a gap."""
    await bench.make_topic()
    persons = [uuid4() for _ in range(5)]
    mark, crashes = bench.relay._mark, 3

    async def crash_first(*arguments: Any) -> None:
        nonlocal crashes
        crashes -= 1
        if crashes >= 0:
            raise ConnectionResetError
        await mark(*arguments)

    monkeypatch.setattr(bench.relay, "_mark", crash_first)
    for person in persons:
        await bench.add(person, 1, 2, 3)
    async with running(bench.relay):
        await bench.drained()
    assert bench.relay.failures == 3
    copies = defaultdict(set)
    records = await bench.records()
    for record in records:
        copies[dict(record.headers)["ce_id"]].add((record.key, record.value, tuple(record.headers)))
    assert len(records) == 4 * 15
    assert len(copies) == 15
    assert all(len(of) == 1 for of in copies.values())
    assert await bench.versions() == {person: [1, 2, 3] * 4 for person in persons}


async def test_twelve_writers_and_a_relay_that_dies_all_the_time_lose_nothing(bench: Publishing) -> None:
    """Killed at random moments: every person's versions arrive, each first time in order."""
    await bench.make_topic()
    chance = random.Random(20261122)
    persons = [uuid4() for _ in range(30)]
    writing = True

    async def write(seed: int) -> None:
        own = random.Random(seed)
        for _ in range(80):
            await bench.add(own.choice(persons), *[1] * own.randint(1, 3))

    async def kill_and_start() -> None:
        while writing:
            async with running(Relay(bench.settings)):
                await asyncio.sleep(chance.uniform(0.02, 0.3))

    killing = asyncio.create_task(kill_and_start())
    await asyncio.gather(*map(write, range(12)))
    writing = False
    await killing
    async with running(bench.relay):
        await bench.drained()
    stored, seen = await bench.stored(), await bench.versions()
    assert stored.keys() == seen.keys()
    for person, versions in seen.items():
        assert first_seen(versions) == list(range(1, stored[person] + 1))


async def test_one_relay_works_and_another_takes_over(bench: Publishing) -> None:
    await bench.make_topic()
    second = Relay(bench.settings)
    async with running(bench.relay):
        await until(lambda: len(bench.relay.parts) == 3)
        async with running(second):
            await bench.add(uuid4())
            await bench.drained()
            assert second.parts == frozenset()
            await _terminate_relays(bench.db)
            await bench.add(uuid4())
            await bench.drained()
            await until(lambda: sorted([*bench.relay.parts, *second.parts]) == [0, 1, 2])
    assert sorted(len(v) for v in (await bench.versions()).values()) == [1, 1]


async def _terminate_relays(db: Database) -> None:
    async with db.connection() as conn:
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE '%-relay'"
        )


async def test_a_stopped_relay_returns_and_leaves_nothing_half_done(bench: Publishing) -> None:
    await bench.make_topic()
    async with running(bench.relay) as task:
        await until(lambda: len(bench.relay.parts) == 3)
        for _ in range(20):
            await bench.add(uuid4())
        bench.relay.stop()
        await asyncio.wait_for(task, 5)
    async with bench.db.connection() as conn:
        left = (await backlog(conn)).pending
    assert len(await bench.records()) == 20 - left


async def test_a_poisoned_producer_is_thrown_away(bench: Publishing) -> None:
    """A record that the broker refuses fails its partition for that producer; no version may be left out."""
    await bench.make_topic(**{"max.message.bytes": "3000"})
    person = uuid4()
    async with running(bench.relay):
        await bench.add(person)
        await bench.drained()
        async with bench.db.transaction() as conn:
            await bench.store.append(
                conn, "ccps", person, 1, [Counted(by=1, note="x" * 5000)], now=clock.now(), cause=Cause.new()
            )
        await bench.add(person)
        await until(lambda: bench.relay.failures >= 2)
        assert bench.relay.failure is not None
        for _ in range(3):
            await bench.add(person)
        async with administering(bench.settings) as admin:
            config = {"max.message.bytes": "1048588"}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, bench.topic, config)])
        await bench.drained()
        await until(lambda: bench.relay.failure is None)
    assert first_seen((await bench.versions())[person]) == [1, 2, 3, 4, 5, 6]


async def test_a_part_that_fails_does_not_hold_up_the_others(
    bench: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.make_topic()
    send, broken = AIOKafkaProducer.send_batch, True

    async def fail_part_0(self: AIOKafkaProducer, *arguments: Any, partition: int) -> Any:
        if broken and partition == 0:
            raise KafkaError("no leader")
        return await send(self, *arguments, partition=partition)

    monkeypatch.setattr(AIOKafkaProducer, "send_batch", fail_part_0)
    persons = [uuid4() for _ in range(30)]
    for person in persons:
        await bench.add(person, 1, 2)
    async with running(bench.relay):
        async with bench.db.connection() as conn:
            async with asyncio.timeout(20):
                while await conn.fetchval("SELECT count(*) FROM outbox WHERE part <> 0"):
                    await asyncio.sleep(0.01)
            assert await conn.fetchval("SELECT count(*) FROM outbox WHERE part = 0") > 0
        await until(lambda: bench.relay.failure == "kafka is not available")
        broken = False
        await bench.drained()
    seen = await bench.versions()
    assert [first_seen(seen[person]) for person in persons] == [[1, 2]] * 30


async def test_who_commits_late_is_not_overtaken(bench: Publishing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction draws its numbers early and commits late; meanwhile thousands with higher numbers are sent, and the
    floor rises. Its events go out at once, and before the same person's next.
    """
    monkeypatch.setattr(relay, "FULL_POLL_S", 0.1)
    await bench.make_topic()
    slow = uuid4()
    async with running(bench.relay):
        async with bench.db.transaction() as conn:
            await bench.store.append(
                conn, "ccps", slow, 0, [Counted(by=1)], now=clock.now(), cause=Cause.new()
            )
            for _ in range(30):
                await bench.add(uuid4(), 1, 1)
                await asyncio.sleep(0.02)
            await until(lambda: bench.relay.published == 60)
        monkeypatch.setattr(relay, "FULL_POLL_S", 3600.0)
        bench.store.wake()
        await bench.add(slow)
        await bench.drained(5)
    assert (await bench.versions())[slow] == [1, 2]


async def test_what_waits_in_a_part_taken_over_is_not_overtaken(
    bench: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one batch lies below the floor when its relay dies; another, whose floor has risen, takes over."""
    floors: list[relay._Floor] = []
    monkeypatch.setattr(relay, "_Floor", lambda: floors.append(_Floor()) or floors[-1])
    monkeypatch.setattr(relay, "FULL_POLL_S", 0.1)
    await bench.make_topic()
    person = uuid4()
    part = partition_of(person, 3)
    events = [Counted(by=n, note="x" * 20_000) for n in range(60)]
    async with bench.db.connection() as dead, bench.db.connection() as conn:
        await dead.execute("SELECT pg_advisory_lock(hashtext('homeroom-relay'), $1)", part)
        async with running(bench.relay):
            await bench.store.append(conn, "ccps", person, 0, events, now=NOON, cause=Cause.new())
            await until(lambda: len(bench.relay.parts) == 2 and floors[-1].seq == 60)
            async with conn.transaction():
                await conn.fetchval("SELECT pg_current_xact_id()")  # the floor stays where it is
                await bench.add(person)
                await dead.execute("SELECT pg_advisory_unlock(hashtext('homeroom-relay'), $1)", part)
                await bench.drained()
    assert (await bench.versions())[person] == list(range(1, 62))


class TestFloor:
    """The floor rises to the last number drawn only when nobody can add below it any more.

    Transactions of other databases in the cluster hold it back as well, so it may take a few looks.
    """

    async def look(self, floor: relay._Floor, db: Database) -> int:
        async with db.connection() as conn:
            await floor.look(conn)
        floor.rise()
        return floor.seq

    async def rises_to(self, floor: relay._Floor, db: Database, seq: int) -> bool:
        before = floor.seq
        for _ in range(500):
            if (now := await self.look(floor, db)) != before:
                return now == seq
            await asyncio.sleep(0.01)
        return False

    async def stays(self, floor: relay._Floor, db: Database) -> bool:
        before = floor.seq
        return [await self.look(floor, db) for _ in range(20)] == [before] * 20

    async def test_it_rises_when_all_have_ended(self, bench: Publishing) -> None:
        floor = relay._Floor()
        assert await self.stays(floor, bench.db)
        await bench.add(uuid4(), 1, 1, 1)
        assert await self.rises_to(floor, bench.db, 3)
        assert await self.stays(floor, bench.db)
        await bench.add(uuid4())
        assert await self.rises_to(floor, bench.db, 4)

    async def test_it_waits_for_who_holds_a_lower_number(self, bench: Publishing) -> None:
        floor = relay._Floor()
        async with bench.db.transaction() as conn:
            await bench.store.append(conn, "ccps", uuid4(), 0, [Counted(by=1)], now=NOON, cause=Cause.new())
            await bench.add(uuid4())
            assert await self.stays(floor, bench.db)
        assert await self.rises_to(floor, bench.db, 2)

    async def test_numbers_drawn_since_do_not_hold_it_back(self, bench: Publishing) -> None:
        floor = relay._Floor()
        await bench.add(uuid4())
        await self.look(floor, bench.db)
        async with bench.db.transaction() as conn:
            await bench.store.append(conn, "ccps", uuid4(), 0, [Counted(by=1)], now=NOON, cause=Cause.new())
            assert await self.rises_to(floor, bench.db, 1)
            assert await self.stays(floor, bench.db)

    async def test_a_long_snapshot_does_not_hold_it_back(self, bench: Publishing) -> None:
        """A backup reads for hours and writes nothing."""
        floor = relay._Floor()
        async with (
            bench.db.connection() as conn,
            conn.transaction(isolation="repeatable_read", readonly=True),
        ):
            await conn.fetchval("SELECT count(*) FROM event")
            await bench.add(uuid4())
            assert await self.rises_to(floor, bench.db, 1)


async def test_what_waits_is_told(bench: Publishing) -> None:
    async with bench.db.connection() as conn:
        assert await backlog(conn) == Backlog(0, None)
        assert (await backlog(conn)).oldest_age_s(clock.now()) == 0
        await bench.add(uuid4(), 1, 1)
        await asyncio.sleep(0.05)
        await bench.add(uuid4())
        waiting = await backlog(conn)
    assert waiting.pending == 3
    assert 0.05 <= waiting.oldest_age_s(clock.now()) < 5


@pytest.mark.parametrize("missing", ["postgres", "kafka"])
async def test_a_relay_outlives_what_is_missing(missing: str, kafka_bootstrap: str) -> None:
    given = {} if missing == "kafka" else {"kafka": kafka_bootstrap}
    alone = Relay(settings(**given))
    async with running(alone) as task:
        await until(lambda: alone.failures >= 2)
        assert alone.failure == f"{missing} is not available"
        assert not task.done()


async def test_where_they_disagreed_is_kept_until_it_is_compared_again(
    bench: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost connection is no reason to serve what the topic contradicts."""
    await bench.make_topic()
    looks = 0

    async def look(*_: Any) -> dict[int, Disagreement]:
        nonlocal looks
        looks += 1
        if looks == 2:
            await asyncio.sleep(3600)
        return {1: Disagreement(1, "topic", "the store was restored")}

    monkeypatch.setattr(relay, "compare", look)
    async with running(bench.relay):
        await until(lambda: looks == 1 and bench.relay.parts == {0, 2})
        await _terminate_relays(bench.db)
        await until(lambda: looks == 2)
        assert bench.relay.halted.keys() == {1}
        assert bench.relay.parts == frozenset()


async def test_a_topic_made_anew_under_the_relay_is_noticed(bench: Publishing) -> None:
    await bench.make_topic()
    person = uuid4()
    async with running(bench.relay):
        await bench.add(person, 1, 1, 1)
        await bench.drained()
        await bench.drop_topic()
        await bench.make_topic()
        await bench.add(person)
        await until(lambda: bench.relay.halted.keys() == {partition_of(person, 3)})
        assert bench.relay.halted[partition_of(person, 3)].ahead == "store"


async def test_a_part_whose_offset_was_not_said_keeps_its_last_publication(bench: Publishing) -> None:
    """A retry that the broker recognises is acknowledged without an offset."""
    for person in [uuid4() for _ in range(40)]:  # some of them in each part
        await bench.add(person)
    async with bench.db.connection() as conn:
        rows = await conn.fetch(relay._sql.pending, 0, [0, 1, 2], 100)
        sent = [
            relay._Acknowledged(part, [row for row in rows if row["part"] == part], offset)
            for part, offset in ((0, 41), (1, None))
        ]
        await bench.relay._mark(conn, [part for part in sent if part.rows])
        left = await conn.fetch("SELECT DISTINCT part FROM outbox")
        published = await conn.fetch("SELECT part, last_offset, last_event_id FROM publication")
    assert {row["part"] for row in left} <= {2}
    assert [tuple(row) for row in published] == [(0, 41, sent[0].rows[-1]["event_id"])]


async def test_more_than_one_batch_goes_in_several(
    bench: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.make_topic()
    person = uuid4()
    events = [Counted(by=n, note="x" * 20_000) for n in range(90)]
    async with bench.db.transaction() as conn:
        await bench.store.append(conn, "ccps", person, 0, events, now=clock.now(), cause=Cause.new())
    monkeypatch.setattr(relay, "POLL_S", 60.0)
    async with running(bench.relay):
        await bench.drained()
    assert (await bench.versions())[person] == list(range(1, 91))
