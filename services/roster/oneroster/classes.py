"""Which classes the users of an export are in, or teach: enrollments.csv, joined with classes.csv, the terms of
academicSessions.csv and, where a class has no title, with courses.csv.

A term, and an enrollment, ends the day before its `endDate`, as the specification says. An enrollment's own days count
before those of the class's terms. What has ended, or is yet to come, is told with its days like all else: whether it
holds is asked day by day, so an export that stays the same says the same whatever day it is.

A row that cannot be read spares its user: no class is taken away from them. A row of which nobody can tell whose it is
spares everybody. An enrollment in a class that a whole classes.csv does not have is none; a delta may name classes of
which it says nothing else.
"""

from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import date, timedelta
from typing import Literal, NamedTuple

import msgspec

from services.roster.events import Assignment
from services.roster.oneroster.archive import Archive, Limits
from services.roster.oneroster.cells import (
    Bad,
    ClassFlaw,
    check,
    class_flaw_of,
    day_of,
    one_of,
    problem_of,
    word_of,
)
from services.roster.oneroster.orgs import Orgs
from services.roster.oneroster.roles import STATUSES, Standing, standing_of
from services.roster.oneroster.tables import CLASSES, COURSES, ENROLLMENTS, SESSIONS, read_table
from shared.policy import Kind

MAX_CLASSES = 100  # of one person, as the roster keeps them; what ended first is left out
MAX_FLAWS = 1000  # that are told one by one
OTHER_ROLES = ("administrator", "proctor", "aide", "guardian", "parent", "relative")
DAY = timedelta(days=1)
_FIELDS = (
    4  # of a membership: its class and what it says of it, its first day, the day after its last, its line
)
_TEACHER, _DELETED = 1, 2

_encode = msgspec.json.Encoder().encode


class Class(NamedTuple):
    """`last`: its last day. `known`: it has a row."""

    class_id: str
    title: str | None = None
    school: str | None = None
    begin: date | None = None
    last: date | None = None
    gone: bool = False
    known: bool = True


class Unknown(Assignment, frozen=True, kw_only=True):
    """A class that a delta names and does not tell of; `line` is where."""

    line: int
    known: bool = False


class Told(NamedTuple):
    """What an export says of a person's classes. `assigned`: Assignments, and Unknown ones, as a JSON array, by class.
    `whole`: all there are; otherwise what is not named stays."""

    assigned: str
    unassigned: list[str]
    whole: bool


class Classes:
    """`flaws` are the first ones, `untold` counts the others by reason. `passed_over` is as of the export. `whole`: the
    enrollments are all there are."""

    def __init__(
        self, archive: Archive, limits: Limits, orgs: Orgs, files: dict[str, str], day: date
    ) -> None:
        self.flaws: list[ClassFlaw] = []
        self.untold: Counter[str] = Counter()
        self.passed_over: Counter[str] = Counter()
        self._archive, self._limits, self._orgs, self._files, self._day = archive, limits, orgs, files, day
        self._classes: list[Class] = []
        self._index: dict[str, int] = {}
        self._unclear: set[str] = set()  # classes with a row that cannot be read
        self._members: dict[str, array[int]] = {}
        self._spared: set[str] = set()
        self.whole = files.get("enrollments") == "bulk"
        self._there = self._has("enrollments") and (self._has("classes") or not self.whole)
        if self._there:
            self._read_classes(self._read_sessions(), self._read_titles())
            self._read_enrollments()

    def members(self) -> Collection[str]:
        """Of whom something is said that was not taken yet."""
        return self._members.keys()

    def place(self, user: str) -> int:
        """The line of the first row about a member."""
        return self._members[user][_FIELDS - 1]

    def kind(self, user: str) -> Kind:
        """What a member is by their enrollments alone."""
        return "staff" if self._members[user][0] & _TEACHER else "student"

    def pass_over(self, user: str, what: str) -> None:
        """Nothing is to be made of what is said of somebody."""
        self.passed_over[what] += len(self._members.pop(user, ())) // _FIELDS

    def refuse(self, user: str, reason: str) -> None:
        """Every row about somebody is a flaw."""
        told = self._members.pop(user)
        for n in range(0, len(told), _FIELDS):
            self._flaw(Bad("userSourcedId", user, reason), ENROLLMENTS.file, told[n + 3], user)

    def of(self, user: str, kind: Kind) -> Told | None:
        """What is said of a person's classes, once; None: nothing."""
        told = self._members.pop(user, array("I"))
        if not self._there or not (told or self.whole):
            return None
        best: dict[str, tuple[Standing, date, int]] = {}
        for n in range(0, len(told), _FIELDS):
            self._weigh(user, kind, told, n, best)
        held = {key: n for key, (standing, _, n) in best.items() if standing is not Standing.DELETED}
        if len(held) > MAX_CLASSES and not self._drop_ended(user, told, best, held):
            return None
        assigned = b",".join(_encode(self._assignment(told, held[key])) for key in sorted(held))
        whole = self.whole and user not in self._spared
        gone = [] if whole else sorted(best.keys() - held.keys())
        return Told(f"[{assigned.decode()}]", gone, whole)

    # --- One person's

    def _weigh(
        self, user: str, kind: Kind, told: "array[int]", n: int, best: dict[str, tuple[Standing, date, int]]
    ) -> None:
        """Of several enrollments in one class the one counts that holds, then the one that ends last."""
        teaches = bool(told[n] & _TEACHER)
        if teaches is not (kind == "staff"):
            bad = Bad("role", "teacher" if teaches else "student", "kind_differs", known_as=kind)
            self._flaw(bad, ENROLLMENTS.file, told[n + 3], user)
            self._spared.add(user)
            return
        one, begin, last = self._days(told, n)
        deleted = told[n] & _DELETED or one.gone or (begin and last and last < begin)
        standing = Standing.DELETED if deleted else standing_of(begin, last, self._day)
        weight = standing, last or date.max, n
        if one.class_id not in best or weight[:2] > best[one.class_id][:2]:
            best[one.class_id] = weight

    def _days(self, told: "array[int]", n: int) -> tuple[Class, date | None, date | None]:
        one = self._classes[told[n] >> 2]
        begin = date.fromordinal(told[n + 1]) if told[n + 1] else one.begin
        last = date.fromordinal(told[n + 2] - 1) if told[n + 2] else one.last
        return one, begin, last

    def _assignment(self, told: "array[int]", n: int) -> Assignment:
        one, begin, last = self._days(told, n)
        role: Literal["teacher", "student"] = "teacher" if told[n] & _TEACHER else "student"
        if not one.known:
            return Unknown(
                class_id=one.class_id,
                role=role,
                begins_on=begin,
                ends_on=last,
                exported=True,
                line=told[n + 3],
            )
        return Assignment(
            class_id=one.class_id,
            role=role,
            title=one.title,
            school=one.school,
            begins_on=begin,
            ends_on=last,
            exported=True,
        )

    def _drop_ended(
        self, user: str, told: "array[int]", best: dict[str, tuple[Standing, date, int]], held: dict[str, int]
    ) -> bool:
        """Leaves those that end last, if all others have ended."""
        order = sorted(held, key=lambda key: (best[key][1], key), reverse=True)
        if any(best[key][0] is not Standing.ENDED for key in order[MAX_CLASSES:]):
            bad = Bad("userSourcedId", user, "classes_too_many", limit=MAX_CLASSES)
            self._flaw(bad, ENROLLMENTS.file, told[held[order[MAX_CLASSES]] + 3], user)
            return False
        for key in order[MAX_CLASSES:]:
            del held[key]
            self.passed_over["classes_ended"] += 1
        return True

    # --- The files

    def _has(self, name: str) -> bool:
        return self._files.get(name, "absent") != "absent"

    def _flaw(self, bad: Bad, file: str, line: int, user: str = "", *, taken: bool = False) -> None:
        if len(self.flaws) < MAX_FLAWS:
            self.flaws.append(class_flaw_of(bad, file, line, user, taken=taken))
        elif not taken:
            self.untold[bad.reason] += 1

    def _rows(self, name: str) -> Iterator[tuple[int, tuple[str, ...], int]]:
        tables = {"academicsessions": SESSIONS, "courses": COURSES, "classes": CLASSES}
        if self._has(name):
            yield from read_table(self._archive, tables[name], self._limits)

    def _read_sessions(self) -> dict[str, tuple[date, date]]:
        """First and last day of each term; of one that is deleted as well: its classes had those days."""
        sessions = {}
        for line, cells, excess in self._rows("academicsessions"):
            try:
                if excess:
                    raise Bad("", "", "columns_mismatch", excess=excess)
                begin, end = day_of("startDate", cells[1]), day_of("endDate", cells[2])
                if begin is not None and end is not None:
                    _check_order(begin, end, "startDate", cells[2])
                    sessions[cells[0].strip()] = begin, end - DAY
            except Bad as bad:
                self._flaw(bad, SESSIONS.file, line)
        return sessions

    def _read_titles(self) -> dict[str, str]:
        return {
            cells[0].strip(): cells[1]
            for _, cells, excess in self._rows("courses")
            if not excess and problem_of(cells[1].strip()) is None
        }

    def _read_classes(self, sessions: dict[str, tuple[date, date]], titles: dict[str, str]) -> None:
        for line, cells, excess in self._rows("classes"):
            key = cells[0].strip()
            try:
                if excess:
                    raise Bad("", "", "columns_mismatch", excess=excess)
                one = self._class(key, line, cells, sessions, titles)
                n = self._index.setdefault(key, len(self._classes))
                if n == len(self._classes):
                    self._classes.append(one)
                elif self._classes[n] != one:
                    raise Bad("sourcedId", key, "source_id_repeated")
            except Bad as bad:
                self._flaw(bad, CLASSES.file, line)
                self._index.pop(key, None)
                self._unclear.add(key)

    def _class(
        self,
        key: str,
        line: int,
        cells: tuple[str, ...],
        sessions: dict[str, tuple[date, date]],
        titles: dict[str, str],
    ) -> Class:
        _, title, org, terms, course, status = cells
        check("sourcedId", key)
        if key in self._unclear:
            raise Bad("sourcedId", key, "source_id_repeated")
        org = org.strip()
        school = self._orgs.school([org])
        if org and school is None:
            self.passed_over["unknown_org"] += 1
            if self._orgs.news(org):
                self._flaw(Bad("schoolSourcedId", org, "org_unknown"), CLASSES.file, line, taken=True)
        named = [term for term in (t.strip() for t in terms.split(",")) if term]
        days = [sessions[term] for term in named if term in sessions]
        if self._has("academicsessions") and len(days) < len(named):
            lost = next(term for term in named if term not in sessions)
            self._flaw(Bad("termSourcedIds", lost, "session_unknown"), CLASSES.file, line, taken=True)
        return Class(
            class_id=key,
            title=word_of("title", title) or word_of("title", titles.get(course.strip(), "")),
            school=school,
            begin=min((begin for begin, _ in days), default=None),
            last=max((last for _, last in days), default=None),
            gone=one_of(STATUSES, "status", status),
        )

    def _read_enrollments(self) -> None:
        for line, cells, excess in read_table(self._archive, ENROLLMENTS, self._limits):
            user = cells[0].strip()
            try:
                if excess:
                    raise Bad("", "", "columns_mismatch", excess=excess)
                self._enrolled(user, line, cells)
            except Bad as bad:
                self._flaw(bad, ENROLLMENTS.file, line, user)
                if problem_of(user) is None:
                    self._spared.add(user)
                else:
                    self.whole = False

    def _enrolled(self, user: str, line: int, cells: tuple[str, ...]) -> None:
        _, key, said, status, begins, ends = cells
        role, key = said.strip().lower(), key.strip()
        if role not in ("student", "teacher"):
            if role not in OTHER_ROLES and not role.startswith("ext:"):
                raise Bad("role", said, "value_unknown", known=["student", "teacher", *OTHER_ROLES])
            self.passed_over["other_members"] += 1
            return
        n = self._index.get(key)
        if n is None:
            check("classSourcedId", key)
        if user not in self._members:
            check("userSourcedId", user)
        begin, end = day_of("beginDate", begins), day_of("endDate", ends)
        if begin is not None and end is not None:
            _check_order(begin, end, "beginDate", ends)
        deleted = _DELETED if one_of(STATUSES, "status", status) else 0
        if n is None:
            if key in self._unclear:
                self._spared.add(user)
                return
            if not deleted and self._files.get("classes") == "bulk":
                self._flaw(Bad("classSourcedId", key, "class_unknown"), ENROLLMENTS.file, line, user)
                return
            n = self._index[key] = len(self._classes)
            self._classes.append(Class(key, known=False))
        code = n << 2 | (_TEACHER if role == "teacher" else 0) | deleted
        days = (begin.toordinal() if begin else 0), (end.toordinal() if end else 0)
        self._members.setdefault(user, array("I")).extend((code, *days, line))


def _check_order(begin: date, end: date, first: str, given: str) -> None:
    if end < begin:
        raise Bad("endDate", given, "dates_reversed", **{first: begin.isoformat()})
