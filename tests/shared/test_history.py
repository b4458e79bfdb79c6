"""Restored stores and recreated topics are found out at start, and by a whole comparison."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import TopicPartition

from shared.history import Disagreement, Verification, compare, verify
from shared.kafka import administering, consuming, producing
from shared.messages import partition_of
from shared.relay import Relay
from tests.shared.kit import Publishing, migrated


@pytest.fixture
async def bench(
    database: str, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Publishing]:
    """A store and a topic that have seen some traffic, all of it published."""
    await migrated(database, tmp_path)
    bench = Publishing(database, kafka_bootstrap, topic_prefix)
    await bench.make_topic()
    yield bench
    await bench.db.close()


def somebody(part: int) -> UUID:
    """A person of that partition."""
    return next(person for _ in range(1000) if partition_of(person := uuid4(), 3) == part)


async def publish(bench: Publishing, persons: int = 6, events: int = 3) -> list[UUID]:
    added = [somebody(n % 3) for n in range(persons)]
    for person in added:
        await bench.add(person, *[1] * events)
    relay = Relay(bench.settings)
    task = asyncio.create_task(relay.run())
    await bench.drained()
    relay.stop()
    await task
    return added


async def compared(bench: Publishing) -> dict[int, Disagreement]:
    async with bench.db.connection() as conn, consuming(bench.settings) as consumer:
        return await compare(conn, consumer, bench.topic, [0, 1, 2])


async def verified(bench: Publishing) -> Verification:
    async with bench.db.connection() as conn, consuming(bench.settings) as consumer:
        return await verify(conn, consumer, bench.topic, 3)


async def execute(bench: Publishing, sql: str, *arguments: object) -> None:
    async with bench.db.connection() as conn:
        await conn.execute(sql, *arguments)


async def test_a_new_service_agrees_with_a_topic_that_is_empty_or_missing(bench: Publishing) -> None:
    assert await compared(bench) == {}
    await bench.drop_topic()
    assert await compared(bench) == {}
    assert (await verified(bench)) == Verification()


async def test_what_was_published_agrees(bench: Publishing) -> None:
    await publish(bench)
    assert await compared(bench) == {}
    result = await verified(bench)
    assert result.agrees
    assert (result.records, result.streams, result.duplicates) == (18, 6, 0)


async def test_what_waits_in_the_outbox_is_not_missed(bench: Publishing) -> None:
    person = (await publish(bench))[0]
    await bench.add(person, 1, 1)
    await bench.add(uuid4())
    assert await compared(bench) == {}
    assert (await verified(bench)).agrees


async def test_records_sent_but_not_marked_agree(bench: Publishing) -> None:
    """A crash between acknowledgement and mark leaves more in the topic than `publication` says."""
    await publish(bench)
    await execute(bench, "DELETE FROM publication WHERE part = 0")
    async with bench.db.connection() as conn:
        firsts = {r.partition: r for r in reversed(await bench.records())}
        for part, record in firsts.items():
            first_id = UUID(dict(record.headers)["ce_id"].decode())
            await conn.execute(
                "UPDATE publication SET last_offset = 0, last_event_id = $2 WHERE part = $1", part, first_id
            )
    assert await compared(bench) == {}


async def test_a_restored_store_knows_less_than_the_topic(bench: Publishing) -> None:
    persons = await publish(bench)
    async with bench.db.connection() as conn:
        backup = await conn.fetch("SELECT * FROM publication")
    await bench.add(persons[0], 1)
    await publish(bench, persons=3)
    await execute(bench, "DELETE FROM event WHERE stream_id <> ALL($1::uuid[]) OR version > 3", persons)
    await execute(bench, "DELETE FROM stream WHERE stream_id <> ALL($1::uuid[])", persons)
    await execute(bench, "UPDATE stream SET version = 3")
    await execute(bench, "DELETE FROM publication")
    for row in backup:
        await execute(bench, "INSERT INTO publication VALUES ($1, $2, $3, $4)", *row)
    found = await compared(bench)
    assert found
    assert {problem.ahead for problem in found.values()} == {"topic"}
    assert "the store does not know the event" in next(iter(found.values())).detail
    result = await verified(bench)
    assert not result.agrees
    assert len(result.strangers) == 10


async def test_an_empty_store_knows_less_than_the_topic(bench: Publishing) -> None:
    await publish(bench)
    await execute(bench, "TRUNCATE stream, event, outbox, publication")
    found = await compared(bench)
    assert found
    assert {problem.ahead for problem in found.values()} == {"topic"}


async def test_a_topic_made_anew_knows_less_than_the_store(bench: Publishing) -> None:
    await publish(bench, persons=12)
    await bench.drop_topic()
    found = await compared(bench)
    assert (set(found), {problem.ahead for problem in found.values()}) == ({0, 1, 2}, {"store"})
    await bench.make_topic()
    assert await compared(bench) == found
    result = await verified(bench)
    assert not result.agrees
    assert len(result.missing) == 12


async def test_a_topic_whose_beginning_is_gone_is_noticed(bench: Publishing) -> None:
    await publish(bench, persons=12)
    async with administering(bench.settings) as admin:
        await admin.delete_records({TopicPartition(bench.topic, 1): RecordsToDelete(before_offset=2)})
    assert await compared(bench) == {1: Disagreement(1, "store", "the topic begins at offset 2")}


async def test_a_topic_made_anew_and_written_on_is_noticed_by_the_event_at_the_offset(
    bench: Publishing,
) -> None:
    """All offsets are in range, yet another event lies where the last one was published."""
    await publish(bench, persons=12)
    await bench.drop_topic()
    await bench.make_topic()
    await execute(bench, "INSERT INTO outbox (part, stream_id, version) SELECT part, stream_id, version FROM event,"
                  " LATERAL (SELECT part FROM publication) AS p ORDER BY random()")  # fmt: skip
    async with bench.db.connection() as conn:
        backup = await conn.fetch("SELECT part, last_offset, last_event_id FROM publication")
    await execute(bench, "DELETE FROM publication")
    relay = Relay(bench.settings)
    task = asyncio.create_task(relay.run())
    await bench.drained()
    relay.stop()
    await task
    for row in backup:
        await execute(
            bench,
            "UPDATE publication SET last_offset = $2, last_event_id = $3 WHERE part = $1",
            row["part"],
            row["last_offset"],
            row["last_event_id"],
        )
    found = await compared(bench)
    assert found
    assert {problem.ahead for problem in found.values()} == {"store"}
    assert "another event was published" in next(iter(found.values())).detail


async def test_a_record_of_a_stranger_is_noticed(bench: Publishing) -> None:
    await publish(bench)
    async with producing(bench.settings) as producer:
        await producer.send_and_wait(bench.topic, b"hello", partition=2)
    assert (await compared(bench))[2].ahead == "topic"
    result = await verified(bench)
    assert not result.agrees
    assert len(result.strangers) == 1


async def test_nothing_is_published_where_they_disagree_until_they_agree(bench: Publishing) -> None:
    """More events after a topic was lost could never be put back in order."""
    persons = await publish(bench, persons=12)
    await bench.drop_topic()
    await bench.make_topic()
    relay = Relay(bench.settings)
    task = asyncio.create_task(relay.run())
    async with asyncio.timeout(20):
        while len(relay.halted) < 3:
            await asyncio.sleep(0.01)
    await bench.add(persons[0])
    await asyncio.sleep(0.3)
    assert await bench.records() == []
    assert relay.parts == frozenset()
    relay.stop()
    await task


async def test_verifying_beside_live_traffic_finds_nothing(bench: Publishing) -> None:
    persons = await publish(bench)
    task = asyncio.create_task(bench.relay.run())
    writing = True

    async def write() -> None:
        while writing:
            await bench.add(persons[0], 1)
            await bench.add(uuid4(), 1)

    writer = asyncio.create_task(write())
    results = [await verified(bench) for _ in range(5)]
    writing = False
    await writer
    bench.relay.stop()
    await task
    assert all(result.agrees for result in results)


async def test_gaps_and_duplicates_are_told_apart(bench: Publishing) -> None:
    person = (await publish(bench, persons=1))[0]
    records = await bench.records()
    part = records[0].partition
    async with producing(bench.settings) as producer:
        again = records[0]
        await producer.send_and_wait(
            bench.topic, again.value, key=again.key, partition=part, headers=list(again.headers)
        )
    result = await verified(bench)
    assert (result.agrees, result.duplicates) == (True, 1)
    await bench.drop_topic()
    await bench.make_topic()
    async with producing(bench.settings) as producer:
        for record in (records[0], records[2], records[1]):
            await producer.send_and_wait(
                bench.topic, record.value, key=record.key, partition=part, headers=list(record.headers)
            )
    result = await verified(bench)
    assert result.gaps == [f"{person} version 3 comes after version 1"]
