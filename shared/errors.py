"""What can go wrong on purpose. A programmer's error is not among these: that is an assertion."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID


class HomeroomError(Exception):
    """Base of every error that Homeroom raises itself."""


class Rejected(HomeroomError):
    """A rule refused a command.

    `reason` is a stable code; its wording lives with whoever shows it. `details` may go to the caller and
    must be JSON-able. `secret` is for the help desk alone (which field differed, never what was typed).
    """

    def __init__(self, reason: str, /, *, secret: Mapping[str, Any] | None = None, **details: Any) -> None:
        super().__init__(reason)
        self.reason = reason
        self.details = details
        self.secret: dict[str, Any] = dict(secret or {})


class VersionConflict(HomeroomError):
    """Somebody else appended to the stream since it was loaded. Load it again and decide again."""

    def __init__(self, stream_id: UUID, expected_version: int) -> None:
        super().__init__(f"stream {stream_id} is no longer at version {expected_version}")
        self.stream_id = stream_id
        self.expected_version = expected_version


class WrongDistrict(HomeroomError):
    """The stream belongs to another district: to this caller it does not exist (404 over HTTP)."""

    def __init__(self, stream_id: UUID, district: str) -> None:
        super().__init__(f"stream {stream_id} is not of district {district}")
        self.stream_id = stream_id
        self.district = district


class EventTooLarge(HomeroomError):
    """An event, or one append's number of events, is over its bound. Trying again does not help."""


class Unavailable(HomeroomError):
    """Something that Homeroom needs does not answer ("postgres", "kafka", …). Trying again later helps."""

    def __init__(self, dependency: str, retry_after_s: int = 2) -> None:
        super().__init__(f"{dependency} is not available")
        self.dependency = dependency
        self.retry_after_s = retry_after_s


class UnknownEventType(HomeroomError):
    """A well-formed event of a type unknown to this reader. Consumers advance their gate and count it.

    From `messages.from_kafka` it carries the envelope; from `EventCodec.decode` the type alone.
    """

    def __init__(
        self,
        type: str,
        *,
        id: UUID | None = None,
        district: str = "",
        stream_id: UUID | None = None,
        version: int = 0,
    ) -> None:
        super().__init__(f"no event type {type!r} is known here")
        self.type = type
        self.id = id
        self.district = district
        self.stream_id = stream_id
        self.version = version


class MalformedEvent(HomeroomError):
    """An event's data does not have the shape that its type and schema number promise."""


class MalformedRecord(HomeroomError):
    """A Kafka record (or a body) that is no CloudEvent, or not one of ours where only ours may be."""


class Diverged(HomeroomError):
    """Two histories that must be one are not: store and topic disagree, or one version has two event ids.

    Never repaired by guessing: whoever meets it stops and alarms.
    """
