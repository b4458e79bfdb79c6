"""Whom a class has and whom a teacher teaches, as the help desk is told over HTTP."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.roster.conftest import Roster
from tests.roster.given import at, cloud_event

pytestmark = pytest.mark.backing

ALGEBRA = "class 7/b"


async def publish(roster: Roster, *events: dict[str, Any]) -> list[str]:
    status, body = await roster.publish(list(events), kind="application/cloudevents-batch+json")
    assert (status, body["refused"]) == (202, 0), body
    return [result["person_id"] for result in body["results"]]


def in_class(source_id: str, role: str, class_id: str = ALGEBRA, **said: Any) -> dict[str, Any]:
    return cloud_event("ClassAssigned", source_id=source_id, class_id=class_id, role=role, **said)


def names(members: list[dict[str, Any]]) -> list[str]:
    return [member["first_name"] for member in members]


async def test_a_class_has_teachers_and_pupils_and_a_teacher_those_pupils(roster: Roster) -> None:
    teacher, *_ = await publish(
        roster,
        cloud_event("StaffEmployed"),
        cloud_event("StudentEnrolled", source_id="p1", number="0000001", first_name="Ann"),
        cloud_event("StudentEnrolled", source_id="p2", number="0000002", first_name="Ben"),
        cloud_event("StudentEnrolled", source_id="p3", number="0000003", first_name="Cem"),
        cloud_event("StudentEnrolled", source_id="p4", number="0000004", first_name="Dee"),
    )
    await publish(
        roster,
        in_class("t1", "teacher", title="Algebra", school="North"),
        in_class("t1", "teacher", "over", ends_on="2020-06-01"),
        in_class("p1", "student"),
        in_class("p2", "student", begins_on="2099-08-03"),
        in_class("p3", "student", "over"),
        in_class("p4", "student", "another teacher's"),
    )
    path = f"/classes/{quote(ALGEBRA, safe='')}"
    found = await roster.until(
        path,
        lambda status, body: status == 200 and (len(body["teachers"]), len(body["students"])) == (1, 2),
        scope="desk",
    )
    assert (found["class_id"], found["title"], found["school"], found["complete"]) == (
        ALGEBRA, "Algebra", "North", True,
    )  # fmt: skip
    assert names(found["teachers"]) == ["Grace"]
    assert [(m["first_name"], m["now"]) for m in found["students"]] == [("Ann", True), ("Ben", False)]

    taught = f"/persons/{teacher}/pupils"
    shown = await roster.until(f"/persons/{teacher}", lambda _, body: len(body["classes"]) == 2, scope="desk")
    _, pupils = await roster.ask("GET", taught, scope="desk")
    assert [(p["first_name"], p["classes"]) for p in pupils["pupils"]] == [("Ann", [ALGEBRA])]
    assert [(a["class_id"], a["role"]) for a in shown["classes"]] == [
        (ALGEBRA, "teacher"),
        ("over", "teacher"),
    ]

    await publish(roster, cloud_event("ClassUnassigned", time=at(1), source_id="p1", class_id=ALGEBRA))
    await roster.until(taught, lambda _, body: body["pupils"] == [], scope="desk")


async def test_who_has_left_has_no_pupils_any_more(roster: Roster) -> None:
    teacher, _, _, _ = await publish(
        roster,
        cloud_event("StaffEmployed"),
        cloud_event("StudentEnrolled", source_id="p1", number="0000001", first_name="Ann"),
        in_class("t1", "teacher"),
        in_class("p1", "student"),
    )
    taught = f"/persons/{teacher}/pupils"
    await roster.until(
        taught, lambda status, body: status == 200 and names(body["pupils"]) == ["Ann"], scope="desk"
    )
    await publish(roster, cloud_event("StaffLeft", time=at(1), source_id="t1"))
    await roster.until(taught, lambda _, body: body["pupils"] == [], scope="desk")


async def test_what_nobody_is_in_is_no_class(roster: Roster) -> None:
    status, problem = await roster.ask("GET", "/classes/none", scope="desk")
    assert (status, problem["reason"]) == (404, "not_found")
    status, problem = await roster.ask("GET", "/classes/none", scope="roster:write")
    assert (status, problem["reason"]) == (403, "scope_missing")
