"""PostgreSQL and Kafka go away under what reads topics, dying or hanging: it goes on by itself, once and whole."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import pytest

from shared.consumer import Reaction, ReactionRunner
from shared.database import Connection, Database
from shared.messages import Recorded
from shared.projector import LiveProjection
from tests.shared.kit import CODEC, SERVICE
from tests.shared.test_outages import (
    BACK_WITHIN_AFTER_HANGING_S,
    BACK_WITHIN_S,
    KafkaLine,
    Line,
    PostgresLine,
)
from tests.shared.topics import COUNTS, Scene, folded, running, scene_of, stream, until


@pytest.fixture
async def scene(
    database: str, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Scene]:
    async with scene_of(database, kafka_bootstrap, topic_prefix, tmp_path) as scene:
        await scene.execute("CREATE TABLE effect (who uuid, version bigint, PRIMARY KEY (who, version))")
        yield scene


@pytest.mark.parametrize(
    ("what", "how", "away_s", "back_s"),
    [
        ("kafka", "die", 3, BACK_WITHIN_S),
        ("kafka", "hang", 8, BACK_WITHIN_AFTER_HANGING_S),
        ("postgres", "die", 3, BACK_WITHIN_S),
        ("postgres", "hang", 14, BACK_WITHIN_AFTER_HANGING_S),
    ],
)
async def test_what_was_away_is_used_again(
    scene: Scene, what: str, how: str, away_s: float, back_s: float
) -> None:
    dsn = urlsplit(scene.settings.postgres)
    lines: dict[str, Line] = {
        "kafka": KafkaLine(scene.settings.kafka),
        "postgres": PostgresLine(dsn.netloc.rpartition("@")[2]),
    }
    for line in lines.values():
        await line.start()
    through = msgspec.structs.replace(
        scene.settings,
        kafka=f"127.0.0.1:{lines['kafka'].port}",
        postgres=urlunsplit(
            dsn._replace(netloc=f"{dsn.netloc.rpartition('@')[0]}@127.0.0.1:{lines['postgres'].port}")
        ),
    )
    db = Database(through.postgres)

    async def react(conn: Connection, e: Recorded[Any]) -> None:
        await conn.execute("INSERT INTO effect VALUES ($1, $2)", e.stream_id, e.version)

    events = [e for n in range(12) for e in stream(n, 4)]

    async def has(count: int) -> bool:
        rows, effects = await scene.rows(), await scene.value("SELECT count(*) FROM effect")
        return rows == folded(events[:count]) and effects == count

    runners = (
        LiveProjection(COUNTS, through, db),
        ReactionRunner(Reaction("react", SERVICE, CODEC, react), through, db, lambda: None),
    )
    try:
        async with running(through, *runners):
            await scene.publish(*events[:16])
            await until(lambda: has(16))
            publishing = asyncio.create_task(publish_slowly(scene, events[16:32]))
            await asyncio.sleep(0.2)
            await getattr(lines[what], how)()
            await publishing
            await asyncio.sleep(away_s)
            await lines[what].come_back()
            await until(lambda: has(32), patience_s=back_s)
            await scene.publish(*events[32:])
            await until(lambda: has(48), patience_s=5)
        assert await scene.states() == []
    finally:
        await db.close()
        for line in lines.values():
            await line.stop()


async def publish_slowly(scene: Scene, events: list[Recorded[Any]]) -> None:
    for n in range(0, len(events), 4):
        await scene.publish(*events[n : n + 4])
        await asyncio.sleep(0.1)
