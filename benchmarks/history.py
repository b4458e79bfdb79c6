"""History run again: the live projector catching up, and a rebuild beside it, next to COPY of the same rows.

The read model is claims' `admission`: each person is enrolled, corrected once and enrolled again, three events.
"""

import asyncio
import io
import os
import time
from datetime import timedelta
from uuid import uuid4

import asyncpg
from aiokafka import AIOKafkaProducer

from benchmarks.district import District
from benchmarks.measure import Figure
from services.roster.events import CODEC, Identity, NameCorrected, StudentEnrolled
from shared import clock, rebuild
from shared.messages import Cause, Event, Recorded, partition_of, to_kafka, topic_of
from tests.journeys.fleet import DISTRICT, PARTITIONS

PERSONS = 60_000
ROUNDS = 3
PATIENCE_S = 300


async def figures(district: District) -> list[Figure]:
    """Everything else is at rest: only claims runs while this is measured."""
    fleet = district.fleet
    for part in fleet.parts.values():
        await part.stop()
    events = await _write_history(fleet.kafka, topic_of(fleet.prefix, "roster"))
    claims = fleet.part("claims")
    rebuilds: dict[int, list[float]] = {}
    conn = await asyncpg.connect(fleet.dsn("claims"))
    try:
        for processes in sorted({1, os.cpu_count() or 1}):
            claims.env["HOMEROOM_REBUILD_PROCESSES"] = str(processes)
            await claims.start()
            if not rebuilds:
                live = await _live(conn, events)
            rebuilds[processes] = [await _rebuild(conn, events) for _ in range(ROUNDS)]
            await claims.stop()
        copies = [await _copy(conn) for _ in range(ROUNDS)]
    finally:
        await conn.close()
    found = [Figure.of("live projection, catching up", "events/s", [live], "≥ 20,000")]
    for processes, rates in rebuilds.items():
        aim = "≥ 45,000" if processes == 1 else ""
        ratios = [(rate * PERSONS / events) / copy for rate, copy in zip(rates, copies, strict=True)]
        found += [
            Figure.of(f"rebuild, processes: {processes}", "events/s", rates, aim),
            Figure.of("the same / COPY (persons)", "ratio", ratios),
        ]
    return [*found, Figure.of("COPY of the same rows", "rows/s", copies)]


async def _write_history(kafka: str, topic: str) -> int:
    """Three events for each person, as roster's relay would have sent them; how many in all."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=20, max_batch_size=262_144)
    await producer.start()
    sent = 0
    try:
        for start in range(0, PERSONS, 2_000):
            waiting = []
            for number in range(start, start + 2_000):
                person = uuid4()
                for version, event in enumerate(_story(number), start=1):
                    recorded = Recorded(
                        uuid4(), type(event).__name__, event.SCHEMA, "roster", DISTRICT, person, version, clock.now(),
                        event, Cause.new(),
                    )  # fmt: skip
                    key, value, headers = to_kafka(recorded, CODEC.encode(event))
                    part = partition_of(person, PARTITIONS)
                    waiting.append(await producer.send(topic, value, key, partition=part, headers=headers))
            await asyncio.gather(*waiting)
            sent += len(waiting)
    finally:
        await producer.stop()
    return sent


def _story(number: int) -> list[Event]:
    now = clock.now()
    identity = Identity(f"source-{number}", f"{number:07}", "De La Cruz", "Mary Ann")
    enrolled = {
        "identity": identity, "school": "Mundy's Mill Middle", "grade": "07", "received_at": now, "baseline": False,
        "current": True,
    }  # fmt: skip
    return [
        StudentEnrolled(enrollment_id="1", basis=now, **enrolled),
        NameCorrected(identity=identity),
        StudentEnrolled(enrollment_id="2", basis=now - timedelta(days=1), **enrolled),
    ]


async def _live(conn: asyncpg.Connection, events: int) -> float:
    """Events a second of the running projector, from its first transaction to its last."""
    first: tuple[float, int] | None = None
    deadline = time.perf_counter() + PATIENCE_S
    while time.perf_counter() < deadline:
        done = await conn.fetchval(
            "SELECT coalesce(sum(next_offset), 0)::bigint FROM checkpoint WHERE consumer = 'admission'"
        )
        now = time.perf_counter()
        if first is None and done:
            first = (now, done)
        if first is not None and done >= events:
            return float((events - first[1]) / (now - first[0]))
        await asyncio.sleep(0.02)
    raise RuntimeError("the projector did not catch up")


async def _rebuild(conn: asyncpg.Connection, events: int) -> float:
    """Events a second from the wish to the last row, the start of its processes included."""
    began = time.perf_counter()
    started = await rebuild.start(conn, "admission", "replay", by="benchmarks", now=clock.now())
    if started is None:
        raise RuntimeError("another rebuild is open")
    await _until(conn, started["id"], "following")
    seconds = time.perf_counter() - began
    await rebuild.wish(conn, started["id"], "drop", clock.now())
    await _until(conn, started["id"], "dropped")
    return events / seconds


async def _until(conn: asyncpg.Connection, rebuild_id: object, state: str) -> None:
    deadline = time.perf_counter() + PATIENCE_S
    while time.perf_counter() < deadline:
        row = await conn.fetchrow("SELECT state, error FROM rebuild WHERE id = $1", rebuild_id)
        if row is None or row["state"] == "failed":
            raise RuntimeError(f"the rebuild failed: {row and row['error']}")
        if row["state"] in (state, "dropped"):
            return
        await asyncio.sleep(0.02)
    raise RuntimeError(f"the rebuild is not {state} after {PATIENCE_S} s")


async def _copy(conn: asyncpg.Connection) -> float:
    """Rows a second of a bare COPY into an empty table of the same shape, indexes and all."""
    rows = io.BytesIO()
    await conn.copy_from_query("SELECT * FROM admission", output=rows, format="binary")
    await conn.execute("CREATE TABLE bare (LIKE admission INCLUDING ALL)")
    try:
        rows.seek(0)
        began = time.perf_counter()
        await conn.copy_to_table("bare", source=rows, format="binary")
        return PERSONS / (time.perf_counter() - began)
    finally:
        await conn.execute("DROP TABLE bare")
