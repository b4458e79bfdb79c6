"""What an export says of each student and of the staff as of a moment: users joined with their roles and schools.

Who is what: in 1.1 the user's `role` says so, in 1.2 a row of roles.csv, between its `beginDate` and its `endDate`. Who
has a role as a student is a student, whatever else they are and even if it has ended: a person keeps one kind. Of
several roles of that kind the one counts that holds now, then the primary one, then the one at a school.

Nothing is guessed of a row that cannot be read: it is a flaw, and whoever it is about is neither taken nor absent.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from sys import intern
from typing import Literal, NamedTuple

import msgspec

from services.roster.oneroster.archive import Archive, Limits, open_archive
from services.roster.oneroster.cells import (
    Bad,
    Flaw,
    check,
    day_of,
    flaw_of,
    name_of,
    one_of,
    problem_of,
    word_of,
)
from services.roster.oneroster.manifest import Mode, Version, read_manifest
from services.roster.oneroster.tables import ORGS, ROLES, USERS, read_table
from shared.errors import Rejected
from shared.policy import Kind, Policy

Gone = Literal["tobedeleted", "disabled", "role_ended", "role_not_begun", "absent"]

STUDENT = "student"
GUARDIANS = ("guardian", "parent", "relative")
STAFF = (
    "administrator",
    "aide",
    "counselor",
    "districtadministrator",
    "principal",
    "proctor",
    "siteadministrator",
    "systemadministrator",
    "teacher",
)
STATUSES = {"": False, "active": False, "tobedeleted": True}  # to whether it is to be deleted
ENABLED = {"": True, "true": True, "false": False}
MAX_UNKNOWN_ORGS = 1000  # that are told one by one


class PersonRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the export says of one student or member of the staff; each `source_id` at most once.

    `gone`: why they do not belong to the district as of the moment; then nothing else is said. None: they do. `absent`
    is said of a user without such a role, where the export has all roles of whom it names and not all users.

    `partial`, in a delta only: the export does not say here what they are, or not who they are (number and names are
    None: only a role was changed). It is to be taken for a person who is known, and passed over otherwise. `kind` is
    None only there, and where they are gone.

    None for school, grade and role: not said, so it stays as it was. `school` is its name in orgs.csv. A student has a
    grade, a member of the staff a role, as the export writes it.
    """

    file: str
    line: int
    source_id: str
    kind: Kind | None = None
    number: str | None = None
    last_name: str | None = None
    first_name: str | None = None
    school: str | None = None
    grade: str | None = None
    role: str | None = None
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
    """A user's role. The greater of two counts; of equal ones the first in the file: `below` is -line. `word`: what the
    export calls it, of staff."""

    student: bool
    standing: Standing
    primary: bool
    at_school: bool
    below: int
    org: str
    word: str | None

    @property
    def kind(self) -> Kind:
        return "student" if self.student else "staff"


class Export:
    """An export that can be read. `version`: "1.1" or "1.2". `source`: the system it came from, as the manifest says.
    `files`: what the manifest says of each file ("users": "bulk").

    `passed_over` counts what was not taken, by kind: staff (where the policy takes none), guardians, other_roles,
    no_role (users), repeated (rows that say the same twice), roles_without_user, unknown_org (rows taken without their
    school), unknown_files. It is complete once `persons` was read to its end.
    """

    def __init__(
        self, archive: Archive, policy: Policy, as_of: datetime, limits: Limits, all_roles: bool
    ) -> None:
        manifest = read_manifest(archive, limits)
        self.version: Version = manifest.version
        self.mode: Mode = manifest.mode
        self._all_roles = all_roles or self.mode == "bulk"
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
        self._roles: dict[str, Role] = {}  # of students and staff, by user
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

    def persons(self) -> Iterator[PersonRow | Flaw]:
        """What the export says, row by row: persons, and what is wrong with rows. To be read once."""
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
                if not excess and name and problem_of(name) is None:
                    orgs[key.strip()] = Org(name, kind.strip().lower() == "school")
        return orgs

    def _read_roles(self) -> None:
        for line, cells, excess in read_table(self._archive, ROLES, self._limits):
            user = cells[0].strip()
            try:
                if excess:
                    raise Bad("", "", "columns_mismatch", excess=excess)
                self._role(user, line, cells)
            except Bad as bad:
                if len(self._role_flaws) >= self._limits.role_flaws:
                    raise Rejected(
                        "csv_invalid",
                        file=ROLES.file,
                        line=line,
                        problem="flaws",
                        limit=self._limits.role_flaws,
                    ) from None
                self._role_flaws.append(flaw_of(bad, ROLES.file, line, user))

    def _role(self, user: str, line: int, cells: tuple[str, ...]) -> None:
        _, said, org, kind, status, begins, ends = cells
        role = said.strip().lower()
        if not self._taken(role):
            self._others.setdefault(user, _other(role, said))
            return
        check("userSourcedId", user)
        begin, end = day_of("beginDate", begins), day_of("endDate", ends)
        standing = Standing.HOLDS
        if one_of(STATUSES, "status", status):
            standing = Standing.DELETED
        elif end is not None and end < self._day:
            standing = Standing.ENDED
        elif begin is not None and begin > self._day:
            standing = Standing.NOT_BEGUN
        org = intern(org.strip())
        known = self._orgs.get(org)
        primary = kind.strip().lower() != "secondary"
        at_school = known is not None and known.is_school
        word = None if role == STUDENT else word_of("role", said)
        found = Role(role == STUDENT, standing, primary, at_school, -line, org, word)
        other = self._roles.get(user)
        self._roles[user] = found if other is None else max(other, found)

    def _taken(self, role: str) -> bool:
        return role == STUDENT or (role in STAFF and self._policy.imports.staff_number_from != "off")

    def _survey_users(self) -> None:
        """Which ids there are, which of them more than once with different words; and whether the file is whole."""
        seen, contradicted = self._seen, self._contradicted
        read = (
            None if self._policy.imports.staff_number_from == "username" else -1
        )  # else it is not looked at
        for _, cells, _ in read_table(self._archive, USERS[self.version], self._limits):
            content = hash(cells[:read])
            if seen.setdefault(cells[0].strip(), content) != content:
                contradicted.add(cells[0].strip())

    # --- The rows of users.csv

    def _user(self, line: int, cells: tuple[str, ...], excess: int) -> PersonRow | Flaw | None:
        user = cells[0].strip()
        try:
            role, other = self._stands(user, cells) if not excess else (None, self._others.get(user))
            if other is not None:
                self.passed_over[other] += 1
                return self._without_role(user, line, cells)
            if excess:
                raise Bad("", "", "columns_mismatch", excess=excess)
            check("sourcedId", user)
            if role is None and self._all_roles and user not in self._unclear:
                self.passed_over["no_role"] += 1
                return self._without_role(user, line, cells)
            if user in self._contradicted:
                raise Bad("sourcedId", user, "source_id_repeated")
            if self._seen.pop(user, None) is None:
                self.passed_over["repeated"] += 1
                return None
            if user in self._unclear and (role is None or role.standing is not Standing.HOLDS):
                return None  # told already, of the role
            return self._person(user, line, cells, role)
        except Bad as bad:
            return flaw_of(bad, USERS[self.version].file, line, user)

    def _stands(self, user: str, cells: tuple[str, ...]) -> tuple[Role | None, str | None]:
        """The role that makes the user one of those who are taken, if they have one; else what they are instead, if
        that is said."""
        if self.version == "1.2":
            role = self._roles.get(user)
            return role, self._others.get(user) if role is None else None
        said = cells[8].strip().lower()
        if not self._taken(said):
            return None, _other(said, cells[8])
        word = None if said == STUDENT else word_of("role", cells[8])
        return Role(said == STUDENT, Standing.HOLDS, True, True, 0, "", word), None

    def _without_role(self, user: str, line: int, cells: tuple[str, ...]) -> PersonRow | None:
        """In a whole export nothing has to be said of somebody who is none of ours (any more): it is said of all."""
        if self.mode == "bulk" or not self._all_roles or user in self._unclear or problem_of(user):
            return None
        if user in self._contradicted or self._seen.pop(user, None) is None:
            return None
        gone = _gone_by_state(cells[5], cells[6]) or "absent"
        return PersonRow(file="users.csv", line=line, source_id=user, gone=gone)

    def _person(self, user: str, line: int, cells: tuple[str, ...], role: Role | None) -> PersonRow:
        _, number, last, first, orgs, status, enabled, grades = cells[:8]
        kind = role.kind if role else None
        gone = _gone_by_state(status, enabled)
        if gone is None and role is not None:
            gone = self._gone(role)
        if gone is not None:
            row = PersonRow(file="users.csv", line=line, source_id=user, kind=kind, gone=gone)
            return msgspec.structs.replace(row, partial=role is None)
        place = ("users.csv", line, "orgSourcedIds" if self.version == "1.1" else "primaryOrgSourcedId")
        orgs_said = orgs.split(",")
        if role is not None and role.org:
            place, orgs_said = (ROLES.file, -role.below, "orgSourcedId"), [role.org, *orgs_said]
        kind, number = self._number(kind, number, username=cells[-1])
        return PersonRow(
            file="users.csv",
            line=line,
            source_id=user,
            kind=kind,
            number=number,
            last_name=name_of("familyName", last),
            first_name=name_of("givenName", first),
            school=self._school(user, place, orgs_said),
            grade=word_of("grades", grades.partition(",")[0]) if kind == "student" else None,
            role=role.word if role else None,
            partial=role is None,
        )

    def _role_alone(self, user: str, role: Role) -> PersonRow:
        """In a delta: somebody whose role has changed, and nothing else."""
        gone = self._gone(role)
        school = word = None
        if gone is None and role.standing is Standing.HOLDS:
            school = self._school(user, (ROLES.file, -role.below, "orgSourcedId"), [role.org])
            word = role.word
        return PersonRow(
            file=ROLES.file,
            line=-role.below,
            source_id=user,
            kind=role.kind,
            school=school,
            role=word,
            gone=gone,
            partial=True,
        )

    def _gone(self, role: Role) -> Gone | None:
        """Where not all roles are there, the end of a secondary one says nothing: the primary one stays."""
        if role.standing is Standing.HOLDS or not (self._all_roles or role.primary):
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
                bad = Bad(column, named[0], "org_unknown")
                self._remarks.append(flaw_of(bad, file, line, user, taken=True))
        return None

    def _number(self, kind: Kind | None, identifier: str, *, username: str) -> tuple[Kind, str]:
        """The number, and whose: in a delta that does not say what somebody is, the form of the number does."""
        if kind == "staff":
            return kind, self._employee_number(identifier, username)
        try:
            return "student", _read("identifier", identifier, self._policy.read_number)
        except Bad as bad:
            if kind is None and self._policy.imports.staff_number_from != "off":
                with suppress(Bad):
                    return "staff", self._employee_number(identifier, username)
            raise bad

    def _employee_number(self, identifier: str, username: str) -> str:
        column = self._policy.imports.staff_number_from
        given = username if column == "username" else identifier
        return _read(column, given, self._policy.read_employee_number)


def _gone_by_state(status: str, enabled: str) -> Gone | None:
    """Why a user is none of the district's any more, whatever their roles."""
    if one_of(STATUSES, "status", status):
        return "tobedeleted"
    return None if one_of(ENABLED, "enabledUser", enabled) else "disabled"


@contextmanager
def open_export(
    path: Path, policy: Policy, as_of: datetime, limits: Limits | None = None, *, all_roles: bool = False
) -> Iterator[Export]:
    """The export in a zip file or a folder, as of a moment (aware; its day counts in the district's time zone).
    `all_roles`: also a delta has all roles of the users that it names.

    Reads the manifest, the schools and the roles, and every row of users.csv once, so that a file that is broken at
    its end is refused before anything of it was used. Raises Rejected: archive_invalid, archive_too_large,
    archive_path, manifest_invalid, csv_invalid, rows_too_many; the details say `problem`, and `file`, `line` and
    `column` where there are such. Raises OSError when there is no such path.
    """
    limits = limits or Limits()
    with open_archive(path, limits) as archive:
        yield Export(archive, policy, as_of, limits, all_roles)


def _other(role: str, given: str) -> str:
    """What somebody is who is not taken."""
    if role.startswith("ext:"):
        return "other_roles"
    if role in GUARDIANS:
        return "guardians"
    if role in STAFF:
        return "staff"
    raise Bad("role", given, "value_unknown", known=[STUDENT, *GUARDIANS, *STAFF])


def _read(column: str, given: str, read: Callable[[str], str]) -> str:
    """A number by the policy's rule for it."""
    if not given.strip():
        raise Bad(column, given, "field_empty", field=column)
    try:
        return read(given)
    except Rejected as refusal:
        raise Bad(column, given, "number_malformed", hint=refusal.reason, **refusal.details) from None
