"""A read model made anew is the one that runs, whatever happens meanwhile; and a switch is noticed by nobody."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from shared import clock, database, kafka, rebuild
from shared.builder import Build, Fold, Job
from shared.database import Connection
from shared.errors import Unavailable
from shared.event_store import EventStore
from shared.messages import Cause
from shared.projection import Projection
from shared.projector import LiveProjection
from shared.rebuilder import Rebuilder
from shared.relay import Relay
from shared.shares import Runners
from tests.shared import kit
from tests.shared.kit import CODEC, Counted
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
)

PROJECTIONS = [COUNTS]
INLINE = [kit.COUNTS]
SOURCE = "tests.shared.test_rebuild:PROJECTIONS"


@pytest.fixture
async def scene(
    database: str, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Scene]:
    async with scene_of(database, kafka_bootstrap, topic_prefix, tmp_path) as scene:
        yield scene


@contextlib.asynccontextmanager
async def process(
    scene: Scene, projection: Projection[Any] = COUNTS, source: str = SOURCE
) -> AsyncIterator[Rebuilder]:
    """A process with a projector, and the one who does rebuilds."""
    store = EventStore(scene.db, CODEC, scene.settings.partitions, [projection] if projection.inline else [])
    rebuilder = Rebuilder(scene.settings, scene.db, store, [projection], source)
    live = [] if projection.inline else [LiveProjection(projection, scene.settings, scene.db)]
    runners = Runners(scene.settings, lambda: [*live, *rebuilder.followers])
    tasks = [asyncio.create_task(runners.run()), asyncio.create_task(rebuilder.run())]
    try:
        yield rebuilder
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [error for error in ended if not isinstance(error, asyncio.CancelledError)] == []


async def begin(scene: Scene, purpose: str = "rebuild") -> UUID:
    async with scene.db.connection() as conn:
        row = await rebuild.start(conn, "count", purpose, by="test", now=clock.now())
    assert row is not None
    started: UUID = row["id"]
    return started


async def now(scene: Scene, id: UUID) -> dict[str, Any]:
    async with scene.db.connection() as conn:
        row = await rebuild.find(conn, id)
    assert row is not None
    return rebuild.public(row, clock.now())


async def ask(scene: Scene, id: UUID, what: str) -> dict[str, Any]:
    """Wish for something and wait until it was done."""
    async with scene.db.connection() as conn:
        assert await rebuild.wish(conn, id, what, clock.now())

    async def done() -> dict[str, Any] | None:
        found = await now(scene, id)
        return found if found["wish"] is None else None

    found: dict[str, Any] = await until(done)
    return found


async def compared(scene: Scene, id: UUID) -> dict[str, Any]:
    async def done() -> dict[str, Any] | None:
        found = await now(scene, id)
        assert found["state"] != "failed", found
        return found if "compared" in found["report"] else None

    found: dict[str, Any] = await until(done, patience_s=40)
    return found


async def has(scene: Scene, rows: object, table: str = "count") -> bool:
    return await scene.rows(table) == rows


async def test_a_rebuild_under_live_traffic_is_equal_and_takes_over(scene: Scene) -> None:
    events = [e for v in range(1, 31) for e in (event(person(n), v) for n in range(30))]
    await scene.publish(*events[:500])

    async def traffic() -> None:
        for n in range(500, 900, 10):
            await scene.publish(*events[n : n + 10])
            await asyncio.sleep(0.1)

    async with process(scene):
        await until(lambda: has(scene, folded(events[:500])))
        publishing = asyncio.create_task(traffic())
        id = await begin(scene)
        found = await compared(scene, id)
        assert found["state"] == "following"
        assert (found["report"]["different"], found["report"]["examples"]) == (0, [])
        assert found["report"]["compared"] + found["report"]["not_compared"] == 30
        switched = await ask(scene, id, "switch")
        assert (switched["state"], switched["error"]) == ("switched", None)
        await publishing
        await until(lambda: has(scene, folded(events)))
        assert await scene.value("SELECT count(*) FROM count__old") == 30
        dropped = await ask(scene, id, "drop")
        assert dropped["finished_at"] is not None
    assert await scene.value("SELECT to_regclass('count__old') IS NULL AND to_regclass('count__new') IS NULL")
    assert await scene.value("SELECT array_agg(DISTINCT consumer) FROM gate") == ["count"]
    assert await scene.value("SELECT array_agg(DISTINCT consumer) FROM checkpoint") == ["count"]
    assert await scene.value(
        "SELECT array_agg(indexname::text) FROM pg_indexes WHERE tablename = 'count'"
    ) == ["count_pkey"]


async def test_a_replay_tells_what_differs_without_telling_of_anybody(scene: Scene) -> None:
    events = [e for n in range(10) for e in stream(n, 3)]
    await scene.publish(*events)
    async with process(scene):
        await until(lambda: has(scene, folded(events)))
        await scene.execute("UPDATE count SET total = 99, note = 'secret' WHERE person_id = $1", person(3))
        await scene.execute("DELETE FROM count WHERE person_id = $1", person(4))
        id = await begin(scene, "replay")
        found = await compared(scene, id)
    assert found["state"] == "dropped"
    assert (found["report"]["compared"], found["report"]["different"]) == (10, 2)
    examples = {example["person_id"]: example["columns"] for example in found["report"]["examples"]}
    assert examples[str(person(3))] == ["total", "note"]
    assert "total" in examples[str(person(4))]
    assert "secret" not in str(found)
    assert await scene.value("SELECT to_regclass('count__new') IS NULL")
    assert await scene.value("SELECT count(*) FROM gate WHERE consumer <> 'count'") == 0


async def test_what_is_wished_while_it_is_compared_is_granted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, comparing, asked = Rebuilder._report, asyncio.Event(), asyncio.Event()

    async def slow(self: Rebuilder, projection: Projection[Any]) -> dict[str, Any]:
        comparing.set()
        await asked.wait()
        return await report(self, projection)

    monkeypatch.setattr(Rebuilder, "_report", slow)
    await scene.publish(*stream(1, 3))
    async with process(scene):
        await until(lambda: has(scene, folded(stream(1, 3))))
        id = await begin(scene)
        await asyncio.wait_for(comparing.wait(), 40)
        async with scene.db.connection() as conn:
            await rebuild.wish(conn, id, "switch", clock.now())
        asked.set()
        await until(lambda: is_in(scene, id, "switched"))


async def is_in(scene: Scene, id: UUID, state: str) -> bool:
    return (await now(scene, id))["state"] == state


async def test_a_large_table_may_take_its_time_to_be_dropped(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a statement of a request may take."""
    monkeypatch.setitem(database.SESSION, "statement_timeout", "500ms")
    await scene.publish(*stream(1, 3))
    async with process(scene):
        id = await begin(scene)
        await compared(scene, id)
        await scene.execute(
            "CREATE FUNCTION tarry() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN PERFORM pg_sleep(0.8); RETURN NULL; END'"
        )
        await scene.execute("CREATE TRIGGER tarry AFTER DELETE ON gate EXECUTE FUNCTION tarry()")
        assert (await ask(scene, id, "drop"))["state"] == "dropped"


async def test_a_build_that_is_interrupted_goes_on(scene: Scene) -> None:
    events = [e for n in range(60) for e in stream(n, 2)]
    await scene.publish(*events)
    async with running(scene.settings, LiveProjection(COUNTS, scene.settings, scene.db)):
        await until(lambda: has(scene, folded(events)))
    id = await begin(scene)
    for patience in (0.3, 0.6, 0.9, 1.2):
        async with process(scene):
            await asyncio.sleep(patience)
    async with process(scene):
        found = await compared(scene, id)
    assert (found["report"]["compared"], found["report"]["different"]) == (60, 0)


async def test_a_builder_that_is_killed_before_it_said_a_word_is_replaced(scene: Scene) -> None:
    """By whoever is short of memory, say: that says nothing of the history."""
    await scene.publish(*(e for n in range(20) for e in stream(n, 2)))
    async with process(scene):
        await until(lambda: has(scene, folded([e for n in range(20) for e in stream(n, 2)])))
        id = await begin(scene)
        killed = await until(lambda: asyncio.sleep(0.01, builders()))
        for builder in killed:
            builder.kill()
        found = await compared(scene, id)
    assert (found["report"]["compared"], found["report"]["different"]) == (20, 0)


def builders() -> list[psutil.Process]:
    """The child processes of this one that build."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "shared.builder" in child.cmdline():
                found.append(child)
    return found


async def building(scene: Scene, id: UUID) -> Job:
    """A rebuild whose table is there, and the job of somebody who builds all of it."""
    rebuilder = Rebuilder(scene.settings, scene.db, None, PROJECTIONS, SOURCE)  # type: ignore[arg-type]
    rebuilder._conn = await database.connect(scene.settings.postgres, application_name="test")
    try:
        await rebuilder._prepare(COUNTS)
        ends = await rebuilder._ends(COUNTS)
        await rebuilder._conn.execute("UPDATE rebuild SET total = $2 WHERE id = $1", id, sum(ends.values()))
    finally:
        await rebuilder._conn.close()
    return Job(
        settings=scene.settings, source=SOURCE, projection="count", rebuild_id=id, consumer="count@new",
        table="count__new", ends=ends,
    )  # fmt: skip


async def test_what_a_builder_did_that_outlived_its_parent_is_not_done_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it stop those who came after it, who did not know yet."""
    events = [e for n in range(20) for e in stream(n, 3)]
    await scene.publish(*events)
    id = await begin(scene)
    job = await building(scene, id)
    orphan, heir = Build(job, scene.db), Build(job, scene.db)
    copied: list[int] = []
    copy, held = Build._copy, asyncio.Event()

    async def slowly(self: Build, conn: Connection, fold: Fold) -> None:
        copied.append(fold.part)
        if self is orphan:
            await held.wait()
        await copy(self, conn, fold)

    monkeypatch.setattr(Build, "_copy", slowly)
    first = asyncio.create_task(orphan.run())
    await until(lambda: asyncio.sleep(0, copied))
    second = asyncio.create_task(heir.run())
    await asyncio.sleep(0.5)
    assert not second.done()
    held.set()
    await asyncio.gather(first, second)
    assert sorted(copied) == sorted(part for part, end in job.ends.items() if end)
    assert await scene.rows("count__new") == folded(events)


async def test_a_builder_that_outlived_its_rebuild_writes_nothing_into_the_next(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be of an older version of the code. What it is in the middle of is waited for, and goes with the table."""
    await scene.publish(*stream(1, 3))
    id = await begin(scene)
    job = await building(scene, id)
    copy, reached, held = Build._copy, asyncio.Event(), asyncio.Event()

    async def slowly(self: Build, conn: Connection, fold: Fold) -> None:
        reached.set()
        await held.wait()
        await copy(self, conn, fold)

    monkeypatch.setattr(Build, "_copy", slowly)
    orphan = asyncio.create_task(Build(job, scene.db).run())
    await reached.wait()
    async with scene.db.connection() as conn:
        assert await rebuild.wish(conn, id, "drop", clock.now())
    async with process(scene):
        await asyncio.sleep(2)
        assert (await now(scene, id))["state"] == "building"
        held.set()
        await until(lambda: is_in(scene, id, "dropped"))
        with contextlib.suppress(Unavailable):
            await orphan
        assert await scene.value("SELECT count(*) FROM gate WHERE consumer = 'count@new'") == 0
        again = await begin(scene)
        with pytest.raises(Unavailable):
            await Build(job, scene.db).run()
        assert (await compared(scene, again))["report"]["different"] == 0


@pytest.mark.parametrize("purpose", ["rebuild", "replay"])
async def test_a_table_never_goes_without_its_rebuild(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, purpose: str
) -> None:
    """Whoever dies between the two leaves neither done, and somebody else does both."""
    enter, died = Rebuilder._enter, asyncio.Event()

    async def die(self: Rebuilder, rebuild: Mapping[str, Any], state: str, **told: Any) -> None:
        if state == "dropped" and not died.is_set():
            died.set()
            raise Unavailable("postgres")
        await enter(self, rebuild, state, **told)  # type: ignore[arg-type]

    monkeypatch.setattr(Rebuilder, "_enter", die)
    await scene.publish(*stream(1, 3))
    async with process(scene):
        id = await begin(scene, purpose)
        if purpose == "rebuild":
            await compared(scene, id)
            async with scene.db.connection() as conn:
                await rebuild.wish(conn, id, "drop", clock.now())
        await asyncio.wait_for(died.wait(), 40)
        assert await scene.value("SELECT to_regclass('count__new') IS NOT NULL")
        await until(lambda: is_in(scene, id, "dropped"), patience_s=40)
    assert await scene.value("SELECT to_regclass('count__new') IS NULL")


async def test_what_is_parked_and_what_was_discarded_is_so_again(scene: Scene) -> None:
    await scene.publish(*(e for n in range(3) for e in stream(n, 2)))
    for n in (0, 1):
        await scene.publish(event(person(n), 3), data=b"[]")
        await scene.publish(event(person(n), 4))
    async with process(scene):
        await until(lambda: four(scene))
        await scene.execute(
            "UPDATE dead_letter SET wish = 'discard' WHERE state = 'parked' AND key = $1", str(person(0))
        )
        await until(lambda: gate_is(scene, 0, 4))
        id = await begin(scene)
        found = await compared(scene, id)
        assert (found["report"]["compared"], found["report"]["different"]) == (3, 0)
        assert found["report"]["dead_letters"] == 2
        await ask(scene, id, "switch")
        assert await scene.value(
            "SELECT parked_at IS NOT NULL FROM gate WHERE consumer = 'count' AND stream_id = $1", person(1)
        )
        await ask(scene, id, "drop")
        assert [letter["state"] for letter in await scene.letters()] == ["parked", "queued"]
        await scene.execute("UPDATE dead_letter SET wish = 'discard' WHERE state = 'parked'")
        await until(lambda: gate_is(scene, 1, 4))


async def four(scene: Scene) -> bool:
    return len(await scene.letters()) == 4


async def gate_is(scene: Scene, n: int, version: int) -> bool:
    return (await scene.gates()).get(person(n)) == version


async def test_a_switch_before_there_is_anything_to_switch_to_is_refused(scene: Scene) -> None:
    await scene.publish(*stream(1, 2))
    id = await begin(scene)
    async with scene.db.connection() as conn:
        await rebuild.wish(conn, id, "switch", clock.now())
        assert await rebuild.start(conn, "count", "rebuild", by="test", now=clock.now()) is None
    async with process(scene):
        found = await until(lambda: answered(scene, id), patience_s=60)
        assert found["error"] == "it is building"
        await compared(scene, id)
        assert (await ask(scene, id, "drop"))["state"] == "dropped"


async def answered(scene: Scene, id: UUID) -> dict[str, Any] | None:
    found = await now(scene, id)
    return found if found["error"] else None


async def test_a_fold_that_fails_for_all_ends_the_rebuild_and_live_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.publish(*(e for n in range(5) for e in stream(n, 1)))
    async with process(scene, source="tests.shared.test_rebuild:NOTHING"):
        id = await begin(scene)
        found = await until(lambda: answered(scene, id), patience_s=60)
        assert found["state"] == "failed"
        await scene.publish(event(person(9), 1))
        await until(lambda: gate_is(scene, 9, 1))
    assert await scene.value("SELECT to_regclass('count__new') IS NULL")


async def test_an_inline_projection_takes_over_while_events_are_appended(scene: Scene) -> None:
    """What the topic does not have yet at the switch comes out of the own events."""
    store = EventStore(scene.db, CODEC, scene.settings.partitions, [kit.COUNTS])
    relay = Relay(scene.settings)
    appended: dict[UUID, int] = {}
    stop = asyncio.Event()

    async def append(n: int) -> None:
        while not stop.is_set():
            async with scene.db.transaction() as conn:
                version = appended.get(person(n), 0)
                await store.append(
                    conn, "ccps", person(n), version, [Counted(by=1)], now=clock.now(), cause=Cause.new()
                )
            appended[person(n)] = version + 1
            await asyncio.sleep(0.01)

    relaying = asyncio.create_task(relay.run())
    appending = [asyncio.create_task(append(n)) for n in range(4)]
    try:
        async with process(scene, kit.COUNTS, "tests.shared.test_rebuild:INLINE"):
            id = await begin(scene)
            found = await compared(scene, id)
            assert found["report"]["different"] == 0
            switched = await ask(scene, id, "switch")
            assert (switched["state"], switched["error"]) == ("switched", None)
            await asyncio.sleep(0.3)
            stop.set()
            await asyncio.gather(*appending)
            rows = await scene.rows()
            assert {who: (row.total, row.version) for who, row in rows.items()} == {
                who: (version, version) for who, version in appended.items()
            }
            await ask(scene, id, "drop")
            assert await scene.value("SELECT count(*) FROM gate") == 0
    finally:
        relaying.cancel()
        await asyncio.wait([relaying])


NOTHING: list[Projection[Any]] = []


async def test_a_rebuild_is_the_way_out_when_the_topic_was_made_anew(scene: Scene) -> None:
    """What stopped because its checkpoint means nothing any more goes on from the new table's."""
    old, new = [e for n in range(3) for e in stream(n, 4)], [e for n in range(3) for e in stream(n, 3)]
    await scene.publish(*old)
    async with process(scene):
        await until(lambda: has(scene, folded(old)))
    async with kafka.administering(scene.settings) as admin:
        await admin.delete_topics([scene.topic])
        while scene.topic in await admin.list_topics():
            await asyncio.sleep(0.05)
    await kafka.create_topics(scene.settings, [kafka.service_topic(scene.settings, kit.SERVICE)])
    await scene.publish(*new)
    async with process(scene):
        await until(lambda: scene.value("SELECT bool_or(alarm IS NOT NULL) FROM checkpoint"))
        id = await begin(scene)
        await compared(scene, id)
        switched = await ask(scene, id, "switch")
        assert (switched["state"], switched["error"]) == ("switched", None)
        assert await scene.rows() == folded(new)
        await scene.publish(*(event(person(n), 4) for n in range(3)))
        await until(lambda: has(scene, folded(old)), patience_s=40)
