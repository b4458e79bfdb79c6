"""The facts that roster records, one stream for each person. Their contracts: contracts/events/roster/."""

from datetime import date, datetime
from typing import ClassVar, Literal
from uuid import UUID

import msgspec

from shared.messages import Event, EventCodec
from shared.policy import Kind


class Identity(msgspec.Struct, frozen=True):
    """Who somebody is in the district's records: the only personal data in any event of Homeroom."""

    source_id: str
    number: str
    last_name: str
    first_name: str


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """One class of a person, as student or as teacher; from and to a day of the district, where that is said.
    `exported`: an export has named it, so exports may take it away."""

    class_id: str
    role: Literal["teacher", "student"]
    title: str | None = None
    school: str | None = None
    begins_on: date | None = None
    ends_on: date | None = None
    exported: bool = False


class StudentEnrolled(Event, frozen=True, kw_only=True):
    """The district entered a pupil.

    Told once for each enrollment, and again when the same enrollment turns out to count from earlier or as
    baseline, or brings a withdrawn pupil back. `current` is false for an older fact: it counts for the basis
    and changes nothing else.
    """

    kind: ClassVar[Kind] = "student"

    enrollment_id: str
    identity: Identity
    school: str | None = None
    grade: str | None = None
    entered_at: datetime | None = None
    received_at: datetime
    basis: datetime
    baseline: bool
    current: bool


class StaffEmployed(Event, frozen=True, kw_only=True):
    """The district entered a member of the staff: an employment is an enrollment, told as that of a pupil is."""

    kind: ClassVar[Kind] = "staff"

    enrollment_id: str
    identity: Identity
    school: str | None = None
    role: str | None = None
    entered_at: datetime | None = None
    received_at: datetime
    basis: datetime
    baseline: bool
    current: bool


class NameCorrected(Event, frozen=True):
    """The district's records have another last or first name now."""

    identity: Identity
    kind: Kind = "student"


class NumberChanged(Event, frozen=True):
    """The district's records have another number now: the username changes, the person stays."""

    identity: Identity
    kind: Kind = "student"


class PlacementChanged(Event, frozen=True):
    """The person is in another school or grade, or has another role, now; all as they are after the change."""

    school: str | None = None
    grade: str | None = None
    role: str | None = None


class StudentWithdrawn(Event, frozen=True):
    """The pupil left. May come before the first enrollment; then it is told again right after it."""

    kind: ClassVar[Kind] = "student"

    withdrawn_at: datetime
    reason: str | None = None


class StaffLeft(Event, frozen=True):
    """The member of the staff left. May come before the first employment; then it is told again right after it."""

    kind: ClassVar[Kind] = "staff"

    left_at: datetime
    reason: str | None = None


class EnrollmentVoided(Event, frozen=True):
    """An enrollment was entered in error. May come before it; then it is told again right after it."""

    enrollment_id: str


class ClassesChanged(Event, frozen=True, kw_only=True):
    """Some classes of a person stand otherwise now, others not any more; what is not named stays. Told again right
    after the first enrollment, if it came before."""

    kind: Kind
    assigned: list[Assignment] = msgspec.field(default_factory=list)
    unassigned: list[str] = msgspec.field(default_factory=list)


class PersonsMerged(Event, frozen=True, kw_only=True):
    """Two persons were one; in the streams of both. The merged one is not enrolled any more."""

    person_id: UUID
    merged_person_id: UUID


class PersonsSplit(Event, frozen=True, kw_only=True):
    """The merge was wrong; in the streams of both."""

    person_id: UUID
    merged_person_id: UUID


CODEC = EventCodec(
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
