"""An export made in the test, and what the reader makes of it."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.roster.oneroster.archive import Limits
from services.roster.oneroster.cells import Flaw
from services.roster.oneroster.export import PersonRow, open_export
from shared.policy import Policy
from tests.roster.exports import manifest, table, write_zip
from tests.roster.given import POLICY

AS_OF = datetime(2026, 8, 3, 12, tzinfo=UTC)

ORGS = [["sourcedId", "name", "type"], ["d", "The District", "district"], ["s1", "First", "school"]]
USERS_11 = ["sourcedId", "identifier", "familyName", "givenName", "orgSourcedIds", "role"]
AVA = ["u1", "0123456", "De La Cruz", "Ava", "s1", "student"]
BEN = ["u2", "7654321", "O'Brien", "Ben", "s1", "student"]
EVA = ["t1", "e99999", "Okafor", "Eva", "s1", "teacher"]
USERS_12 = ["sourcedId", "identifier", "familyName", "givenName", "status", "primaryOrgSourcedId"]
ROLES = ["userSourcedId", "role", "orgSourcedId", "roleType", "status", "beginDate", "endDate"]


class Seen(msgspec.Struct):
    version: str
    mode: str
    source: str | None
    students: list[PersonRow]
    staff: list[PersonRow]
    flaws: list[Flaw]
    passed_over: dict[str, int]

    @property
    def by_id(self) -> dict[str, PersonRow]:
        return {person.source_id: person for person in (*self.students, *self.staff)}


def look(path: Path, as_of: datetime = AS_OF, policy: Policy = POLICY, **limits: int) -> Seen:
    with open_export(path, policy, as_of, Limits(**limits)) as export:
        told = list(export.persons())
        persons = [t for t in told if isinstance(t, PersonRow)]
        return Seen(
            version=export.version,
            mode=export.mode,
            source=export.source,
            students=[p for p in persons if p.kind != "staff"],
            staff=[p for p in persons if p.kind == "staff"],
            flaws=[t for t in told if isinstance(t, Flaw)],
            passed_over=dict(export.passed_over),
        )


def taking_staff(number_from: str) -> Policy:
    imports = msgspec.structs.replace(POLICY.imports, staff_number_from=number_from)
    return msgspec.structs.replace(POLICY, imports=imports)


def files_11(*users: list[str], mode: str = "bulk", **other: Any) -> dict[str, bytes | str]:
    """A whole export of 1.1 with these rows; `header` and files by name may be said otherwise."""
    header = other.pop("header", USERS_11)
    files: dict[str, bytes | str] = {
        "manifest.csv": manifest("1.1", users=mode, orgs="bulk"),
        "orgs.csv": table(ORGS),
        "users.csv": table([header, *users]),
    }
    return files | {f"{name}.csv": content for name, content in other.items()}


def files_12(users: list[list[str]], roles: list[list[str]], mode: str = "bulk") -> dict[str, bytes | str]:
    return {
        "manifest.csv": manifest("1.2", users=mode, roles=mode, orgs="bulk"),
        "orgs.csv": table([*ORGS, ["s2", "Second", "school"]]),
        "users.csv": table([USERS_12, *users]),
        "roles.csv": table([ROLES, *roles]),
    }


Read = Callable[..., Seen]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads files as one zip: `read(files, as_of, rows=5)`."""

    def reading(files: Mapping[str, bytes | str], as_of: datetime = AS_OF, **more: Any) -> Seen:
        return look(write_zip(tmp_path / "export.zip", files), as_of, **more)

    return reading
