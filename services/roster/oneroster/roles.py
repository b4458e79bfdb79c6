"""What the users of an export are: in 1.1 the user's `role` says so, in 1.2 a row of roles.csv, between its `beginDate`
and its `endDate`.

Who has a role as a student is a student, whatever else they are and even if it has ended: a person keeps one kind. Of
several roles of that kind the one counts that holds now, then the primary one, then the one at a school.
"""

from datetime import date
from enum import IntEnum
from sys import intern
from typing import NamedTuple

from services.roster.oneroster.archive import Archive, Limits
from services.roster.oneroster.cells import Bad, Flaw, check, day_of, flaw_of, one_of, word_of
from services.roster.oneroster.orgs import Orgs
from services.roster.oneroster.tables import ROLES, read_table
from shared.errors import Rejected
from shared.policy import Kind, Policy

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


class Standing(IntEnum):
    """How a role, or a membership, stands as of the moment, by how much it counts beside another of the same user."""

    DELETED = 0
    ENDED = 1
    NOT_BEGUN = 2
    HOLDS = 3


def standing_of(begin: date | None, last: date | None, day: date) -> Standing:
    """`last`: the last day on which it holds."""
    if last is not None and last < day:
        return Standing.ENDED
    return Standing.NOT_BEGUN if begin is not None and begin > day else Standing.HOLDS


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


class Roles:
    """The rows of roles.csv. `held`: of students and staff, by user. `others`: what other users are. `flaws`: rows that
    cannot be read."""

    def __init__(
        self, archive: Archive, limits: Limits, orgs: Orgs, policy: Policy, day: date, *, there: bool
    ) -> None:
        self.held: dict[str, Role] = {}
        self.others: dict[str, str] = {}
        self.flaws: list[Flaw] = []
        self._orgs, self._policy, self._day = orgs, policy, day
        for line, cells, excess in read_table(archive, ROLES, limits) if there else ():
            user = cells[0].strip()
            try:
                if excess:
                    raise Bad("", "", "columns_mismatch", excess=excess)
                self._role(user, line, cells)
            except Bad as bad:
                if len(self.flaws) >= limits.role_flaws:
                    raise Rejected(
                        "csv_invalid", file=ROLES.file, line=line, problem="flaws", limit=limits.role_flaws
                    ) from None
                self.flaws.append(flaw_of(bad, ROLES.file, line, user))

    def _role(self, user: str, line: int, cells: tuple[str, ...]) -> None:
        _, said, org, kind, status, begins, ends = cells
        role = said.strip().lower()
        if not taken(role, self._policy):
            self.others.setdefault(user, other(role, said))
            return
        check("userSourcedId", user)
        standing = standing_of(day_of("beginDate", begins), day_of("endDate", ends), self._day)
        if one_of(STATUSES, "status", status):
            standing = Standing.DELETED
        org = intern(org.strip())
        primary = kind.strip().lower() != "secondary"
        word = None if role == STUDENT else word_of("role", said)
        found = Role(role == STUDENT, standing, primary, self._orgs.is_school(org), -line, org, word)
        known = self.held.get(user)
        self.held[user] = found if known is None else max(known, found)


def role_of_user(said: str) -> Role:
    """The role that 1.1 has in users.csv, of one of those who are taken."""
    student = said.strip().lower() == STUDENT
    return Role(student, Standing.HOLDS, True, True, 0, "", None if student else word_of("role", said))


def taken(role: str, policy: Policy) -> bool:
    return role == STUDENT or (role in STAFF and policy.imports.staff_number_from != "off")


def other(role: str, given: str) -> str:
    """What somebody is who is not taken."""
    if role.startswith("ext:"):
        return "other_roles"
    if role in GUARDIANS:
        return "guardians"
    if role in STAFF:
        return "staff"
    raise Bad("role", given, "value_unknown", known=[STUDENT, *GUARDIANS, *STAFF])
