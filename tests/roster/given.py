"""What the tests of roster begin from: a district's events, as it publishes them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from aiokafka import ConsumerRecord

from shared.messages import CloudEvent, rfc3339
from shared.policies import load_policy

POLICY_FOLDER = Path(__file__).parents[2] / "policies"
POLICY = load_policy(POLICY_FOLDER / "ccps.toml")
DISTRICT = "ccps"
NOON = datetime(2026, 8, 3, 12, tzinfo=UTC)
ENROLLED = {
    "source_id": "p1",
    "number": "0123456",
    "last_name": "De La Cruz",
    "first_name": "Mary-Ann",
}
EMPLOYED = {
    "source_id": "t1",
    "number": "e12345",
    "last_name": "Okafor",
    "first_name": "Grace",
}


def at(hours: float) -> datetime:
    return NOON + timedelta(hours=hours)


def cloud_event(
    type: str = "StudentEnrolled", *, id: str | None = None, time: datetime | None = NOON, **data: Any
) -> dict[str, Any]:
    """A CloudEvent in structured mode; data is a whole enrollment (employment), or at least says of whom it is."""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": id or str(uuid4()),
        "source": "/ccps/sis",
        "type": type,
        "datacontenttype": "application/json",
        "data": {"StudentEnrolled": ENROLLED, "StaffEmployed": EMPLOYED}.get(type, {"source_id": "p1"})
        | data,
    }
    return event if time is None else event | {"time": rfc3339(time)}


def parsed(event: dict[str, Any]) -> CloudEvent:
    return CloudEvent.parse_structured(msgspec.json.encode(event))


def binary(event: dict[str, Any]) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Value and headers of the same event in Kafka's binary mode."""
    attributes = {k: v for k, v in event.items() if k not in ("data", "datacontenttype")}
    headers = [(f"ce_{name}", str(value).encode()) for name, value in attributes.items()]
    return msgspec.json.encode(event["data"]), [*headers, ("content-type", b"application/json")]


def record(
    event: dict[str, Any], *, key: str | None = "p1", appended_at: datetime = NOON, time_type: int = 1
) -> ConsumerRecord:
    """An event as the ingress topic brings it."""
    value, headers = binary(event)
    encoded = None if key is None else key.encode()
    timestamp = round(appended_at.timestamp() * 1000)
    return ConsumerRecord(
        "ingress", 0, 0, timestamp, time_type, encoded, value, None, -1, len(value), tuple(headers)
    )
