"""What roster reads: `person`, everybody the district ever enrolled, for the help desk.

Deciding never reads it: it lags behind. Rows begin with the first enrollment; what comes before that is told again
right after it (see contracts/events/roster/).
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from services.roster.decider import reassigned
from services.roster.events import (
    CODEC,
    Assignment,
    ClassesChanged,
    EnrollmentVoided,
    NameCorrected,
    NumberChanged,
    PersonsMerged,
    PersonsSplit,
    PlacementChanged,
    StaffEmployed,
    StaffLeft,
    StudentEnrolled,
    StudentWithdrawn,
)
from shared.database import Connection, queries
from shared.messages import Event, Recorded
from shared.policy import Kind
from shared.projection import Projection

_sql = queries(__package__)


class Enrollment(msgspec.Struct, frozen=True, kw_only=True):
    enrollment_id: str
    basis: datetime
    entered_at: datetime | None = None
    received_at: datetime
    baseline: bool
    voided: bool = False


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """One pupil, or member of the staff, as the district has them. An employment is an enrollment, and who has left is
    `withdrawn`. `basis`: from when the wait counts; none while nothing counts. `merged_into`: the record is another
    name of that person."""

    person_id: UUID
    district: str
    kind: Kind
    source_id: str
    number: str
    last_name: str
    first_name: str
    school: str | None = None
    grade: str | None = None
    role: str | None = None
    status: Literal["enrolled", "withdrawn"]
    withdrawn_at: datetime | None = None
    reason: str | None = None
    enrollments: list[Enrollment]
    classes: list[Assignment] = []
    basis: datetime | None = None
    baseline: bool
    merged_into: UUID | None = None
    version: int = 0


def evolve(row: Person | None, recorded: Recorded[Event]) -> Person | None:
    change = msgspec.structs.replace
    event = recorded.data
    if isinstance(event, StudentEnrolled | StaffEmployed):
        return _enrolled(row, recorded, event)
    if row is None:
        return None
    match event:
        case NameCorrected(identity=identity) | NumberChanged(identity=identity):
            names = {"last_name": identity.last_name, "first_name": identity.first_name}
            return change(row, number=identity.number, **names)
        case PlacementChanged(school=school, grade=grade, role=role):
            return change(row, school=school, grade=grade, role=role)
        case (
            StudentWithdrawn(withdrawn_at=withdrawn_at, reason=reason)
            | StaffLeft(left_at=withdrawn_at, reason=reason)
        ):
            return change(row, status="withdrawn", withdrawn_at=withdrawn_at, reason=reason)
        case ClassesChanged(assigned=assigned, unassigned=unassigned):
            changed = reassigned({a.class_id: a for a in row.classes}, assigned, unassigned)
            return change(row, classes=[changed[key] for key in sorted(changed)])
        case EnrollmentVoided(enrollment_id=voided):
            return _counted(
                row, [change(e, voided=True) if e.enrollment_id == voided else e for e in row.enrollments]
            )
        case PersonsMerged(person_id=into, merged_person_id=merged) if merged == recorded.stream_id:
            return change(row, status="withdrawn", withdrawn_at=recorded.time, reason=None, merged_into=into)
        case PersonsSplit(merged_person_id=merged) if merged == recorded.stream_id:
            return change(row, merged_into=None)
        case PersonsMerged() | PersonsSplit():
            return row
    raise AssertionError(f"roster records no {recorded.type}")


def _enrolled(
    row: Person | None, recorded: Recorded[Event], event: StudentEnrolled | StaffEmployed
) -> Person:
    told = Enrollment(
        enrollment_id=event.enrollment_id,
        basis=event.basis,
        entered_at=event.entered_at,
        received_at=event.received_at,
        baseline=event.baseline,
        voided=row is not None
        and any(e.voided for e in row.enrollments if e.enrollment_id == event.enrollment_id),
    )
    others = [e for e in row.enrollments if e.enrollment_id != event.enrollment_id] if row else []
    if row is None or event.current:
        row = Person(
            person_id=recorded.stream_id,
            district=recorded.district,
            kind=event.kind,
            **msgspec.structs.asdict(event.identity),
            school=event.school,
            grade=event.grade if isinstance(event, StudentEnrolled) else None,
            role=event.role if isinstance(event, StaffEmployed) else None,
            status="enrolled",
            enrollments=[],
            classes=row.classes if row else [],
            baseline=False,
        )
    return _counted(row, [*others, told])


def _counted(row: Person, enrollments: list[Enrollment]) -> Person:
    """The row with these enrollments, and what follows from those that were not voided."""
    counting = [e for e in enrollments if not e.voided]
    return msgspec.structs.replace(
        row,
        enrollments=enrollments,
        status=row.status if counting else "withdrawn",
        basis=min((e.basis for e in counting), default=None),
        baseline=any(e.baseline for e in counting),
    )


PERSON = Projection("person", "roster", CODEC, Person, evolve)


async def persons_by_number(conn: Connection, district: str, number: str) -> list[Person]:
    """Everybody under a number, the enrolled first; more than one of those is a conflict that the desk must know."""
    return _read(await conn.fetch(_sql.persons_by_number, district, number))


async def person_by_id(conn: Connection, district: str, person_id: UUID) -> Person | None:
    found = _read(await conn.fetch(_sql.person_by_id, district, person_id))
    return found[0] if found else None


async def persons_in_classes(
    conn: Connection, district: str, classes: Sequence[str], limit: int
) -> list[Person]:
    """Everybody who was assigned to one of these classes, in whatever role and for whatever days."""
    return _read(await conn.fetch(_sql.persons_in_classes, district, classes, limit))


def _read(records: Iterable[object]) -> list[Person]:
    return [PERSON.read(record) for record in records]  # type: ignore[arg-type]
