"""Events survive the way to Kafka and back, as CloudEvents that others understand; what is malformed says so."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import pytest
from aiokafka.partitioner import DefaultPartitioner
from cloudevents.core.bindings import kafka as sdk
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as SdkEvent
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import MalformedEvent, MalformedRecord, UnknownEventType
from shared.messages import (
    MAX_ATTRIBUTE_LENGTH,
    Cause,
    CloudEvent,
    Event,
    EventCodec,
    Recorded,
    from_kafka,
    ingress_topic,
    partition_of,
    rfc3339,
    to_kafka,
    topic_of,
)
from shared.testing import NOON, recorded
from tests.shared.kit import CODEC, SERVICE, Counted

MOMENTS = st.datetimes(timezones=st.just(UTC))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


def record(headers: Sequence[tuple[str, bytes | None]], value: bytes | None, key: bytes | None = None) -> Any:
    """As much of aiokafka's ConsumerRecord as is read."""
    return SimpleNamespace(headers=tuple(headers), value=value, key=key, offset=0, partition=0)


def sent(event: Recorded[Any], codec: EventCodec = CODEC) -> Any:
    key, value, headers = to_kafka(event, codec.encode(event.data))
    return record(headers, value, key)


def without(given: Any, name: str) -> Any:
    return record([(n, v) for n, v in given.headers if n != name], given.value, given.key)


def with_header(given: Any, name: str, value: bytes | None) -> Any:
    return record([*without(given, name).headers, (name, value)], given.value, given.key)


class TestOwnEvents:
    @given(
        st.uuids(),
        st.integers(1, 2**40),
        MOMENTS,
        st.integers(-5, 5),
        TEXTS,
        st.none() | TEXTS,
        st.none() | TEXTS,
    )
    def test_an_event_comes_back_as_it_went(
        self,
        person: UUID,
        version: int,
        at: datetime,
        by: int,
        note: str,
        cause: str | None,
        trace: str | None,
    ) -> None:
        event = recorded(Counted(by=by, note=note), version, at=at, service=SERVICE, stream_id=person)
        event = msgspec.structs.replace(event, cause=Cause(note, cause, trace))
        assert from_kafka(sent(event), CODEC) == event

    def test_others_read_it_as_a_cloudevent(self) -> None:
        """The SDK is the oracle: attributes, key, data and mode."""
        event = recorded(Counted(by=1, note="año"), 7, service=SERVICE)
        event = msgspec.structs.replace(event, cause=Cause("journey", "parent", "00-trace-01"))
        given = sent(event)
        read = sdk.from_binary(sdk.KafkaMessage(dict(given.headers), given.key, given.value), JSONFormat())
        assert read.get_attributes() == {
            "specversion": "1.0",
            "id": str(event.id),
            "type": "Counted",
            "source": "/homeroom/counter/ccps",
            "subject": str(event.stream_id),
            "time": NOON,
            "sequence": "7",
            "dataschema": "/schemas/counter/Counted/1",
            "correlationid": "journey",
            "causationid": "parent",
            "datacontenttype": "application/json",
            "partitionkey": str(event.stream_id),
        }
        assert read.get_data() == {"by": 1, "note": "año"}
        assert dict(given.headers)["traceparent"] == b"00-trace-01"

    def test_a_type_that_is_not_known_comes_with_its_envelope(self) -> None:
        event = recorded(Counted(by=1), 3, service=SERVICE)
        with pytest.raises(UnknownEventType) as caught:
            from_kafka(sent(event), EventCodec(SERVICE, []))
        unknown = caught.value
        assert (unknown.type, unknown.id, unknown.stream_id) == ("Counted", event.id, event.stream_id)
        assert (unknown.version, unknown.district) == (3, "ccps")

    @pytest.mark.parametrize(
        "name",
        [
            "ce_id",
            "ce_type",
            "ce_source",
            "ce_subject",
            "ce_sequence",
            "ce_time",
            "ce_dataschema",
            "ce_correlationid",
        ],
    )
    @pytest.mark.parametrize("value", [None, b"\xff", b""])
    def test_an_envelope_with_something_missing_is_malformed(self, name: str, value: bytes | None) -> None:
        given = sent(recorded(Counted(by=1), service=SERVICE))
        with pytest.raises(MalformedRecord):
            from_kafka(without(given, name), CODEC)
        if (name, value) not in {("ce_type", b""), ("ce_correlationid", b"")}:
            with pytest.raises(MalformedRecord):
                from_kafka(with_header(given, name, value), CODEC)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("ce_source", b"/homeroom/roster/ccps"),
            ("ce_source", b"/homeroom/counter/"),
            ("ce_sequence", b"0"),
            ("ce_sequence", b"-1"),
            ("ce_sequence", b"9" * 30),
            ("ce_sequence", b"9" * 5000),
            ("ce_time", b"2026-11-22T12:00:00"),
            ("ce_time", b"yesterday"),
            ("ce_subject", b"7f000000-0000-4000-8000-0000000000ff"),
            ("ce_dataschema", b"/schemas/counter/Counted/one"),
        ],
    )
    def test_an_envelope_that_cannot_be_ours_is_malformed(self, name: str, value: bytes) -> None:
        with pytest.raises(MalformedRecord):
            from_kafka(with_header(sent(recorded(Counted(by=1), service=SERVICE)), name, value), CODEC)

    def test_a_tombstone_is_malformed(self) -> None:
        given = sent(recorded(Counted(by=1), service=SERVICE))
        with pytest.raises(MalformedRecord):
            from_kafka(record(given.headers, None, given.key), CODEC)

    @pytest.mark.parametrize(
        "value", [b"", b"{", b"[]", b'{"by": "1"}', b'{"note": ""}', b'{"by":1,"note":"\xff"}']
    )
    def test_data_of_another_shape_is_a_malformed_event(self, value: bytes) -> None:
        given = sent(recorded(Counted(by=1), service=SERVICE))
        with pytest.raises(MalformedEvent):
            from_kafka(record(given.headers, value, given.key), CODEC)

    def test_fields_that_a_reader_does_not_know_are_no_matter(self) -> None:
        given = sent(recorded(Counted(by=1), service=SERVICE))
        read = from_kafka(record(given.headers, b'{"by": 1, "more": {}}', given.key), CODEC)
        assert read.data == Counted(by=1)


class TestCodec:
    class Renamed(Event):
        """`amount` was `by` in schema 1, and `count` in schema 2."""

        SCHEMA = 3
        amount: int

    codec = EventCodec(
        SERVICE,
        [Renamed],
        {
            ("Renamed", 1): lambda data: {"count": data["by"]},
            ("Renamed", 2): lambda data: {"amount": data["count"]},
        },
    )

    @pytest.mark.parametrize(
        ("schema", "data"), [(1, b'{"by":4}'), (2, b'{"count":4}'), (3, b'{"amount":4}')]
    )
    def test_old_shapes_are_read_through_all_later_upcasters(self, schema: int, data: bytes) -> None:
        assert self.codec.decode("Renamed", schema, data) == self.Renamed(amount=4)

    @pytest.mark.parametrize("schema", [0, 4, -1])
    def test_a_schema_that_does_not_exist_yet_is_not_skipped(self, schema: int) -> None:
        with pytest.raises(MalformedEvent):
            self.codec.decode("Renamed", schema, b'{"amount":4}')

    def test_what_an_upcaster_makes_is_checked_too(self) -> None:
        with pytest.raises(MalformedEvent):
            self.codec.decode("Renamed", 2, b'{"count":"four"}')

    def test_old_data_that_an_upcaster_cannot_read_is_malformed(self) -> None:
        with pytest.raises(MalformedEvent):
            self.codec.decode("Renamed", 1, b'{"other":4}')

    def test_a_missing_upcaster_is_noticed_at_once(self) -> None:
        with pytest.raises(AssertionError):
            EventCodec(SERVICE, [self.Renamed], {("Renamed", 1): lambda data: data})

    def test_only_events_of_its_own_are_encoded(self) -> None:
        with pytest.raises(UnknownEventType):
            self.codec.encode(Counted(by=1))


class TestPlaces:
    @given(st.uuids(), st.integers(1, 100))
    def test_a_person_lies_where_kafkas_own_partitioner_puts_the_key(
        self, person: UUID, partitions: int
    ) -> None:
        everywhere = list(range(partitions))
        default = DefaultPartitioner()(str(person).encode(), everywhere, everywhere)
        assert partition_of(person, partitions) == default

    def test_topics_have_names(self) -> None:
        assert topic_of("homeroom", "roster") == "homeroom.roster.v1"
        assert ingress_topic("homeroom", "ccps") == "homeroom.enrollments.ccps.v1"

    @given(MOMENTS)
    def test_moments_are_written_in_utc(self, moment: datetime) -> None:
        assert rfc3339(moment.astimezone(UTC)).endswith("Z")
        assert datetime.fromisoformat(rfc3339(moment)) == moment


class TestCause:
    def test_an_event_causes_the_next_in_the_same_journey(self) -> None:
        first = msgspec.structs.replace(recorded(Counted(by=1)), cause=Cause("journey", "x", "trace"))
        assert Cause.of(first) == Cause("journey", str(first.id), "trace")

    def test_journeys_differ(self) -> None:
        assert Cause.new() != Cause.new()


ATTRIBUTES = {"id": "e-1", "source": "/sis", "type": "StudentEnrolled"}
STRUCTURED = ATTRIBUTES | {"specversion": "1.0"}


class TestOthersEvents:
    @pytest.mark.parametrize("write", [sdk.to_binary, sdk.to_structured])
    def test_what_the_sdk_writes_is_read(self, write: Any) -> None:
        at = datetime(2026, 11, 22, 8, 15, tzinfo=UTC)
        given = SdkEvent(
            ATTRIBUTES | {"time": at, "subject": "p-1", "datacontenttype": "application/json", "trace": "t"},
            {"number": "0123456", "name": "Núñez"},
        )
        message = write(given, JSONFormat())
        read = CloudEvent.parse(record(list(message.headers.items()), message.value))
        assert (read.id, read.source, read.type, read.subject) == ("e-1", "/sis", "StudentEnrolled", "p-1")
        assert (read.time, read.extensions, read.datacontenttype) == (at, {"trace": "t"}, "application/json")
        assert json.loads(read.data) == {"number": "0123456", "name": "Núñez"}

    def test_the_mode_is_told_by_the_content_type(self) -> None:
        body = json.dumps(STRUCTURED | {"data": {"a": 1}}).encode()
        for header in ("content-type", "Content-Type"):
            given = record([(header, b"application/cloudevents+json; charset=UTF-8")], body)
            assert CloudEvent.parse(given).data == b'{"a": 1}'

    def test_structured_data_may_be_bytes(self) -> None:
        read = CloudEvent.parse_structured(json.dumps(STRUCTURED | {"data_base64": "eyJhIjoxfQ=="}).encode())
        assert read.data == b'{"a":1}'

    def test_extensions_become_text(self) -> None:
        read = CloudEvent.parse_structured(
            json.dumps(STRUCTURED | {"n": 5, "b": True, "gone": None}).encode()
        )
        assert read.extensions == {"n": "5", "b": "true"}
        assert read.data == b""

    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("2026-11-22T08:15:00Z", datetime(2026, 11, 22, 8, 15, tzinfo=UTC)),
            ("2026-11-22T08:15:00.5-05:00", datetime(2026, 11, 22, 13, 15, 0, 500000, tzinfo=UTC)),
            ("2026-11-22T08:15:00.123456789Z", datetime(2026, 11, 22, 8, 15, 0, 123457, tzinfo=UTC)),
        ],
    )
    def test_times_come_in_many_forms(self, text: str, moment: datetime) -> None:
        time = CloudEvent.of(STRUCTURED | {"time": text}, b"").time
        assert time is not None
        assert abs(time - moment) <= timedelta(microseconds=1)

    @pytest.mark.parametrize(
        "attributes",
        [
            {},
            {"specversion": "0.3"},
            {"id": ""},
            {"source": ""},
            {"type": ""},
            {"id": "x" * (MAX_ATTRIBUTE_LENGTH + 1)},
            {"trace": "x" * (MAX_ATTRIBUTE_LENGTH + 1)},
            {"time": "2026-11-22T08:15:00"},
            {"time": "2026-11-22"},
            {"time": "soon"},
            {"id": "a\0b"},
            {"trace": "a\nb"},
            {"time": "9999-12-31T23:59:59-01:00"},
            {"time": "0001-01-01T00:00:00+01:00"},
        ],
    )
    def test_attributes_that_break_the_standard_are_malformed(self, attributes: dict[str, str]) -> None:
        given = STRUCTURED | attributes if attributes else {}
        with pytest.raises(MalformedRecord):
            CloudEvent.of(given, b"")
        with pytest.raises(MalformedRecord):
            CloudEvent.parse_structured(json.dumps(given).encode())
        headers = [(f"ce_{name}", value.encode()) for name, value in given.items()]
        with pytest.raises(MalformedRecord):
            CloudEvent.parse_binary(record(headers, b""))

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"null",
            b'"text"',
            b"{",
            b"\xff",
            b'{"id": {}}',
            b'{"id": 1.5}',
            b'{"data": 1, "data_base64": ""}',
            b'{"data_base64": "!"}',
            b'{"data_base64": 1}',
        ],
    )
    def test_bodies_that_are_no_cloudevent_are_malformed(self, body: bytes) -> None:
        with pytest.raises(MalformedRecord):
            CloudEvent.parse_structured(body)

    @pytest.mark.parametrize("value", [None, b"\xff"])
    def test_headers_that_are_no_text_are_malformed(self, value: bytes | None) -> None:
        with pytest.raises(MalformedRecord):
            CloudEvent.parse(record([("ce_id", value)], b""))

    @given(st.binary(max_size=200), st.lists(st.tuples(TEXTS, st.binary(max_size=20))))
    def test_no_bytes_at_all_raise_anything_else(self, body: bytes, headers: list[tuple[str, bytes]]) -> None:
        for given_headers in (headers, [("content-type", b"application/cloudevents+json")]):
            with pytest.raises(MalformedRecord):
                CloudEvent.parse(record(given_headers, body))
