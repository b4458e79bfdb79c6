"""A district's year, made up from a seed: everybody enrolled, a new school year, and all that happens in one, to pupils
and to staff.

What it publishes is what an SIS would say, and beside it stands how everybody has to be on file in the end. The same
seed and size give the same year.
"""

import random
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from services.cli.client import Json
from services.cli.pupil import FIRST_NAMES, LAST_NAMES, cloud_event
from shared.policy import Kind

SOURCE = "/tests/year"
SCHOOLS = tuple(f"School {n}" for n in range(1, 41))
LAST_GRADE = 12
APART = timedelta(milliseconds=10)  # between two facts
WINDOW = 40  # facts that arrive in whatever order, near each other
# Of a district of 50,000: 3,000 moves, 500 name corrections, 100 swaps of two numbers, and so on.
MOVES, CORRECTIONS, SWAPS, LEAVERS, REISSUED, MERGES = 0.06, 0.01, 0.002, 0.03, 0.002, 0.002
BACK = 0.4  # of those who leave
REPEATED = 0.01
STAFF = 0.06  # for each pupil; each has one class
ENTERED = {"student": "StudentEnrolled", "staff": "StaffEmployed"}
CORRECTED = {"student": "StudentCorrected", "staff": "StaffCorrected"}
LEFT = {"student": "StudentWithdrawn", "staff": "StaffLeft"}


class OnFile(msgspec.Struct, kw_only=True):
    """How a pupil, or somebody of the staff, has to be in the end. `grade`: of a pupil. `left`: why, if they are gone.
    `room`: the id of the class."""

    kind: Kind
    source_id: str
    number: str
    last_name: str
    first_name: str
    school: str
    grade: int = 0
    left: str | None = None
    room: str | None = None

    def enrollment(self) -> Json:
        names = ("source_id", "number", "last_name", "first_name", "school")
        placed = {"grade": f"{self.grade:02}"} if self.kind == "student" else {"role": "teacher"}
        return {name: getattr(self, name) for name in names} | placed


class Year:
    """`pupils` and `staff` by source_id. Times begin at `begins` and rise; the year's facts are a few minutes long."""

    def __init__(self, seed: int, size: int, begins: datetime) -> None:
        self.rng = random.Random(seed)
        self.at = begins
        self.entered_at = begins - timedelta(hours=48)
        self.pupils = {f"sis-{n}": self._born("student", f"sis-{n}", f"{1_000_000 + n}") for n in range(size)}
        self.staff = {
            f"hr-{n}": self._born("staff", f"hr-{n}", f"e{n:05}") for n in range(round(STAFF * size))
        }
        self.counts: dict[str, int] = {}

    @property
    def people(self) -> dict[str, OnFile]:
        return self.pupils | self.staff

    def _born(self, kind: Kind, source_id: str, number: str) -> OnFile:
        pick = self.rng.choice
        return OnFile(
            kind=kind, source_id=source_id, number=number, last_name=pick(LAST_NAMES), first_name=pick(FIRST_NAMES),
            school=pick(SCHOOLS), grade=self.rng.randint(1, LAST_GRADE),
        )  # fmt: skip

    def first_day(self) -> Iterator[Json]:
        """Everybody is enrolled, as known for two days."""
        entered = {"entered_at": self.entered_at.isoformat()}
        for person in self.people.values():
            yield self._fact(ENTERED[person.kind], person.enrollment() | entered)

    def facts(self) -> Iterator[Json]:
        """The year: the roll-over, then everything else mixed; near each other in whatever order, some of it twice."""
        told = [*self._rolls_over(), *self._happens()]
        for n in range(0, len(told), WINDOW):
            near = told[n : n + WINDOW]
            near += [fact for fact in near if self.rng.random() < REPEATED]
            self.rng.shuffle(near)
            yield from near

    def _rolls_over(self) -> Iterator[Json]:
        """A new enrollment for everybody, in the next grade, and a class; the last grade graduates."""
        for teacher in self.staff.values():
            yield self._enters(teacher, f"room-{teacher.source_id}")
        rooms = [str(teacher.room) for teacher in self.staff.values()]
        for pupil in self.pupils.values():
            if pupil.grade == LAST_GRADE:
                yield from self._leaves(pupil, "graduated")
            else:
                pupil.grade += 1
                yield self._fact("StudentEnrolled", pupil.enrollment())
                yield self._enters(pupil, self.rng.choice(rooms))

    def _enters(self, person: OnFile, room: str) -> Json:
        person.room = room
        role = "student" if person.kind == "student" else "teacher"
        return self._said("in classes", "ClassAssigned", person, class_id=room, role=role)

    def _happens(self) -> Iterator[Json]:
        for everybody in (self.pupils, self.staff):
            here = [person for person in everybody.values() if person.left is None]
            self.rng.shuffle(here)
            yield from self._happens_to(here, len(everybody))

    def _happens_to(self, here: Iterable[OnFile], size: int) -> Iterator[Json]:
        taken = iter(here)

        def some(share: float) -> list[OnFile]:
            """Others than before: each person has one adventure."""
            return [person for _, person in zip(range(max(1, round(share * size))), taken, strict=False)]

        for person in some(MOVES):
            person.school = self.rng.choice(SCHOOLS)
            yield self._corrected("moves", person, school=person.school)
        for person in some(CORRECTIONS):
            person.last_name = f"{person.last_name}-{self.rng.choice(LAST_NAMES)}"
            yield self._corrected("name corrections", person, last_name=person.last_name)
        for one, other in zip(some(SWAPS), some(SWAPS), strict=False):
            one.number, other.number = other.number, one.number
            yield self._corrected("numbers swapped", one, number=one.number)
            yield self._corrected("numbers swapped", other, number=other.number)
        for person in some(LEAVERS):
            yield from self._leaves(person, "moved away")
            if self.rng.random() < BACK:
                person.left = None
                yield self._said("returns", ENTERED[person.kind], person, **person.enrollment())
        for old, new in zip(some(REISSUED), some(REISSUED), strict=False):
            yield from self._leaves(old, "transferred")
            new.number = old.number
            yield self._corrected("numbers given out again", new, number=new.number)
        for stays, goes in zip(some(MERGES), some(MERGES), strict=False):
            goes.left = "merged"
            yield self._said("merges", "PersonsMerged", stays, merged_source_id=goes.source_id)

    def _corrected(self, what: str, person: OnFile, **data: str) -> Json:
        return self._said(what, CORRECTED[person.kind], person, **data)

    def _leaves(self, person: OnFile, reason: str) -> Iterator[Json]:
        person.left = reason
        yield self._said(reason, LEFT[person.kind], person, reason=reason)

    def _said(self, what: str, kind: str, person: OnFile, **data: Any) -> Json:
        what = what if person.kind == "student" else f"staff: {what}"
        self.counts[what] = self.counts.get(what, 0) + 1
        return self._fact(kind, {"source_id": person.source_id} | data)

    def _fact(self, kind: str, data: Json) -> Json:
        self.at += APART
        event_id = str(UUID(int=self.rng.getrandbits(128)))
        return cloud_event(kind, data, source=SOURCE, now=self.at, event_id=event_id)
