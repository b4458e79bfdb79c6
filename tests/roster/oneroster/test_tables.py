"""CSV as exports have it: what is read all the same, and what makes a file useless."""

from typing import Any

import pytest

from shared.errors import Rejected
from tests.roster.exports import manifest, table
from tests.roster.oneroster.conftest import AVA, BEN, ORGS, USERS_11, Read, files_11

GOOD = table([USERS_11, AVA, BEN])


def refusal(read: Read, files: dict[str, bytes | str], **limits: int) -> tuple[str, dict[str, Any]]:
    with pytest.raises(Rejected) as caught:
        read(files, **limits)
    return caught.value.reason, caught.value.details


class TestWhatIsReadAllTheSame:
    @pytest.mark.parametrize(
        "content",
        [
            GOOD,
            GOOD.replace("\r\n", "\n"),
            GOOD.replace("\r\n", "\r"),
            GOOD.rstrip(),
            "\ufeff" + GOOD,
            table([USERS_11, AVA, BEN], quoted=True),
            table([USERS_11, AVA, BEN], quoted=True).replace('","', '", "'),
            GOOD.replace("\r\n", ",,,\r\n"),
            GOOD.replace("\r\n", "\r\n\r\n") + ",,,,,,\r\n \r\n"[:9],
            table([[name.upper() for name in USERS_11], AVA, BEN]),
            table([[f" {name} " for name in USERS_11], [f" {cell} " for cell in AVA], BEN]),
            table([list(reversed(row)) for row in (USERS_11, AVA, BEN)]),
            table([["x", *USERS_11, "x"], ["?", *AVA, '5" 3, "tall"'], ["", *BEN, ""]]),
        ],
        ids=lambda value: "",
    )
    def test_any_end_of_line_quoting_order_and_letter_case(self, read: Read, content: str) -> None:
        for encoding in (
            ("utf-8", "utf-16-be", "utf-16-le") if content[0] == "\ufeff" else ("utf-8", "utf-16")
        ):
            seen = read(files_11(users=content.encode(encoding)))
            assert (seen.flaws, seen.passed_over) == ([], {})
            assert [(s.source_id, s.number, s.last_name, s.first_name, s.school) for s in seen.students] == [
                ("u1", "0123456", "De La Cruz", "Ava", "First"),
                ("u2", "7654321", "O'Brien", "Ben", "First"),
            ]

    def test_a_quote_within_a_field_and_a_line_break_within_quotes(self, read: Read) -> None:
        content = table(
            [[*USERS_11, "note"], [*AVA[:3], 'Ava "A" B', *AVA[4:], "one\r\ntwo, and\nthree"], [*BEN, ""]]
        )
        seen = read(files_11(users=content))
        assert [(s.line, s.first_name) for s in seen.students] == [(2, 'Ava "A" B'), (5, "Ben")]

    def test_an_export_without_pupils(self, read: Read) -> None:
        assert read(files_11()).students == []


class TestWhatMakesAFileUseless:
    """Each with the line at which to look."""

    @pytest.mark.parametrize(
        ("content", "line", "problem"),
        [
            ("", 1, "header_missing"),
            (",,,\r\n", 1, "header_missing"),
            ("\t\r\n", 1, "header_missing"),
            (GOOD.replace("givenName", "firstName"), 1, "column_missing"),
            (GOOD.replace("givenName", "Role"), 1, "column_repeated"),
            (GOOD.replace(",", ";"), 1, "delimiter"),
            (GOOD.replace(",", "\t"), 1, "delimiter"),
            (GOOD.replace("Cruz", "Cru\0z"), 2, "nul"),
            (GOOD.encode("utf-16-le"), 1, "nul"),
            (GOOD.replace("Ben", "Bén").encode("cp1252"), 3, "encoding"),
            (GOOD.encode("utf-16")[:-1], 3, "encoding"),
            (GOOD.replace("Ava", '"Ava'), 2, "truncated"),
            (GOOD.replace("Ava", '"Ava" A.'), 2, "quotes"),
            (GOOD.replace("Ava", '"').replace("Ben", '"'), 2, "quotes"),
            (GOOD.replace("Ava", '"') + "x\r\n" * 200, 2, "quotes"),
            (GOOD[:-12], 3, "truncated"),
            (GOOD.replace("Ben", "B" * 70_000), 3, "line_too_long"),
            (GOOD + "u3,1\r\n" * 21, 24, "columns_mismatch"),
        ],
        ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "",
    )
    def test_it_is_refused(self, read: Read, content: str | bytes, line: int, problem: str) -> None:
        reason, details = refusal(read, files_11(users=content))
        assert reason == "csv_invalid"
        assert (details["file"], details["line"], details["problem"]) == ("users.csv", line, problem)

    def test_two_rows_that_stray_quotes_make_one_would_hide_those_between(self, read: Read) -> None:
        """With as many fields as the header has, nobody would miss them but the pupils."""
        between = [[f"x{n}", "7654321", "Doe", "Jo", "s1", "student"] for n in range(5)]
        rows = [[*AVA[:3], "Q", *AVA[4:]], *between, [*BEN[:3], "Q", *BEN[4:]]]
        content = table([USERS_11, *rows]).replace(",Q,", ',",')
        assert refusal(read, files_11(users=content))[1]["problem"] == "quotes"

    def test_a_file_of_too_many_rows(self, read: Read) -> None:
        many = [[f"u{n}", *AVA[1:]] for n in range(9)]
        assert refusal(read, files_11(*many), rows=8) == ("rows_too_many", {"file": "users.csv", "limit": 8})
        assert len(read(files_11(*many), rows=9).students) == 9
        assert refusal(read, files_11(users=GOOD + "\r\n" * 100), rows=50)[0] == "rows_too_many"

    def test_schools_and_roles_are_held_to_the_same(self, read: Read) -> None:
        reason, details = refusal(read, files_11(AVA, orgs=table(ORGS).replace("First", '"First')))
        assert (reason, details["file"], details["problem"]) == ("csv_invalid", "orgs.csv", "truncated")


class TestTheManifest:
    @pytest.mark.parametrize(
        ("says", "problem"),
        [
            (manifest("1.0", users="bulk", orgs="bulk"), "version"),
            (manifest("", users="bulk", orgs="bulk"), "version"),
            (manifest("1.1", users="full", orgs="bulk"), "mode_unknown"),
            (manifest("1.1", users="bulk", orgs="absent"), "file_there"),
            (manifest("1.1", users="bulk", orgs=""), "file_there"),
            (manifest("1.1", users="bulk"), "file_not_named"),
            (manifest("1.1", users="bulk", orgs="bulk", classes="bulk"), "file_missing"),
            (manifest("1.2", users="bulk", orgs="bulk"), "file_needed"),
            (manifest("1.1", users="bulk", orgs="bulk") + "oneroster.version,1.2\r\n", "repeated"),
            (manifest("1.1", users="bulk", orgs="bulk") + "a,b,c\r\n", "row_unreadable"),
        ],
    )
    def test_and_the_files_have_to_be_one_export(self, read: Read, says: str, problem: str) -> None:
        reason, details = refusal(read, files_11(AVA, manifest=says))
        assert (reason, details["file"], details["problem"]) == ("manifest_invalid", "manifest.csv", problem)

    def test_users_and_roles_have_to_be_of_one_kind(self, read: Read) -> None:
        files = files_11(
            AVA, roles=table([["userSourcedId", "role", "orgSourcedId"], ["u1", "student", "s1"]])
        )
        for users, roles in (("bulk", "delta"), ("delta", "bulk")):
            says = manifest("1.2", users=users, roles=roles, orgs="bulk")
            reason, details = refusal(read, files | {"manifest.csv": says})
            assert (reason, details["problem"]) == ("manifest_invalid", "modes_mixed")

    def test_it_has_to_be_there(self, read: Read) -> None:
        reason, details = refusal(read, {"users.csv": GOOD})
        assert (reason, details["problem"]) == ("manifest_invalid", "missing")

    def test_orgs_may_be_absent(self, read: Read) -> None:
        files = files_11(AVA, manifest=manifest("1.1", users="bulk", orgs="absent"))
        del files["orgs.csv"]
        seen = read(files)
        assert (seen.by_id["u1"].school, [f.reason for f in seen.flaws]) == (None, ["org_unknown"])

    def test_files_that_nobody_knows_are_counted(self, read: Read) -> None:
        says = manifest("1.1", users="bulk", orgs="bulk", flights="bulk")
        assert read(files_11(AVA, manifest=says, flights="a\r\n", other="b\r\n")).passed_over == {
            "unknown_files": 1
        }
