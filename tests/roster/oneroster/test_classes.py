"""Which classes an export says that people are in, or teach."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.roster.events import Assignment
from services.roster.oneroster.export import PersonRow, open_export
from shared.policy import Policy
from tests.roster import exports, schedules
from tests.roster.exports import ORIGINS, Origin, manifest, table
from tests.roster.given import POLICY
from tests.roster.oneroster.conftest import AS_OF, AVA, BEN, EVA, USERS_11, Read, files_11, look

CLASSES = ["sourcedId", "status", "title", "schoolSourcedId", "termSourcedIds", "courseSourcedId"]
ALGEBRA = ["c1", "", "Algebra", "s1", "y1", ""]
BIOLOGY = ["c2", "", "Biology", "s1", "", ""]
MEMBERS = ["userSourcedId", "classSourcedId", "role", "status", "beginDate", "endDate"]
SESSIONS = [
    ["sourcedId", "startDate", "endDate"],
    ["y1", "2026-08-03", "2027-01-04"],
    ["y2", "2027-01-04", "2027-05-29"],
]


def files(
    *members: list[str], classes: Any = (ALGEBRA, BIOLOGY), people: Any = (AVA, BEN, EVA), **said: Any
) -> Any:
    """An export of 1.1 with these enrollments; modes of files, and files, may be said otherwise."""
    modes = {
        "users": "bulk",
        "orgs": "bulk",
        "classes": "bulk",
        "enrollments": "bulk",
        "academicSessions": "bulk",
    }
    modes |= {name: said.pop(name) for name in list(said) if name in modes}
    return files_11(
        *people,
        **{
            "classes": table([CLASSES, *classes]),
            "enrollments": table([MEMBERS, *members]),
            "academicSessions": table(said.pop("sessions", SESSIONS)),
            "manifest": manifest("1.1", **{name: mode for name, mode in modes.items() if mode}),
        }
        | said,
    )


def without(made: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: content for name, content in made.items() if name.removesuffix(".csv") not in names}


def member(user: str, class_id: str = "c1", role: str = "student", status: str = "", *days: str) -> list[str]:
    return [user, class_id, role, status, *days, *["", ""][len(days) :]]


def of(person: PersonRow) -> list[Assignment] | None:
    return None if person.classes is None else msgspec.json.decode(person.classes, type=list[Assignment])


def ids(person: PersonRow) -> list[str]:
    return [a.class_id for a in of(person) or ()]


def in_algebra(
    role: Any = "student", begins_on: str | None = "2026-08-03", ends_on: str | None = "2027-01-03"
) -> Any:
    days = {"begins_on": begins_on, "ends_on": ends_on}
    told = {"class_id": "c1", "role": role, "title": "Algebra", "school": "First", "exported": True} | days
    return msgspec.convert(told, Assignment)


def test_a_class_with_its_teacher_its_pupils_and_the_days_of_its_term(read: Read) -> None:
    """A term ends the day before its `endDate`."""
    seen = read(
        files(member("u1"), member("u2", "c2"), member("t1", role="teacher"), member("t1", "c2", "teacher"))
    )
    people = seen.by_id
    assert of(people["u1"]) == [in_algebra()]
    assert of(people["t1"]) == [
        in_algebra("teacher"),
        Assignment(class_id="c2", role="teacher", title="Biology", school="First", exported=True),
    ]
    assert ids(people["u2"]) == ["c2"]
    assert seen.flaws == []
    assert {p.classes_whole for p in people.values()} == {True}


def test_who_is_in_no_class_is_said_to_be_in_none(read: Read) -> None:
    [ava, ben] = read(files(member("u2"), people=[AVA, BEN])).students
    assert (of(ava), ava.classes_whole, ids(ben)) == ([], True, ["c1"])


@pytest.mark.parametrize("missing", ["classes", "enrollments"])
def test_with_one_of_the_two_files_nothing_is_said_of_classes(read: Read, missing: str) -> None:
    says = {"users": "bulk", "orgs": "bulk", "enrollments": "bulk", "classes": "bulk"} | {missing: "absent"}
    made = files(member("u1"), manifest=manifest("1.1", academicSessions="bulk", **says))
    seen = read(without(made, missing))
    assert {p.classes for p in seen.by_id.values()} == {None}
    assert seen.flaws == []


def test_a_policy_may_say_that_classes_come_from_elsewhere(read: Read) -> None:
    imports = msgspec.structs.replace(POLICY.imports, classes=False)
    policy: Policy = msgspec.structs.replace(POLICY, imports=imports)
    broken = files(member("u1"), member("u9", "c9"))
    seen = read(broken, policy=policy)
    assert (seen.by_id["u1"].classes, seen.flaws) == (None, [])


@pytest.mark.parametrize(
    ("days", "begins_on", "ends_on"),
    [
        (("2026-09-01", ""), "2026-09-01", "2027-01-03"),
        (("", "2026-10-01"), "2026-08-03", "2026-09-30"),
        (("2025-08-03", "2026-05-28"), "2025-08-03", "2026-05-27"),  # over, and still in the export
        (("2027-08-03T00:00:00Z", "2028-05-28"), "2027-08-03", "2028-05-27"),
    ],
)
def test_an_enrollments_own_days_count_before_the_terms(
    read: Read, days: tuple[str, str], begins_on: str, ends_on: str
) -> None:
    [ava] = read(files(member("u1", "c1", "student", "", *days), people=[AVA])).students
    assert of(ava) == [in_algebra(begins_on=begins_on, ends_on=ends_on)]


def test_a_class_of_several_terms_lasts_from_the_first_to_the_last(read: Read) -> None:
    [ava] = read(
        files(member("u1"), people=[AVA], classes=[["c1", "", "Algebra", "s1", "y2, y1", ""]])
    ).students
    assert of(ava) == [in_algebra(ends_on="2027-05-28")]


@pytest.mark.parametrize(
    "gone",
    [
        member("u1", status="tobedeleted"),
        member("u1", "c1", "student", "", "2026-08-03", "2026-08-03"),
        member("u1", "c3"),
    ],
    ids=["deleted", "never a day", "class deleted"],
)
def test_what_is_no_membership(read: Read, gone: list[str]) -> None:
    deleted = ["c3", "tobedeleted", "Old", "s1", "", ""]
    seen = read(files(gone, people=[AVA], classes=[ALGEBRA, deleted]))
    assert [(of(p), p.classes_whole) for p in seen.students] == [([], True)]
    assert seen.flaws == []


def test_of_several_enrollments_in_one_class_the_one_counts_that_holds(read: Read) -> None:
    ended = member("u1", "c1", "student", "", "2026-01-05", "2026-05-28")
    later = member("u1", "c1", "student", "", "2026-12-01", "2027-05-28")
    holds = member("u1", "c1", "student", "", "2026-08-03", "2026-10-01")
    deleted = member("u1", status="tobedeleted")
    [ava] = read(files(deleted, ended, later, holds, people=[AVA])).students
    assert of(ava) == [in_algebra(begins_on="2026-08-03", ends_on="2026-09-30")]
    [ava] = read(files(ended, later, deleted, people=[AVA])).students
    assert of(ava) == [in_algebra(begins_on="2026-12-01", ends_on="2027-05-27")]


def test_the_title_is_the_courses_where_the_class_has_none(read: Read) -> None:
    made = files(
        member("u1"), people=[AVA], classes=[["c1", "", "", "s1", "y1", "k1"]],
        courses=table([["sourcedId", "title"], ["k1", "Algebra"]]),
    )  # fmt: skip
    named = {"users": "bulk", "orgs": "bulk", "classes": "bulk", "enrollments": "bulk", "courses": "bulk"}
    says = manifest("1.1", **named, academicSessions="bulk")
    [ava] = read(made | {"manifest.csv": says}).students
    assert of(ava) == [in_algebra()]


# --- What is wrong


@pytest.mark.parametrize(
    ("row", "column", "value", "reason"),
    [
        (member("u9"), "userSourcedId", "u9", "user_unknown"),
        (member("u1", "c9"), "classSourcedId", "c9", "class_unknown"),
        (member("u1", ""), "classSourcedId", "", "field_empty"),
        (member("u1", role="pupil"), "role", "pupil", "value_unknown"),
        (member("u1", role="teacher"), "role", "teacher", "kind_differs"),
        (member("t1"), "role", "student", "kind_differs"),
        (member("u1", status="gone"), "status", "gone", "value_unknown"),
        (member("u1", "c1", "student", "", "8/3/26"), "beginDate", "8/3/26", "date_malformed"),
        (member("u1", "c1", "student", "", "2026-08-03", "2026-08-02"), "endDate", "2026-08-02", "dates_reversed"),
        ([*member("u1"), "x"], None, None, "columns_mismatch"),
    ],
)  # fmt: skip
def test_a_row_that_is_wrong_is_told_with_its_place(
    read: Read, row: list[str], column: str | None, value: str | None, reason: str
) -> None:
    seen = read(files(member("u1", "c2"), row))
    [flaw] = seen.flaws
    assert (flaw.file, flaw.line, flaw.column, flaw.value, flaw.reason) == (
        "enrollments.csv",
        3,
        column,
        value,
        reason,
    )
    assert flaw.source_id == row[0]
    assert not flaw.taken
    assert ids(seen.by_id["u1"]) == ["c2"]


def test_a_row_that_cannot_be_read_spares_its_user(read: Read) -> None:
    seen = read(files(member("u1", "c2"), member("u1", "c1", "student", "", "8/3/26"), member("u2", "c1")))
    people = seen.by_id
    assert (ids(people["u1"]), people["u1"].classes_whole, people["u1"].unassigned) == (["c2"], False, [])
    assert people["u2"].classes_whole is True


def test_a_row_of_which_nobody_can_tell_whose_it_is_spares_everybody(read: Read) -> None:
    seen = read(files(member(""), member("u2")))
    assert {p.classes_whole for p in seen.by_id.values() if p.classes} == {False}
    assert of(seen.by_id["u1"]) is None
    assert [f.source_id for f in seen.flaws] == [None]


def test_a_class_whose_row_cannot_be_read_is_told_once_and_spares_its_members(read: Read) -> None:
    twice = ["c1", "", "Algebra II", "s1", "", ""]
    seen = read(
        files(member("u1"), member("u1", "c2"), member("u2", "c2"), classes=[ALGEBRA, BIOLOGY, twice])
    )
    [flaw] = seen.flaws
    assert (flaw.file, flaw.line, flaw.reason) == ("classes.csv", 4, "source_id_repeated")
    assert (ids(seen.by_id["u1"]), seen.by_id["u1"].classes_whole) == (["c2"], False)
    assert seen.by_id["u2"].classes_whole is True


def test_a_class_is_taken_without_the_school_and_the_term_that_are_not_there(read: Read) -> None:
    seen = read(files(member("u1"), people=[AVA], classes=[["c1", "", "Algebra", "s9", "y9", ""], BIOLOGY]))
    assert [(f.line, f.column, f.value, f.reason, f.taken) for f in seen.flaws] == [
        (2, "schoolSourcedId", "s9", "org_unknown", True),
        (2, "termSourcedIds", "y9", "session_unknown", True),
    ]
    assert of(seen.students[0]) == [Assignment(class_id="c1", role="student", title="Algebra", exported=True)]


def test_a_term_that_makes_no_sense_is_told(read: Read) -> None:
    seen = read(files(member("u1"), people=[AVA], sessions=[SESSIONS[0], ["y1", "2026-08-03", "2025-08-03"]]))
    assert [(f.file, f.line, f.column, f.reason, f.taken) for f in seen.flaws] == [
        ("academicSessions.csv", 2, "endDate", "dates_reversed", False),
        ("classes.csv", 2, "termSourcedIds", "session_unknown", True),
    ]


def test_who_is_neither_teacher_nor_student_of_the_class_and_who_is_not_taken_is_passed_over(
    read: Read,
) -> None:
    parent = ["p1", "", "Cruz", "Pat", "d", "parent"]
    seen = read(
        files(
            member("t1", role="proctor"), member("t1", role="ext:coach"), member("p1"), people=[parent, EVA]
        )
    )
    assert (seen.flaws, of(seen.by_id["t1"])) == ([], [])
    assert seen.passed_over == {"guardians": 1, "other_members": 2, "members_not_taken": 1}


def test_a_person_has_no_more_classes_than_are_kept_and_those_that_ended_first_go(read: Read) -> None:
    classes = [[f"c{n:03}", "", "", "", "", ""] for n in range(120)]
    past = [member("u1", f"c{n:03}", "student", "", "", f"20{n:02}-05-28") for n in range(10, 26)]
    now = [member("u1", f"c{n:03}") for n in range(26, 116)]
    seen = read(files(*past, *now, people=[AVA], classes=classes))
    assert ids(seen.students[0]) == [f"c{n:03}" for n in range(16, 116)]
    assert (seen.flaws, seen.passed_over) == ([], {"classes_ended": 6})

    seen = read(files(*now, *(member("u1", f"c{n:03}") for n in range(15)), people=[AVA], classes=classes))
    assert [(f.reason, f.source_id) for f in seen.flaws] == [("classes_too_many", "u1")]
    assert (seen.students[0].number, of(seen.students[0])) == (AVA[1], None)


def test_of_many_flaws_the_first_are_told_and_all_are_counted(tmp_path: Path) -> None:
    made = exports.write_zip(tmp_path / "a.zip", files(*[member("u1", f"x{n}") for n in range(1500)]))
    with open_export(made, POLICY, AS_OF) as export:
        told = [each for each in export.persons() if not isinstance(each, PersonRow)]
        assert (len(told), export.untold) == (1000, {"class_unknown": 500})


# --- What changed only


def test_a_delta_says_what_has_changed(read: Read) -> None:
    delta = {"users": "delta", "enrollments": "delta"}
    members = [
        member("u1", "c1"),
        member("u1", "c2", status="tobedeleted"),
        member("u2", "c2"),
        member("t1", role="teacher"),
    ]
    seen = read(files(*members, people=[AVA], **delta))
    people = {p.source_id: p for p in (*seen.students, *seen.staff)}
    assert (ids(people["u1"]), people["u1"].unassigned, people["u1"].classes_whole) == (["c1"], ["c2"], False)
    assert (people["u2"].partial, people["u2"].number, people["u2"].kind, people["u2"].line) == (
        True,
        None,
        "student",
        4,
    )
    assert (people["u2"].file, ids(people["u2"])) == ("enrollments.csv", ["c2"])
    assert (people["t1"].kind, ids(people["t1"])) == ("staff", ["c1"])


@pytest.mark.parametrize("mode", ["delta", "absent"])
def test_a_delta_names_classes_of_which_it_says_nothing_else(read: Read, mode: str) -> None:
    members = [member("u1", "c9"), member("u1", "c8", status="tobedeleted")]
    modes = {
        "users": "delta",
        "enrollments": "delta",
        "academicSessions": "bulk",
        "orgs": "bulk",
        "classes": mode,
    }
    made = files(*members, people=[], manifest=manifest("1.1", **modes))
    [ava] = read(without(made, "classes") if mode == "absent" else made).students
    [told] = msgspec.json.decode(ava.classes or "[]")
    assert (told["class_id"], told["known"], told["line"]) == ("c9", False, 2)
    assert ava.unassigned == ["c8"]


def test_who_leaves_with_a_delta_is_one_row(read: Read) -> None:
    left = [*AVA, "tobedeleted"]
    made = files(
        member("u1"),
        people=[left],
        header=[*USERS_11, "status"],
        users="delta",
        enrollments="delta",
    )
    [row] = read(made).students
    assert (row.gone, row.classes) == ("tobedeleted", None)


# --- Whole exports of three origins


@pytest.mark.parametrize("origin", ORIGINS)
def test_the_same_classes_whoever_made_the_export(tmp_path: Path, origin: Origin) -> None:
    pupils = exports.pupils(60)
    seen = look(exports.write_export(tmp_path / "a.zip", pupils, origin, staff=True, classes=True))
    assert seen.flaws == []
    people = seen.by_id
    for n, pupil in enumerate(pupils):
        section = n // schedules.SECTION
        assert ids(people[pupil.source_id]) == [
            schedules.class_id(section, k) for k in range(schedules.PERIODS)
        ]
    [first, *_] = of(people[pupils[0].source_id]) or ()
    assert (first.title, first.school, str(first.ends_on)) == (
        "Algebra",
        exports.school_name(0),
        "2027-01-03",
    )
    taught = [a for p in seen.staff for a in of(p) or ()]
    assert {a.role for a in taught} == {"teacher"}
    assert len(taught) == 3 * schedules.PERIODS
