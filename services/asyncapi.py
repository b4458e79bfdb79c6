"""AsyncAPI 3.0 of everything that goes over Kafka, from the codecs and the schemas: contracts/asyncapi.json.

What is written in contracts/events/, contracts/ingress/ and contracts/audit/ is referred to, never repeated.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from services.auth import audit_topic
from services.auth.audit_topic import RequestAnswered
from services.roster import ingress
from shared.kafka import Topic, enrollments_topic, service_topic
from shared.messages import JSON_CONTENT_TYPE, MAX_ATTRIBUTE_LENGTH, EventCodec
from shared.settings import Settings

CONTRACTS = Path(__file__).resolve().parents[1] / "contracts"
BINDING = {"bindingVersion": "0.5.0"}
ABOUT = """\
What Homeroom takes from Kafka and what it puts there. Every record is a CloudEvents 1.0 event in binary mode: its
attributes are headers, its data is the value, as JSON. On a district's topic the structured mode is taken as well.

Topics begin with the setting HOMEROOM_TOPIC_PREFIX, `homeroom` unless it says otherwise. Readers pass over properties
and types that they do not know: both are added without a new version of a topic."""

Object = dict[str, Any]
_TEXT: Object = {"type": "string", "minLength": 1, "maxLength": MAX_ATTRIBUTE_LENGTH}
_UUID: Object = {"type": "string", "format": "uuid"}
_MOMENT: Object = {"type": "string", "format": "date-time"}


def document(codecs: Iterable[EventCodec]) -> Object:
    """The description; `codecs` are the services' own."""
    settings = Settings(service="none", postgres="", kafka="")
    channels: Object = {"enrollments": _ingress_channel(settings)}
    messages: Object = {f"ingress.{name}": _statement(name) for name in ingress.TYPES}
    operations: Object = {"takeStatements": _operation("receive", "enrollments", channels["enrollments"])}
    for codec in codecs:
        own = {name: _event(codec.service, name, kind.SCHEMA) for name, kind in codec.types.items()}
        messages |= {f"{codec.service}.{name}": message for name, message in own.items()}
        channels[codec.service] = channel = _service_channel(settings, codec.service, own)
        operations[f"tell{codec.service.capitalize()}Events"] = _operation("send", codec.service, channel)
    channels["audit"] = _audit_channel(settings)
    messages[f"audit.{RequestAnswered.__name__}"] = _audited()
    operations["tellAudit"] = _operation("send", "audit", channels["audit"])
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Homeroom on Kafka", "version": "1", "description": ABOUT},
        "defaultContentType": JSON_CONTENT_TYPE,
        "servers": _SERVERS,
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": {
                "ServiceHeaders": _SERVICE_HEADERS,
                "StatementHeaders": _STATEMENT_HEADERS,
                "AuditHeaders": _AUDIT_HEADERS,
            },
            "correlationIds": {"journey": _JOURNEY},
            "securitySchemes": _SECURITY,
        },
    }


def _ingress_channel(settings: Settings) -> Object:
    topic = enrollments_topic(settings, "{district}")
    return {
        "address": topic.name,
        "title": "What a district's systems say",
        "description": "One topic for each district; only that district's systems may write to it. What becomes of"
        " each event: GET /v1/districts/{district}/enrollments/{event_id} of roster. The record's key is the person's"
        " `source_id`, so that what is said of one person keeps its order.",
        "parameters": {"district": {"description": "The district's slug.", "examples": ["ccps"]}},
        "messages": {name: _reference("ingress", name) for name in ingress.TYPES},
        "bindings": {"kafka": _binding(topic)},
    }


def _service_channel(settings: Settings, service: str, events: Iterable[str]) -> Object:
    topic = service_topic(settings, service)
    return {
        "address": topic.name,
        "title": f"What {service} records",
        "description": f"Every event of {service}, of all districts, kept for ever; only {service} may write to it. The"
        " record's key is the person's id: one person's events keep their order, by `ce_sequence` from 1 without gaps."
        " A record may come twice; the second is the same to the byte.",
        "messages": {name: _reference(service, name) for name in events},
        "bindings": {"kafka": _binding(topic)},
    }


def _audit_channel(settings: Settings) -> Object:
    topic = audit_topic.topic(settings)
    return {
        "address": topic.name,
        "title": "What was asked of auth, and what came of it",
        "description": "The audit of all districts, kept as long as auth's own table keeps it; only auth may write to"
        " it. The record's key is the person's id where that is known. A record may come twice; the second is the same"
        " to the byte. The order is that of writing: go by `at`.",
        "messages": {RequestAnswered.__name__: _reference("audit", RequestAnswered.__name__)},
        "bindings": {"kafka": _binding(topic)},
    }


def _binding(topic: Topic) -> Object:
    numbers = ("retention.ms", "retention.bytes", "max.message.bytes")
    config: Object = {
        name: int(value) if name in numbers else value for name, value in sorted(topic.config.items())
    }
    config["cleanup.policy"] = [config["cleanup.policy"]]
    return {"partitions": topic.partitions, "topicConfiguration": config} | BINDING


def _operation(action: str, channel: str, described: Mapping[str, Any]) -> Object:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "title": described["title"],
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in described["messages"]],
    }


def _reference(source: str, name: str) -> Object:
    return {"$ref": f"#/components/messages/{source}.{name}"}


def _statement(name: str) -> Object:
    key = {"type": "string", "description": "The person's `source_id`."}
    return _message("StatementHeaders", {"ce_type": {"const": name}}, f"ingress/{name}.v1.json", key)


def _event(service: str, name: str, version: int) -> Object:
    said = {"ce_type": {"const": name}, "ce_dataschema": {"const": f"/schemas/{service}/{name}/{version}"}}
    key = _UUID | {"description": "The person's id, as in `ce_subject`."}
    file = f"events/{service}/{name}.v{version}.json"
    return _message("ServiceHeaders", said, file, key) | {
        "correlationId": {"$ref": "#/components/correlationIds/journey"}
    }


def _audited() -> Object:
    name, version = RequestAnswered.__name__, RequestAnswered.SCHEMA
    said = {"ce_type": {"const": name}, "ce_dataschema": {"const": f"/schemas/audit/{name}/{version}"}}
    key = _UUID | {"description": "The person's id, as in `ce_subject`; else as in `ce_correlationid`."}
    return _message("AuditHeaders", said, f"audit/{name}.v{version}.json", key) | {
        "correlationId": {"$ref": "#/components/correlationIds/journey"}
    }


def _message(headers: str, said: Object, file: str, key: Object) -> Object:
    contract = msgspec.json.decode((CONTRACTS / file).read_bytes())
    return {
        "name": contract["title"],
        "title": contract["title"],
        "summary": contract["description"],
        "contentType": JSON_CONTENT_TYPE,
        "headers": {"allOf": [{"$ref": f"#/components/schemas/{headers}"}, {"properties": said}]},
        "payload": {"$ref": file},
        "bindings": {"kafka": {"key": key} | BINDING},
    }


_SERVERS: Object = {
    "password": {
        "host": "{kafka}",
        "protocol": "kafka-secure",
        "title": "A login over TLS",
        "description": "SASL_SSL with SCRAM-SHA-512, a login for each district's systems and one for each service.",
        "variables": {"kafka": {"description": "The bootstrap addresses, `host:port`."}},
        "security": [{"$ref": "#/components/securitySchemes/scram"}],
    },
    "certificate": {
        "host": "{kafka}",
        "protocol": "kafka-secure",
        "title": "A certificate over TLS",
        "description": "SSL with a certificate of one's own.",
        "variables": {"kafka": {"description": "The bootstrap addresses, `host:port`."}},
        "security": [{"$ref": "#/components/securitySchemes/certificate"}],
    },
    "local": {
        "host": "{kafka}",
        "protocol": "kafka",
        "title": "The local stack",
        "description": "PLAINTEXT on one machine, for development; `homeroom status` shows the address.",
        "variables": {"kafka": {"description": "127.0.0.1 and the port."}},
    },
}
_SECURITY: Object = {
    "scram": {"type": "scramSha512", "description": "Name and password, as the operator gave them."},
    "certificate": {"type": "X509", "description": "Mutual TLS."},
}
_JOURNEY: Object = {
    "description": "The whole journey that an event is part of.",
    "location": "$message.header#/ce_correlationid",
}
_ATTRIBUTES: Object = {
    "ce_specversion": {"const": "1.0", "description": "CloudEvents 1.0."},
    "content-type": {"type": "string", "description": "`application/json`."},
    "traceparent": {"type": "string", "description": "W3C Trace Context of whoever caused it."},
}
_STATEMENT_HEADERS: Object = {
    "type": "object",
    "required": ["ce_specversion", "ce_id", "ce_source", "ce_type"],
    "properties": _ATTRIBUTES
    | {
        "ce_id": {
            "type": "string", "minLength": 1, "maxLength": ingress.MAX_LENGTH,
            "description": "The event's identity: published again under it, it changes nothing. Another event under the"
            " same id is refused.",
        },
        "ce_source": _TEXT | {"description": "The system that says it."},
        "ce_type": _TEXT | {"description": "What is said."},
        "ce_time": _MOMENT
        | {
            "description": "When the fact became true, with an offset; when absent, or later, the moment at which the"
            " broker took the record. An older fact never overwrites a newer one."
        },
    },
}  # fmt: skip
_SERVICE_HEADERS: Object = {
    "type": "object",
    "required": [
        "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "ce_sequence", "ce_dataschema",
        "ce_correlationid", "content-type",
    ],
    "properties": _ATTRIBUTES
    | {
        "ce_id": _UUID | {"description": "The event's id."},
        "ce_source": _TEXT | {"description": "`/homeroom/<service>/<district>`."},
        "ce_type": _TEXT | {"description": "What happened."},
        "ce_subject": _UUID | {"description": "The person's id: the stream that the event belongs to."},
        "ce_time": _MOMENT | {"description": "When it happened."},
        "ce_sequence": {
            "type": "string", "pattern": "^[1-9][0-9]*$",
            "description": "The event's version within its stream, from 1, without gaps.",
        },
        "ce_dataschema": _TEXT | {"description": "`/schemas/<service>/<type>/<version>`: the schema of the data."},
        "ce_correlationid": _TEXT | {"description": "The whole journey that the event is part of."},
        "ce_causationid": _TEXT | {"description": "The event that directly led to it."},
    },
}  # fmt: skip
_AUDIT_HEADERS: Object = {
    "type": "object",
    "required": [
        "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_dataschema", "ce_correlationid",
        "content-type",
    ],
    "properties": {name: said for name, said in _ATTRIBUTES.items() if name != "traceparent"}
    | {
        "ce_id": _UUID | {"description": "The line's id: what comes twice under it is one line."},
        "ce_source": _TEXT | {"description": "`/homeroom/auth/<district>`; without one, of what is of none."},
        "ce_type": _TEXT | {"description": "What happened."},
        "ce_subject": _UUID | {"description": "Whose account, where that is known."},
        "ce_time": _MOMENT | {"description": "When it was asked for."},
        "ce_dataschema": _TEXT | {"description": "`/schemas/audit/<type>/<version>`: the schema of the data."},
        "ce_correlationid": _UUID | {"description": "The whole journey that the request is part of."},
    },
}  # fmt: skip
