"""What claims reads: `admission`, the waiting period as a fold of the roster's history, and `account`, its own.

`admission` keeps, for each person, every enrollment and the `basis`: the earliest moment of those not voided. Joining
what is told twice, late or in another order gives the same row: each enrollment keeps the earliest moment that was
ever told of it, and a voided one stays voided. No clock is looked at; whether the wait is over is asked of the rules
when somebody asks (`decider.eligible_at`).
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import msgspec

from services.claims import decider, events
from services.claims.decider import Account
from shared.messages import Event, EventCodec, Recorded
from shared.policy import Kind
from shared.projection import Projection

# The enrollments of one person that are remembered: those that count from earliest. A district that sends every pupil
# anew each night, each time as another enrollment, must not make the row grow for ever.
ENROLLMENTS_KEPT = 100
_NEVER = datetime.max.replace(tzinfo=UTC)


# The roster's facts, as far as claims reads them


class Identity(msgspec.Struct, frozen=True):
    """How the SIS names and numbers a person."""

    source_id: str
    number: str
    last_name: str
    first_name: str


class StudentEnrolled(Event, frozen=True, kw_only=True):
    enrollment_id: str
    identity: Identity
    received_at: datetime
    basis: datetime
    baseline: bool
    current: bool
    entered_at: datetime | None = None
    school: str | None = None
    grade: str | None = None


class StaffEmployed(Event, frozen=True, kw_only=True):
    enrollment_id: str
    identity: Identity
    received_at: datetime
    basis: datetime
    baseline: bool
    current: bool
    entered_at: datetime | None = None
    school: str | None = None


class NameCorrected(Event, frozen=True, kw_only=True):
    identity: Identity
    kind: Kind = "student"


class NumberChanged(Event, frozen=True, kw_only=True):
    identity: Identity
    kind: Kind = "student"


class PlacementChanged(Event, frozen=True, kw_only=True):
    school: str | None = None
    grade: str | None = None


class StudentWithdrawn(Event, frozen=True, kw_only=True):
    reason: str | None = None


class StaffLeft(Event, frozen=True, kw_only=True):
    pass


class EnrollmentVoided(Event, frozen=True, kw_only=True):
    enrollment_id: str


class Assigned(msgspec.Struct, frozen=True):
    """A person's place in one class."""

    class_id: str
    role: str
    title: str | None = None
    begins_on: date | None = None
    ends_on: date | None = None


class ClassesChanged(Event, frozen=True, kw_only=True):
    assigned: list[Assigned] = msgspec.field(default_factory=list)
    unassigned: list[str] = msgspec.field(default_factory=list)


class PersonsMerged(Event, frozen=True, kw_only=True):
    person_id: UUID
    merged_person_id: UUID


class PersonsSplit(Event, frozen=True, kw_only=True):
    merged_person_id: UUID


ROSTER = EventCodec(
    "roster",
    [
        StudentEnrolled,
        StaffEmployed,
        NameCorrected,
        NumberChanged,
        PlacementChanged,
        StudentWithdrawn,
        StaffLeft,
        EnrollmentVoided,
        ClassesChanged,
        PersonsMerged,
        PersonsSplit,
    ],
)


# admission


class Enrollment(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a person into the SIS. Without a `basis`, all that is known of it is that it was voided."""

    enrollment_id: str
    basis: datetime | None = None
    entered_at: datetime | None = None
    received_at: datetime | None = None
    baseline: bool = False
    voided: bool = False

    def joined(self, other: "Enrollment") -> "Enrollment":
        """What two tellings of one enrollment say together, whichever came first."""
        return Enrollment(
            enrollment_id=self.enrollment_id,
            basis=earliest((self.basis, other.basis)),
            entered_at=earliest((self.entered_at, other.entered_at)),
            received_at=earliest((self.received_at, other.received_at)),
            baseline=self.baseline or other.baseline,
            voided=self.voided or other.voided,
        )


class ClassOf(msgspec.Struct, frozen=True):
    """A class that a pupil is in, from its first day to its last."""

    class_id: str
    title: str | None = None
    begins_on: date | None = None
    ends_on: date | None = None


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """One row for each person of the roster: who they are, whether they are enrolled (staff: employed), since when
    their wait counts."""

    person_id: UUID
    district: str
    kind: Kind = "student"
    source_id: str = ""
    number: str = ""  # empty until the first enrollment is told
    last_name: str = ""
    first_name: str = ""
    school: str | None = None
    grade: str | None = None
    status: str = "withdrawn"  # or "enrolled"
    enrollments: list[Enrollment] = msgspec.field(default_factory=list)
    basis: datetime | None = None
    baseline: bool = False
    merged_into: UUID | None = None  # the record is another name of that person
    classes: list[ClassOf] = msgspec.field(
        default_factory=list
    )  # that a pupil is in, in the order of their ids
    version: int = 0


def evolve_admission(row: Admission | None, recorded: Recorded[Any]) -> Admission:
    """The row after one more of the roster's events."""
    row = row or Admission(person_id=recorded.stream_id, district=recorded.district)
    match recorded.data:
        case StudentEnrolled() as told:
            row = _enrolled(row, told, "student")
            return _replace(row, grade=told.grade) if told.current else row
        case StaffEmployed() as told:
            return _enrolled(row, told, "staff")
        case EnrollmentVoided() as told:
            return _with_enrollment(row, Enrollment(enrollment_id=told.enrollment_id, voided=True))
        case PersonsMerged(person_id=into, merged_person_id=merged) if merged == recorded.stream_id:
            return _replace(row, status="withdrawn", merged_into=into)
        case PersonsSplit(merged_person_id=merged) if merged == recorded.stream_id:
            return _replace(row, merged_into=None)
        case StudentWithdrawn() | StaffLeft():
            return _replace(row, status="withdrawn")
        case NameCorrected() | NumberChanged() as told:
            return _with_identity(row, told.identity, told.kind)
        case PlacementChanged() as told:
            return _replace(row, school=told.school, grade=told.grade)
        case ClassesChanged() as told:
            return _replace(row, classes=_classes(row.classes, told))
    return row


def _classes(known: list[ClassOf], told: ClassesChanged) -> list[ClassOf]:
    gone = {*told.unassigned, *(of.class_id for of in told.assigned)}
    now = {of.class_id: of for of in known if of.class_id not in gone} | {
        of.class_id: ClassOf(of.class_id, of.title, of.begins_on, of.ends_on)
        for of in told.assigned
        if of.role == "student"
    }
    return [now[class_id] for class_id in sorted(now)]


def earliest(moments: Iterable[datetime | None]) -> datetime | None:
    return min((m for m in moments if m is not None), default=None)


def _enrolled(row: Admission, told: StudentEnrolled | StaffEmployed, kind: Kind) -> Admission:
    """The row after an enrollment, or employment, was told: an older one only adds to the basis and says who it is."""
    row = _with_enrollment(_with_identity(row, told.identity, kind), _enrollment(told))
    return _replace(row, status="enrolled", school=told.school) if told.current else row


def _enrollment(told: StudentEnrolled | StaffEmployed) -> Enrollment:
    return Enrollment(
        enrollment_id=told.enrollment_id,
        basis=told.basis,
        entered_at=told.entered_at,
        received_at=told.received_at,
        baseline=told.baseline,
    )


def _with_enrollment(row: Admission, told: Enrollment) -> Admission:
    by_id = {enrollment.enrollment_id: enrollment for enrollment in row.enrollments}
    known = by_id.get(told.enrollment_id)
    by_id[told.enrollment_id] = known.joined(told) if known else told
    kept = sorted(by_id.values(), key=_counts_first)[:ENROLLMENTS_KEPT]
    counting = [enrollment for enrollment in kept if not enrollment.voided]
    return _replace(
        row,
        enrollments=kept,
        basis=earliest(enrollment.basis for enrollment in counting),
        baseline=any(enrollment.baseline for enrollment in counting),
    )


def _counts_first(enrollment: Enrollment) -> tuple[bool, bool, datetime, str]:
    """The order in which enrollments are kept: baselines, then by basis; what was voided comes last."""
    return enrollment.voided, not enrollment.baseline, enrollment.basis or _NEVER, enrollment.enrollment_id


def _with_identity(row: Admission, identity: Identity, kind: Kind) -> Admission:
    return _replace(
        row,
        kind=kind,
        source_id=identity.source_id,
        number=identity.number,
        last_name=identity.last_name,
        first_name=identity.first_name,
    )


_replace = msgspec.structs.replace


ADMISSION = Projection(
    name="admission", source="roster", codec=ROSTER, row=Admission, evolve=evolve_admission
)


# account


def evolve_account(row: Account | None, recorded: Recorded[Any]) -> Account:
    """The rules' own state, kept as a row."""
    return decider.evolve(row or decider.initial, recorded)


ACCOUNT = Projection(
    name="account", source="claims", codec=events.CODEC, row=Account, evolve=evolve_account, inline=True
)
