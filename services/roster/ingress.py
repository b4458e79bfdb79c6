"""What a district may say, and how it becomes a command of ours; the same from Kafka and over HTTP.

The contracts lie in contracts/ingress/. What is refused here is refused with a reason that a district engineer can act
on: which field, and what it should have been.
"""

import hashlib
import unicodedata
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from services.roster.decider import (
    PLACEMENT,
    AssignClass,
    Command,
    CorrectPerson,
    EnrollPerson,
    Mark,
    UnassignClass,
    VoidEnrollment,
    WithdrawPerson,
)
from services.roster.events import Assignment
from services.roster.merges import MergePersons, SplitPersons
from shared import text
from shared.errors import Rejected
from shared.messages import JSON_CONTENT_TYPE, Cause, CloudEvent, rfc3339
from shared.policy import Kind, Policy

MAX_LENGTH = 255  # of every name, id and word

# Read as text first, so that what is wrong with it can be said.
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Day = Annotated[str, Meta(extra_json_schema={"format": "date"})]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """`district` may be left out; the topic or the route names it, and what differs from that is refused."""

    source_id: str
    district: str | None = None


class StudentEnrolled(Said, frozen=True, kw_only=True):
    number: str
    last_name: str
    first_name: str
    school: str | None = None
    grade: str | None = None
    entered_at: Moment | None = None
    enrollment_id: str | None = None


class StudentCorrected(Said, frozen=True, kw_only=True):
    number: str | None = None
    last_name: str | None = None
    first_name: str | None = None
    school: str | None = None
    grade: str | None = None


class StudentWithdrawn(Said, frozen=True, kw_only=True):
    withdrawn_at: Moment | None = None
    reason: str | None = None


class StaffEmployed(Said, frozen=True, kw_only=True):
    number: str
    last_name: str
    first_name: str
    school: str | None = None
    role: str | None = None
    entered_at: Moment | None = None
    employment_id: str | None = None


class StaffCorrected(Said, frozen=True, kw_only=True):
    number: str | None = None
    last_name: str | None = None
    first_name: str | None = None
    school: str | None = None
    role: str | None = None


class StaffLeft(Said, frozen=True, kw_only=True):
    left_at: Moment | None = None
    reason: str | None = None


class EnrollmentVoided(Said, frozen=True, kw_only=True):
    enrollment_id: str


class ClassAssigned(Said, frozen=True, kw_only=True):
    class_id: str
    role: Literal["teacher", "student"]
    title: str | None = None
    school: str | None = None
    begins_on: Day | None = None
    ends_on: Day | None = None


class ClassUnassigned(Said, frozen=True, kw_only=True):
    class_id: str


class PersonsMerged(Said, frozen=True, kw_only=True):
    merged_source_id: str


class PersonsSplit(Said, frozen=True, kw_only=True):
    merged_source_id: str


TYPES = {
    t.__name__: t
    for t in (
        StudentEnrolled,
        StudentCorrected,
        StudentWithdrawn,
        StaffEmployed,
        StaffCorrected,
        StaffLeft,
        EnrollmentVoided,
        ClassAssigned,
        ClassUnassigned,
        PersonsMerged,
        PersonsSplit,
    )
}


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a district, understood. `digest` is of its content: a repeat has the same."""

    event_id: str
    type: str
    digest: bytes
    received_at: datetime
    command: Command
    cause: Cause


def understand(
    event: CloudEvent,
    district: str,
    policy: Policy,
    *,
    received_at: datetime,
    cause: Cause,
    baseline: bool = False,
) -> Statement:
    """The command in an event. Raises Rejected with a reason, the field, and what it should have been.

    `baseline` is not the event's to say: an operator says it of a whole request.
    """
    _check_text("id", event.id)
    if event.type not in TYPES:
        raise Rejected("type_unknown", type=event.type, known=sorted(TYPES))
    content = _content(event)
    said = _said(content, TYPES[event.type])
    for claimed in (said.district, event.extensions.get("district")):
        if claimed not in (None, district):
            raise Rejected("district_mismatch", expected=district)
    _check_text("source_id", said.source_id)
    # No clock that runs ahead wins for ever.
    mark = Mark(min(event.time or received_at, received_at), event.id)
    return Statement(
        event_id=event.id,
        type=event.type,
        digest=_digest(event, content),
        received_at=received_at,
        command=_command(said, mark, policy, received_at, baseline),
        cause=msgspec.structs.replace(cause, causation_id=event.id),
    )


def _content(event: CloudEvent) -> Any:
    if event.datacontenttype.partition(";")[0].strip().lower() != JSON_CONTENT_TYPE:
        raise Rejected("data_not_json", expected=JSON_CONTENT_TYPE)
    try:
        return msgspec.json.decode(event.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected("data_not_json", problem=str(error)[:200]) from None


def _said(content: Any, kind: type[Said]) -> Said:
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `")
        field = where.rstrip("`") or "$"
        if field == "$.number":  # a number in JSON has lost its leading zero
            raise Rejected("number_malformed", hint="number_not_text") from None
        raise Rejected("data_invalid", field=field, problem=problem[:200]) from None


def _command(said: Said, mark: Mark, policy: Policy, received_at: datetime, baseline: bool) -> Command:
    match said:
        case StudentEnrolled() | StaffEmployed():
            return EnrollPerson(
                mark=mark,
                **_told(said, policy),
                entered_at=_moment("entry_time", said.entered_at),
                received_at=received_at,
                enrollment_id=_enrollment_id(said) or mark.event_id,
                baseline=baseline,
            )
        case StudentCorrected() | StaffCorrected():
            return CorrectPerson(mark=mark, **_told(said, policy))
        case StudentWithdrawn():
            left = _moment("withdrawal_time", said.withdrawn_at)
            return _withdraw("student", said, mark, left, received_at)
        case StaffLeft():
            left = _moment("leaving_time", said.left_at)
            return _withdraw("staff", said, mark, left, received_at)
        case EnrollmentVoided():
            _check_text("enrollment_id", said.enrollment_id)
            return VoidEnrollment(mark=mark, source_id=said.source_id, enrollment_id=said.enrollment_id)
        case ClassAssigned():
            return AssignClass(
                mark=mark,
                source_id=said.source_id,
                kind="staff" if said.role == "teacher" else "student",
                assignment=_assignment(said),
            )
        case ClassUnassigned():
            _check_text("class_id", said.class_id)
            return UnassignClass(mark=mark, source_id=said.source_id, class_id=said.class_id)
        case PersonsMerged():
            return MergePersons(mark=mark, source_id=said.source_id, merged_source_id=_merged(said))
        case PersonsSplit():
            return SplitPersons(mark=mark, source_id=said.source_id, merged_source_id=_merged(said))
    raise AssertionError(f"no command for {type(said).__name__}")


def _merged(said: PersonsMerged | PersonsSplit) -> str:
    _check_text("merged_source_id", said.merged_source_id)
    if said.merged_source_id == said.source_id:
        raise Rejected("data_invalid", field="$.merged_source_id", problem="the same as source_id")
    return said.merged_source_id


def _told(
    said: StudentEnrolled | StudentCorrected | StaffEmployed | StaffCorrected, policy: Policy
) -> dict[str, Any]:
    """Who somebody is, and where: the fields that an enrollment and a correction have in common."""
    kind: Kind = "student" if isinstance(said, StudentEnrolled | StudentCorrected) else "staff"
    number, last_name, first_name = said.number, said.last_name, said.first_name
    return {
        "source_id": said.source_id,
        "kind": kind,
        "number": None if number is None else _number(kind, number, policy),
        "last_name": None if last_name is None else _name("last_name", last_name),
        "first_name": None if first_name is None else _name("first_name", first_name),
        **{field: _word(field, getattr(said, field)) for field in PLACEMENT[kind]},
    }


def _assignment(said: ClassAssigned) -> Assignment:
    _check_text("class_id", said.class_id)
    return Assignment(
        class_id=said.class_id,
        role=said.role,
        title=_word("title", said.title),
        school=_word("school", said.school),
        begins_on=_day("begins_on", said.begins_on),
        ends_on=_day("ends_on", said.ends_on),
    )


def _enrollment_id(said: StudentEnrolled | StaffEmployed) -> str | None:
    if isinstance(said, StaffEmployed):
        return _id("employment_id", said.employment_id)
    return _id("enrollment_id", said.enrollment_id)


def _withdraw(
    kind: Kind, said: StudentWithdrawn | StaffLeft, mark: Mark, left: datetime | None, received_at: datetime
) -> WithdrawPerson:
    return WithdrawPerson(
        mark=mark,
        source_id=said.source_id,
        kind=kind,
        withdrawn_at=min(left or mark.time, received_at),
        reason=_word("reason", said.reason),
    )


def _number(kind: Kind, given: str, policy: Policy) -> str:
    """The number, or Rejected `number_malformed` with the hint that the claim form would give as well."""
    try:
        return policy.read_number(given) if kind == "student" else policy.read_employee_number(given)
    except Rejected as refusal:
        raise Rejected("number_malformed", hint=refusal.reason, **refusal.details) from None


def _name(field: str, given: str) -> str:
    """A name as the records have it, in NFC; letters, hyphens, apostrophes and inner blanks are left alone."""
    name = unicodedata.normalize("NFC", given).strip()
    _check_text(field, name)
    return name


def _word(field: str, given: str | None) -> str | None:
    """Something that may be left out; a blank says nothing."""
    return _name(field, given) if given and given.strip() else None


def _id(field: str, given: str | None) -> str | None:
    if given is not None:
        _check_text(field, given)
    return given


def _check_text(field: str, given: str) -> None:
    if not given.strip():
        raise Rejected("field_empty", field=field)
    if len(given) > MAX_LENGTH:
        raise Rejected("field_too_long", field=field, limit=MAX_LENGTH)
    if text.control_character(given) is not None:
        raise Rejected("field_control_character", field=field)


def _moment(what: str, given: str | None) -> datetime | None:
    """A moment in UTC. Without an offset nobody can say which it is: Rejected `entry_time_ambiguous`."""
    if given is None:
        return None
    try:
        moment = msgspec.convert(given, datetime)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        if not _is_date(given):
            raise Rejected(f"{what}_malformed", expected="2026-08-03T09:14:00-04:00") from None
    raise Rejected(f"{what}_ambiguous", expected="2026-08-03T09:14:00-04:00")


def _is_date(given: str) -> bool:
    try:
        date.fromisoformat(given)
    except ValueError:
        return False
    return True


def _day(field: str, given: str | None) -> date | None:
    if given is None:
        return None
    try:
        return msgspec.convert(given, date)
    except msgspec.ValidationError:
        raise Rejected("date_malformed", field=field, expected="2026-08-03") from None


def _digest(event: CloudEvent, content: Any) -> bytes:
    """Of what the event says, however it was spelt: binary or structured, whatever the order of its fields."""
    said = [event.source, event.type, event.time and rfc3339(event.time), content]
    return hashlib.sha256(msgspec.json.encode(said, order="sorted")).digest()
