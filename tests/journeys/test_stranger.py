"""A stranger's tools: librdkafka and the CloudEvents SDK, which know nothing of this project."""

import asyncio
from datetime import timedelta

import pytest
from cloudevents.core.bindings.kafka import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka import Producer

from services.cli.pupil import Pupil, enrollment
from shared import clock
from tests.journeys.town import Town, claim

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("journeys"),
]


@pytest.mark.parametrize("write", [to_binary_event, to_structured_event])
async def test_a_strangers_enrollment_becomes_claimable(town: Town, write: object) -> None:
    data = enrollment(timedelta(hours=26), now=clock.now())
    event = CloudEvent(
        attributes={"type": "StudentEnrolled", "source": "/stranger", "datacontenttype": "application/json"},
        data=data,
    )
    await asyncio.to_thread(publish, town, write(event), data["source_id"])  # type: ignore[operator]
    assert (await town.taken(event.get_id()))["state"] == "accepted"
    pupil = Pupil(town.homeroom.ask, data, town.policy)
    await town.known(pupil)
    password = await claim(pupil)
    assert (await pupil.sign_in(password)).status == 201


def publish(town: Town, message: object, key: str) -> None:
    producer = Producer({"bootstrap.servers": town.fleet.kafka, "acks": "all"})
    producer.produce(town.fleet.ingress, value=message.value, key=key, headers=message.headers)  # type: ignore[attr-defined]
    assert producer.flush(20) == 0
