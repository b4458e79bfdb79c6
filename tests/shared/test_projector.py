"""The live projector against a real Kafka and PostgreSQL: every row is the fold of its person's events, whatever
came between."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.messages import partition_of
from shared.projector import LiveProjection
from shared.shares import Runners
from tests.shared.kit import Cleared, Counted, Removed
from tests.shared.topics import (
    COUNTS,
    Scene,
    event,
    folded,
    person,
    running,
    scene_of,
    stream,
    until,
    wire,
)


@pytest.fixture
async def scene(
    database: str, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Scene]:
    async with scene_of(database, kafka_bootstrap, topic_prefix, tmp_path) as scene:
        yield scene


def live(scene: Scene) -> LiveProjection:
    return LiveProjection(COUNTS, scene.settings, scene.db)


async def test_rows_are_the_fold_of_what_was_published(scene: Scene) -> None:
    events = [e for n in range(20) for e in stream(n, 5)]
    await scene.publish(*events[:60])
    async with running(scene.settings, live(scene)) as process:
        await until(lambda: has(scene, folded(events[:60])))
        await scene.publish(*events[60:])
        await until(lambda: has(scene, folded(events)))
        assert process.states == {"count": "running"}
    assert set((await scene.gates()).values()) == {5}


async def test_a_repeat_changes_nothing(scene: Scene) -> None:
    events = stream(1, 4)
    await scene.publish(*events, *events[1:3], events[3], event(person(2), 1))
    async with running(scene.settings, live(scene)):
        await until(lambda: has(scene, folded([*events, event(person(2), 1)])))


async def test_a_removed_row_does_not_forget_its_version(scene: Scene) -> None:
    events = [*stream(1, 2), event(person(1), 3, Removed())]
    await scene.publish(*events)
    async with running(scene.settings, live(scene)):
        await until(lambda: gate_is(scene, 1, 3))
        assert await scene.rows() == {}
        await scene.publish(events[0], event(person(1), 4, Cleared()), event(person(1), 5, Counted(by=7)))
        await until(lambda: gate_is(scene, 1, 5))
    [row] = (await scene.rows()).values()
    assert (row.total, row.version) == (7, 5)


async def test_a_type_it_does_not_know_moves_the_gate_and_nothing_else(scene: Scene) -> None:
    unknown = event(person(1), 2)
    key, value, headers = wire(unknown)
    headers = [(n, b"Renamed" if n == "ce_type" else v) for n, v in headers]
    await scene.publish(event(person(1), 1))
    await scene.send((partition_of(person(1), 3), key, value, headers))
    await scene.publish(event(person(1), 3))
    async with running(scene.settings, live(scene)):
        await until(lambda: gate_is(scene, 1, 3))
    [row] = (await scene.rows()).values()
    assert (row.total, row.version) == (4, 3)


async def test_a_gap_parks_the_person_and_heals_by_itself(scene: Scene) -> None:
    one, two, three, four = stream(1, 4)
    await scene.publish(one, three, four, event(person(2), 1))
    async with running(scene.settings, live(scene)):
        await until(lambda: has(scene, folded([one, event(person(2), 1)])))
        assert await until(scene.states) == [("version_gap", "parked"), ("behind", "queued")]
        assert await parked(scene, 1)
        assert not await parked(scene, 2)
        await scene.publish(two)
        await until(lambda: has(scene, folded([one, two, three, four, event(person(2), 1)])))
        assert await scene.states() == []
        assert not await parked(scene, 1)


async def test_what_cannot_be_read_holds_up_its_person_alone(scene: Scene) -> None:
    broken = event(person(1), 2)
    await scene.publish(event(person(1), 1))
    await scene.publish(broken, data=b'{"by": "many"}')
    await scene.publish(event(person(1), 3), event(person(2), 1))
    async with running(scene.settings, live(scene)):
        await until(lambda: has(scene, folded([event(person(1), 1), event(person(2), 1)])))
        assert await until(scene.states) == [("malformed_event", "parked"), ("behind", "queued")]


async def test_what_the_table_does_not_take_is_found_among_the_others(scene: Scene) -> None:
    await scene.execute("ALTER TABLE count ADD CHECK (total < 13)")
    good = [event(person(n), 1) for n in range(2, 40)]
    bad = event(person(1), 1, Counted(by=13))
    await scene.publish(*good[:20], bad, event(person(1), 2, Counted(by=1)), *good[20:])
    async with running(scene.settings, live(scene)):
        await until(lambda: has(scene, folded(good)))
        assert await scene.states() == [("not_applicable", "parked"), ("behind", "queued")]
        await scene.execute("ALTER TABLE count DROP CONSTRAINT count_total_check")
        await scene.execute("UPDATE dead_letter SET wish = 'retry' WHERE state = 'parked'")
        await until(lambda: has(scene, folded([*good, bad, event(person(1), 2, Counted(by=1))])))
    assert await scene.states() == []


async def test_a_discarded_event_is_passed_over(scene: Scene) -> None:
    await scene.publish(event(person(1), 1))
    await scene.publish(event(person(1), 2), data=b"[]")
    await scene.publish(event(person(1), 3))
    async with running(scene.settings, live(scene)):
        await until(scene.states)
        await scene.execute("UPDATE dead_letter SET wish = 'discard' WHERE state = 'parked'")
        await until(lambda: gate_is(scene, 1, 3))
    [row] = (await scene.rows()).values()
    assert row.total == 1 + 3
    assert [letter["state"] for letter in await scene.letters(state="discarded")] == ["discarded"]


async def test_garbage_without_a_person_blocks_nobody(scene: Scene) -> None:
    await scene.send(
        (0, b"", None, []), (0, b"\xff\0", b"\0", [("ce_id", b"\0\xff")]), (0, b"x" * 5000, None, [])
    )
    here = next(n for n in range(100) if partition_of(person(n), 3) == 0)
    await scene.publish(event(person(here), 1))
    async with running(scene.settings, live(scene)):
        await until(lambda: has(scene, folded([event(person(here), 1)])))
    assert await scene.states() == [("malformed_record", "parked")] * 3


async def test_another_spelling_of_an_id_blocks_nobody(scene: Scene) -> None:
    """Our relay never writes it; whoever may write to the topic is not trusted with shapes."""
    here = next(n for n in range(100) if partition_of(person(n), 3) == 0)
    key, value, headers = wire(event(person(here), 1))
    strange = [b"{%s}" % key, b"urn:uuid:" + key, key.upper(), key.replace(b"-", b"")]
    for k in strange:
        same = [(n, k if n == "ce_subject" else v) for n, v in headers]
        await scene.send((0, k, value, same), (0, k, b"[]", same), (0, k, None, []))
    await scene.publish(event(person(here), 1))
    async with running(scene.settings, live(scene)):
        await until(lambda: has(scene, folded([event(person(here), 1)])))
    assert {reason for reason, _ in await scene.states()} == {"malformed_record"}


@pytest.mark.parametrize("known", [1, 2])
async def test_two_events_of_one_version_stop_everything(scene: Scene, known: int) -> None:
    """Also when the first of them is still waiting in the person's line."""
    events = stream(1, 1) if known == 1 else [event(person(1), 2)]
    await scene.publish(*events)
    async with running(scene.settings, live(scene)) as process:
        await until(lambda: scene.value("SELECT 1 FROM gate"))
        await scene.publish(event(person(1), known, again=True))
        await until(lambda: diverged(process))
        alarm = await until(lambda: scene.value("SELECT alarm FROM checkpoint WHERE alarm IS NOT NULL"))
        assert "two events of version" in alarm


async def has(scene: Scene, rows: object) -> bool:
    return await scene.rows() == rows


async def gate_is(scene: Scene, n: int, version: int) -> bool:
    return (await scene.gates()).get(person(n)) == version


async def parked(scene: Scene, n: int) -> bool:
    async with scene.db.connection() as conn:
        query = "SELECT parked_at IS NOT NULL FROM gate WHERE consumer = 'count' AND stream_id = $1"
        return bool(await conn.fetchval(query, person(n)))


async def diverged(process: Runners) -> bool:
    return process.states["count"].startswith("diverged")
