"""Classes that come with exports, through the whole service: from the upload to what the help desk sees of a class."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from shared import clock
from tests.roster import schedules
from tests.roster.exports import Pupil, manifest, pupils, school_name, table, write_zip
from tests.roster.given import cloud_event
from tests.roster.importing import District, some
from tests.roster.oneroster.conftest import ORGS

PUPILS = pupils(40)
ADA, BOB, *OTHERS = PUPILS


async def take(district: District, students: list[Pupil] = PUPILS, **more: Any) -> Any:
    return await district.take(students, **{"staff": True, "classes": True} | more)


async def with_files(
    district: District,
    members: list[list[str]],
    query: str = "",
    mode: Literal["bulk", "delta"] = "bulk",
    without: Sequence[str] = (),
) -> Any:
    """Import the same people with these enrollments; of a delta they are all there is, beside every class."""
    files = schedules.schedule([p.source_id for p in PUPILS], ["t19", "t39"], 60)
    files["enrollments"] = [schedules.ENROLLMENTS, *members]
    files = {name: rows for name, rows in files.items() if name not in without}
    modes = dict.fromkeys(files, "bulk") | {"orgs": "bulk", "users": mode, "enrollments": mode}
    orgs = [[f"s{n}", school_name(n), "school"] for n in range(60) if n != 1]
    content = {
        "manifest.csv": manifest("1.1", **modes),
        "orgs.csv": table([*ORGS, *orgs]),
        "users.csv": table([USERS, *([] if mode == "delta" else [*map(_user, PUPILS), *TEACHERS])]),
        **{f"{name}.csv": table(rows) for name, rows in files.items()},
    }
    status, body = await district.upload(write_zip(district.folder / "a.zip", content).read_bytes(), query)
    assert status == 202, body
    return await district.ended(body["import_id"])


USERS = ["sourcedId", "identifier", "familyName", "givenName", "orgSourcedIds", "role", "grades"]
TEACHERS = [[f"t{n}", f"e{n:05}", "Doe", "Terry", "s0", "teacher", ""] for n in (19, 39)]


def _user(pupil: Pupil) -> list[str]:
    return [
        pupil.source_id,
        pupil.number,
        pupil.last_name,
        pupil.first_name,
        f"s{pupil.school}",
        "student",
        pupil.grade,
    ]


def member(who: str, key: str, role: str = "student", status: str = "", ends: str = "") -> list[str]:
    return [f"{key}/{who}", status, "", key, "s0", who, role, "", "2020-08-03", ends]


async def classes(district: District, source_id: str) -> list[str]:
    """Which classes the person is in, by what is recorded."""
    rows = await district.rows(
        "SELECT type, data FROM event JOIN identity ON stream_id = person_id"
        " WHERE source_id = $1 AND type = 'ClassesChanged' ORDER BY version",
        source_id,
    )
    held: dict[str, Any] = {}
    for _, data in rows:
        told = msgspec.json.decode(data)
        held |= {a["class_id"]: a for a in told["assigned"]}
        held = {key: a for key, a in held.items() if key not in told["unassigned"]}
    return sorted(held)


def of_section(section: int) -> list[str]:
    return [schedules.class_id(section, period) for period in range(schedules.PERIODS)]


async def test_classes_come_with_their_people_and_are_seen_like_all_others(district: District) -> None:
    shown = await take(district)
    assert some(shown["counts"]) == {"added": 42}
    assert await district.told(ADA) == ["StudentEnrolled", "ClassesChanged"]
    assert await district.recorded("t19") == ["StaffEmployed", "ClassesChanged"]
    assert await classes(district, ADA.source_id) == of_section(0)
    assert await classes(district, OTHERS[-1].source_id) == of_section(1)

    def whole(status: int, body: Any) -> bool:
        return status == 200 and len(body["students"]) == 28 and len(body["teachers"]) == 1

    found = await district.roster.until("/classes/c0-0", whole, scope="desk")
    assert (found["title"], found["school"]) == ("Algebra", 'School "1", Riverdale')
    [teacher] = found["teachers"]
    assert (teacher["number"], teacher["begins_on"], teacher["ends_on"]) == (
        "e00019",
        "2026-08-03",
        "2027-01-03",
    )
    added = await district.changes(shown)
    [ada] = [c for c in added if c["source_id"] == ADA.source_id]
    assert (ada["assigned"], ada["unassigned"]) == (of_section(0), [])


async def test_a_teacher_that_an_export_names_teaches_those_whom_it_names(district: District) -> None:
    now = [
        member(who, "c0-0", role, ends="2099-08-03")
        for who, role in ((ADA.source_id, "student"), ("t19", "teacher"))
    ]
    over = [
        member(BOB.source_id, "c0-0", ends="2021-05-28"),
        member(OTHERS[0].source_id, "c0-1", ends="2099-08-03"),
    ]
    await with_files(district, [*now, *over])
    [teacher] = await district.known("e00019", 1)
    taught = f"/persons/{teacher['person_id']}/pupils"
    body = await district.roster.until(taught, lambda _, body: bool(body["pupils"]), scope="desk")
    assert [(p["number"], p["classes"]) for p in body["pupils"]] == [(ADA.number, ["c0-0"])]


async def test_the_same_again_writes_no_event_and_what_changes_is_one_for_each_person(
    district: District,
) -> None:
    await take(district)
    before = await district.rows("SELECT count(*) FROM event")
    shown = await take(district)
    assert some(shown["counts"]) == {"unchanged": 42}
    assert await district.rows("SELECT count(*) FROM event") == before

    moved = [BOB, ADA, *OTHERS]  # nothing: both are of the first section
    assert some((await take(district, moved))["counts"]) == {"unchanged": 42}
    moved = [*OTHERS, ADA, BOB]  # two come into the first section, two go to the second
    shown = await take(district, moved)
    assert some(shown["counts"]) == {"reassigned": 4, "unchanged": 38}
    assert (await district.told(ADA))[2:] == ["ClassesChanged"]
    assert await classes(district, ADA.source_id) == of_section(1)
    [told] = [c for c in await district.changes(shown, "?kind=reassigned") if c["source_id"] == ADA.source_id]
    assert (told["assigned"], told["unassigned"], told["state"]) == (of_section(1), of_section(0), "applied")
    assert "classes" not in told["before"]


async def test_an_export_without_classes_leaves_them_and_who_comes_back_has_what_it_says(
    district: District,
) -> None:
    await take(district)
    assert some((await take(district, classes=False))["counts"]) == {"unchanged": 42}
    assert await classes(district, ADA.source_id) == of_section(0)
    await take(district, [BOB, *OTHERS], classes=False)
    shown = await take(district)
    assert some(shown["counts"]) == {"returned": 2, "unchanged": 40}  # and who teaches
    shown = await with_files(district, [member(ADA.source_id, "c0-1")])
    assert await classes(district, ADA.source_id) == ["c0-1"]
    assert await classes(district, BOB.source_id) == []


async def test_what_was_published_stays_until_exports_have_named_it(district: District) -> None:
    await take(district)

    def published(kind: str, **said: Any) -> Any:
        return cloud_event(kind, time=clock.now(), source_id=ADA.source_id, **said)

    for event in (
        published("ClassAssigned", class_id="club", role="student"),
        published("ClassUnassigned", class_id="c0-0"),
    ):
        assert (await district.roster.publish(event))[1]["refused"] == 0
    shown = await take(district)  # made later: it says again that she is in c0-0, and nothing of the club
    assert some(shown["counts"]) == {"reassigned": 1, "unchanged": 41}
    assert await classes(district, ADA.source_id) == [*of_section(0), "club"]
    shown = await with_files(district, [member(ADA.source_id, "c1-1")])
    assert await classes(district, ADA.source_id) == ["c1-1", "club"]


async def test_what_is_wrong_with_enrollments_is_told_and_costs_nobody_their_account(
    district: District,
) -> None:
    rows = [member("nobody", "c0-0"), member(ADA.source_id, "c9-9"), member(BOB.source_id, "c0-0", "teacher")]
    shown = await with_files(district, rows)
    assert some(shown["counts"]) == {"added": 42, "refused": 3}
    assert shown["problems"] == {"user_unknown": 1, "class_unknown": 1, "kind_differs": 1}
    problems = {p["reason"]: p for p in await district.problems(shown)}
    told = problems["class_unknown"]
    assert (told["file"], told["line"], told["column"], told["value"]) == (
        "enrollments.csv",
        3,
        "classSourcedId",
        "c9-9",
    )
    # Nobody is spared from being absent by such rows, and nobody is missed for them.
    await with_files(district, [*rows, member(ADA.source_id, "c0-0")])
    shown = await with_files(district, rows)
    assert some(shown["counts"]) == {"reassigned": 1, "unchanged": 41, "refused": 3}


async def test_a_delta_changes_the_classes_it_names(district: District) -> None:
    await take(district)
    gone = [member(ADA.source_id, "c0-0", status="tobedeleted"), member(ADA.source_id, "c1-0")]
    shown = await with_files(district, [*gone, member("nobody", "c0-0")], mode="delta")
    assert some(shown["counts"]) == {"reassigned": 1, "refused": 1}
    assert shown["problems"] == {"person_unknown": 1}
    assert await classes(district, ADA.source_id) == sorted([*of_section(0)[1:], "c1-0"])
    shown = await with_files(district, gone, mode="delta")
    assert some(shown["counts"]) == {"unchanged": 1}


async def test_a_delta_without_its_classes_says_what_their_members_are_told(district: District) -> None:
    await take(district)
    rows = [
        member(ADA.source_id, "c1-1"),
        member(ADA.source_id, "c0-0", status="tobedeleted"),
        member(BOB.source_id, "new"),
    ]
    shown = await with_files(district, rows, mode="delta", without=["academicSessions", "courses", "classes"])
    assert some(shown["counts"]) == {"reassigned": 1, "unchanged": 1, "refused": 1}
    [problem] = await district.problems(shown)
    assert (problem["reason"], problem["line"], problem["value"]) == ("class_unknown", 4, "new")
    assert await classes(district, ADA.source_id) == sorted([*of_section(0)[1:], "c1-1"])
    person = await district.person(ADA, version=3)
    [told] = [held for held in person["classes"] if held["class_id"] == "c1-1"]
    assert (told["title"], told["school"], told["begins_on"]) == ("Biology 2", school_name(1), "2020-08-03")
    assert told["ends_on"] == "2027-05-28"


async def test_a_dry_run_only_reports(district: District) -> None:
    await take(district)
    shown = await with_files(district, [], "?dry_run")
    assert some(shown["counts"]) == {"reassigned": 42}
    assert await classes(district, ADA.source_id) == of_section(0)
