"""What keeps readers of Kafka going: shares between processes, checkpoints, topics that come, go and come back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from shared import kafka
from shared.errors import Unavailable
from shared.messages import partition_of
from shared.projector import LiveProjection
from shared.reader import Position, Reader
from shared.runner import first_failure
from shared.shares import Runners, _keep_running
from tests.shared.topics import COUNTS, Scene, event, folded, person, running, scene_of, stream, until


@pytest.fixture
async def scene(
    database: str, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Scene]:
    async with scene_of(database, kafka_bootstrap, topic_prefix, tmp_path) as scene:
        yield scene


def live(scene: Scene) -> LiveProjection:
    return LiveProjection(COUNTS, scene.settings, scene.db)


async def has(scene: Scene, rows: object) -> bool:
    with contextlib.suppress(Unavailable):  # a test that cuts connections cuts its own as well
        return await scene.rows() == rows
    return False


async def says(process: Runners, what: str) -> bool:
    return what in process.states.get("count", "")


async def delete_topic(scene: Scene) -> None:
    async with kafka.administering(scene.settings) as admin:
        await admin.delete_topics([scene.topic])
        while scene.topic in await admin.list_topics():
            await asyncio.sleep(0.05)


async def create_topic(scene: Scene) -> None:
    await kafka.create_topics(scene.settings, [kafka.service_topic(scene.settings, "counter")])


async def test_a_topic_that_is_not_there_is_waited_for(scene: Scene) -> None:
    await delete_topic(scene)
    async with running(scene.settings, live(scene)) as process:
        await until(lambda: says(process, f"kafka topic {scene.topic}"))
        await create_topic(scene)
        await scene.publish(*stream(1, 3))
        await until(lambda: has(scene, folded(stream(1, 3))), patience_s=10)


async def test_two_processes_share_the_work_and_one_takes_over(scene: Scene) -> None:
    a, b = live(scene), live(scene)
    events = [e for n in range(40) for e in stream(n, 3)]
    async with running(scene.settings, b) as second:
        async with running(scene.settings, a) as first:
            await until(lambda: shared(a, b))
            assert a.slots.isdisjoint(b.slots)
            await scene.publish(*events[:60])
            await until(lambda: has(scene, folded(events[:60])))
            assert await says(first, "running")
            assert await says(second, "running")
        await scene.publish(*events[60:])
        await until(lambda: has(scene, folded(events)), patience_s=10)
        assert len(b.slots) == 3


async def shared(a: LiveProjection, b: LiveProjection) -> bool:
    return sorted([len(a.slots), len(b.slots)]) == [1, 2]


async def test_two_that_believe_to_own_the_same_do_no_harm(scene: Scene) -> None:
    """As when the leases' connection broke and the process has not noticed."""
    events = [e for n in range(30) for e in stream(n, 10)]
    slots = frozenset(range(3))

    tasks = [asyncio.create_task(_keep_running(live(scene), slots)) for _ in range(3)]
    for n in range(0, 300, 20):
        await scene.publish(*events[n : n + 20])
    await until(lambda: has(scene, folded(events)), patience_s=40)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_lost_connections_are_made_again(scene: Scene) -> None:
    async with running(scene.settings, live(scene)):
        for n in range(4):
            await scene.publish(*stream(n, 2))
            await until(lambda n=n: has(scene, folded([e for m in range(n + 1) for e in stream(m, 2)])), 10)
            await scene.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.mark.parametrize("records", [2, 9])
async def test_a_topic_made_anew_is_noticed_at_the_start(scene: Scene, records: int) -> None:
    """Whether it is shorter than the checkpoint or has more records than that by now."""
    await scene.publish(*stream(1, 5))
    async with running(scene.settings, live(scene)):
        await until(lambda: has(scene, folded(stream(1, 5))))
    await delete_topic(scene)
    await create_topic(scene)
    await scene.publish(*(event(person(1), version, again=True) for version in range(1, records + 1)))
    async with running(scene.settings, live(scene)) as process:
        await until(lambda: says(process, "diverged"))
        alarm = await scene.value("SELECT alarm FROM checkpoint WHERE alarm IS NOT NULL")
        assert ("was made anew" if records == 9 else "but 5 comes next") in alarm
    assert await scene.rows() == folded(stream(1, 5))


async def test_a_topic_made_anew_is_noticed_while_it_is_read(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its records were taken before anybody looked: who waits for the next look sees the old checkpoint."""
    monkeypatch.setattr("shared.runner.VERIFY_INTERVAL_S", 0.5)
    await scene.publish(*stream(1, 5))
    async with running(scene.settings, live(scene)) as process:
        await until(lambda: has(scene, folded(stream(1, 5))))
        await asyncio.sleep(1.5)  # the checkpoint is noted
        monkeypatch.setattr("shared.runner.VERIFY_INTERVAL_S", 5.0)
        await asyncio.sleep(0.6)
        await delete_topic(scene)
        await create_topic(scene)
        await scene.publish(*(event(person(1), version, again=True) for version in range(1, 10)))
        await until(lambda: says(process, "diverged"), patience_s=30)


async def test_a_cancellation_that_nobody_sent_ends_no_consumer(scene: Scene) -> None:
    """Kafka's client lets them out now and then."""
    runner, runs = live(scene), 0

    async def leak(_: object = None) -> None:
        nonlocal runs
        runs += 1
        raise asyncio.CancelledError

    tasks = [asyncio.create_task(task) for task in (leak(), asyncio.sleep(3600))]
    with pytest.raises(Unavailable):
        await asyncio.wait_for(first_failure(tasks), 5)
    runner.run = leak  # type: ignore[method-assign]
    task = asyncio.create_task(_keep_running(runner, frozenset()))
    while runs < 3 and not task.done():
        await asyncio.sleep(0.05)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_taken_while_a_reader_opens_is_no_divergence(scene: Scene) -> None:
    """As when the topic is compared now and then, under traffic: the checkpoint moves on meanwhile."""
    events = stream(1, 4)
    await scene.publish(*events[:3])

    async def locate(first: Mapping[int, int]) -> dict[int, Position]:
        await scene.publish(events[3])
        return {partition_of(person(1), 3): Position(4, str(events[3].id))}

    async with Reader.open(scene.settings, "count", scene.topic, locate) as reader:
        assert reader.parts == (partition_of(person(1), 3),)


async def test_history_that_lost_its_beginning_is_no_history(scene: Scene) -> None:
    await scene.publish(*stream(1, 5))
    async with kafka.administering(scene.settings) as admin:
        for part in range(3):
            await admin.delete_records({TopicPartition(scene.topic, part): RecordsToDelete(before_offset=-1)})
    async with running(scene.settings, live(scene)) as process:
        await until(lambda: says(process, "but 0 comes next"))
