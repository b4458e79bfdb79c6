"""What an export says of each student, whatever it looks like."""

import tracemalloc
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from services.roster.oneroster.export import open_export
from tests.roster.exports import ORIGINS, Origin, Pupil, manifest, pupils, table, write_export
from tests.roster.given import POLICY
from tests.roster.oneroster.conftest import (
    AS_OF,
    AVA,
    BEN,
    EVA,
    USERS_11,
    Read,
    files_11,
    files_12,
    look,
    taking_staff,
)


@pytest.mark.parametrize("origin", ORIGINS)
class TestOfThreeOrigins:
    def test_each_says_the_same_of_the_same_pupils(self, tmp_path: Path, origin: Origin) -> None:
        some = pupils(300)
        seen = look(write_export(tmp_path / "export.zip", some, origin, staff=True))
        assert seen.flaws == []
        assert {
            s.source_id: (s.number, s.last_name, s.first_name, s.school, s.grade) for s in seen.students
        } == {p.source_id: (p.number, p.last_name, p.first_name, p.school_name, p.grade) for p in some}
        assert not any(s.gone or s.partial for s in seen.students)
        assert (seen.mode, seen.source) == ("bulk", origin.capitalize())
        assert {(s.number, s.first_name, (s.role or "").lower()) for s in seen.staff} == {
            (f"e{n:05}", "Terry", "teacher") for n in range(19, 300, 20)
        }

    def test_who_was_disabled_is_gone(self, tmp_path: Path, origin: Origin) -> None:
        first, *others = pupils(30)
        first = msgspec.structs.replace(first, enabled=False)
        seen = look(write_export(tmp_path / "export.zip", [first, *others], origin))
        assert {s.source_id: s.gone for s in seen.students if s.gone} == {first.source_id: "disabled"}

    def test_a_delta_says_who_is_to_be_deleted(self, tmp_path: Path, origin: Origin) -> None:
        first, *others = pupils(30)
        first = msgspec.structs.replace(first, status="tobedeleted")
        others = [msgspec.structs.replace(p, status="active") for p in others]
        seen = look(write_export(tmp_path / "export.zip", [first, *others], origin, mode="delta"))
        assert seen.mode == "delta"
        assert {s.source_id: s.gone for s in seen.students if s.gone} == {first.source_id: "tobedeleted"}
        assert len(seen.students) == 30

    def test_the_line_is_where_the_row_begins(self, tmp_path: Path, origin: Origin) -> None:
        some = pupils(30)
        wrong = [p.source_id for p in some[3::4]]
        some = [msgspec.structs.replace(p, number="12") if p.source_id in wrong else p for p in some]
        seen = look(write_export(tmp_path / "export.zip", some, origin))
        lines = {flaw.source_id: flaw.line for flaw in seen.flaws}
        assert lines.keys() == set(wrong)
        assert lines == {
            p.source_id: _line_of(tmp_path / "export.zip", p) for p in some if p.source_id in wrong
        }


def _line_of(path: Path, pupil: Pupil) -> int:
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("/users.csv") or n == "users.csv")
        content = archive.read(name)
    text = content.decode("utf-16" if content.startswith(b"\xff\xfe") else "utf-8-sig")
    return text[: text.index(pupil.source_id)].count("\n") + 1


class TestOfVersion11:
    def test_the_first_school_counts_of_several_orgs(self, read: Read) -> None:
        seen = read(files_11([*AVA[:4], "d, s1", "student"]))
        assert seen.by_id["u1"].school == "First"

    def test_a_parent_is_passed_over_whatever_their_row_holds_and_staff_where_the_policy_takes_none(
        self, read: Read
    ) -> None:
        rows = [["", "", "", "", "", "Teacher"], ["p", "x", "", "", "", "parent"]]
        seen = read(files_11(AVA, *rows), policy=taking_staff("off"))
        assert [s.source_id for s in seen.students] == ["u1"]
        assert seen.flaws == []
        assert seen.passed_over == {"staff": 1, "guardians": 1}

    def test_staff_has_a_role_an_employee_number_and_no_grade(self, read: Read) -> None:
        header = [*USERS_11, "grades"]
        seen = read(files_11([*EVA, "05"], ["t2", "12345", "Ng", "Al", "s1", "Principal", ""], header=header))
        assert {s.source_id: (s.kind, s.number, s.school, s.role, s.grade) for s in seen.staff} == {
            "t1": ("staff", "e99999", "First", "teacher", None),
            "t2": ("staff", "e12345", "First", "Principal", None),
        }

    @pytest.mark.parametrize(
        ("number", "reason", "hint"),
        [("", "field_empty", None), ("0123456", "number_malformed", "number_length"),
         ("e9999O", "number_malformed", "number_letter_o")],
    )  # fmt: skip
    def test_staff_without_an_employee_number_is_told_where(
        self, read: Read, number: str, reason: str, hint: str | None
    ) -> None:
        (flaw,) = read(files_11(AVA, ["t1", number, *EVA[2:]])).flaws
        assert (flaw.source_id, flaw.line, flaw.column, flaw.reason, flaw.details.get("hint")) == (
            "t1", 3, "identifier", reason, hint,
        )  # fmt: skip

    def test_the_number_may_be_the_username(self, read: Read) -> None:
        header = [*USERS_11, "username"]
        rows = [[*AVA, "S0123456"], ["t1", "hr-7", *EVA[2:], "E99999"]]
        seen = read(files_11(*rows, header=header), policy=taking_staff("username"))
        assert {s.source_id: s.number for s in seen.staff} == {"t1": "e99999"}
        assert [s.number for s in seen.students] == ["0123456"]

    def test_a_username_that_is_not_read_makes_no_difference(self, read: Read) -> None:
        seen = read(files_11([*EVA, "a"], [*EVA, "b"], header=[*USERS_11, "username"]))
        assert (len(seen.staff), seen.flaws, seen.passed_over["repeated"]) == (1, [], 1)

    def test_a_folder_is_read_as_a_zip_is(self, tmp_path: Path) -> None:
        for name, content in files_11(AVA).items():
            (tmp_path / name.upper()).write_text(str(content), newline="")
        assert look(tmp_path).by_id["u1"].last_name == "De La Cruz"


class TestOfVersion12:
    def test_who_is_a_student_anywhere_is_one_also_when_that_has_ended(self, read: Read) -> None:
        users = [["u1", "0123456", "Cruz", "Ava", "", ""], ["u2", "e99999", "Ng", "Eva", "", ""]]
        roles = [
            ["u1", "aide", "s1", "primary", "", "", ""],
            ["u1", "student", "s2", "secondary", "", "", "2020-06-01"],
            ["u2", "proctor", "s1", "secondary", "", "", ""],
            ["u2", "teacher", "s2", "primary", "", "", ""],
        ]
        seen = read(files_12(users, roles))
        assert {s.source_id: (s.kind, s.gone) for s in seen.by_id.values()} == {
            "u1": ("student", "role_ended"),
            "u2": ("staff", None),
        }
        assert (seen.by_id["u2"].role, seen.by_id["u2"].school) == ("teacher", "Second")

    def test_in_a_delta_the_number_says_what_somebody_is_if_nothing_else_does(self, read: Read) -> None:
        users = [["u1", "0123456", "Cruz", "Ava", "active", ""], ["t1", "e99999", "Ng", "Eva", "active", ""]]
        seen = read(files_12([*users, ["t2", "x", "Ng", "Al", "active", ""]], [], mode="delta"))
        assert {s.source_id: (s.kind, s.number, s.partial) for s in seen.by_id.values()} == {
            "u1": ("student", "0123456", True),
            "t1": ("staff", "e99999", True),
        }
        assert [(flaw.source_id, flaw.reason) for flaw in seen.flaws] == [("t2", "number_malformed")]

    def test_in_a_delta_the_role_alone_may_be_staffs(self, read: Read) -> None:
        seen = read(files_12([], [["t1", "principal", "s1", "primary", "active", "", ""]], mode="delta"))
        (row,) = seen.staff
        assert (row.source_id, row.school, row.role, row.partial) == ("t1", "First", "principal", True)

    PERSON = ("u1", "0123456", "De La Cruz", "Ava", "", "")

    @pytest.mark.parametrize(
        ("begins", "ends", "gone"),
        [
            ("", "", None),
            ("2026-08-03", "2026-08-03", None),
            ("2026-08-03T00:00:00.000Z", "2027-05-28", None),
            ("2026-08-04", "", "role_not_begun"),
            ("2025-08-04", "2026-08-02", "role_ended"),
        ],
    )
    def test_a_role_holds_from_its_first_day_to_its_last(
        self, read: Read, begins: str, ends: str, gone: str | None
    ) -> None:
        role = ["u1", "student", "s1", "primary", "", begins, ends]
        assert read(files_12([[*self.PERSON]], [role])).by_id["u1"].gone == gone

    def test_a_day_is_a_day_in_the_district(self, read: Read) -> None:
        evening = datetime(2026, 8, 4, 3, tzinfo=UTC)  # the 3rd still, in Georgia
        role = ["u1", "student", "s1", "primary", "", "2026-08-04", ""]
        assert read(files_12([[*self.PERSON]], [role]), evening).by_id["u1"].gone == "role_not_begun"

    def test_of_several_roles_the_one_that_holds_counts_then_the_primary_one(self, read: Read) -> None:
        roles = [
            ["u1", "student", "s1", "primary", "", "", "2026-05-28"],
            ["u1", "student", "d", "secondary", "", "", ""],
            ["u1", "student", "s2", "primary", "", "", ""],
            ["u1", "teacher", "s1", "primary", "", "", ""],
        ]
        seen = read(files_12([[*self.PERSON]], roles))
        assert (seen.by_id["u1"].school, seen.by_id["u1"].gone) == ("Second", None)

    def test_whose_role_was_deleted_is_gone(self, read: Read) -> None:
        seen = read(files_12([[*self.PERSON]], [["u1", "student", "s1", "", "tobedeleted", "", ""]]))
        assert seen.by_id["u1"].gone == "role_ended"

    def test_a_user_without_any_role_is_passed_over(self, read: Read) -> None:
        seen = read(files_12([[*self.PERSON]], [["u9", "student", "s1", "", "", "", ""]]))
        assert seen.students == []
        assert seen.passed_over == {"no_role": 1, "roles_without_user": 1}

    def test_a_role_that_cannot_be_read_makes_nobody_gone(self, read: Read) -> None:
        seen = read(files_12([[*self.PERSON]], [["u1", "student", "s1", "primary", "", "8/3/2026", ""]]))
        assert seen.students == []
        (flaw,) = seen.flaws
        assert (flaw.file, flaw.line, flaw.column, flaw.value) == ("roles.csv", 2, "beginDate", "8/3/2026")
        assert (flaw.reason, flaw.source_id, flaw.taken) == ("date_malformed", "u1", False)

    def test_beside_a_role_that_holds_it_is_a_remark(self, read: Read) -> None:
        bad = ["u1", "student", "s1", "primary", "", "8/3/2026", ""]
        seen = read(files_12([[*self.PERSON]], [bad, ["u1", "student", "s2", "primary", "", "", ""]]))
        assert seen.by_id["u1"].school == "Second"
        assert [flaw.taken for flaw in seen.flaws] == [True]


class TestOfADelta:
    PERSON = ("u1", "0123456", "De La Cruz", "Ava", "active", "s1")

    def test_a_user_whose_role_did_not_change_may_be_a_student(self, read: Read) -> None:
        seen = read(
            files_12([[*self.PERSON]], [["t1", "teacher", "s1", "primary", "active", "", ""]], "delta")
        )
        row = seen.by_id["u1"]
        assert (row.partial, row.number, row.school, row.gone) == (True, "0123456", "First", None)

    def test_a_role_alone_says_where_somebody_is_now(self, read: Read) -> None:
        roles = [
            ["u5", "student", "s1", "primary", "tobedeleted", "", ""],
            ["u5", "student", "s2", "primary", "active", "", ""],
            ["u6", "student", "s2", "primary", "tobedeleted", "", ""],
            ["u7", "student", "s2", "secondary", "tobedeleted", "", ""],
        ]
        seen = read(files_12([[*self.PERSON]], roles, "delta")).by_id
        assert (seen["u5"].school, seen["u5"].gone, seen["u5"].number) == ("Second", None, None)
        assert seen["u6"].gone == "role_ended"
        assert (seen["u7"].school, seen["u7"].gone) == (None, None)
        assert all(seen[user].partial and seen[user].file == "roles.csv" for user in ("u5", "u6", "u7"))

    def test_it_may_say_nothing_of_users(self, read: Read) -> None:
        says = manifest("1.2", orgs="delta", users="absent", roles="absent")
        files = {"manifest.csv": says, "orgs.csv": table([["sourcedId", "name"], ["s1", "First"]])}
        seen = read(files)
        assert (seen.mode, seen.students) == ("delta", [])


MORE = [[f"u{n}", f"{n:07}", "Doe", "Jo", "s1", "student"] for n in range(3, 9)]


class TestOfARowThatCannotBeTaken:
    @pytest.mark.parametrize(
        ("column", "value", "reason", "details"),
        [
            ("identifier", "", "field_empty", {"field": "identifier"}),
            ("identifier", "123456", "number_malformed", {"hint": "number_length", "digits": 7}),
            ("identifier", "o123456", "number_malformed", {"hint": "number_letter_o", "digits": 7}),
            ("identifier", "1.23457E+06", "number_malformed", {"hint": "number_malformed", "digits": 7}),
            ("familyName", "", "field_empty", {"field": "familyName"}),
            ("givenName", "A" * 256, "field_too_long", {"field": "givenName", "limit": 255}),
            ("familyName", "De\nLa", "field_control_character", {"field": "familyName"}),
        ],
    )
    def test_it_is_told_with_its_place(
        self, read: Read, column: str, value: str, reason: str, details: dict[str, object]
    ) -> None:
        bad = dict(zip(USERS_11, AVA, strict=True)) | {column: value}
        seen = read(files_11(BEN, list(bad.values())))
        assert list(seen.by_id) == ["u2"]
        (flaw,) = seen.flaws
        assert (flaw.file, flaw.line, flaw.column, flaw.value) == ("users.csv", 3, column, value[:80])
        assert (flaw.reason, flaw.details, flaw.source_id) == (reason, details, "u1")

    def test_an_unknown_role_or_state_is_not_guessed(self, read: Read) -> None:
        header = [*USERS_11, "status", "enabledUser"]
        seen = read(
            files_11(
                [*AVA[:5], "pupil", "", ""],
                [*BEN, "inactive", ""],
                ["u3", *AVA[1:], "", "perhaps"],
                header=header,
            )
        )
        assert seen.students == []
        assert [(f.column, f.value, f.source_id) for f in seen.flaws] == [
            ("role", "pupil", "u1"),
            ("status", "inactive", "u2"),
            ("enabledUser", "perhaps", "u3"),
        ]
        assert {f.reason for f in seen.flaws} == {"value_unknown"}

    def test_an_id_twice_with_different_words_is_taken_neither_time(self, read: Read) -> None:
        seen = read(files_11(AVA, BEN, [*AVA[:3], "Eva", *AVA[4:]]))
        assert list(seen.by_id) == ["u2"]
        assert [(f.line, f.reason, f.source_id) for f in seen.flaws] == [
            (2, "source_id_repeated", "u1"),
            (4, "source_id_repeated", "u1"),
        ]

    def test_an_id_twice_with_the_same_words_is_taken_once(self, read: Read) -> None:
        seen = read(files_11(AVA, BEN, AVA))
        assert [s.line for s in seen.students] == [2, 3]
        assert (seen.flaws, seen.passed_over) == ([], {"repeated": 1})

    def test_a_row_without_an_id_is_nobodys(self, read: Read) -> None:
        seen = read(files_11(["", *AVA[1:]], BEN))
        assert [(f.reason, f.source_id) for f in seen.flaws] == [("field_empty", None)]

    def test_a_torn_row_is_told_with_whom_it_is_about(self, read: Read) -> None:
        long = ["u1", "0123456", "De La Cruz", "Jr.", "Ava", "s1", "student"]
        seen = read(files_11(long, ["u2", "7"], BEN, *MORE))
        assert [(f.line, f.reason, f.source_id, f.details) for f in seen.flaws] == [
            (2, "columns_mismatch", "u1", {"excess": 1}),
            (3, "columns_mismatch", "u2", {"excess": -4}),
            (4, "source_id_repeated", "u2", {}),
        ]

    @pytest.mark.parametrize(
        "torn",
        [
            ["De La Cruz", "Jr.", "u1", "0123456", "Ava", "s1", "student"],  # what is the third field?
            ["De La Cruz", "u"],  # it may have been cut within the id
            [
                "De La Cruz",
                "u1",
                "0123456",
                "Ava",
                "s1",
                "studentO'Brien",
                "u2",
                "7654321",
                "Ben",
                "s1",
                "student",
            ],
        ],
    )
    def test_a_torn_row_of_which_nobody_can_tell_whose_it_is(self, read: Read, torn: list[str]) -> None:
        def moved(row: list[str]) -> list[str]:
            return [row[2], row[0], row[1], *row[3:]]

        seen = read(files_11(torn, *map(moved, MORE), header=moved(USERS_11)))
        assert [(f.reason, f.source_id) for f in seen.flaws] == [("columns_mismatch", None)]

    def test_an_unknown_school_is_told_once_and_its_pupils_are_taken(self, read: Read) -> None:
        seen = read(files_11([*AVA[:4], "s9", "student"], [*BEN[:4], "s9", "student"]))
        assert [(s.source_id, s.school) for s in seen.students] == [("u1", None), ("u2", None)]
        (flaw,) = seen.flaws
        assert (flaw.reason, flaw.line, flaw.value, flaw.taken) == ("org_unknown", 2, "s9", True)
        assert seen.passed_over == {"unknown_org": 2}


@pytest.mark.parametrize("origin", ORIGINS)
def test_what_is_kept_of_each_person_is_some_hundred_bytes(tmp_path: Path, origin: Origin) -> None:
    path = write_export(tmp_path / "export.zip", pupils(5000), origin)
    read_through(path)  # what is made once does not count
    tracemalloc.start()
    try:
        assert read_through(path) == 5000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000 + 5000 * 600
    finally:
        tracemalloc.stop()


def read_through(path: Path) -> int:
    with open_export(path, POLICY, AS_OF) as export:
        return sum(1 for _ in export.persons())
