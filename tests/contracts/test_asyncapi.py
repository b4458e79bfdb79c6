"""contracts/asyncapi.json: valid, complete, and true of the records that really go over Kafka."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from jsonschema import Draft202012Validator

from services.auth import audit_topic
from services.describe import described
from services.roster import ingress
from services.roster.events import StudentWithdrawn
from shared.kafka import enrollments_topic, service_topic
from shared.life import SERVICES
from shared.messages import Cause, Recorded, to_kafka
from shared.settings import Settings
from tests.contracts.asyncapi_objects import Document
from tests.contracts.test_events import FILES, PROJECT
from tests.roster.given import binary, cloud_event

CONTRACTS = PROJECT / "contracts"
DOCUMENT: dict[str, Any] = msgspec.json.decode((CONTRACTS / "asyncapi.json").read_bytes())
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]


def referred(node: Any) -> Iterator[str]:
    """Every `$ref` anywhere below."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from referred(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from referred(inner)


def found(reference: str) -> Any:
    """What a `$ref` leads to."""
    file, _, inside = reference.partition("#")
    node = msgspec.json.decode((CONTRACTS / file).read_bytes()) if file else DOCUMENT
    for name in inside.removeprefix("/").split("/") if inside else ():
        node = node[name]
    return node


def resolved(node: Any) -> Any:
    """With what is referred to in its place."""
    if isinstance(node, dict):
        if "$ref" in node:
            return resolved(found(node["$ref"]))
        return {name: resolved(inner) for name, inner in node.items()}
    return [resolved(inner) for inner in node] if isinstance(node, list) else node


def test_it_is_asyncapi() -> None:
    msgspec.convert(DOCUMENT, Document)


def test_every_schema_in_it_is_one() -> None:
    schemas = [*DOCUMENT["components"]["schemas"].values(), *(m["headers"] for m in MESSAGES.values())]
    for schema in (*schemas, *(m["bindings"]["kafka"]["key"] for m in MESSAGES.values())):
        Draft202012Validator.check_schema(resolved(schema))


def test_every_reference_leads_somewhere() -> None:
    assert all(found(reference) for reference in referred(DOCUMENT))


def test_it_has_every_contract_and_nothing_else() -> None:
    payloads = sorted(message["payload"]["$ref"] for message in MESSAGES.values())
    assert payloads == sorted(file.relative_to(CONTRACTS).as_posix() for file in FILES)


def test_every_event_of_the_code_is_on_the_channel_of_its_service() -> None:
    told = {
        service: {f"#/components/messages/{service}.{name}" for name in described(service).spec.codec.types}
        for service in SERVICES
    }
    told["enrollments"] = {f"#/components/messages/ingress.{name}" for name in ingress.TYPES}
    told["audit"] = {"#/components/messages/audit.RequestAnswered"}
    assert {name: set(referred(c["messages"])) for name, c in DOCUMENT["channels"].items()} == told


def test_every_message_of_a_channel_is_sent_or_received() -> None:
    done = {
        operation["channel"]["$ref"].rpartition("/")[2]: (
            operation["action"],
            set(referred(operation["messages"])),
        )
        for operation in DOCUMENT["operations"].values()
    }
    assert done == {
        name: (
            "receive" if name == "enrollments" else "send",
            {f"#/channels/{name}/messages/{message}" for message in channel["messages"]},
        )
        for name, channel in DOCUMENT["channels"].items()
    }


def test_topics_are_those_that_are_made() -> None:
    settings = Settings(service="x", postgres="", kafka="")
    made = {service: service_topic(settings, service) for service in SERVICES}
    made["enrollments"] = enrollments_topic(settings, "{district}")
    made["audit"] = audit_topic.topic(settings)
    for name, topic in made.items():
        channel = DOCUMENT["channels"][name]
        binding = channel["bindings"]["kafka"]
        assert (channel["address"], binding["partitions"]) == (topic.name, topic.partitions)
        config = binding["topicConfiguration"]
        assert config["cleanup.policy"] == [topic.config["cleanup.policy"]]
        assert {n: str(v) for n, v in config.items() if n != "cleanup.policy"} == {
            n: v for n, v in topic.config.items() if n != "cleanup.policy"
        }


def problems(name: str, headers: list[tuple[str, bytes]]) -> list[str]:
    said = {header: value.decode() for header, value in headers}
    schema = resolved(MESSAGES[name]["headers"])
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [error.message for error in validator.iter_errors(said)]


def withdrawn(cause: Cause) -> list[tuple[str, bytes]]:
    event = StudentWithdrawn(withdrawn_at=datetime(2026, 8, 3, tzinfo=UTC))
    recorded = Recorded(
        uuid4(), "StudentWithdrawn", 1, "roster", "ccps", uuid4(), 3, datetime.now(UTC), event, cause
    )
    return to_kafka(recorded, b"{}")[2]  # type: ignore[arg-type]


@pytest.mark.parametrize("cause", [Cause.new(), Cause("a", "b", "00-0-0-00")])
def test_the_headers_of_an_event_are_as_described(cause: Cause) -> None:
    headers = withdrawn(cause)
    assert problems("roster.StudentWithdrawn", headers) == []
    assert {name for name, _ in headers} <= resolved(DOCUMENT["components"]["schemas"]["ServiceHeaders"])[
        "properties"
    ].keys()
    assert problems("roster.NameCorrected", headers) != []
    assert problems("roster.StudentWithdrawn", [h for h in headers if h[0] != "ce_sequence"]) != []


def test_the_headers_of_a_statement_are_as_described() -> None:
    _, headers = binary(cloud_event())
    assert problems("ingress.StudentEnrolled", headers) == []
    assert problems("ingress.StudentEnrolled", [h for h in headers if h[0] != "ce_id"]) != []


@pytest.mark.parametrize("district", ["ccps", ""])
def test_the_headers_of_a_line_of_the_audit_are_as_described(district: str) -> None:
    line = dict.fromkeys(audit_topic.RequestAnswered.__struct_fields__, None) | {
        "district": district, "at": datetime.now(UTC), "what": "sign_in", "outcome": "done",
        "person_id": uuid4() if district else None, "event_id": uuid4(), "correlation_id": uuid4(),
    }  # fmt: skip
    _, _, headers = audit_topic.record_of(line)  # type: ignore[arg-type]
    assert problems("audit.RequestAnswered", headers) == []
    assert {name for name, _ in headers} <= resolved(DOCUMENT["components"]["schemas"]["AuditHeaders"])[
        "properties"
    ].keys()
    assert problems("audit.RequestAnswered", [h for h in headers if h[0] != "ce_id"]) != []
