"""What an export says of each student and of the staff as of a moment: users joined with their roles, schools and
classes.

Nothing is guessed of a row that cannot be read: it is a flaw, and whoever it is about is neither taken nor absent.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from services.roster.oneroster.archive import Archive, Limits, open_archive
from services.roster.oneroster.cells import Bad, Flaw, check, flaw_of, name_of, one_of, problem_of, word_of
from services.roster.oneroster.classes import Classes
from services.roster.oneroster.manifest import Mode, Version, read_manifest
from services.roster.oneroster.orgs import Orgs
from services.roster.oneroster.roles import (
    STATUSES,
    STUDENT,
    Role,
    Roles,
    Standing,
    other,
    role_of_user,
    taken,
)
from services.roster.oneroster.tables import ENROLLMENTS, ROLES, USERS, read_table
from shared.errors import Rejected
from shared.policy import Kind, Policy

Gone = Literal["tobedeleted", "disabled", "role_ended", "role_not_begun", "absent"]

ENABLED = {"": True, "true": True, "false": False}


class PersonRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the export says of one student or member of the staff; each `source_id` at most once.

    `gone`: why they do not belong to the district as of the moment; then nothing else is said. None: they do. `absent`
    is said of a user without such a role, where the export has all roles of whom it names and not all users.

    `partial`, in a delta only: the export does not say here what they are, or not who they are (number and names are
    None: only a role or classes were changed). It is to be taken for a person who is known, and passed over otherwise.
    `kind` is None only there, and where they are gone.

    None for school, grade, role and classes: not said, so it stays as it was. `school` is its name in orgs.csv. A
    student has a grade, a member of the staff a role, as the export writes it. `classes` are Assignments as a JSON
    array, in the order of their ids: all there are (`classes_whole`), or what has changed, beside `unassigned`.
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
    classes: str | None = None
    unassigned: list[str] | None = None
    classes_whole: bool | None = None
    partial: bool = False


class Export:
    """An export that can be read. `version`: "1.1" or "1.2". `source`: the system it came from, as the manifest says.
    `files`: what the manifest says of each file ("users": "bulk").

    `passed_over` counts what was not taken, by kind: staff (where the policy takes none), guardians, other_roles,
    no_role (users), repeated (rows that say the same twice), roles_without_user, unknown_org (rows taken without their
    school), unknown_files; and of enrollments members_not_taken (of users who are not taken, or gone), other_members
    (neither student nor teacher of the class) and classes_ended (beyond what is kept of a person). `untold` counts
    flaws that are not among those of `persons`, by reason. Both are complete once `persons` was read to its end.
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
        self.untold: Counter[str] = Counter()
        self._archive, self._policy, self._limits = archive, policy, limits
        self._remarks: list[Flaw] = []
        named = {f"{name}.csv" for name in self.files} | {"manifest.csv"}
        if unknown := len(archive.names - named) + archive.elsewhere:
            self.passed_over["unknown_files"] = unknown
        day = as_of.astimezone(policy.zone).date()
        self._orgs = Orgs(archive, limits, there=self._has("orgs"))
        there = self.version == "1.2" and self._has("roles")
        self._roles = Roles(archive, limits, self._orgs, policy, day, there=there)
        self._unclear = {flaw.source_id for flaw in self._roles.flaws}
        self._seen: dict[str, int] = {}
        self._contradicted: set[str] = set()
        if self._has("users"):
            self._survey_users()
        self._alone = self._roles.held.keys() - self._seen.keys()
        self._classes = Classes(
            archive, limits, self._orgs, self.files if policy.imports.classes else {}, day
        )
        if self.mode == "bulk":
            for user in self._classes.members() - self._seen.keys():
                self._classes.refuse(user, "user_unknown")

    def persons(self) -> Iterator[PersonRow | Flaw]:
        """What the export says, row by row: persons, and what is wrong with rows. To be read once."""
        for flaw in self._roles.flaws:
            role = self._roles.held.get(flaw.source_id or "")
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
                role = self._roles.held[user]
                if user not in self._unclear or role.standing is Standing.HOLDS:
                    yield self._role_alone(user, role)
            yield from self._remarks
        elif self._alone:
            self.passed_over["roles_without_user"] = len(self._alone)
        yield from self._members_alone()
        yield from self._classes.flaws
        self.passed_over += self._classes.passed_over
        self.untold = self._classes.untold

    def _members_alone(self) -> Iterator[PersonRow]:
        """In a delta: those of whom only classes have changed. Otherwise nobody who is taken is left."""
        for user in sorted(self._classes.members()):
            kind, line = self._classes.kind(user), self._classes.place(user)
            if self.mode == "bulk" or not taken("teacher" if kind == "staff" else STUDENT, self._policy):
                self._classes.pass_over(user, "members_not_taken")
                continue
            row = PersonRow(file=ENROLLMENTS.file, line=line, source_id=user, kind=kind, partial=True)
            yield self._with_classes(row)

    def _with_classes(self, row: PersonRow) -> PersonRow:
        if row.gone is not None or row.kind is None:
            self._classes.pass_over(row.source_id, "members_not_taken")
            return row
        told = self._classes.of(row.source_id, row.kind)
        if told is None:
            return row
        return msgspec.structs.replace(
            row, classes=told.assigned, unassigned=told.unassigned, classes_whole=told.whole
        )

    # --- Read before: which users are there twice

    def _has(self, name: str) -> bool:
        return self.files.get(name, "absent") != "absent"

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
            role, instead = self._stands(user, cells) if not excess else (None, self._roles.others.get(user))
            if instead is not None:
                self.passed_over[instead] += 1
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
            return self._with_classes(self._person(user, line, cells, role))
        except Bad as bad:
            return flaw_of(bad, USERS[self.version].file, line, user)

    def _stands(self, user: str, cells: tuple[str, ...]) -> tuple[Role | None, str | None]:
        """The role that makes the user one of those who are taken, if they have one; else what they are instead, if
        that is said."""
        if self.version == "1.2":
            role = self._roles.held.get(user)
            return role, self._roles.others.get(user) if role is None else None
        said = cells[8].strip().lower()
        if not taken(said, self._policy):
            return None, other(said, cells[8])
        return role_of_user(cells[8]), None

    def _without_role(self, user: str, line: int, cells: tuple[str, ...]) -> PersonRow | None:
        """In a whole export nothing has to be said of somebody who is none of ours (any more): it is said of all."""
        self._classes.pass_over(user, "members_not_taken")
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
        row = PersonRow(
            file=ROLES.file,
            line=-role.below,
            source_id=user,
            kind=role.kind,
            school=school,
            role=word,
            gone=gone,
            partial=True,
        )
        return self._with_classes(row)

    def _gone(self, role: Role) -> Gone | None:
        """Where not all roles are there, the end of a secondary one says nothing: the primary one stays."""
        if role.standing is Standing.HOLDS or not (self._all_roles or role.primary):
            return None
        return "role_not_begun" if role.standing is Standing.NOT_BEGUN else "role_ended"

    def _school(self, user: str, place: tuple[str, int, str], orgs: list[str]) -> str | None:
        """The school's name. `place`: where the orgs are said."""
        named = [org for org in (o.strip() for o in orgs) if org]
        school = self._orgs.school(named)
        if school is None and named:
            self.passed_over["unknown_org"] += 1
            if self._orgs.news(named[0]):
                file, line, column = place
                bad = Bad(column, named[0], "org_unknown")
                self._remarks.append(flaw_of(bad, file, line, user, taken=True))
        return school

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

    Reads the manifest, schools, roles and classes, and every row of users.csv once, so that a file that is broken at
    its end is refused before anything of it was used. Raises Rejected: archive_invalid, archive_too_large,
    archive_path, manifest_invalid, csv_invalid, rows_too_many; the details say `problem`, and `file`, `line` and
    `column` where there are such. Raises OSError when there is no such path.
    """
    limits = limits or Limits()
    with open_archive(path, limits) as archive:
        yield Export(archive, policy, as_of, limits, all_roles)


def _read(column: str, given: str, read: Callable[[str], str]) -> str:
    """A number by the policy's rule for it."""
    if not given.strip():
        raise Bad(column, given, "field_empty", field=column)
    try:
        return read(given)
    except Rejected as refusal:
        raise Bad(column, given, "number_malformed", hint=refusal.reason, **refusal.details) from None
