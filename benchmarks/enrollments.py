"""From `StudentEnrolled` on the ingress topic to a pupil who may claim: at rest, and beside a first load."""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

import msgspec
from aiokafka import AIOKafkaProducer

from benchmarks.district import SOURCE, District
from benchmarks.measure import Figure, quantile
from services.cli.client import Json
from services.cli.pupil import Pupil, cloud_event, enrollment
from shared import clock

PROBES = 40
FLOOD = 20_000
FLOOD_A_SECOND = 1_000
ASK_EVERY_S = 0.004
# Two pupils under one number would both wait for the help desk.
PROBE_NUMBERS, FLOOD_NUMBERS = itertools.count(1_000_000), itertools.count(2_000_000)


async def figures(district: District) -> list[Figure]:
    producer = AIOKafkaProducer(bootstrap_servers=district.fleet.kafka, acks="all", linger_ms=0)
    await producer.start()
    try:
        policy = await district.policy()
        idle = [await _claimable_after(district, producer, policy) for _ in range(PROBES)]
        flood = asyncio.create_task(_flood(district, producer))
        await asyncio.sleep(3)
        busy = []
        while not flood.done() and len(busy) < PROBES:
            busy.append(await _claimable_after(district, producer, policy))
        rate = await flood
    finally:
        await producer.stop()
    return [
        Figure.of("enrolled to claimable, at rest, p50", "ms", [quantile(idle, 0.5)]),
        Figure.of("enrolled to claimable, at rest, p99", "ms", [quantile(idle, 0.99)]),
        Figure.of("offered beside", "events/s", [rate]),
        Figure.of("enrolled to claimable, beside that, p50", "ms", [quantile(busy, 0.5)]),
        Figure.of("enrolled to claimable, beside that, p99", "ms", [quantile(busy, 0.99)]),
    ]


async def _claimable_after(district: District, producer: AIOKafkaProducer, policy: Json) -> float:
    """Milliseconds from the broker's acknowledgement until claims would let the pupil in.

    The help desk is asked, not the pupil: a refused claim takes its uniform time, which is longer than the journey.
    """
    data = _enrolled_yesterday(PROBE_NUMBERS)
    pupil = Pupil(district.homeroom.ask, data, policy)
    await publish(producer, district.fleet.ingress, [data])
    began = time.perf_counter()
    while not await _may_claim(district, pupil.username):
        if time.perf_counter() - began > 60:
            raise RuntimeError("a pupil did not become claimable within a minute")
        await asyncio.sleep(ASK_EVERY_S)
    took = time.perf_counter() - began
    if (answer := await pupil.open_claim()).status != 201:
        raise RuntimeError(f"the desk says that a claim can begin, claims does not: {answer.body}")
    return 1000 * took


async def _may_claim(district: District, username: str) -> bool:
    answer = await district.homeroom.call("desk", "GET", "claims", "/accounts", query={"username": username})
    return any(account["may_claim_now"] for account in answer.body["accounts"])


async def _flood(district: District, producer: AIOKafkaProducer) -> float:
    """Enrollments at an even rate; how many a second they really were."""
    began, sent = time.perf_counter(), 0
    while sent < FLOOD:
        due = min(FLOOD, int((time.perf_counter() - began) * FLOOD_A_SECOND) + 1)
        pupils = [_enrolled_yesterday(FLOOD_NUMBERS) for _ in range(due - sent)]
        await publish(producer, district.fleet.ingress, pupils)
        sent = due
        await asyncio.sleep(0.02)
    return sent / (time.perf_counter() - began)


def _enrolled_yesterday(numbers: Iterator[int]) -> Json:
    return enrollment(timedelta(hours=25), now=clock.now(), number=f"{next(numbers):07}")


async def publish(producer: AIOKafkaProducer, topic: str, pupils: Sequence[Json]) -> None:
    """`StudentEnrolled` of each pupil as structured CloudEvents, acknowledged."""
    now = clock.now()
    headers = [("content-type", b"application/cloudevents+json")]
    waiting = [
        await producer.send(
            topic,
            msgspec.json.encode(cloud_event("StudentEnrolled", pupil, source=SOURCE, now=now)),
            key=pupil["source_id"].encode(),
            headers=headers,
        )
        for pupil in pupils
    ]
    await asyncio.gather(*waiting)
