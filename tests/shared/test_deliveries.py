"""However history is delivered (again, in another order between persons, late by a few versions, cut into batches at
will, with some of it flawed), rows, effects and rebuilt rows are those of the plain fold."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import clock, dead_letter, rebuild
from shared.builder import Build, Fold, Job
from shared.consumer import Intake, IntakeRunner, Reaction, ReactionRunner, Unacceptable
from shared.database import Connection, Database
from shared.errors import Diverged
from shared.letter import record_of
from shared.messages import Recorded
from shared.projector import LiveProjection
from shared.runner import Runner
from tests.shared.kit import CODEC, SERVICE, Cleared, Counted, Removed, migrated
from tests.shared.kit import settings as settings_of
from tests.shared.topics import COUNTS, Scene, event, folded, person, record

PROJECTIONS = [COUNTS]
PERSONS = 3
EXAMPLES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

DATA = st.one_of(
    st.builds(Counted, by=st.integers(-5, 5)),
    st.builds(Cleared),
    st.builds(Removed),
    st.builds(Counted, by=st.just(1)),
)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Recorded[Any]], list[list[Recorded[Any]]]]:
    """A history, and a way in which it arrives: in batches, everything at least once, nobody far out of order."""
    histories = [
        [
            event(person(n), version, data)
            for version, data in enumerate(draw(st.lists(DATA, max_size=7)), start=1)
        ]
        for n in range(PERSONS)
    ]
    arriving: list[Recorded[Any]] = []
    for history in histories:
        late = draw(st.lists(st.integers(0, 3), min_size=len(history), max_size=len(history)))
        order = sorted(range(len(history)), key=lambda n, late=late: (n + late[n], n))
        again = draw(st.lists(st.sampled_from(order), max_size=4)) if order else []
        arriving += [history[n] for n in [*order, *again]]
    ranks = draw(st.lists(st.integers(0, 9), min_size=len(arriving), max_size=len(arriving)))
    merged: list[Recorded[Any]] = []
    queues = {n: [e for e in arriving if e.stream_id == person(n)] for n in range(PERSONS)}
    for rank in ranks:
        waiting = [n for n in queues if queues[n]]
        merged.append(queues[waiting[rank % len(waiting)]].pop(0))
    batches: list[list[Recorded[Any]]] = []
    while merged:
        size = draw(st.integers(1, 6))
        batches.append(merged[:size])
        merged = merged[size:]
    return [e for history in histories for e in history], batches


@pytest.fixture
async def scene(database: str, tmp_path: Path) -> AsyncIterator[Scene]:
    await migrated(database, tmp_path)
    db = Database(database)
    scene = Scene(settings_of(postgres=database), db)
    await scene.execute(
        "CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY, who uuid, version bigint)"
    )
    await scene.execute("CREATE TABLE count__new (LIKE count INCLUDING ALL)")
    yield scene
    await db.close()


async def deliver(runner: Runner, batches: list[list[Recorded[Any]]]) -> None:
    """Hand batches over as the reader does, each person in a partition of their own."""
    runner.slots = frozenset(range(3))
    await runner._positions(dict.fromkeys(range(PERSONS), 0))
    for records in laid_out(batches):
        await runner.take({part: some for part, some in records.items() if some})


def laid_out(batches: list[list[Recorded[Any]]]) -> list[dict[int, list[ConsumerRecord]]]:
    """Batches as records by partition."""
    part_of, ends = {person(n): n for n in range(PERSONS)}, dict.fromkeys(range(PERSONS), 0)
    laid = []
    for batch in batches:
        records: dict[int, list[ConsumerRecord]] = {part: [] for part in range(PERSONS)}
        for e in batch:
            part = part_of[e.stream_id]
            records[part].append(record(part, ends[part], e))
            ends[part] += 1
        laid.append(records)
    return laid


async def anew(scene: Scene) -> None:
    await scene.execute("TRUNCATE count, count__new, gate, checkpoint, dead_letter, effect, rebuild")


@EXAMPLES
@given(delivered=deliveries())
async def test_rows_are_the_fold(scene: Scene, delivered: Any) -> None:
    history, batches = delivered
    await anew(scene)
    await deliver(LiveProjection(COUNTS, scene.settings, scene.db), batches)
    assert await scene.rows() == folded(history)
    assert await scene.states() == []
    assert await scene.value("SELECT count(*) FROM gate WHERE parked_at IS NOT NULL") == 0


@EXAMPLES
@given(delivered=deliveries())
async def test_each_event_takes_effect_once_and_in_order(scene: Scene, delivered: Any) -> None:
    history, batches = delivered
    await anew(scene)

    async def react(conn: Connection, e: Recorded[Any]) -> None:
        await conn.execute("INSERT INTO effect (who, version) VALUES ($1, $2)", e.stream_id, e.version)

    runner = ReactionRunner(Reaction("react", SERVICE, CODEC, react), scene.settings, scene.db, lambda: None)
    await deliver(runner, batches)
    async with scene.db.connection() as conn:
        rows = await conn.fetch("SELECT who, version FROM effect ORDER BY who, n")
    assert [(row["who"], row["version"]) for row in rows] == sorted((e.stream_id, e.version) for e in history)


@EXAMPLES
@given(delivered=deliveries(), flawed=st.sets(st.tuples(st.integers(0, PERSONS - 1), st.integers(1, 7))))
async def test_a_flaw_holds_up_its_person_until_it_is_mended(
    scene: Scene, delivered: Any, flawed: set[tuple[int, int]]
) -> None:
    """The rows are those before the first flaw; retried when the fold can take it, they are those of all."""
    history, batches = delivered
    await anew(scene)
    hurt = {(person(n), version) for n, version in flawed}
    mended = False

    def evolve(row: Any, e: Recorded[Any]) -> Any:
        if (e.stream_id, e.version) in hurt and not mended:
            raise ValueError("flaw")
        return COUNTS.evolve(row, e)

    runner = LiveProjection(replace(COUNTS, evolve=evolve), scene.settings, scene.db)
    await deliver(runner, batches)
    first = {who: min((v for p, v in hurt if p == who), default=99) for who in map(person, range(PERSONS))}
    assert await scene.rows() == folded([e for e in history if e.version < first[e.stream_id]])
    mended = True
    await scene.execute("UPDATE dead_letter SET wish = 'retry' WHERE state = 'parked'")
    async with scene.db.connection() as conn:
        lines = await conn.fetch(
            "SELECT DISTINCT part, key, NULL::bigint AS id FROM dead_letter WHERE wish IS NOT NULL"
        )
    for line in lines:
        await runner.grant(line)
    assert await scene.rows() == folded(history)
    assert await scene.states() == []


@EXAMPLES
@given(delivered=deliveries())
async def test_a_rebuild_makes_the_same_rows(scene: Scene, delivered: Any) -> None:
    history, batches = delivered
    await anew(scene)
    async with scene.db.connection() as conn:
        begun = await rebuild.start(conn, "count", "rebuild", by="test", now=clock.now())
    assert begun is not None
    job = Job(
        settings=scene.settings, source="tests.shared.test_deliveries:PROJECTIONS", projection="count",
        rebuild_id=begun["id"], consumer="count@new", table="count__new", ends={},
    )  # fmt: skip
    build = Build(job, scene.db)
    for part in range(PERSONS):
        records = [r for batch in laid_out(batches) for r in batch[part]]
        fold = Fold(part, len(records))
        if records:
            build.fold(fold, records)
        await build.write(fold)
    assert await scene.rows("count__new") == folded(history)
    assert await scene.gates("count@new") == {
        who: max(e.version for e in history if e.stream_id == who) for who in {e.stream_id for e in history}
    }


NAMES = [
    "ce_id",
    "ce_subject",
    "ce_type",
    "ce_source",
    "ce_sequence",
    "ce_dataschema",
    "ce_time",
    "content-type",
]
BYTES = st.one_of(
    st.none(),
    st.binary(max_size=20),
    st.text(max_size=20).map(lambda text: text.encode(errors="replace")),
    st.sampled_from(
        [b"\0", b"/homeroom/counter/\0", b"/homeroom/counter/", b"9" * 30, b"-1", b"1e3", b"x" * 4000]
    ),
    st.sampled_from([str(person(n)).encode() for n in range(2)]),
)


@st.composite
def garbage(draw: st.DrawFn) -> ConsumerRecord:
    """A record that anybody who may write could have written; some differ from a good one in a header only."""
    good = record(0, 0, event(person(draw(st.integers(0, 1))), draw(st.integers(1, 3))))
    headers = dict(good.headers) if draw(st.booleans()) else {}
    headers |= draw(
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=5)), BYTES, max_size=3)
    )
    key = good.key if draw(st.booleans()) else draw(BYTES)
    value = good.value if draw(st.booleans()) else draw(BYTES)
    moment = draw(st.sampled_from([0, -1, 1_700_000_000_000, 2**62]))
    return replace(good, key=key, value=value, headers=tuple(headers.items()), timestamp=moment)


@EXAMPLES
@given(records=st.lists(garbage(), min_size=1, max_size=8))
async def test_garbage_stops_nobody(scene: Scene, records: list[ConsumerRecord]) -> None:
    """Projections, reactions and intakes take, or set aside, whatever lies in a topic; and can be asked about it."""

    async def react(conn: Connection, e: Recorded[Any]) -> None:
        await conn.execute("INSERT INTO effect (who, version) VALUES ($1, $2)", e.stream_id, e.version)

    async def handle(conn: Connection, r: ConsumerRecord) -> None:
        raise Unacceptable("garbage", repr(r), None)

    runners: list[Runner] = [
        LiveProjection(COUNTS, scene.settings, scene.db),
        ReactionRunner(Reaction("react", SERVICE, CODEC, react), scene.settings, scene.db, lambda: None),
        IntakeRunner(
            Intake("intake", "a.b.c", handle, lambda r: (r.key or b"").decode()),
            scene.settings,
            scene.db,
            lambda: None,
        ),
    ]
    laid = [replace(r, offset=offset) for offset, r in enumerate(records)]
    await anew(scene)
    for runner in runners:
        runner.slots = frozenset({0})
        await runner._positions({0: 0})
        try:
            await runner.take({0: laid})
        except Diverged:  # two events of one version: that may be said as well
            continue
        assert runner.positions == {0: len(laid)}
    for letter in await scene.letters():
        async with scene.db.connection() as conn:
            found = await dead_letter.find(conn, letter["id"])
        assert found is not None
        original = laid[found["record_offset"]]
        kept = record_of(found)
        assert (kept.key, kept.value, kept.partition) == (original.key, original.value, original.partition)
        assert dead_letter.public(found)
