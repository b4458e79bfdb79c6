"""Resets of a school and of all students: whom they mean, what is asked first, and that nobody else is touched."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from services.claims import decider
from services.claims.projections import PlacementChanged
from shared import clock
from tests.claims.conftest import World
from tests.claims.test_api import differing
from tests.claims.test_batches import generations, revoked, seen, states

HIGH, MIDDLE = "Jonesboro High", "Mundy's Mill Middle"


@pytest.fixture
async def pupils(world: World) -> dict[str, UUID]:
    """Two of the high school have claimed, and its teacher, and one has not; one of the middle school has, and one
    of no school."""
    return {
        "ann": await world.claimed("0000001", "Cruz", "Ann", school=HIGH),
        "bob": await world.claimed("0000002", "Cruz", "Bob", school=HIGH),
        "new": await world.enroll("0000003", "Cruz", "Eve", school=HIGH),
        "mid": await world.claimed("0000004", "Cruz", "Kim", school=MIDDLE),
        "none": await world.claimed("0000005", "Cruz", "Lee"),
        "teacher": await world.claimed("e00006", "Cruz", "Sam", school=HIGH),
    }


async def ask(world: World, body: Any, **more: Any) -> tuple[int, Any]:
    return await world.desk("POST", "/reset-batches", json=body, **more)


async def preview(world: World, body: Any, **more: Any) -> Any:
    status, found = await world.desk("POST", "/reset-batches?dry_run", json=body, **more)
    assert status == 200
    return found


async def approve(world: World, batch: Any) -> None:
    status, _ = await world.desk("POST", f"/reset-batches/{batch['batch_id']}/approval", sub="desk-2")
    assert status == 202


async def page(world: World, batch: Any, query: str) -> Any:
    return (await world.desk("GET", f"/reset-batches/{batch['batch_id']}?{query}"))[1]


class TestBeforehand:
    async def test_figures_by_school_and_nothing_changes(self, world: World, pupils: dict[str, UUID]) -> None:
        found = await preview(world, {"all_students": True})
        assert found == {
            "total": 4, "unclaimed": 1, "approval_required": True, "lines": [],
            "schools": [
                {"school": HIGH, "total": 2, "unclaimed": 1},
                {"school": MIDDLE, "total": 1, "unclaimed": 0},
                {"school": None, "total": 1, "unclaimed": 0},
            ],
        }  # fmt: skip
        of_one = await preview(world, {"school": HIGH})
        assert of_one == found | {
            "total": 2, "approval_required": False, "schools": found["schools"][:1],
        }  # fmt: skip
        assert await world.work() == 0
        assert await generations(world, *pupils.values()) == [0] * 6
        assert await world.fetch("SELECT FROM reset_batch") == []

    @pytest.mark.parametrize(
        ("body", "given"),
        [
            ({}, []),
            ({"all_students": False}, []),
            ({"school": HIGH, "all_students": True}, ["school", "all_students"]),
            ({"lines": [], "school": HIGH}, ["lines", "school"]),
        ],
    )
    async def test_exactly_one_way_to_say_whom(self, world: World, body: Any, given: list[str]) -> None:
        for way in ("", "?dry_run"):
            status, problem = await world.desk("POST", f"/reset-batches{way}", json=body)
            assert (status, problem["reason"], problem["given"]) == (422, "batch_unclear", given)

    async def test_a_school_that_nobody_is_at(self, world: World, pupils: dict[str, UUID]) -> None:
        for way in ("", "?dry_run"):
            status, problem = await world.desk("POST", f"/reset-batches{way}", json={"school": "Jonesboro"})
            assert (status, problem["reason"]) == (422, "school_unknown")

    async def test_where_nobody_has_claimed(self, world: World) -> None:
        await world.enroll(school=HIGH)
        for body in ({"school": HIGH}, {"all_students": True}):
            status, problem = await ask(world, body)
            assert (status, problem["reason"]) == (409, "nobody_claimed")
        assert await world.fetch("SELECT FROM reset_batch") == []

    async def test_another_district_is_not_meant(self, world: World, pupils: dict[str, UUID]) -> None:
        await world.fetch("UPDATE admission SET district = 'hill' WHERE person_id = $1", pupils["ann"])
        assert (await preview(world, {"all_students": True}))["total"] == 3


class TestASchool:
    async def test_its_claimed_pupils_are_reset_and_nobody_else(
        self, world: World, pupils: dict[str, UUID]
    ) -> None:
        _, claim = await world.claim("0000003", "Cruz", "Eve")
        status, batch = await ask(world, {"school": HIGH, "desk_ticket": "T-3"})
        assert status == 202
        shown = ("extent", "school", "state", "total", "unclaimed", "counts", "lines", "next_after")
        assert [batch[name] for name in shown] == ["school", HIGH, "running", 2, 1, {"matched": 2}, [], 0]
        assert await world.work() == 2
        assert await generations(world, *pupils.values()) == [1, 1, 0, 0, 0, 0]
        await world.seal(pupils["new"], claim)
        assert (await world.standing(claim))[1]["state"] == "completed"
        for name in ("ann", "bob"):
            await revoked(world, pupils[name])
        found = await seen(world, batch)
        assert (found["state"], found["done"], found["counts"]) == ("done", 2, {"done": 2})
        assert [(line["username"], line["state"]) for line in found["lines"]] == [
            ("S0000001", "done"), ("S0000002", "done"),
        ]  # fmt: skip
        (reset,) = (await world.account(pupils["ann"]))["resets"]
        assert (reset["batch_id"], reset["desk_ticket"]) == (batch["batch_id"], "T-3")

    async def test_a_pupil_who_has_moved_is_of_the_new_school(
        self, world: World, pupils: dict[str, UUID]
    ) -> None:
        await world.roster(pupils["bob"], PlacementChanged(school=MIDDLE, grade="08"))
        await ask(world, {"school": MIDDLE})
        assert await world.work() == 2
        assert await generations(world, *pupils.values()) == [0, 1, 0, 1, 0, 0]

    async def test_who_has_left_is_reset_as_well_and_claims_when_back(
        self, world: World, pupils: dict[str, UUID]
    ) -> None:
        await world.withdraw(pupils["ann"])
        await world.withdraw(pupils["new"])
        assert (await preview(world, {"school": HIGH}))["schools"] == [
            {"school": HIGH, "total": 2, "unclaimed": 0}
        ]
        await ask(world, {"school": HIGH})
        await world.work()
        assert (await world.account(pupils["ann"]))["generation"] == 1

    async def test_a_long_list_waits_and_a_claim_made_meanwhile_is_not_touched(
        self, world: World, pupils: dict[str, UUID]
    ) -> None:
        """Reset by itself while the list waits, and claimed again: the list was frozen before."""
        differing(world.kit, approval_above=1)
        _, batch = await ask(world, {"school": HIGH})
        assert batch["state"] == "awaiting_approval"
        assert await world.work() == 0
        await world.desk("POST", f"/accounts/{pupils['ann']}/resets", json={})
        _, claim = await world.claim("0000001", "Cruz", "Ann")
        await world.seal(pupils["ann"], claim, generation=1)
        _, late = await world.claim("0000003", "Cruz", "Eve")
        await world.seal(pupils["new"], late)
        await approve(world, batch)
        assert await world.work() == 2
        found = await seen(world, batch)
        assert [(line["state"], line.get("reason")) for line in found["lines"]] == [
            ("skipped", "reset_since"), ("reset", None),
        ]  # fmt: skip
        assert (await world.account(pupils["ann"]))["claimed"] is True
        assert (await world.account(pupils["new"]))["claimed"] is True

    async def test_a_repeat_under_one_key_is_one_batch(self, world: World, pupils: dict[str, UUID]) -> None:
        answers = [await ask(world, {"school": HIGH}, headers={"Idempotency-Key": "k"}) for _ in range(3)]
        assert answers[0] == answers[1] == answers[2]
        assert await world.work() == 2


class TestAllStudents:
    async def test_they_wait_for_a_second_person_however_few_they_are(
        self, world: World, pupils: dict[str, UUID]
    ) -> None:
        status, problem = await ask(world, {"all_students": True}, sub="machine", human=False)
        assert (status, problem["reason"]) == (403, "person_required")
        _, batch = await ask(world, {"all_students": True}, scope="operator")
        assert (batch["state"], batch["total"], batch["school"]) == ("awaiting_approval", 4, None)
        await approve(world, batch)
        assert await world.work() == 4
        assert await generations(world, *pupils.values()) == [1, 1, 0, 1, 1, 0]

    async def test_accounts_are_shown_page_by_page(self, world: World, pupils: dict[str, UUID]) -> None:
        _, batch = await ask(world, {"all_students": True})
        first = await page(world, batch, "limit=3")
        assert [line["username"] for line in first["lines"]] == ["S0000001", "S0000002", "S0000004"]
        assert first["next_after"] == 3
        last = await page(world, batch, "limit=3&after=3")
        assert [line["line"] for line in last["lines"]] == [4]
        assert last["next_after"] is None
        figures = await page(world, batch, "limit=0")
        assert (figures["lines"], figures["next_after"], figures["counts"]) == ([], 0, {"matched": 4})

    async def test_how_fast_it_goes_and_how_long_it_takes(
        self, world: World, pupils: dict[str, UUID]
    ) -> None:
        _, batch = await ask(world, {"all_students": True})
        assert [(await seen(world, batch))[name] for name in ("per_second", "seconds_left")] == [None, None]
        await approve(world, batch)
        await world.work()
        for name in ("ann", "bob"):
            await revoked(world, pupils[name])
        found = await seen(world, batch)
        assert found["per_second"] > 0
        assert found["seconds_left"] >= 1
        for name in ("mid", "none"):
            await revoked(world, pupils[name])
        assert [(await seen(world, batch))[name] for name in ("per_second", "seconds_left")] == [None, None]

    async def test_cancelling_in_the_middle_leaves_the_others_as_they_are(
        self, world: World, pupils: dict[str, UUID]
    ) -> None:
        _, batch = await ask(world, {"all_students": True})
        await approve(world, batch)
        await world.work(at_most=2)
        assert await world.desk("DELETE", f"/reset-batches/{batch['batch_id']}") == (204, None)
        assert await world.work() == 0
        found = await seen(world, batch)
        assert (found["state"], found["counts"]) == ("cancelled", {"reset": 2, "cancelled": 2})
        assert await generations(world, *pupils.values()) == [1, 1, 0, 0, 0, 0]


class TestTwoAtOnce:
    @pytest.mark.parametrize(
        ("first", "second", "clash"),
        [
            ({"school": HIGH}, {"school": HIGH}, True),
            ({"school": HIGH}, {"all_students": True}, True),
            ({"all_students": True}, {"school": HIGH}, True),
            ({"all_students": True}, {"all_students": True}, True),
            ({"school": HIGH}, {"school": MIDDLE}, False),
            ({"lines": ["Ann Cruz 0000001"]}, {"school": HIGH}, False),
        ],
    )
    async def test_only_those_that_mean_the_same_accounts_clash(
        self, world: World, pupils: dict[str, UUID], first: Any, second: Any, clash: bool
    ) -> None:
        _, batch = await ask(world, first)
        status, answer = await ask(world, second)
        assert status == (409 if clash else 202)
        if clash:
            assert (answer["reason"], answer["batch_id"]) == ("bulk_reset_open", batch["batch_id"])
            await world.desk("DELETE", f"/reset-batches/{batch['batch_id']}")
            assert (await ask(world, second))[0] == 202

    async def test_a_ticket_does_not_wait_behind_a_school(
        self, world: World, pupils: dict[str, UUID]
    ) -> None:
        await ask(world, {"school": HIGH})
        await ask(world, {"lines": ["Kim Cruz 0000004"]})
        await world.work(at_most=1)
        assert await generations(world, pupils["mid"]) == [1]


class TestResetsAlone:
    """What one client may reset within a day before somebody else has to look."""

    async def test_one_by_one_ends_at_the_bound(self, world: World, pupils: dict[str, UUID]) -> None:
        differing(world.kit, resets_alone_a_day=2)
        answers = [
            await world.desk("POST", f"/accounts/{pupils[name]}/resets", json={}, sub="leaked", human=False)
            for name in ("ann", "bob", "mid")
        ]
        assert [status for status, _ in answers] == [202, 202, 403]
        assert (answers[2][1]["reason"], answers[2][1]["resets_alone_a_day"]) == ("resets_exhausted", 2)
        assert (await world.desk("POST", f"/accounts/{pupils['mid']}/resets", json={}))[0] == 202

    async def test_many_at_once_are_counted_as_well(self, world: World, pupils: dict[str, UUID]) -> None:
        differing(world.kit, resets_alone_a_day=2)
        answers = await asyncio.gather(
            *(world.desk("POST", f"/accounts/{pupils[name]}/resets", json={}) for name in pupils)
        )
        assert sorted(status for status, _ in answers) == [202, 202, 403, 403, 403, 403]

    async def test_a_list_beyond_it_waits_for_a_second_person(
        self, world: World, pupils: dict[str, UUID]
    ) -> None:
        differing(world.kit, resets_alone_a_day=2)
        await world.desk("POST", f"/accounts/{pupils['ann']}/resets", json={})
        lines = {"lines": ["Bob Cruz 0000002", "Kim Cruz 0000004"]}
        assert (await preview(world, lines))["approval_required"] is True
        _, batch = await ask(world, lines)
        assert batch["state"] == "awaiting_approval"
        await approve(world, batch)
        assert await world.work() == 2
        assert states(await seen(world, batch)) == ["reset", "reset"]
        assert (await ask(world, {"lines": ["Lee Cruz 0000005"]}))[1]["state"] == "running"

    async def test_what_was_long_ago_taken_back_or_approved_does_not_count(
        self, world: World, pupils: dict[str, UUID]
    ) -> None:
        differing(world.kit, resets_alone_a_day=1)
        await world.desk("POST", f"/accounts/{pupils['ann']}/resets", json={})
        assert (await world.desk("POST", f"/accounts/{pupils['bob']}/resets", json={}))[0] == 403
        await world.fetch("UPDATE reset_batch SET as_of = $1", clock.now() - decider.DAY)
        _, batch = await ask(world, {"school": MIDDLE})
        await world.desk("DELETE", f"/reset-batches/{batch['batch_id']}")
        assert (await world.desk("POST", f"/accounts/{pupils['bob']}/resets", json={}))[0] == 202
