"""A district's year, made up from a seed: everybody enrolled, a new school year, and all that happens in one.

What it publishes is what an SIS would say, and beside it stands how every pupil has to be on file in the end. The same
seed and size give the same year.
"""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from services.cli.client import Json
from services.cli.pupil import FIRST_NAMES, LAST_NAMES, cloud_event

SOURCE = "/tests/year"
SCHOOLS = tuple(f"School {n}" for n in range(1, 41))
LAST_GRADE = 12
APART = timedelta(milliseconds=10)  # between two facts
WINDOW = 40  # facts that arrive in whatever order, near each other
# Of a district of 50,000: 3,000 moves, 500 name corrections, 100 swaps of two numbers, and so on.
MOVES, CORRECTIONS, SWAPS, LEAVERS, REISSUED, MERGES = 0.06, 0.01, 0.002, 0.03, 0.002, 0.002
BACK = 0.4  # of those who leave
REPEATED = 0.01


class OnFile(msgspec.Struct, kw_only=True):
    """How a pupil has to be in the end. `left`: why, if they are gone."""

    source_id: str
    number: str
    last_name: str
    first_name: str
    school: str
    grade: int
    left: str | None = None

    def enrollment(self) -> Json:
        names = ("source_id", "number", "last_name", "first_name", "school")
        return {name: getattr(self, name) for name in names} | {"grade": f"{self.grade:02}"}


class Year:
    """`pupils` by source_id. Times begin at `begins` and rise; the year's facts are a few minutes long."""

    def __init__(self, seed: int, size: int, begins: datetime) -> None:
        self.rng = random.Random(seed)
        self.size, self.at = size, begins
        self.entered_at = begins - timedelta(hours=48)
        self.pupils = {f"sis-{n}": self._born(n) for n in range(size)}
        self.counts: dict[str, int] = {}

    def _born(self, n: int) -> OnFile:
        pick = self.rng.choice
        return OnFile(
            source_id=f"sis-{n}", number=f"{1_000_000 + n}", last_name=pick(LAST_NAMES), first_name=pick(FIRST_NAMES),
            school=pick(SCHOOLS), grade=self.rng.randint(1, LAST_GRADE),
        )  # fmt: skip

    def first_day(self) -> Iterator[Json]:
        """Everybody is enrolled, as known for two days."""
        entered = {"entered_at": self.entered_at.isoformat()}
        for pupil in self.pupils.values():
            yield self._fact("StudentEnrolled", pupil.enrollment() | entered)

    def facts(self) -> Iterator[Json]:
        """The year: the roll-over, then everything else mixed; near each other in whatever order, some of it twice."""
        told = [*self._rolls_over(), *self._happens()]
        for n in range(0, len(told), WINDOW):
            near = told[n : n + WINDOW]
            near += [fact for fact in near if self.rng.random() < REPEATED]
            self.rng.shuffle(near)
            yield from near

    def _rolls_over(self) -> Iterator[Json]:
        """A new enrollment for everybody, in the next grade; the last grade graduates."""
        for pupil in self.pupils.values():
            if pupil.grade == LAST_GRADE:
                yield from self._leaves(pupil, "graduated")
            else:
                pupil.grade += 1
                yield self._fact("StudentEnrolled", pupil.enrollment())

    def _happens(self) -> Iterator[Json]:
        here = [pupil for pupil in self.pupils.values() if pupil.left is None]
        self.rng.shuffle(here)
        taken = iter(here)

        def some(share: float) -> list[OnFile]:
            """Others than before: each pupil has one adventure."""
            return [pupil for _, pupil in zip(range(max(1, round(share * self.size))), taken, strict=False)]

        for pupil in some(MOVES):
            pupil.school = self.rng.choice(SCHOOLS)
            yield self._said("moves", "StudentCorrected", pupil, school=pupil.school)
        for pupil in some(CORRECTIONS):
            pupil.last_name = f"{pupil.last_name}-{self.rng.choice(LAST_NAMES)}"
            yield self._said("name corrections", "StudentCorrected", pupil, last_name=pupil.last_name)
        for one, other in zip(some(SWAPS), some(SWAPS), strict=False):
            one.number, other.number = other.number, one.number
            yield self._said("numbers swapped", "StudentCorrected", one, number=one.number)
            yield self._said("numbers swapped", "StudentCorrected", other, number=other.number)
        for pupil in some(LEAVERS):
            yield from self._leaves(pupil, "moved away")
            if self.rng.random() < BACK:
                pupil.left = None
                yield self._said("returns", "StudentEnrolled", pupil, **pupil.enrollment())
        for old, new in zip(some(REISSUED), some(REISSUED), strict=False):
            yield from self._leaves(old, "transferred")
            new.number = old.number
            yield self._said("numbers given out again", "StudentCorrected", new, number=new.number)
        for stays, goes in zip(some(MERGES), some(MERGES), strict=False):
            goes.left = "merged"
            yield self._said("merges", "PersonsMerged", stays, merged_source_id=goes.source_id)

    def _leaves(self, pupil: OnFile, reason: str) -> Iterator[Json]:
        pupil.left = reason
        yield self._said(reason, "StudentWithdrawn", pupil, reason=reason)

    def _said(self, what: str, kind: str, pupil: OnFile, **data: Any) -> Json:
        self.counts[what] = self.counts.get(what, 0) + 1
        return self._fact(kind, {"source_id": pupil.source_id} | data)

    def _fact(self, kind: str, data: Json) -> Json:
        self.at += APART
        event_id = str(UUID(int=self.rng.getrandbits(128)))
        return cloud_event(kind, data, source=SOURCE, now=self.at, event_id=event_id)
