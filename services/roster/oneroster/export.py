"""What an export says of each student as of a moment: users joined with their roles and schools.

Who is a student: in 1.1 the user's `role` says so, in 1.2 a row of roles.csv, between its `beginDate` and its
`endDate`. One of several roles is enough; of several the one counts that holds now, then the primary one, then the one
at a school.

Nothing is guessed of a row that cannot be read: it is a flaw, and whoever it is about is neither taken nor absent.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from enum import IntEnum
from pathlib import Path
from sys import intern
from typing import Any, Literal, NamedTuple

import msgspec

from services.roster.oneroster.archive import Archive, Limits, open_archive
from services.roster.oneroster.manifest import Mode, Version, read_manifest
from services.roster.oneroster.tables import ORGS, ROLES, USERS, read_table
from shared import text
from shared.errors import Rejected
from shared.policy import NAME_MAX_LENGTH, Policy

Gone = Literal["tobedeleted", "disabled", "role_ended", "role_not_begun"]

STUDENT = "student"
OTHERS = dict.fromkeys(("guardian", "parent", "relative"), "guardians") | dict.fromkeys(
    (
        "administrator",
        "aide",
        "counselor",
        "districtadministrator",
        "principal",
        "proctor",
        "siteadministrator",
        "systemadministrator",
        "teacher",
    ),
    "staff",
)
STATUSES = {"": False, "active": False, "tobedeleted": True}  # to whether it is to be deleted
ENABLED = {"": True, "true": True, "false": False}
VALUE_CHARACTERS = 80  # of what a file has, in a flaw
MAX_UNKNOWN_ORGS = 1000  # that are told one by one


class Flaw(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a row, and where: `line` is where the row begins in `file`, the header is line 1.

    `taken`: it is a remark only, and the row was taken without this value. Otherwise nothing of the row counts, and
    `source_id` is whom it is about: they must not seem absent. None: nobody can tell whom, so with such a flaw in a
    bulk export absence proves nothing about anybody.

    `value` is what the file has there, cut to 80 characters. `details` is JSON-able.
    """

    file: str
    line: int
    column: str | None = None
    value: str | None = None
    reason: str
    details: dict[str, Any] = {}
    source_id: str | None = None
    taken: bool = False


class StudentRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the export says of one student; each `source_id` at most once.

    `gone`: why they are not a student of the district as of the moment; then nothing else is said. None: they are one.

    `partial`, in a delta only: the export does not say here that they are a student, or not who they are (number and
    names are None: only a role was changed). It is to be taken for a person who is known, and passed over otherwise.

    None for school and grade: not said, so it stays as it was. `school` is its name in orgs.csv.
    """

    file: str
    line: int
    source_id: str
    number: str | None = None
    last_name: str | None = None
    first_name: str | None = None
    school: str | None = None
    grade: str | None = None
    gone: Gone | None = None
    partial: bool = False


class Org(NamedTuple):
    name: str
    is_school: bool


class Standing(IntEnum):
    """How a role stands as of the moment, by how much it counts beside another of the same user."""

    DELETED = 0
    ENDED = 1
    NOT_BEGUN = 2
    HOLDS = 3


class Role(NamedTuple):
    """A user's role as a student. The greater of two counts; of equal ones the first in the file: `below` is -line."""

    standing: Standing
    primary: bool
    at_school: bool
    below: int
    org: str


class _Bad(Exception):
    """A cell that makes its row a flaw."""

    def __init__(self, column: str, value: str, reason: str, **details: Any) -> None:
        super().__init__(reason)
        self.column, self.value, self.reason, self.details = column, value, reason, details


class Export:
    """An export that can be read. `version`: "1.1" or "1.2". `source`: the system it came from, as the manifest says.
    `files`: what the manifest says of each file ("users": "bulk").

    `passed_over` counts what was not taken, by kind: staff, guardians, other_roles, no_role (users), repeated (rows
    that say the same twice), roles_without_user, unknown_org (rows taken without their school), unknown_files. It is
    complete once `students` was read to its end.
    """

    def __init__(self, archive: Archive, policy: Policy, as_of: datetime, limits: Limits) -> None:
        manifest = read_manifest(archive, limits)
        self.version: Version = manifest.version
        self.mode: Mode = manifest.mode
        self.source, self.files = manifest.source, manifest.files
        self.passed_over: Counter[str] = Counter()
        self._archive, self._policy, self._limits = archive, policy, limits
        self._day = as_of.astimezone(policy.zone).date()
        self._unknown_orgs: set[str] = set()
        self._remarks: list[Flaw] = []
        named = {f"{name}.csv" for name in self.files} | {"manifest.csv"}
        if unknown := len(archive.names - named) + archive.elsewhere:
            self.passed_over["unknown_files"] = unknown
        self._orgs = self._read_orgs()
        self._roles: dict[str, Role] = {}  # of students, by user
        self._others: dict[str, str] = {}  # what other users are
        self._role_flaws: list[Flaw] = []
        if self.version == "1.2" and self._has("roles"):
            self._read_roles()
        self._unclear = {flaw.source_id for flaw in self._role_flaws}
        self._seen: dict[str, int] = {}
        self._contradicted: set[str] = set()
        if self._has("users"):
            self._survey_users()
        self._alone = self._roles.keys() - self._seen.keys()

    def students(self) -> Iterator[StudentRow | Flaw]:
        """What the export says, row by row: students, and what is wrong with rows. To be read once."""
        for flaw in self._role_flaws:
            role = self._roles.get(flaw.source_id or "")
            if role is not None and role.standing is Standing.HOLDS:
                flaw = msgspec.structs.replace(flaw, taken=True)
            yield flaw
        if self._has("users"):
            for line, cells, excess in read_table(self._archive, USERS[self.version], self._limits):
                if (row := self._user(line, cells, excess)) is not None:
                    yield row
                if self._remarks:
                    yield from self._remarks
                    self._remarks.clear()
        if self.mode == "delta":
            for user in sorted(self._alone):
                role = self._roles[user]
                if user not in self._unclear or role.standing is Standing.HOLDS:
                    yield self._role_alone(user, role)
            yield from self._remarks
        elif self._alone:
            self.passed_over["roles_without_user"] = len(self._alone)

    # --- Read before: schools, roles, and which users are there twice

    def _has(self, name: str) -> bool:
        return self.files.get(name, "absent") != "absent"

    def _read_orgs(self) -> dict[str, Org]:
        """The orgs that have a name. A school with a flawed row is unknown, which is told where somebody is there."""
        orgs: dict[str, Org] = {}
        if self._has("orgs"):
            for _, (key, name, kind), excess in read_table(self._archive, ORGS, self._limits):
                name = unicodedata.normalize("NFC", name).strip()
                if not excess and name and _problem(name) is None:
                    orgs[key.strip()] = Org(name, kind.strip().lower() == "school")
        return orgs

    def _read_roles(self) -> None:
        for line, cells, excess in read_table(self._archive, ROLES, self._limits):
            user = cells[0].strip()
            try:
                if excess:
                    raise _Bad("", "", "columns_mismatch", excess=excess)
                self._role(user, line, cells)
            except _Bad as bad:
                if len(self._role_flaws) >= self._limits.role_flaws:
                    raise Rejected(
                        "csv_invalid",
                        file=ROLES.file,
                        line=line,
                        problem="flaws",
                        limit=self._limits.role_flaws,
                    ) from None
                self._role_flaws.append(_flaw(bad, ROLES.file, line, user))

    def _role(self, user: str, line: int, cells: tuple[str, ...]) -> None:
        _, role, org, kind, status, begins, ends = cells
        role = role.strip().lower()
        if role != STUDENT:
            self._others.setdefault(user, _other(role, cells[1]))
            return
        _check("userSourcedId", user)
        begin, end = _date("beginDate", begins), _date("endDate", ends)
        standing = Standing.HOLDS
        if _one_of(STATUSES, "status", status):
            standing = Standing.DELETED
        elif end is not None and end < self._day:
            standing = Standing.ENDED
        elif begin is not None and begin > self._day:
            standing = Standing.NOT_BEGUN
        org = intern(org.strip())
        known = self._orgs.get(org)
        primary = kind.strip().lower() != "secondary"
        found = Role(standing, primary, known is not None and known.is_school, -line, org)
        other = self._roles.get(user)
        self._roles[user] = found if other is None else max(other, found)

    def _survey_users(self) -> None:
        """Which ids there are, which of them more than once with different words; and whether the file is whole."""
        seen, contradicted = self._seen, self._contradicted
        for _, cells, _ in read_table(self._archive, USERS[self.version], self._limits):
            content = hash(cells)
            if seen.setdefault(cells[0].strip(), content) != content:
                contradicted.add(cells[0].strip())

    # --- The rows of users.csv

    def _user(self, line: int, cells: tuple[str, ...], excess: int) -> StudentRow | Flaw | None:
        user = cells[0].strip()
        try:
            role, other = self._stands(user, cells) if not excess else (None, self._others.get(user))
            if other is not None:
                self.passed_over[other] += 1
                return None
            if excess:
                raise _Bad("", "", "columns_mismatch", excess=excess)
            _check("sourcedId", user)
            if role is None and self.mode == "bulk" and user not in self._unclear:
                self.passed_over["no_role"] += 1
                return None
            if user in self._contradicted:
                raise _Bad("sourcedId", user, "source_id_repeated")
            if self._seen.pop(user, None) is None:
                self.passed_over["repeated"] += 1
                return None
            if user in self._unclear and (role is None or role.standing is not Standing.HOLDS):
                return None  # told already, of the role
            return self._student(user, line, cells, role)
        except _Bad as bad:
            return _flaw(bad, USERS[self.version].file, line, user)

    def _stands(self, user: str, cells: tuple[str, ...]) -> tuple[Role | None, str | None]:
        """The user's role as a student, if they have one; else what they are instead, if that is said."""
        if self.version == "1.2":
            role = self._roles.get(user)
            return role, self._others.get(user) if role is None else None
        said = cells[8].strip().lower()
        if said != STUDENT:
            return None, _other(said, cells[8])
        return Role(Standing.HOLDS, True, True, 0, ""), None

    def _student(self, user: str, line: int, cells: tuple[str, ...], role: Role | None) -> StudentRow:
        _, number, last, first, orgs, status, enabled, grades = cells[:8]
        gone: Gone | None = None
        if _one_of(STATUSES, "status", status):
            gone = "tobedeleted"
        elif not _one_of(ENABLED, "enabledUser", enabled):
            gone = "disabled"
        elif role is not None:
            gone = self._gone(role)
        if gone is not None:
            return StudentRow(file="users.csv", line=line, source_id=user, gone=gone, partial=role is None)
        place = ("users.csv", line, "orgSourcedIds" if self.version == "1.1" else "primaryOrgSourcedId")
        orgs_said = orgs.split(",")
        if role is not None and role.org:
            place, orgs_said = (ROLES.file, -role.below, "orgSourcedId"), [role.org, *orgs_said]
        return StudentRow(
            file="users.csv",
            line=line,
            source_id=user,
            number=self._number(number),
            last_name=_name("familyName", last),
            first_name=_name("givenName", first),
            school=self._school(user, place, orgs_said),
            grade=_word("grades", grades.partition(",")[0]),
            partial=role is None,
        )

    def _role_alone(self, user: str, role: Role) -> StudentRow:
        """In a delta: somebody whose role has changed, and nothing else."""
        gone = self._gone(role)
        school = None
        if gone is None and role.standing is Standing.HOLDS:
            school = self._school(user, (ROLES.file, -role.below, "orgSourcedId"), [role.org])
        return StudentRow(
            file=ROLES.file, line=-role.below, source_id=user, school=school, gone=gone, partial=True
        )

    def _gone(self, role: Role) -> Gone | None:
        """In a delta the end of a secondary role says nothing: the primary one, which stays, is not in it."""
        if role.standing is Standing.HOLDS or (self.mode == "delta" and not role.primary):
            return None
        return "role_not_begun" if role.standing is Standing.NOT_BEGUN else "role_ended"

    def _school(self, user: str, place: tuple[str, int, str], orgs: list[str]) -> str | None:
        """The first of the orgs that is a school, or else the first that is known. `place`: where they are said."""
        named = [org for org in (o.strip() for o in orgs) if org]
        known = [self._orgs[org] for org in named if org in self._orgs]
        if known:
            return next((org for org in known if org.is_school), known[0]).name
        if named:
            self.passed_over["unknown_org"] += 1
            if named[0] not in self._unknown_orgs and len(self._unknown_orgs) < MAX_UNKNOWN_ORGS:
                self._unknown_orgs.add(named[0])
                file, line, column = place
                bad = _Bad(column, named[0], "org_unknown")
                self._remarks.append(_flaw(bad, file, line, user, taken=True))
        return None

    def _number(self, given: str) -> str:
        if not given.strip():
            raise _Bad("identifier", given, "field_empty", field="identifier")
        try:
            return self._policy.read_number(given)
        except Rejected as refusal:
            hint = refusal.reason
            raise _Bad("identifier", given, "number_malformed", hint=hint, **refusal.details) from None


@contextmanager
def open_export(
    path: Path, policy: Policy, as_of: datetime, limits: Limits | None = None
) -> Iterator[Export]:
    """The export in a zip file or a folder, as of a moment (aware; its day counts in the district's time zone).

    Reads the manifest, the schools and the roles, and every row of users.csv once, so that a file that is broken at
    its end is refused before anything of it was used. Raises Rejected: archive_invalid, archive_too_large,
    archive_path, manifest_invalid, csv_invalid, rows_too_many; the details say `problem`, and `file`, `line` and
    `column` where there are such. Raises OSError when there is no such path.
    """
    limits = limits or Limits()
    with open_archive(path, limits) as archive:
        yield Export(archive, policy, as_of, limits)


# --- Cells


def _flaw(bad: _Bad, file: str, line: int, user: str, *, taken: bool = False) -> Flaw:
    return Flaw(
        file=file,
        line=line,
        column=bad.column or None,
        value=bad.value[:VALUE_CHARACTERS] if bad.column else None,
        reason=bad.reason,
        details=bad.details,
        source_id=user if _problem(user) is None else None,
        taken=taken,
    )


def _other(role: str, given: str) -> str:
    """What somebody is who is no student."""
    if role.startswith("ext:"):
        return "other_roles"
    if role not in OTHERS:
        raise _Bad("role", given, "value_unknown", known=[STUDENT, *OTHERS])
    return OTHERS[role]


def _one_of(known: dict[str, bool], column: str, given: str) -> bool:
    try:
        return known[given.strip().lower()]
    except KeyError:
        raise _Bad(column, given, "value_unknown", known=[word for word in known if word]) from None


def _date(column: str, given: str) -> date | None:
    """A day as ISO 8601 has it. Of a moment its day counts: it is midnight somewhere, and a day was meant."""
    given = given.strip()
    if not given:
        return None
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}([T ].*)?", given, re.ASCII):
            return date.fromisoformat(given[:10])
    except ValueError:
        pass
    raise _Bad(column, given, "date_malformed", expected="2026-08-03")


def _problem(given: str) -> str | None:
    if not given.strip():
        return "field_empty"
    if len(given) > NAME_MAX_LENGTH:
        return "field_too_long"
    if not given.isprintable() and text.control_character(given) is not None:
        return "field_control_character"
    return None


def _check(column: str, given: str) -> None:
    if problem := _problem(given):
        limit = {"limit": NAME_MAX_LENGTH} if problem == "field_too_long" else {}
        raise _Bad(column, given, problem, field=column, **limit)


def _name(column: str, given: str) -> str:
    """In NFC; letters, hyphens, apostrophes and inner blanks are left alone, as in every statement of a district."""
    name = unicodedata.normalize("NFC", given).strip()
    _check(column, name)
    return name


def _word(column: str, given: str) -> str | None:
    return _name(column, given) if given.strip() else None
