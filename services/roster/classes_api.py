"""Over HTTP: whom a class has, and whose teacher somebody is."""

from collections.abc import Iterable
from datetime import date
from typing import Literal
from uuid import UUID

import msgspec

from services.roster import decider, projections
from services.roster.events import Assignment
from services.roster.projections import Person
from shared.auth import Scope
from shared.errors import Rejected
from shared.service import Kit
from shared.web import Call, Reply, Route

MAX_MEMBERS = 2000  # that are shown; of a class, or of all classes of a teacher


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody of a class. `now`: they belong to the district, and are in the class today."""

    person_id: UUID
    number: str
    last_name: str
    first_name: str
    begins_on: date | None = None
    ends_on: date | None = None
    now: bool


class ClassFound(msgspec.Struct, frozen=True, kw_only=True):
    """A class as the district told of its members. `complete`: there are no more of them than are shown."""

    class_id: str
    title: str | None
    school: str | None
    teachers: list[Member]
    students: list[Member]
    complete: bool


class Pupil(msgspec.Struct, frozen=True, kw_only=True):
    """A pupil of a teacher, and the classes that make them one."""

    person_id: UUID
    number: str
    last_name: str
    first_name: str
    classes: list[str]


class Pupils(msgspec.Struct, frozen=True):
    """Whom somebody teaches today. `complete`: there are no more of them than are shown."""

    pupils: list[Pupil]
    complete: bool


def routes(kit: Kit) -> list[Route]:
    district = "/v1/districts/{district}"
    return [
        Route(
            "GET",
            f"{district}/classes/{{class_id}}",
            show_class,
            summary="A class by the district's own id: who teaches it, who is in it.",
            caller=Scope("desk", "operator"),
            success={200: ClassFound},
        ),
        Route(
            "GET",
            f"{district}/persons/{{person_id}}/pupils",
            show_pupils,
            summary="The pupils of the classes that a person teaches today.",
            caller=Scope("desk", "operator"),
            success={200: Pupils},
        ),
    ]


async def show_class(call: Call[None]) -> Reply:
    class_id, today = call.path["class_id"], call.now.astimezone(call.policy.zone).date()
    async with call.kit.db.connection() as conn:
        persons = await projections.persons_in_classes(conn, call.district, [class_id], MAX_MEMBERS + 1)
    if not persons:
        raise Rejected("not_found")
    shown = [(person, _of(person, class_id)) for person in persons[:MAX_MEMBERS]]
    # A title that some have and others have not: of those who have one the teacher's is the likeliest to be kept up.
    told = [of for _, of in sorted(shown, key=lambda both: both[1].role != "teacher")]
    found = ClassFound(
        class_id=class_id,
        title=next((of.title for of in told if of.title), None),
        school=next((of.school for of in told if of.school), None),
        teachers=_members(shown, "teacher", today),
        students=_members(shown, "student", today),
        complete=len(persons) <= MAX_MEMBERS,
    )
    return Reply(200, found)


async def show_pupils(call: Call[None]) -> Reply:
    person_id, today = call.uuid("person_id"), call.now.astimezone(call.policy.zone).date()
    async with call.kit.db.connection() as conn:
        teacher = await projections.person_by_id(conn, call.district, person_id)
        if teacher is None:
            raise Rejected("not_found")
        classes = [of.class_id for of in teacher.classes] if teacher.status == "enrolled" else []
        persons = await projections.persons_in_classes(conn, call.district, classes, MAX_MEMBERS + 1)
    pupils = [
        Pupil(
            person_id=person.person_id,
            number=person.number,
            last_name=person.last_name,
            first_name=person.first_name,
            classes=shared,
        )
        for person in persons[:MAX_MEMBERS]
        if person.status == "enrolled" and (shared := decider.taught(teacher.classes, person.classes, today))
    ]
    return Reply(200, Pupils(pupils, complete=len(persons) <= MAX_MEMBERS))


def _of(person: Person, class_id: str) -> Assignment:
    return next(of for of in person.classes if of.class_id == class_id)


def _members(
    shown: Iterable[tuple[Person, Assignment]], role: Literal["teacher", "student"], today: date
) -> list[Member]:
    return [
        Member(
            person_id=person.person_id,
            number=person.number,
            last_name=person.last_name,
            first_name=person.first_name,
            begins_on=of.begins_on,
            ends_on=of.ends_on,
            now=person.status == "enrolled" and decider.holds(of, today),
        )
        for person, of in shown
        if of.role == role
    ]
