"""Reactions and intakes: each record takes effect once, in its key's order, whatever fails and wherever it crashes."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from confluent_kafka import Producer

from shared import kafka
from shared.consumer import Intake, Reaction, ReactionRunner, Unacceptable, runner_of
from shared.database import Connection
from shared.dead_letter import find, public
from shared.errors import Rejected, Unavailable, VersionConflict
from shared.messages import Recorded, partition_of
from shared.projector import LiveProjection
from shared.runner import Runner
from tests.shared.kit import CODEC, SERVICE, Counted
from tests.shared.topics import (
    COUNTS,
    Scene,
    event,
    interrupt,
    person,
    record,
    running,
    scene_of,
    stream,
    until,
    wire,
)

EFFECT = "CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY, who text, what text)"


@pytest.fixture
async def scene(
    database: str, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Scene]:
    async with scene_of(database, kafka_bootstrap, topic_prefix, tmp_path) as scene:
        await scene.execute(EFFECT)
        yield scene


class Trouble:
    """What goes wrong, by stream and version (or by key and value), and how often."""

    def __init__(self) -> None:
        self.awaiting: dict[Any, list[Exception]] = {}
        self.woken = 0

    def meet(self, what: Any) -> None:
        if self.awaiting.get(what):
            raise self.awaiting[what].pop(0)

    def wake(self) -> None:
        self.woken += 1


def reaction(scene: Scene, trouble: Trouble, **given: Any) -> ReactionRunner:
    async def react(conn: Connection, recorded: Recorded[Counted]) -> None:
        await conn.execute(
            "INSERT INTO effect (who, what) VALUES ($1, $2)", str(recorded.stream_id), str(recorded.version)
        )
        trouble.meet((recorded.stream_id, recorded.version))

    runner = runner_of(
        Reaction("react", SERVICE, CODEC, react, **given), scene.settings, scene.db, trouble.wake
    )
    assert isinstance(runner, ReactionRunner)
    return runner


async def effects(scene: Scene) -> dict[str, list[str]]:
    """What took effect for each key, in order."""
    found: dict[str, list[str]] = {}
    async with scene.db.connection() as conn:
        for row in await conn.fetch("SELECT who, what FROM effect ORDER BY n"):
            found.setdefault(row["who"], []).append(row["what"])
    return found


async def are(scene: Scene, **expected: list[str]) -> bool:
    return await effects(scene) == expected


def versions(*lasts: int) -> dict[str, list[str]]:
    """Effects of persons 0, 1, … up to these versions."""
    return {str(person(n)): [str(v) for v in range(1, last + 1)] for n, last in enumerate(lasts) if last}


async def test_each_event_takes_effect_once_and_is_told_after_its_commit(scene: Scene) -> None:
    told: list[Recorded[Any]] = []
    trouble = Trouble()
    events = [e for n in range(6) for e in stream(n, 4)]
    await scene.publish(*events[:12], *events[:3])
    async with running(scene.settings, reaction(scene, trouble, after=told.append)):
        await scene.publish(*events[12:])
        await until(lambda: are(scene, **versions(4, 4, 4, 4, 4, 4)))
        await until(lambda: asyncio.sleep(0, len(told) == 24))
    assert {e.id for e in told} == {e.id for e in events}
    assert trouble.woken > 0


async def test_a_lost_race_is_run_again_and_never_set_aside(scene: Scene) -> None:
    trouble = Trouble()
    trouble.awaiting = {(person(n), 2): [VersionConflict(person(n), 1) for _ in range(4)] for n in range(3)}
    await scene.publish(*(e for n in range(3) for e in stream(n, 3)))
    async with running(scene.settings, reaction(scene, trouble)):
        await until(lambda: are(scene, **versions(3, 3, 3)))
    assert await scene.states() == []


async def test_a_dependency_that_is_away_is_waited_for(scene: Scene) -> None:
    trouble = Trouble()
    trouble.awaiting = {(person(1), 1): [Unavailable("postgres"), OSError("network"), TimeoutError()]}
    await scene.publish(*stream(1, 2))
    async with running(scene.settings, reaction(scene, trouble)):
        await until(lambda: are(scene, **versions(0, 2)))
    assert await scene.states() == []


async def test_what_fails_is_set_aside_with_its_reason_and_the_others_go_on(scene: Scene) -> None:
    trouble = Trouble()
    trouble.awaiting = {
        (person(1), 2): [Rejected("not_yours", limit=3)] * 3,
        (person(2), 1): [KeyError("x")] * 3,
    }
    await scene.publish(*(e for n in range(4) for e in stream(n, 3)))
    async with running(scene.settings, reaction(scene, trouble)):
        await until(lambda: are(scene, **versions(3, 1, 0, 3)))
        reasons = sorted((r["reason"], r["state"], r["key"]) for r in await scene.letters())
        assert reasons == [
            ("behind", "queued", str(person(1))),
            ("behind", "queued", str(person(2))),
            ("behind", "queued", str(person(2))),
            ("not_applicable", "parked", str(person(2))),
            ("not_yours", "parked", str(person(1))),
        ]
        await scene.execute("UPDATE dead_letter SET wish = 'retry' WHERE reason = 'not_yours'")
        await scene.execute("UPDATE dead_letter SET wish = 'discard' WHERE reason = 'not_applicable'")
        expected = versions(3, 3, 0, 3) | {str(person(2)): ["2", "3"]}
        await until(lambda: are(scene, **expected))
    assert await scene.states() == []


async def test_a_gap_waits_for_what_is_missing(scene: Scene) -> None:
    one, two, three = stream(1, 3)
    await scene.publish(one, three)
    async with running(scene.settings, reaction(scene, Trouble())):
        await until(scene.states)
        await scene.publish(two)
        await until(lambda: are(scene, **versions(0, 3)))


async def test_types_that_do_not_matter_move_the_gate(scene: Scene) -> None:
    for version in (1, 2, 3):
        key, value, headers = wire(event(person(1), version))
        headers = [(n, b"Other" if n == "ce_type" and version == 2 else v) for n, v in headers]
        await scene.send((partition_of(person(1), 3), key, value, headers))
    async with running(scene.settings, reaction(scene, Trouble())):
        await until(lambda: are(scene, **{str(person(1)): ["1", "3"]}))
    assert (await scene.gates("react"))[person(1)] == 3


@pytest.mark.parametrize("poison", [False, True])
async def test_a_crash_at_any_moment_loses_nothing_and_repeats_nothing(scene: Scene, poison: bool) -> None:
    events = [record(0, offset, e) for offset, e in enumerate([*stream(1, 3), event(person(2), 1)])]
    places = 0

    async def take_the_rest() -> None:
        trouble = Trouble()
        if poison:
            trouble.awaiting = {(person(1), 2): [KeyError("poison")] * 9}
        runner = reaction(scene, trouble)
        runner.slots = frozenset({0})
        position = (await runner._positions({0: 0}))[0]
        await runner._take(0, [runner.read(e) for e in events[position.next_offset :]])

    for nth in itertools.count():
        await scene.execute("TRUNCATE effect, gate, checkpoint, dead_letter")
        if not await interrupt(take_the_rest(), nth):
            break
        places += 1
        await take_the_rest()
        first = ["1"] if poison else ["1", "2", "3"]
        assert await effects(scene) == {str(person(1)): first, str(person(2)): ["1"]}
        assert len(await scene.states()) == (2 if poison else 0)
    assert places > 10


# ------------------------------------------------------------------ intakes


@pytest.fixture
async def ingress(scene: Scene) -> str:
    """The name of a topic on which strangers publish."""
    topic = kafka.enrollments_topic(scene.settings, "ccps")
    await kafka.create_topics(scene.settings, [topic])
    return topic.name


def intake(scene: Scene, topic: str, trouble: Trouble) -> Runner:
    async def handle(conn: Connection, taken: ConsumerRecord) -> None:
        if taken.value is None:
            raise Unacceptable("empty", "there is no value")
        who, what = (taken.key or b"nobody").decode(), taken.value.decode()
        await conn.execute("INSERT INTO effect (who, what) VALUES ($1, $2)", who, what)
        trouble.meet((who, what))

    def key(taken: ConsumerRecord) -> str | None:
        return None if taken.key is None else taken.key.decode()

    return runner_of(Intake("intake", topic, handle, key), scene.settings, scene.db, trouble.wake)


async def put(scene: Scene, topic: str, *said: tuple[str | None, str | None]) -> None:
    """(key, value) pairs, all of one partition."""
    await scene.send(
        *((0, k if k is None else k.encode(), v if v is None else v.encode(), []) for k, v in said),
        topic=topic,
    )


async def test_an_intake_takes_each_record_once_in_order(scene: Scene, ingress: str) -> None:
    said = [(f"k{n % 5}", f"v{n}") for n in range(500)]
    await put(scene, ingress, *said[:250])
    async with running(scene.settings, intake(scene, ingress, Trouble())):
        await put(scene, ingress, *said[250:])
        expected = {f"k{k}": [v for who, v in said if who == f"k{k}"] for k in range(5)}
        await until(lambda: are(scene, **expected))


async def test_an_unacceptable_record_holds_up_its_key_alone(scene: Scene, ingress: str) -> None:
    trouble = Trouble()
    trouble.awaiting = {("a", "2"): [Unacceptable("number_malformed", "seven digits")] * 3}
    await put(scene, ingress, *((k, v) for v in "1234" for k in "abc"))
    async with running(scene.settings, intake(scene, ingress, trouble)):
        await until(lambda: are(scene, a=["1"], b=list("1234"), c=list("1234")))
        [head, *behind] = await scene.letters(consumer="intake", district="ccps")
        assert (head["reason"], head["detail"], head["state"], head["key"]) == (
            "number_malformed",
            "seven digits",
            "parked",
            "a",
        )
        assert [letter["state"] for letter in behind] == ["queued", "queued"]
        await put(scene, ingress, ("a", "5"), ("b", "5"))
        await until(lambda: are(scene, a=["1"], b=list("12345"), c=list("1234")))
        await scene.execute("UPDATE dead_letter SET wish = 'retry' WHERE state = 'parked'")
        await until(lambda: are(scene, a=list("12345"), b=list("12345"), c=list("1234")))
    assert await scene.states() == []


async def test_one_that_may_wait_alone_holds_up_nothing_of_its_key(scene: Scene, ingress: str) -> None:
    """Whether it meets its trouble at once, or had to wait for another one first."""
    trouble = Trouble()
    alone = Unacceptable("early", alone=True)
    trouble.awaiting = {
        ("a", "1"): [alone] * 5,
        ("b", "1"): [Unacceptable("bad")] * 3,
        ("b", "2"): [alone] * 3,
    }
    await put(scene, ingress, *((k, v) for v in "123" for k in "ab"))
    async with running(scene.settings, intake(scene, ingress, trouble)):
        await until(lambda: are(scene, a=["2", "3"]))

        async def become(reason: str, **seen: list[str]) -> None:
            async def tried_again() -> bool:
                await scene.execute("UPDATE dead_letter SET wish = 'retry' WHERE reason = $1", reason)
                return await are(scene, **seen)

            await until(tried_again)

        await become("bad", a=["2", "3"], b=["1", "3"])
        assert await scene.states() == [("early", "parked")] * 2
        assert [letter["key"] for letter in await scene.letters()] == [None, None]
        await become("early", a=["2", "3", "1"], b=["1", "3", "2"])


async def test_a_retry_that_fails_again_stays_at_the_head(scene: Scene, ingress: str) -> None:
    trouble = Trouble()
    trouble.awaiting = {("a", "1"): [Unacceptable("bad")] * 4}
    await put(scene, ingress, ("a", "1"), ("a", "2"))
    async with running(scene.settings, intake(scene, ingress, trouble)):
        await until(scene.states)
        await scene.execute("UPDATE dead_letter SET wish = 'retry' WHERE state = 'parked'")
        await until(lambda: scene.value("SELECT 1 FROM dead_letter WHERE attempts = 2"))
        assert await scene.states() == [("bad", "parked"), ("behind", "queued")]
        await scene.execute("UPDATE dead_letter SET wish = 'retry' WHERE state = 'parked'")
        await until(lambda: are(scene, a=["1", "2"]))


async def test_a_line_longer_than_one_transaction_is_worked_off(
    scene: Scene, ingress: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.dead_letter.LINE_LIMIT", 3)
    trouble = Trouble()
    trouble.awaiting = {("a", "0"): [Unacceptable("bad")] * 3}
    await put(scene, ingress, *(("a", str(n)) for n in range(10)))
    async with running(scene.settings, intake(scene, ingress, trouble)):
        await until(scene.states)
        await scene.execute("UPDATE dead_letter SET wish = 'retry' WHERE state = 'parked'")
        await until(lambda: are(scene, a=[str(n) for n in range(10)]))


async def test_tombstones_and_records_without_a_key_block_nobody(scene: Scene, ingress: str) -> None:
    strange = "\0" + "x" * 3000
    await put(scene, ingress, ("a", None), (None, "loose"), ("a", "1"), (strange, None), ("", "2"))
    async with running(scene.settings, intake(scene, ingress, Trouble())):
        await until(lambda: are(scene, nobody=["loose", "2"], a=["1"]))
    assert await scene.states() == [("empty", "parked")] * 2


async def test_headers_without_a_value_stop_nobody(scene: Scene, ingress: str) -> None:
    """Other clients can send them; aiokafka only receives them."""
    await asyncio.to_thread(_put_null_headers, scene.settings.kafka, ingress, scene.topic)
    events = LiveProjection(COUNTS, scene.settings, scene.db)
    async with running(scene.settings, intake(scene, ingress, Trouble()), events):
        await until(lambda: are(scene, a=["1"]))
        await until(lambda: three(scene))
    found = await scene.letters()
    assert sorted(letter["reason"] for letter in found) == ["empty", "malformed_record", "malformed_record"]
    async with scene.db.connection() as conn:
        for letter in found:
            whole = await find(conn, letter["id"])
            assert whole is not None
            assert public(whole)["headers"] == {"ce_id": None, "ce_sequence": None, "ce_source": None}


def _put_null_headers(kafka: str, *topics: str) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    for topic in topics:
        for key, value in (("a", "1"), ("b", None)):
            headers = [("ce_id", None), ("ce_sequence", None), ("ce_source", None)]
            producer.produce(topic, value, key, partition=0, headers=headers)
    assert producer.flush(10) == 0


async def test_a_time_beyond_all_calendars_stops_nobody(scene: Scene) -> None:
    """Where a topic keeps the times that its senders write."""
    topic = kafka.enrollments_topic(scene.settings, "ccps")
    its = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1)}
    await kafka.create_topics(scene.settings, [replace(topic, config={**topic.config, **its})])

    def put_late() -> None:
        producer = Producer({"bootstrap.servers": scene.settings.kafka})
        producer.produce(topic.name, None, "a", partition=0, timestamp=2**60)
        assert producer.flush(10) == 0

    await asyncio.to_thread(put_late)
    await put(scene, topic.name, ("b", "1"))
    async with running(scene.settings, intake(scene, topic.name, Trouble())):
        await until(lambda: are(scene, b=["1"]))
    assert await scene.states() == [("empty", "parked")]


async def test_a_key_that_postgresql_cannot_hold_has_a_line_all_the_same(scene: Scene, ingress: str) -> None:
    strange = "\0" + "x" * 3000
    await put(scene, ingress, (strange, "1"), (strange, "2"), (strange + "y", "1"))
    async with running(scene.settings, intake(scene, ingress, Trouble())):
        await until(lambda: three(scene))
    found = await scene.letters()
    assert [letter["state"] for letter in found] == ["parked", "queued", "parked"]
    assert len({letter["key"] for letter in found}) == 2


async def three(scene: Scene) -> bool:
    return len(await scene.letters()) == 3


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_what_strangers_compress_is_read(scene: Scene, ingress: str, codec: str) -> None:
    client = Producer({"bootstrap.servers": scene.settings.kafka, "compression.type": codec})
    for n in range(50):
        client.produce(ingress, key=b"a", value=f"{n}".encode() * 20, partition=0)
    assert await asyncio.to_thread(client.flush, 10) == 0
    async with running(scene.settings, intake(scene, ingress, Trouble())):
        await until(lambda: are(scene, a=[f"{n}" * 20 for n in range(50)]))


async def test_what_a_stranger_took_back_was_never_said(scene: Scene, ingress: str) -> None:
    client = Producer({"bootstrap.servers": scene.settings.kafka, "transactional.id": ingress})

    def say() -> None:
        client.init_transactions()
        for value, end in (
            ("1", client.commit_transaction),
            ("2", client.abort_transaction),
            ("3", client.commit_transaction),
        ):
            client.begin_transaction()
            client.produce(ingress, key=b"a", value=value.encode(), partition=0)
            client.flush()
            end()

    async with running(scene.settings, intake(scene, ingress, Trouble())):
        await asyncio.to_thread(say)
        await until(lambda: are(scene, a=["1", "3"]))
    await put(scene, ingress, ("a", "4"))
    async with running(scene.settings, intake(scene, ingress, Trouble())):
        await until(lambda: are(scene, a=["1", "3", "4"]))
