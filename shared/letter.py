"""A record on its way into a consumer: what can be made out of it, and why one is not taken."""

from __future__ import annotations

import base64
import hashlib
from uuid import UUID

import asyncpg
import msgspec
from aiokafka import ConsumerRecord

from shared.database import LOST_RACE, PASSING, Row
from shared.errors import (
    EventTooLarge,
    HomeroomError,
    MalformedEvent,
    MalformedRecord,
    Rejected,
    Unavailable,
    UnknownEventType,
)
from shared.fetched import unreadable
from shared.messages import CloudEvent, Event, EventCodec, Recorded, from_kafka
from shared.policy import NeverHeld, UnknownDistrict

MAX_KEY_LENGTH = 255  # longer ones are cut and told apart by a digest


class Unacceptable(HomeroomError):
    """A record that its sender has to mend. `detail` says how; `key`, when given, wins over the record's own. With
    `alone` it waits by itself: later records of its key may go before it."""

    def __init__(self, reason: str, detail: str = "", key: str | None = None, *, alone: bool = False) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.key = key
        self.alone = alone


class Letter(msgspec.Struct, eq=False):
    """A record on its way into a consumer: what is known of it, or the flaw for which nothing is."""

    record: ConsumerRecord
    district: str = ""
    key: str | None = None  # its line, when it is none of our own events
    stream_id: UUID | None = None
    version: int | None = None
    event_id: UUID | None = None
    event: Recorded[Event] | None = None  # None: flawed, or of a type that this reader does not know
    flaw: Exception | None = None
    # What the table says of one that is stored already:
    id: int | None = None
    state: str = ""
    reason: str = ""
    wish: str | None = None

    def stands(self, error: Exception) -> None:
        """Note where it has to wait, after this error."""
        if isinstance(error, Unacceptable) and (error.alone or error.key is not None):
            self.key = None if error.alone else line_of(error.key)

    @property
    def line(self) -> str | None:
        """The line in which it stands: a person's, or the key's. None: one by itself."""
        return self.key if self.stream_id is None else str(self.stream_id)


def read_event(record: ConsumerRecord, codec: EventCodec) -> Letter:
    """One of our own events. What does not read has a flaw, and as much of its envelope as can be made out."""
    try:
        event = from_kafka(record, codec)
    except UnknownEventType as unknown:
        return Letter(record, unknown.district, None, unknown.stream_id, unknown.version, unknown.id)
    except (MalformedRecord, MalformedEvent) as flaw:
        headers = {name: value or b"" for name, value in record.headers}
        sequence = headers.get("ce_sequence", b"")
        return Letter(
            record,
            headers.get("ce_source", b"").decode(errors="replace").rpartition("/")[2][:MAX_KEY_LENGTH],
            stream_id=uuid_of(record.key),
            version=(int(sequence) or None) if sequence.isdigit() and len(sequence) < 18 else None,
            event_id=uuid_of(headers.get("ce_id")),
            flaw=flaw_of(record, flaw),
        )
    return Letter(record, event.district, None, event.stream_id, event.version, event.id, event)


def flaw_of(record: ConsumerRecord, flaw: Exception) -> Exception:
    """What is wrong with a record that was refused as `flaw`: more, if it stands for what could not be read."""
    why = unreadable(record)
    return flaw if why is None else Unacceptable("batch_unreadable", why)


_MAY_PASS: tuple[type[Exception], ...] = (
    Unavailable,
    *LOST_RACE,
    *PASSING,
    asyncpg.PostgresSystemError,
    asyncpg.TransactionRollbackError,
    asyncpg.InvalidAuthorizationSpecificationError,
    # The database is not (or no longer) of the shape this code expects: that is no fault of the record.
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidCatalogNameError,
)


def curable(error: BaseException) -> bool:
    """Whether trying again may help, so that the record is not to blame, and everybody has to wait."""
    if isinstance(error, NeverHeld):
        return False  # an operator's slip with one district's file is no reason for the others to wait
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, asyncpg.DataError)
    return isinstance(error, _MAY_PASS)


def reason_of(error: Exception) -> tuple[str, str]:
    """Why a record was not taken: a stable reason, and what helps whoever has to mend it."""
    match error:
        case Unacceptable():
            return error.reason, error.detail
        case Rejected():
            return error.reason, msgspec.json.encode(error.details, enc_hook=str).decode()
        case UnknownDistrict() | NeverHeld():
            return "policy_missing", "the district has no policy that holds; this goes on when it has one"
        case MalformedRecord():
            return "malformed_record", str(error)
        case MalformedEvent():
            return "malformed_event", str(error)
        case EventTooLarge():
            return "event_too_large", str(error)
    return "not_applicable", f"{type(error).__name__}: {error}"


def record_of(row: Row) -> ConsumerRecord:
    """The record as it came."""
    key, value = row["record_key"], row["value"]
    return ConsumerRecord(
        topic=row["topic"],
        partition=row["part"],
        offset=row["record_offset"],
        timestamp=round(row["appended_at"].timestamp() * 1000),
        timestamp_type=row["time_type"],
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=-1 if key is None else len(key),
        serialized_value_size=-1 if value is None else len(value),
        headers=tuple(
            (name, None if content is None else base64.b64decode(content)) for name, content in row["headers"]
        ),
    )


def line_of(text: str | bytes | None) -> str | None:
    """A key as the table can hold and index it, whatever a stranger put there."""
    if text is None:
        return None
    if isinstance(text, bytes):
        text = text.decode(errors="backslashreplace")
    if len(text) > MAX_KEY_LENGTH:
        digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=16).hexdigest()
        text = f"{text[: MAX_KEY_LENGTH - 40]}…{digest}"
    return clean(text)


def clean(text: str) -> str:
    """PostgreSQL's text holds neither NUL nor half a character."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def event_id_of(record: ConsumerRecord) -> str | None:
    """The id of a CloudEvent in either mode: by it its sender asks what became of it."""
    try:
        return line_of(CloudEvent.parse(record).id)
    except MalformedRecord:
        return line_of(dict(record.headers).get("ce_id"))


def uuid_of(text: bytes | None) -> UUID | None:
    """An id as we write it; Python would take it in braces, too."""
    try:
        id = UUID((text or b"").decode())
    except ValueError:
        return None
    return id if str(id).encode() == text else None
