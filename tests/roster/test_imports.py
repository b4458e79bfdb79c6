"""A district's exports, from the upload over HTTP to the report, through the whole service."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import aiohttp
import msgspec
import pytest

from services.roster import imports
from services.roster.imports import sql as import_queries
from shared import clock
from shared.web import KIT
from tests.roster.exports import USERS_12, Pupil, manifest, pupils, school_name, write_zip
from tests.roster.given import cloud_event
from tests.roster.importing import District, ago, change, some

# --- What an export means


async def test_new_pupils_are_enrolled(district: District) -> None:
    ada, bob = pupils(2)
    shown = await district.take([ada, bob], "?file_name=monday.zip")
    assert (shown["state"], shown["mode"], shown["version"]) == ("done", "bulk", "1.2")
    assert some(shown["counts"]) == {"added": 2}
    assert (shown["file_name"], shown["author"], shown["done"]) == ("monday.zip", "roster:write", 2)
    person = await district.person(ada, status="enrolled")
    assert (person["last_name"], person["first_name"]) == (ada.last_name, ada.first_name)
    assert (person["school"], person["grade"]) == (ada.school_name, ada.grade)
    assert person["basis"] == shown["received_at"]
    changes = await district.changes(shown)
    assert {c["source_id"]: (c["kinds"], c["state"], c["before"]) for c in changes} == {
        ada.source_id: (["added"], "applied", None),
        bob.source_id: (["added"], "applied", None),
    }
    assert all(c["file"] == "users.csv" and c["line"] > 1 for c in changes)


async def test_the_same_export_again_writes_no_event_but_confirms(district: District) -> None:
    """What was said before the second export no longer undoes what it confirmed."""
    [ada] = pupils(1)
    between = await _import_twice(district, ada)
    late = cloud_event("StudentCorrected", source_id=ada.source_id, first_name="Late", time=between)
    status, body = await district.roster.publish(late)
    assert (status, body["results"][0]["state"]) == (202, "unchanged")
    assert await district.told(ada) == ["StudentEnrolled"]


async def _import_twice(district: District, ada: Pupil) -> datetime:
    await district.take([ada])
    between = clock.now()
    shown = await district.take([ada])
    assert some(shown["counts"]) == {"unchanged": 1}
    assert (shown["total"], shown["done"]) == (1, 1)
    assert await district.changes(shown) == []
    return between


class TestMergedRecords:
    """An export that still has a record which is another name of somebody else."""

    @pytest.fixture
    async def merged(self, district: District) -> list[Pupil]:
        """The first stays, the second was merged into it, the third is somebody else."""
        ann, twin, bob = pupils(3)
        await district.take([ann, twin, bob])
        event = cloud_event(
            "PersonsMerged", source_id=ann.source_id, merged_source_id=twin.source_id, time=clock.now()
        )
        status, body = await district.roster.publish(event)
        assert (status, body["results"][0]["state"]) == (202, "accepted")
        return [ann, twin, bob]

    async def test_it_changes_nothing_and_no_event_is_written_day_after_day(
        self, district: District, merged: list[Pupil]
    ) -> None:
        ann, twin, bob = merged
        before = await district.rows("SELECT count(*) FROM event")
        for students in (merged, [twin, bob, ann], [bob, ann, twin]):
            shown = await district.take(students)
            assert (shown["state"], some(shown["counts"])) == ("done", {"unchanged": 2})
            assert shown["passed_over"]["merged"] == 1
        assert await district.rows("SELECT count(*) FROM event") == before
        assert (await district.person(ann, status="enrolled"))["number"] == ann.number

    @pytest.mark.parametrize("gone", [{"status": "tobedeleted"}, {"enabled": False}, None], ids=str)
    async def test_that_it_is_gone_says_nothing_and_a_split_finds_it_as_it_was(
        self, district: District, merged: list[Pupil], gone: dict[str, Any] | None
    ) -> None:
        ann, twin, bob = merged
        students = [ann, bob] if gone is None else [ann, change(twin, **gone), bob]
        shown = await district.take(students)
        assert (some(shown["counts"]), shown["passed_over"].get("merged")) == ({"unchanged": 2}, None)
        names = {"source_id": ann.source_id, "merged_source_id": twin.source_id}
        await district.roster.publish(cloud_event("PersonsSplit", **names, time=clock.now()))
        await district.person(twin, status="enrolled")

    async def test_where_the_sis_kept_the_other_record_it_speaks_of_the_survivor(
        self, district: District, merged: list[Pupil]
    ) -> None:
        """Nobody is locked out because the two systems kept different records."""
        ann, twin, bob = merged
        shown = await district.take([twin, bob])
        assert shown["state"] == "awaiting_approval"  # one of two has another number
        assert shown["counts"].get("withdrawn", 0) == shown["counts"].get("returned", 0) == 0
        path = f"/imports/{shown['import_id']}/approval"
        assert (await district.ask("POST", path, scope="desk", sub="lee", human=True))[0] == 202
        await district.ended(shown["import_id"], "done")
        found = await district.person(change(ann, number=twin.number), status="enrolled")
        assert found["last_name"] == twin.last_name
        for students in ([twin, bob], [change(ann, enabled=False), twin, bob]):
            shown = await district.take(students)
            assert some(shown["counts"]) == {"unchanged": 2}
        shown = await district.take(merged)
        assert (shown["threshold"]["renumbered"], shown["passed_over"]["merged"]) == (1, 1)

    async def test_who_left_under_both_records_has_left(
        self, district: District, merged: list[Pupil]
    ) -> None:
        shown = await district.take(merged[2:])
        assert (shown["state"], some(shown["counts"])) == (
            "awaiting_approval",
            {"withdrawn": 1, "unchanged": 1},
        )

    async def test_in_a_delta_it_is_passed_over_unless_the_survivor_goes(
        self, district: District, merged: list[Pupil]
    ) -> None:
        ann, twin, _ = merged
        shown = await district.take([change(twin, number="7654321")], mode="delta")
        assert (some(shown["counts"]), shown["passed_over"].get("merged")) == ({}, 1)
        kept = [change(ann, status="tobedeleted"), change(twin, number=ann.number)]
        shown = await district.take(kept, mode="delta")
        assert shown["counts"].get("withdrawn", 0) == shown["counts"].get("renumbered", 0) == 0
        await district.person(ann, status="enrolled")


async def test_a_name_with_nul_in_an_archive_is_told_like_any_other(district: District) -> None:
    content = write_zip(district.folder / "odd.zip", {"manifest.csv": "", "users?.csv": ""}).read_bytes()
    status, body = await district.upload(content.replace(b"users?.csv", b"users\0.csv"))
    assert status == 202
    shown = await district.ended(body["import_id"])
    assert (shown["state"], shown["reason"]) == ("refused", "archive_path")
    assert shown["details"] == {"problem": "separator", "name": "users\ufffd.csv"}


@pytest.mark.parametrize(
    "as_of", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00%2B14:00", "1999-01-01T00:00:00Z"]
)
async def test_an_export_from_before_there_were_any_is_refused(district: District, as_of: str) -> None:
    status, body = await district.upload(district.export(pupils(1)), f"?as_of={as_of}")
    assert (status, body["reason"], body["field"]) == (422, "invalid_query", "$.as_of")


async def test_uploads_that_are_under_way_have_a_bound(district: District) -> None:
    """Whoever begins them and sends nothing, or all at once, fills no disk."""
    begun = (
        "INSERT INTO import (import_id, district, state, dry_run, baseline, as_of, received_at, author, author_who,"
        " correlation_id, changed_at)"
        " SELECT gen_random_uuid(), 'ccps', 'receiving', false, false, now(), now(), '', '', '', now()"
        " FROM generate_series(1, $1)"
    )
    await district.rows(begun, imports.UPLOADS - 1)
    assert (await district.take(pupils(1)))["state"] == "done"
    await district.rows(begun, 1)
    status, body = await district.upload(district.export(pupils(1)), headers={"Idempotency-Key": "k"})
    assert (status, body["reason"], body["limit"]) == (409, "uploads_too_many", imports.UPLOADS)
    await district.rows(
        "UPDATE import SET changed_at = changed_at - interval '2 hours' WHERE state = 'receiving'"
    )
    for expiring in imports.EXPIRING:
        await expiring.delete(district.roster.client.app[KIT].db, clock.now())
    assert (await district.take(pupils(1)))["state"] == "done"


async def test_each_change_is_a_fact_of_its_own(district: District) -> None:
    ada, bob, cyd, dee = pupils(4)
    await district.take([ada, bob, cyd, dee])
    shown = await district.take(
        [
            change(ada, first_name="Adelaide"),
            change(bob, number="7654321"),
            change(cyd, school=(cyd.school + 1) % 60),
            dee,
        ]
    )
    assert shown["state"] == "awaiting_approval"  # one of four renumbered
    assert await district.roster.ask(
        "POST", f"/imports/{shown['import_id']}/approval", sub="other", human=True
    )
    shown = await district.ended(shown["import_id"], "done")
    assert some(shown["counts"]) == {"corrected": 1, "renumbered": 1, "moved": 1, "unchanged": 1}
    assert (await district.told(ada))[1:] == ["NameCorrected"]
    assert (await district.told(bob))[1:] == ["NumberChanged"]
    assert (await district.told(cyd))[1:] == ["PlacementChanged"]
    assert (await district.told(dee))[1:] == []
    [renumbered] = await district.changes(shown, "?kind=renumbered")
    assert (renumbered["before"]["number"], renumbered["after"]["number"]) == (bob.number, "7654321")


async def test_staff_comes_with_the_export_and_leaves_with_it(district: District) -> None:
    some_pupils = pupils(40)
    shown = await district.take(some_pupils, staff=True)
    assert some(shown["counts"]) == {"added": 42}
    [told] = [c for c in await district.changes(shown) if c["source_id"] == "t19"]
    assert (told["kind"], told["after"]["number"], told["after"]["role"]) == ("staff", "e00019", "teacher")
    [person] = await district.known("e00019", 1)
    assert (person["kind"], person["role"], person["status"]) == ("staff", "teacher", "enrolled")
    assert (person["last_name"], person["first_name"], person["school"]) == ("Doe", "Terry", school_name(0))

    shown = await district.take(some_pupils, staff=True)
    assert some(shown["counts"]) == {"unchanged": 42}
    shown = await district.take(some_pupils)
    assert some(shown["counts"]) == {"withdrawn": 2, "unchanged": 40}
    assert await district.recorded("t19") == ["StaffEmployed", "StaffLeft"]


async def test_who_is_staff_in_the_export_and_a_pupil_on_file_is_no_pupil_any_more_and_told(
    district: District,
) -> None:
    *others, ada = pupils(30)
    published = cloud_event("StaffEmployed", source_id="t19", number="e77777")
    assert (await district.roster.publish(published))[0] == 202
    await district.take([*others, change(ada, source_id="t39")])
    all_others = [*others, *pupils(45)[30:]]
    shown = await district.take(all_others, staff=True)
    [problem] = await district.problems(shown)
    assert (problem["reason"], problem["source_id"], problem["details"]) == (
        "kind_differs", "t39", {"known_as": "student"},
    )  # fmt: skip
    assert shown["problems"] == {"kind_differs": 1}
    assert await district.recorded("t39") == ["StudentEnrolled", "StudentWithdrawn"]
    # Who was published as what the export says is that, under the number of the export.
    assert await district.recorded("t19") == ["StaffEmployed", "StaffEmployed"]
    await district.known("e00019", 1)

    await district.take([*all_others, change(ada, source_id="t19", number="0000009")])
    assert (await district.recorded("t19"))[-1] == "StaffLeft"


async def test_two_pupils_whose_numbers_were_swapped(district: District) -> None:
    ada, bob, *others = pupils(50)
    await district.take([ada, bob, *others])
    swapped = [change(ada, number=bob.number), change(bob, number=ada.number)]
    shown = await district.take([*swapped, *others])
    assert (shown["state"], shown["counts"]["renumbered"], shown["counts"]["shared_numbers"]) == (
        "done",
        2,
        0,
    )
    for pupil in swapped:
        await district.person(pupil, number=pupil.number)


async def test_who_left_is_withdrawn_and_returns_with_the_old_basis(district: District) -> None:
    ada, *others = pupils(30)
    first = await district.take([ada, *others])
    shown = await district.take(others)
    assert some(shown["counts"]) == {"withdrawn": 1, "unchanged": 29}
    person = await district.person(ada, status="withdrawn")
    assert (person["reason"], person["withdrawn_at"]) == ("absent", shown["as_of"])
    again = await district.take(others)  # missed again, and nothing is told again
    assert some(again["counts"]) == {"unchanged": 29}
    shown = await district.take([ada, *others])
    assert some(shown["counts"]) == {"returned": 1, "unchanged": 29}
    person = await district.person(ada, status="enrolled")
    assert person["basis"] == first["received_at"]
    assert await district.told(ada) == ["StudentEnrolled", "StudentWithdrawn", "StudentEnrolled"]


async def test_who_is_disabled_leaves_and_a_number_is_given_again(district: District) -> None:
    ada, *others = pupils(30)
    [new] = [change(pupils(31)[-1], number=ada.number)]
    await district.take([ada, *others])
    shown = await district.take([change(ada, enabled=False), new, *others])
    assert some(shown["counts"]) == {"withdrawn": 1, "added": 1, "unchanged": 29}
    assert (await district.person(ada, status="withdrawn"))["reason"] == "disabled"
    await district.person(new, status="enrolled")


async def test_who_is_disabled_before_anybody_knew_them_comes_with_the_first_export_that_enables_them(
    district: District,
) -> None:
    ada, bob, cyd = pupils(3)
    shown = await district.take([change(ada, enabled=False), bob, cyd])
    assert some(shown["counts"]) == {"added": 2}
    assert shown["passed_over"]["never_here"] == 1
    assert await district.told(ada) == []
    shown = await district.take([ada, bob, cyd])
    assert some(shown["counts"]) == {"added": 1, "unchanged": 2}


async def test_a_delta_that_takes_away_whom_nobody_knows_says_nothing(district: District) -> None:
    ada, bob = pupils(2)
    await district.take([bob])
    shown = await district.take([change(ada, status="tobedeleted")], mode="delta")
    assert (shown["state"], some(shown["counts"])) == ("done", {})
    assert shown["passed_over"]["never_here"] == 1


async def test_a_delta_that_tells_too_little_of_whom_nobody_knows_says_so(district: District) -> None:
    """A role alone, of a user whom no export has described."""
    await district.take(pupils(1))
    files = {
        "manifest.csv": manifest("1.2", users="delta", roles="delta", orgs="bulk"),
        "orgs.csv": "sourcedId,name,type\ns1,School 1,school\n",
        "users.csv": ",".join(USERS_12) + "\n",
        "roles.csv": "sourcedId,status,userSourcedId,roleType,role,orgSourcedId\nr1,active,u1,primary,student,s1\n",
    }
    status, body = await district.upload(write_zip(district.folder / "delta.zip", files).read_bytes())
    assert status == 202
    shown = await district.ended(body["import_id"])
    assert (shown["state"], some(shown["counts"])) == ("done", {"refused": 1})
    assert shown["problems"] == {"person_unknown": 1}
    [problem] = await district.problems(shown)
    assert (problem["file"], problem["line"], problem["source_id"]) == ("roles.csv", 2, "u1")


async def test_whom_a_void_took_out_the_next_export_brings_back(district: District) -> None:
    """`oneroster` is entered anew by each export, so it is in error only until the next one."""
    ada, *others = pupils(30)
    first = await district.take([ada, *others])
    void = cloud_event(
        "EnrollmentVoided", source_id=ada.source_id, enrollment_id="oneroster", time=clock.now()
    )
    await district.roster.publish(void)
    await district.person(ada, status="withdrawn", reason="voided")
    shown = await district.take([ada, *others])
    assert some(shown["counts"]) == {"returned": 1, "unchanged": 29}
    assert {c["state"] for c in await district.changes(shown)} == {"applied"}
    person = await district.person(ada, status="enrolled")
    assert person["basis"] == first["received_at"]
    assert some((await district.take([ada, *others]))["counts"]) == {"unchanged": 30}


async def test_a_delta_says_nothing_of_those_who_are_not_in_it(district: District) -> None:
    ada, bob, *others = pupils(40)
    await district.take([ada, bob, *others])
    shown = await district.take(
        [change(ada, first_name="Adelaide"), change(bob, status="tobedeleted")], mode="delta"
    )
    assert (shown["mode"], shown["state"]) == ("delta", "done")
    assert some(shown["counts"]) == {"corrected": 1, "withdrawn": 1}
    assert (await district.person(bob, status="withdrawn"))["reason"] == "tobedeleted"


async def test_pupils_who_came_another_way_are_linked_and_never_missed(district: District) -> None:
    """An export takes nobody away whom no export has named."""
    ada, bob = pupils(2)
    for pupil in (ada, bob):
        said = {n: getattr(pupil, n) for n in ("source_id", "number", "last_name", "first_name")}
        said |= {"school": pupil.school_name, "grade": pupil.grade}
        await district.roster.publish(cloud_event(**said, time=clock.now()))
    shown = await district.take([ada])
    assert some(shown["counts"]) == {"linked": 1}
    assert shown["passed_over"]["never_exported"] == 1
    await district.person(bob, status="enrolled")
    assert some((await district.take([ada]))["counts"]) == {"unchanged": 1}


async def test_an_operator_takes_pupils_as_baseline(district: District) -> None:
    [ada] = pupils(1)
    status, body = await district.upload(district.export([ada]), "?baseline")
    assert (status, body["reason"]) == (403, "scope_missing")
    await district.take([ada])
    shown = await district.take([ada], "?baseline", scope="operator")
    assert some(shown["counts"]) == {"baseline": 1}
    await district.person(ada, baseline=True)


async def test_what_was_said_after_the_export_was_made_is_newer(district: District) -> None:
    ada, *others = pupils(30)
    await district.take([ada, *others], f"?as_of={ago(hours=3)}")
    renamed = cloud_event("StudentCorrected", source_id=ada.source_id, first_name="Newer", time=clock.now())
    await district.roster.publish(renamed)
    back = cloud_event("StudentWithdrawn", source_id=others[0].source_id, time=clock.now())
    await district.roster.publish(back)
    shown = await district.take([ada, *others], f"?as_of={ago(hours=1)}")
    assert some(shown["counts"]) == {"corrected": 1, "returned": 1, "unchanged": 28}
    assert {c["state"] for c in await district.changes(shown)} == {"overtaken"}
    assert (await district.told(ada))[-1] == "NameCorrected"
    await district.person(others[0], status="withdrawn")


# --- Dry runs, thresholds, second persons


async def test_a_dry_run_reports_and_changes_nothing(district: District) -> None:
    ada, bob = pupils(2)
    await district.take([ada])
    shown = await district.take([change(ada, grade="12" if ada.grade != "12" else "11"), bob], "?dry_run")
    assert (shown["state"], shown["dry_run"], some(shown["counts"])) == (
        "done",
        True,
        {"added": 1, "moved": 1},
    )
    assert {c["state"] for c in await district.changes(shown)} == {"planned"}
    assert await district.told(ada) == ["StudentEnrolled"]
    assert await district.told(bob) == []
    assert (await district.take([ada], "?dry_run"))["counts"]["unchanged"] == 1


async def test_an_export_that_is_nearly_empty_waits_for_a_second_person(district: District) -> None:
    everybody = pupils(30)
    await district.take(everybody)
    shown = await district.take(everybody[:5], sub="sis", name="SIS of ccps")
    assert (shown["state"], shown["reason"]) == ("awaiting_approval", "threshold_exceeded")
    assert (shown["author"], shown["author_name"]) == ("sis", "SIS of ccps")
    assert shown["threshold"] == {
        "enrolled": 30, "withdrawn": 25, "renumbered": 0,
        "approval_above": 200, "approval_above_percent": 5, "exceeded": True,
    }  # fmt: skip
    path = f"/imports/{shown['import_id']}/approval"
    for sub, human, reason in (("x", False, "person_required"), ("sis", True, "approver_is_author")):
        status, body = await district.roster.ask("POST", path, sub=sub, human=human)
        assert (status, body["reason"]) == (403, reason)
    await district.person(everybody[-1], status="enrolled")
    for _ in range(2):
        status, body = await district.roster.ask("POST", path, sub="ms-lee", human=True, name="Ms. Lee")
        assert (status, body["approved_by"], body["approved_by_name"]) == (202, "ms-lee", "Ms. Lee")
    shown = await district.ended(shown["import_id"], "done")
    assert shown["done"] == 30
    await district.person(everybody[-1], status="withdrawn")


async def test_an_import_that_waits_can_be_cancelled(district: District) -> None:
    everybody = pupils(10)
    await district.take(everybody)
    shown = await district.take(everybody[:2])
    status, body = await district.upload(district.export(everybody))
    assert (status, body["reason"], body["import_id"]) == (409, "import_running", shown["import_id"])
    path = f"/imports/{shown['import_id']}"
    assert (await district.roster.ask("DELETE", path))[0] == 204
    status, body = await district.roster.ask("POST", f"{path}/approval", sub="ms-lee", human=True)
    assert (status, body["reason"]) == (409, "import_ended")
    assert (await district.ended(shown["import_id"]))["done"] == 0
    assert some((await district.take(everybody))["counts"]) == {"unchanged": 10}


# --- What is refused


async def test_a_row_that_cannot_be_read_is_told_and_spares_its_pupil(district: District) -> None:
    ada, bob, *others = pupils(40)
    await district.take([ada, bob, *others])
    shown = await district.take([change(ada, number="12345"), *others])
    assert some(shown["counts"]) == {"refused": 1, "withdrawn": 1, "unchanged": 38}
    assert shown["problems"] == {"number_malformed": 1}
    [problem] = await district.problems(shown)
    assert (problem["file"], problem["column"], problem["value"]) == ("users.csv", "identifier", "12345")
    assert problem["line"] > 1
    assert problem["details"]["hint"] == "number_length"
    await district.person(ada, status="enrolled")
    await district.person(bob, status="withdrawn")


async def test_as_long_as_a_row_is_nobodys_nobody_is_absent(district: District) -> None:
    ada, bob, *others = pupils(40)
    await district.take([ada, bob, *others])
    shown = await district.take([change(ada, source_id=""), *others], origin="campus")
    assert some(shown["counts"]) == {"refused": 1, "unchanged": 38}
    assert shown["passed_over"]["anonymous"] == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no zip", "archive_invalid"), (b"", "archive_invalid"), (None, "manifest_invalid")],
)
async def test_a_file_that_is_no_export_is_refused_whole(
    district: District, content: bytes | None, reason: str
) -> None:
    if content is None:
        content = write_zip(district.folder / "x.zip", {"users.csv": "a,b\n"}).read_bytes()
    status, body = await district.upload(content)
    assert status == 202
    shown = await district.ended(body["import_id"])
    assert (shown["state"], shown["reason"]) == ("refused", reason)
    assert await district.rows("SELECT FROM import_piece") == []
    assert (await district.take(pupils(1)))["state"] == "done"


async def test_an_older_export_after_a_newer_one_is_refused(district: District) -> None:
    [ada] = pupils(1)
    await district.take([ada])
    shown = await district.take([change(ada, first_name="Older")], f"?as_of={ago(hours=1)}")
    assert (shown["state"], shown["reason"]) == ("refused", "export_outdated")


async def test_what_an_upload_may_not_say(district: District) -> None:
    export = district.export(pupils(1))
    for query, status, reason in (
        (f"?as_of={ago(hours=-1)}", 422, "as_of_in_future"),
        ("?as_of=2026-08-03T09:14:00", 422, "invalid_query"),
        ("?dryrun", 422, "invalid_query"),
    ):
        answer = await district.upload(export, query)
        assert (answer[0], answer[1]["reason"]) == (status, reason)
    answer = await district.upload(export, headers={"Content-Type": "text/csv"})
    assert (answer[0], answer[1]["reason"]) == (415, "unsupported_media_type")
    assert await district.rows("SELECT FROM import") == []


# --- Repeats, races, breaks


async def test_a_repeat_under_the_same_key_is_one_import(district: District) -> None:
    export, headers = district.export(pupils(1)), {"Idempotency-Key": "monday"}
    status, first = await district.upload(export, headers=headers)
    assert status == 202
    await district.ended(first["import_id"])
    status, second = await district.upload(export, headers=headers)
    assert (status, second["import_id"]) == (202, first["import_id"])
    status, body = await district.upload(district.export(pupils(2)), headers=headers)
    assert (status, body["reason"]) == (422, "idempotency_key_reused")
    assert len(await district.rows("SELECT FROM import")) == 1


async def test_a_repeat_while_the_import_waits_is_told_the_same(district: District) -> None:
    everybody = pupils(30)
    await district.take(everybody)
    export, headers = district.export(everybody[:5]), {"Idempotency-Key": "tuesday"}
    status, first = await district.upload(export, headers=headers)
    assert status == 202
    await district.ended(first["import_id"], "awaiting_approval")
    status, second = await district.upload(export, headers=headers)
    assert (status, second["import_id"]) == (202, first["import_id"])
    status, body = await district.upload(export, headers={"Idempotency-Key": "another"})
    assert (status, body["reason"]) == (409, "import_running")


async def test_of_two_uploads_at_once_one_is_taken(district: District) -> None:
    export = district.export(pupils(300))
    answers = await asyncio.gather(*(district.upload(export) for _ in range(4)))
    assert sorted(status for status, _ in answers) == [202, 409, 409, 409]
    assert {body["reason"] for status, body in answers if status == 409} == {"import_running"}
    [taken] = [body for status, body in answers if status == 202]
    await district.ended(taken["import_id"])
    assert len(await district.rows("SELECT FROM import")) == 1


async def test_an_upload_that_breaks_off_leaves_nothing(district: District) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000
        raise ConnectionResetError

    with pytest.raises(aiohttp.ClientError):
        await district.upload(half())  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        while await district.rows("SELECT FROM import UNION ALL SELECT FROM import_piece"):
            await asyncio.sleep(0.05)


async def test_of_an_import_that_has_ended_only_its_report_stays(district: District) -> None:
    everybody = pupils(3)
    for n in (1, 2, 3):
        await district.take(everybody[:n])
    left = "SELECT FROM import_piece UNION ALL SELECT FROM import_row WHERE kinds = '{}'"
    assert await district.rows(left) == []
    listed = (await district.roster.ask("GET", "/imports"))[1]["imports"]
    assert [some(each["counts"]) for each in listed] == [
        {"added": 1, "unchanged": 2},
        {"added": 1, "unchanged": 1},
        {"added": 1},
    ]


@pytest.mark.parametrize("how", ["dry_run", "refused", "cancelled"])
async def test_however_an_import_ends_older_reports_than_are_kept_go(
    district: District, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = pupils(30)
    await district.take(everybody)
    for n in range(2):
        await district.take(everybody[: 29 - n], "?dry_run")
    policies = district.roster.client.app[KIT].policies
    kept = msgspec.structs.replace(policies.get("ccps").imports, reports_kept=2)
    policy = msgspec.structs.replace(policies.get("ccps"), imports=kept)
    monkeypatch.setattr(policies, "get", lambda district: policy)
    if how == "dry_run":
        await district.take(everybody, "?dry_run")
    elif how == "refused":
        await district.ended((await district.upload(b"no zip"))[1]["import_id"])
    else:
        shown = await district.take(everybody[:3])
        await district.roster.ask("DELETE", f"/imports/{shown['import_id']}")
    listed = (await district.roster.ask("GET", "/imports"))[1]["imports"]
    assert len(listed) == 3  # the last two, and the last that was applied
    assert listed[-1]["counts"]["added"] == 30


async def test_reports_go_when_there_are_too_many_but_for_the_last_whole_export(district: District) -> None:
    ada, bob = pupils(2)
    await district.take([ada, bob])
    for grade in ("01", "02", "03"):
        await district.take([change(ada, grade=grade)], mode="delta")
    forget = import_queries.forget_reports
    await district.rows(forget, "ccps", 2, imports.FORGOTTEN_AT_ONCE)
    assert await district.rows("SELECT mode FROM import ORDER BY seq") == [("bulk",), ("delta",), ("delta",)]
    assert len(await district.rows("SELECT FROM import_row WHERE kinds = '{added}'")) == 2
