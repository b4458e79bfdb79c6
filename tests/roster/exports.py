"""Exports of OneRoster as three systems make them, of as many pupils as one likes: for tests and benchmarks.

What each does after the specification's tables, and beside them:
  campus   1.1, every field quoted, CRLF, ids that are numbers; parents and staff among the users; classes beside them
  power    1.2 with a byte order mark and LF; GUIDs; columns in another order and of its own; several dated roles
  sky      1.1 in UTF-16, zipped by a desktop with its folder; headers in lower case, TRUE and FALSE, a line break
           within an address, several schools of one pupil, commas at the ends of lines

With classes (`tests.roster.schedules`) each has those of the year, of which every pupil is in seven.
"""

import csv
import io
import random
import re
import uuid
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from tests.roster import schedules

Rows = list[list[str]]
Origin = Literal["campus", "power", "sky"]
ORIGINS: tuple[Origin, ...] = ("campus", "power", "sky")

SCHOOLS = 60
STAFF_EVERY = 20  # pupils, where there is staff
_LAST = re.split(
    " ", "Smith Johnson Núñez O'Brien Nguyễn Al-Farsi García Lee McAllister Okonkwo Ibáñez Washington"
)
_LAST += ["Müller-Lüdenscheidt", "de la Cruz", "Van Der Berg", "St. John"]
_FIRST = re.split(
    " ", "Ava Liam José María Zoë Noah Nguyệt Amara Jayden Søren Mia D'Andre Chloë Ethan Priya Oluwaseun"
)
_GRADES = ["KG", *(f"{n:02}" for n in range(1, 13))]


class Pupil(msgspec.Struct, frozen=True, kw_only=True):
    source_id: str
    number: str
    last_name: str
    first_name: str
    school: int  # which of the schools, from 0
    grade: str
    enabled: bool = True
    status: str = ""  # "tobedeleted" in a delta

    @property
    def school_name(self) -> str:
        return school_name(self.school)


def school_name(school: int) -> str:
    return f'School "{school + 1}", Riverdale' if school == 0 else f"School {school + 1}"


def pupils(count: int, *, seed: int = 1) -> list[Pupil]:
    """So many pupils, always the same; their numbers have seven digits, many with zeros in front."""
    chance = random.Random(seed)
    return [
        Pupil(
            source_id=str(uuid.UUID(int=chance.getrandbits(128))),
            number=f"{n:07}",
            last_name=chance.choice(_LAST),
            first_name=chance.choice(_FIRST),
            school=chance.randrange(SCHOOLS),
            grade=chance.choice(_GRADES),
        )
        for n in chance.sample(range(10_000_000), count)
    ]


def write_export(
    path: Path,
    students: Iterable[Pupil],
    origin: Origin = "power",
    *,
    mode: Literal["bulk", "delta"] = "bulk",
    staff: bool | int = False,
    classes: bool | Iterable[Pupil] = False,
) -> Path:
    """A zip file of these students and of some guardians, perhaps of `staff` (a number: one beside so many pupils), and
    of the `classes` of all of them or of some, as that origin makes it."""
    makers, students = {"campus": _campus, "power": _power, "sky": _sky}, list(students)
    every = STAFF_EVERY if staff is True else staff or 10**9
    more: dict[str, Rows] = {}
    if classes is not False:
        teachers = [f"t{n}" for n in range(every - 1, len(students), every)]
        members = students if classes is True else classes
        more = schedules.schedule([p.source_id for p in members], teachers, SCHOOLS)
    return write_zip(path, makers[origin](students, mode, every, more))


def write_zip(path: Path, files: Mapping[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def manifest(version: str, source: str = "", **files: str) -> str:
    rows = [["propertyName", "value"], ["manifest.version", "1.0"], ["oneroster.version", version]]
    rows += [[f"file.{name}", mode] for name, mode in files.items()]
    return table(rows + [["source.systemName", source]])


def table(rows: Iterable[Sequence[str]], *, end: str = "\r\n", quoted: bool = False) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL).writerows(
        rows
    )
    return text.getvalue()


def _orgs() -> list[list[str]]:
    header = ["sourcedId", "status", "dateLastModified", "name", "type", "identifier", "parentSourcedId"]
    schools = [[f"s{n}", "", "", school_name(n), "school", f"{n:04}", "d"] for n in range(SCHOOLS)]
    return [header, ["d", "", "", "Riverdale County", "district", "", ""], *schools]


USERS_11 = re.split(
    " ",
    "sourcedId status dateLastModified enabledUser orgSourcedIds role username userIds givenName familyName"
    " middleName identifier email sms phone agentSourcedIds grades password",
)
USERS_12 = re.split(
    " ",
    "sourcedId status dateLastModified enabledUser username userIds givenName familyName middleName identifier"
    " email sms phone agentSourcedIds grades password userMasterIdentifier resourceSourcedIds preferredGivenName"
    " preferredMiddleName preferredFamilyName primaryOrgSourcedId pronouns",
)
ROLES = re.split(
    " ",
    "sourcedId status dateLastModified userSourcedId roleType role beginDate endDate orgSourcedId"
    " userProfileSourcedId",
)


def row(header: Sequence[str], **cells: str) -> list[str]:
    """A row in which these cells are filled."""
    assert not cells.keys() - set(header), cells.keys() - set(header)
    return [cells.get(name, "") for name in header]


def _people(p: Pupil) -> dict[str, str]:
    return {
        "sourcedId": p.source_id,
        "status": p.status,
        "enabledUser": str(p.enabled).lower(),
        "username": f"S{p.number}",
        "givenName": p.first_name,
        "familyName": p.last_name,
        "identifier": p.number,
        "grades": p.grade,
        "email": f"s{p.number}@example.org",
    }


def _teacher(n: int) -> dict[str, str]:
    """Beside every twentieth pupil stands somebody of the staff."""
    return {"sourcedId": f"t{n}", "givenName": "Terry", "familyName": "Doe", "identifier": f"e{n:05}"}


def _campus(students: list[Pupil], mode: str, every: int, more: Mapping[str, Rows]) -> dict[str, bytes | str]:
    users = [list(USERS_11)]
    for n, p in enumerate(students):
        users.append(row(USERS_11, **_people(p), orgSourcedIds=f"s{p.school}", role="student"))
        if n % 3 == 0:
            parent = {"sourcedId": f"p{n}", "givenName": "Pat", "familyName": p.last_name, "role": "parent"}
            users.append(row(USERS_11, **parent, enabledUser="true", orgSourcedIds="d"))
        if n % every == every - 1:
            teacher = _teacher(n) | {"role": "teacher", "orgSourcedIds": "s0,s1"}
            users.append(row(USERS_11, **teacher, enabledUser="true"))
    alone = {"classes": [["sourcedId", "status", "dateLastModified", "title"], ["c1", "", "", "Algebra, I"]]}
    more = more or alone
    says = {"academicSessions": "absent", "orgs": "bulk", "users": mode} | dict.fromkeys(more, mode)
    files: dict[str, bytes | str] = {
        "manifest.csv": manifest("1.1", "Campus", **says),
        "orgs.csv": table(_orgs(), quoted=True),
        "users.csv": table(users, quoted=True),
    }
    return files | {f"{name}.csv": table(rows, quoted=True) for name, rows in more.items()}


def _power(students: list[Pupil], mode: str, every: int, more: Mapping[str, Rows]) -> dict[str, bytes | str]:
    own = [*reversed(USERS_12), "metadata.power.homeroom", "metadata.power.entryCode"]
    users, roles = [own], [list(ROLES)]
    for n, p in enumerate(students):
        users.append(row(own, **_people(p), primaryOrgSourcedId="d"))
        begins = {"userSourcedId": p.source_id, "beginDate": "2020-08-03", "status": p.status}
        roles.append(
            row(
                ROLES,
                **begins,
                sourcedId=f"r{n}",
                roleType="primary",
                role="student",
                orgSourcedId=f"s{p.school}",
            )
        )
        if n % 10 == 0:  # somebody who also learns elsewhere, and did so last year
            also = begins | {"roleType": "secondary", "role": "student"}
            roles.append(row(ROLES, **also, sourcedId=f"x{n}", orgSourcedId="s1"))
            last = also | {"endDate": "2021-05-28", "sourcedId": f"y{n}", "roleType": "primary"}
            roles.append(row(ROLES, **last, orgSourcedId="s2"))
        if n % every == every - 1:
            users.append(row(own, **_teacher(n), enabledUser="true"))
            roles.append(
                row(
                    ROLES,
                    sourcedId=f"rt{n}",
                    userSourcedId=f"t{n}",
                    roleType="primary",
                    role="teacher",
                    orgSourcedId="s0",
                )
            )
    marked = "\ufeff"
    says = {"orgs": "bulk", "users": mode, "roles": mode, "classes": "absent"} | dict.fromkeys(more, mode)
    files: dict[str, bytes | str] = {
        "manifest.csv": marked + manifest("1.2.1", "Power", **says),
        "orgs.csv": marked + table(_orgs(), end="\n"),
        "users.csv": marked + table(users, end="\n"),
        "roles.csv": marked + table(roles, end="\n"),
        "readme.txt": "Export of the night.",
    }
    return files | {f"{name}.csv": marked + table(rows, end="\n") for name, rows in more.items()}


def _sky(students: list[Pupil], mode: str, every: int, more: Mapping[str, Rows]) -> dict[str, bytes | str]:
    header = [*USERS_11, "metadata.address"]
    users = [[name.lower() for name in header] + ["", ""]]
    for n, p in enumerate(students):
        person = _people(p) | {"enabledUser": str(p.enabled).upper(), "role": "student"}
        orgs = f"d,s{p.school}" if n % 2 else f"s{p.school}, s3"
        address = {"metadata.address": f"{n} Main Street\r\nRiverdale, GA"} if n % 7 == 0 else {}
        users.append(row(header, **person, orgSourcedIds=orgs, **address) + ["", ""])
        if n % every == every - 1:
            users.append(row(header, **_teacher(n), role="Teacher", enabledUser="TRUE") + ["", ""])
    inner = {
        "manifest.csv": manifest("1.1", "Sky", orgs="bulk", users=mode, **dict.fromkeys(more, mode)),
        "orgs.csv": table(_orgs()),
        "users.csv": table(users),
    } | {f"{name}.csv": table(rows) for name, rows in more.items()}
    files: dict[str, bytes | str] = {
        f"OneRoster Export/{name}": text.encode("utf-16") for name, text in inner.items()
    }
    return files | {
        "__MACOSX/OneRoster Export/._users.csv": b"\0\5\26\7",
        "OneRoster Export/.DS_Store": b"\0",
    }
