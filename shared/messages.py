"""Events, their envelope, and how they travel: CloudEvents 1.0 on Kafka, binary mode, data as JSON."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar
from uuid import UUID, uuid4

import msgspec
from aiokafka import ConsumerRecord
from aiokafka.partitioner import murmur2

from shared.errors import MalformedEvent, MalformedRecord, UnknownEventType
from shared.text import control_character

# An attribute of a CloudEvent from outside (id, source, type, …) may have this many characters.
MAX_ATTRIBUTE_LENGTH = 1024
JSON_CONTENT_TYPE = "application/json"
MAX_VERSION = 2**62

# What reading something that is missing, null or of another shape raises.
_NOT_THERE = (KeyError, ValueError, TypeError, AttributeError, msgspec.ValidationError)

Upcaster: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every fact. A subclass's name, in the past tense, is the event's type.

    Fields may be added with a default; any other change of shape raises SCHEMA and ships an upcaster.
    """

    SCHEMA: ClassVar[int] = 1


E_co = TypeVar("E_co", bound=Event, covariant=True)


class Cause(msgspec.Struct, frozen=True):
    """Why something happens: the journey it is part of, and its direct parent event."""

    correlation_id: str
    causation_id: str | None = None
    traceparent: str | None = None

    @classmethod
    def new(cls, traceparent: str | None = None) -> Cause:
        """The beginning of a journey."""
        return cls(str(uuid4()), None, traceparent)

    @classmethod
    def of(cls, recorded: Recorded[Event]) -> Cause:
        """What an event brings about: the same journey, with the event as the parent."""
        return cls(recorded.cause.correlation_id, str(recorded.id), recorded.cause.traceparent)


class Recorded(msgspec.Struct, Generic[E_co], frozen=True):
    """An event in its envelope, as the store keeps it and Kafka carries it. Versions count from 1."""

    id: UUID
    type: str
    schema: int
    service: str
    district: str
    stream_id: UUID
    version: int
    time: datetime
    data: E_co
    cause: Cause


class EventCodec:
    """Turns the events of one service (or a consumer's own reading of them) into JSON and back.

    `upcasters[(type, n)]` turns data of schema n into n + 1; they run one after another up to SCHEMA.
    """

    def __init__(
        self,
        service: str,
        types: Sequence[type[Event]],
        upcasters: Mapping[tuple[str, int], Upcaster] | None = None,
    ) -> None:
        self.service = service
        self.types = {cls.__name__: cls for cls in types}
        self._upcasters = dict(upcasters or {})
        self._decoders = {name: msgspec.json.Decoder(cls) for name, cls in self.types.items()}
        self._encoder = msgspec.json.Encoder()
        assert len(self.types) == len(types), "two event types of one name"
        for name, cls in self.types.items():
            missing = [n for n in range(1, cls.SCHEMA) if (name, n) not in self._upcasters]
            assert not missing, f"{name}: no upcaster from schema {missing}"

    def encode(self, event: Event) -> bytes:
        """The event's data as JSON. Raises UnknownEventType for a class that is not of this codec."""
        if self.types.get(type(event).__name__) is not type(event):
            raise UnknownEventType(type(event).__name__)
        return self._encoder.encode(event)

    def decode(self, type: str, schema: int, data: bytes) -> Event:
        """The event from its JSON. Raises UnknownEventType, MalformedEvent.

        A schema newer than this code is malformed, not unknown: to skip it would lose a fact.
        """
        decoder = self._decoders.get(type)
        if decoder is None:
            raise UnknownEventType(type)
        current = self.types[type].SCHEMA
        try:
            if schema == current:
                return decoder.decode(data)
            if not 1 <= schema < current:
                raise MalformedEvent(f"{type}: schema {schema} is not between 1 and {current}")
            raw = msgspec.json.decode(data, type=dict[str, Any])
            for n in range(schema, current):
                raw = self._upcasters[type, n](raw)
            return msgspec.convert(raw, self.types[type])
        except (msgspec.MsgspecError, RecursionError, *_NOT_THERE) as error:
            raise MalformedEvent(f"{type} (schema {schema}): {error!r}") from error


def topic_of(prefix: str, service: str) -> str:
    """The topic that carries all events of a service."""
    return f"{prefix}.{service}.v1"


def ingress_topic(prefix: str, district: str) -> str:
    """The topic on which a district's systems publish. It, not the payload, names the district."""
    return f"{prefix}.enrollments.{district}.v1"


def is_ingress(prefix: str, topic: str) -> bool:
    """Whether it is such a topic, of any district."""
    return topic.startswith(f"{prefix}.enrollments.")


def partition_of(stream_id: UUID, partitions: int) -> int:
    """The partition of a person, as Kafka's default partitioner has it: murmur2 of the key's text."""
    return int(murmur2(str(stream_id).encode()) & 0x7FFFFFFF) % partitions


def rfc3339(moment: datetime) -> str:
    """2026-11-22T08:15:00.123456Z"""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def to_kafka(recorded: Recorded[Event], data: bytes) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers of an event; `data` is its stored JSON, sent as it is.

    Nothing here depends on the moment of sending, so that an event sent again is the same to the byte.
    """
    headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", str(recorded.id)),
        ("ce_type", recorded.type),
        ("ce_source", f"/homeroom/{recorded.service}/{recorded.district}"),
        ("ce_subject", str(recorded.stream_id)),
        ("ce_time", rfc3339(recorded.time)),
        ("ce_sequence", str(recorded.version)),
        ("ce_dataschema", f"/schemas/{recorded.service}/{recorded.type}/{recorded.schema}"),
        ("ce_correlationid", recorded.cause.correlation_id),
    ]
    if recorded.cause.causation_id is not None:
        headers.append(("ce_causationid", recorded.cause.causation_id))
    if recorded.cause.traceparent is not None:
        headers.append(("traceparent", recorded.cause.traceparent))
    headers.append(("content-type", JSON_CONTENT_TYPE))
    return str(recorded.stream_id).encode(), data, [(name, value.encode()) for name, value in headers]


def from_kafka(record: ConsumerRecord, codec: EventCodec) -> Recorded[Event]:
    """One of our own events. Raises UnknownEventType (with its envelope), MalformedRecord, MalformedEvent.

    Whoever may write to a service's topic is trusted with its content, but never with its shape.
    """
    headers: dict[str, bytes] = dict(record.headers)
    try:
        id = msgspec.convert(headers["ce_id"].decode(), UUID)  # a third of the time that UUID() takes
        subject = headers["ce_subject"]
        stream_id = msgspec.convert(subject.decode(), UUID)
        version = int(headers["ce_sequence"])
        type = headers["ce_type"].decode()
        service, _, district = headers["ce_source"].decode().removeprefix("/homeroom/").partition("/")
        schema = int(headers["ce_dataschema"].rpartition(b"/")[2])
        time = datetime.fromisoformat(headers["ce_time"].decode())
        correlation_id = headers["ce_correlationid"].decode()
        causation_id, traceparent = headers.get("ce_causationid"), headers.get("traceparent")
        cause = Cause(
            correlation_id,
            None if causation_id is None else causation_id.decode(),
            None if traceparent is None else traceparent.decode(),
        )
    except _NOT_THERE as error:
        raise MalformedRecord(f"not one of our events: {error!r}") from error
    if service != codec.service or not district or time.tzinfo is None or not 0 < version < MAX_VERSION:
        raise MalformedRecord(f"not an event of {codec.service}: {headers}")
    # In one spelling only, with hyphens and small: streams are told apart by their keys.
    if record.key != subject or len(subject) != 36 or subject != subject.lower() or record.value is None:
        raise MalformedRecord("the key is not the person's id, or there is no value")
    try:
        data = codec.decode(type, schema, record.value)
    except UnknownEventType:
        raise UnknownEventType(type, id=id, district=district, stream_id=stream_id, version=version) from None
    return Recorded(id, type, schema, service, district, stream_id, version, time, data, cause)


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of somebody else. `data` is as it came (JSON text in structured mode); extensions are text."""

    id: str
    source: str
    type: str
    data: bytes
    time: datetime | None = None
    subject: str | None = None
    datacontenttype: str = JSON_CONTENT_TYPE
    extensions: dict[str, str] = {}

    @classmethod
    def parse(cls, record: ConsumerRecord) -> CloudEvent:
        """From a Kafka record of either mode. Raises MalformedRecord."""
        headers = _headers(record)
        if headers.get("content-type", "").lower().startswith("application/cloudevents"):
            return cls.parse_structured(record.value or b"")
        return cls.parse_binary(record)

    @classmethod
    def parse_binary(cls, record: ConsumerRecord) -> CloudEvent:
        """From a Kafka record in binary mode: `ce_` headers, data as value. Raises MalformedRecord."""
        headers = _headers(record)
        attributes = {name[3:]: value for name, value in headers.items() if name.startswith("ce_")}
        attributes["datacontenttype"] = headers.get("content-type", JSON_CONTENT_TYPE)
        return cls.of(attributes, record.value or b"")

    @classmethod
    def parse_structured(cls, body: bytes | msgspec.Raw) -> CloudEvent:
        """From one JSON object that holds attributes and data. Raises MalformedRecord."""
        try:
            fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            raw, raw_base64 = fields.pop("data", None), fields.pop("data_base64", None)
            if raw is not None and raw_base64 is not None:
                raise MalformedRecord("both data and data_base64")
            if raw_base64 is not None:
                data = base64.b64decode(msgspec.json.decode(raw_base64, type=str), validate=True)
            else:
                data = bytes(raw) if raw is not None else b""
            values = {
                name: msgspec.json.decode(v, type=str | int | bool | None) for name, v in fields.items()
            }
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise MalformedRecord(f"not a CloudEvent in JSON: {error}") from error
        return cls.of({name: _text(value) for name, value in values.items() if value is not None}, data)

    @classmethod
    def of(cls, attributes: Mapping[str, str], data: bytes) -> CloudEvent:
        """From named attributes, checked against CloudEvents 1.0. Raises MalformedRecord."""
        rest = dict(attributes)
        for name, value in rest.items():
            if len(value) > MAX_ATTRIBUTE_LENGTH:
                raise MalformedRecord(f"{name} has more than {MAX_ATTRIBUTE_LENGTH} characters")
            if control_character(value):
                raise MalformedRecord(f"{name} has a control character")
        if rest.pop("specversion", None) != "1.0":
            raise MalformedRecord("specversion is not 1.0")
        missing = [name for name in ("id", "source", "type") if not rest.get(name)]
        if missing:
            raise MalformedRecord(f"missing: {', '.join(missing)}")
        return cls(
            id=rest.pop("id"),
            source=rest.pop("source"),
            type=rest.pop("type"),
            time=_moment(rest.pop("time", None)),
            subject=rest.pop("subject", None),
            datacontenttype=rest.pop("datacontenttype", JSON_CONTENT_TYPE),
            extensions=rest,
            data=data,
        )


def _headers(record: ConsumerRecord) -> dict[str, str]:
    """A record's headers as text, names in small letters: clients differ in how they write Content-Type."""
    try:
        headers = {name.lower(): value.decode() for name, value in record.headers}
    except (UnicodeDecodeError, AttributeError) as error:
        raise MalformedRecord("a header is not UTF-8 text") from error
    if any("\ufffd" in name for name in headers):  # so a name is read that is none
        raise MalformedRecord("the name of a header is not UTF-8 text")
    return headers


def _text(value: str | int | bool) -> str:
    """An attribute's canonical text: CloudEvents writes booleans in small letters."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = msgspec.convert(text, datetime)
    except msgspec.ValidationError as error:
        raise MalformedRecord(f"time: {error}") from error
    if moment.tzinfo is None:
        raise MalformedRecord("time has no offset")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise MalformedRecord("time is at the end of all time") from error
