"""What an SIS answers over REST says the same as its export as CSV; and whatever it answers, nothing falls over."""

import contextlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.roster.oneroster import rest
from services.roster.oneroster.cells import Flaw
from services.roster.oneroster.export import PersonRow, open_export
from shared.errors import Rejected
from tests.roster import schedules
from tests.roster.exports import SCHOOLS, pupils, school_name, write_export
from tests.roster.given import NOON, POLICY
from tests.roster.oneroster.conftest import taking_staff
from tests.support.sis import Sis, member, other, school_class, session, user

PUPILS = pupils(40)


def page(collection: str, items: Sequence[Any]) -> bytes:
    return msgspec.json.encode({collection: items})


def archive(path: Path, sis: Sis, mode: Any = "bulk", size: int = 7) -> Path:
    """What is pulled from an SIS in pages of that size, as a pull writes it."""
    files = {name: rest.table([header]) for name, header in rest.HEADERS.items()}
    for collection in rest.COLLECTIONS:
        items = sis.items[collection]
        for offset in range(0, len(items), size):
            read = rest.read_page(collection, page(collection, items[offset : offset + size]), offset)
            for name, content in rest.files_of(read).items():
                files[name] += content
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("manifest.csv", rest.manifest(mode, "https://sis.example.org", classes=True))
        for name, content in files.items():
            out.writestr(name, content)
    return path


def read(path: Path) -> list[PersonRow | Flaw]:
    with open_export(path, POLICY, NOON) as export:
        return list(export.persons())


def without_place(rows: Sequence[PersonRow | Flaw]) -> list[Any]:
    said = [msgspec.structs.replace(row, line=0, file="") for row in rows]
    return sorted(said, key=lambda row: row.source_id or "")


def test_it_says_what_the_export_says(tmp_path: Path) -> None:
    by_csv = read(write_export(tmp_path / "a.zip", PUPILS))
    by_rest = read(archive(tmp_path / "b.zip", Sis(PUPILS)))
    assert len(by_rest) == len(PUPILS)
    silent = [msgspec.structs.replace(r, classes=None, unassigned=None, classes_whole=None) for r in by_rest]
    assert without_place(silent) == without_place(by_csv)


def test_it_says_of_classes_what_the_export_says(tmp_path: Path) -> None:
    sis, made = Sis(PUPILS), schedules.schedule([p.source_id for p in PUPILS], [], SCHOOLS)
    sis.items["academicSessions"] = [session(row[0], row[5], row[6]) for row in made["academicSessions"][1:]]
    titles = {row[0]: row[4] for row in made["courses"][1:]}
    sis.items["classes"] = [
        school_class(row[0], row[3] or titles[row[5]], int(row[9][1:]), row[10].split(","))
        for row in made["classes"][1:]
    ]
    sis.items["enrollments"] = [member(row[5], row[3], beginDate=row[8]) for row in made["enrollments"][1:]]
    by_csv = read(write_export(tmp_path / "a.zip", PUPILS, classes=True))
    by_rest = read(archive(tmp_path / "b.zip", sis))
    assert len(by_csv) == len(PUPILS)
    assert without_place(by_rest) == without_place(by_csv)


def test_others_are_passed_over(tmp_path: Path) -> None:
    sis = Sis(PUPILS[:2])
    sis.items["users"] += [other("t1", "teacher"), other("g1", "guardian"), other("g2", "parent")]
    path = archive(tmp_path / "a.zip", sis)
    with open_export(path, taking_staff("off"), NOON) as export:
        assert len(list(export.persons())) == 2
        assert export.passed_over == {"staff": 1, "guardians": 2}
    with open_export(path, taking_staff("username"), NOON) as export:
        [staff] = [row for row in export.persons() if isinstance(row, PersonRow) and row.kind == "staff"]
        assert (staff.number, staff.role, staff.school) == ("e12345", "teacher", school_name(0))


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"status": "tobedeleted"}, "tobedeleted"),
        ({"enabledUser": False}, "disabled"),
        ({"enabledUser": "false"}, "disabled"),
        ({"enabledUser": None}, None),
        ({"status": None}, None),
        ({"roles": [{"role": "student", "roleType": "primary", "endDate": "2026-06-30"}]}, "role_ended"),
        ({"roles": [{"role": "student", "roleType": "primary", "beginDate": "2027-01-01"}]}, "role_not_begun"),
    ],
)  # fmt: skip
def test_who_is_no_student_any_more(tmp_path: Path, changes: Any, gone: str | None) -> None:
    sis = Sis()
    sis.items["users"] = [user(PUPILS[0], **changes)]
    [row] = read(archive(tmp_path / "a.zip", sis))
    assert isinstance(row, PersonRow)
    assert row.gone == gone


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"identifier": None}, "field_empty"),
        ({"identifier": int(PUPILS[0].number)}, "number_malformed"),
        ({"familyName": None}, "field_empty"),
        ({"givenName": "Mary\nAnn"}, "field_control_character"),
        ({"givenName": "Mary\u0000Ann"}, "field_control_character"),
        ({"givenName": "x" * 5000}, "field_too_long"),
        ({"status": "inactive"}, "value_unknown"),
        ({"enabledUser": "perhaps"}, "value_unknown"),
    ],
)
def test_a_value_that_makes_no_sense_costs_its_own_row_only(
    tmp_path: Path, changes: Any, reason: str
) -> None:
    sis = Sis(PUPILS)
    first = next(p for p in PUPILS if p.number.startswith("0")) if "identifier" in changes else PUPILS[0]
    if isinstance(changes.get("identifier"), int):
        changes = {"identifier": int(first.number)}
    sis.items["users"][PUPILS.index(first)] = user(first, **changes)
    rows = read(archive(tmp_path / "a.zip", sis))
    [flaw] = [row for row in rows if isinstance(row, Flaw)]
    assert (flaw.reason, flaw.source_id) == (reason, first.source_id)
    assert len(rows) == len(PUPILS)


@pytest.mark.parametrize(
    ("body", "problem", "at"),
    [
        (b"{}", "collection_missing", None),
        (b'{"users": {}}', "collection", None),
        (b'{"users": [{"sourcedId": "a"}, {}]}', "item", 31),
        (b'{"users": [{"sourcedId": "a", "givenName": 5}]}', "item", 30),
        (b'{"users": [{"sourcedId": "a", "roles": [{"org": "s1"}]}]}', "item", 30),
        (b'{"users": [1]}', "item", 30),
    ],
)
def test_what_is_not_of_the_specifications_shape_is_refused_with_its_place(
    body: bytes, problem: str, at: int | None
) -> None:
    with pytest.raises(Rejected) as refused:
        rest.read_page("users", body, 30)
    assert refused.value.reason == "provider_unexpected"
    assert refused.value.details["problem"] == problem
    assert refused.value.details.get("at") == at


def test_no_value_is_in_a_refusal() -> None:
    with pytest.raises(Rejected) as refused:
        rest.read_page("users", page("users", [{"sourcedId": "a", "grades": {"Ada": "Lovelace"}}]), 0)
    assert "Lovelace" not in str(refused.value.details)
    assert refused.value.details["field"] == "grades"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"users": [{"sourcedId": "a', b"\xff", b"<html>"])
def test_what_was_cut_off_is_worth_another_try(body: bytes) -> None:
    with pytest.raises(rest.NotJson):
        rest.read_page("users", body, 0)


TEXT = st.none() | st.text() | st.text(alphabet='",\r\n\0;\t\x85\u2028 a', max_size=9)
REFERENCE = st.none() | st.fixed_dictionaries({}, optional={"sourcedId": TEXT, "href": TEXT})
ROLES = st.fixed_dictionaries(
    {}, optional={"role": TEXT | st.just("student"), "roleType": TEXT, "org": REFERENCE, "endDate": TEXT}
)
USERS = st.fixed_dictionaries(
    {"sourcedId": st.text() | st.sampled_from(["a", "b"])},
    optional={
        "status": TEXT, "enabledUser": TEXT | st.booleans(), "givenName": TEXT, "familyName": TEXT,
        "identifier": TEXT | st.integers(), "grades": TEXT | st.lists(st.text(), max_size=2),
        "primaryOrg": REFERENCE, "roles": st.none() | st.lists(ROLES, max_size=3),
        "metadata": st.dictionaries(st.text(), TEXT),
    },
)  # fmt: skip


@given(st.lists(USERS, max_size=5), st.sampled_from(["bulk", "delta"]))
def test_whatever_it_says_the_reader_takes_it_row_by_row(
    tmp_path_factory: pytest.TempPathFactory, users: list[Any], mode: str
) -> None:
    sis = Sis()
    sis.items["users"] = users
    rows = read(archive(tmp_path_factory.mktemp("rest") / "a.zip", sis, mode))
    told = {user["sourcedId"].strip() for user in users}
    assert {row.source_id for row in rows if row.source_id is not None} <= told


MEMBERS = st.fixed_dictionaries(
    {"sourcedId": st.text()},
    optional={
        "role": TEXT | st.sampled_from(["student", "teacher"]), "status": TEXT, "beginDate": TEXT, "endDate": TEXT,
        "user": REFERENCE | st.just({"sourcedId": PUPILS[0].source_id}),
        "class": REFERENCE | st.just({"sourcedId": "c1"}),
    },
)  # fmt: skip
CLASSES = st.fixed_dictionaries(
    {"sourcedId": st.text() | st.just("c1")},
    optional={"title": TEXT, "status": TEXT, "school": REFERENCE, "terms": st.none() | st.lists(REFERENCE)},
)


@given(st.lists(CLASSES, max_size=4), st.lists(MEMBERS, max_size=6), st.sampled_from(["bulk", "delta"]))
def test_whatever_it_says_of_classes_everybody_is_taken(
    tmp_path_factory: pytest.TempPathFactory, classes: list[Any], members: list[Any], mode: str
) -> None:
    sis = Sis(PUPILS[:3])
    for one in classes:
        one["terms"] = [term for term in one.get("terms") or () if term is not None]
    sis.items |= {"classes": classes, "enrollments": members}
    rows = read(archive(tmp_path_factory.mktemp("rest") / "a.zip", sis, mode))
    taken = {row.source_id for row in rows if isinstance(row, PersonRow)}
    assert {pupil.source_id for pupil in PUPILS[:3]} <= taken


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["users", "sourcedId", "roles", "org", "grades", "role", "class", "terms", "user"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.sampled_from(rest.COLLECTIONS), st.binary() | JSON.map(msgspec.json.encode), st.none() | JSON)
def test_no_answer_makes_it_fall_over(collection: rest.Collection, body: bytes, item: Any) -> None:
    for answered in (body, page(collection, [item])):
        with contextlib.suppress(Rejected, rest.NotJson):
            rest.files_of(rest.read_page(collection, answered, 0))
