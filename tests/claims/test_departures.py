"""Who leaves is suspended when the grace is over, and is let in again on return; and what the desk closes and opens."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.claims import departures
from services.claims.consumer import CredentialsSet
from services.claims.departures import SuspensionWorker
from services.claims.events import AccountRestored, AccountSuspended
from services.claims.projections import (
    EnrollmentVoided,
    Identity,
    PersonsMerged,
    PersonsSplit,
    StaffEmployed,
    StudentEnrolled,
)
from shared import clock
from tests.claims.conftest import World
from tests.claims.test_api import differing


async def causes(world: World, person_id: UUID) -> list[str]:
    account = await world.account(person_id)
    assert account["suspended"] is bool(account["suspensions"])
    return [each["cause"] for each in account["suspensions"]]


async def close(world: World, person_id: UUID, **more: Any) -> Any:
    return await world.desk("PUT", f"/accounts/{person_id}/suspension", json=more)


class TestTheGrace:
    async def test_the_account_stays_open_until_the_moment_that_the_desk_is_shown(self, world: World) -> None:
        person_id = await world.claimed()
        await world.withdraw(person_id)
        account = await world.account(person_id)
        assert (account["enrolled"], account["suspended"]) == (False, False)
        left = datetime.fromisoformat(account["open_until"]) - clock.now()
        assert timedelta(hours=71.9) < left < timedelta(hours=72)
        assert account["open_until_local"].startswith(account["open_until"][:4])
        assert await world.pass_by(hours=71) == 0
        assert await world.pass_by(hours=73) == 1
        account = await world.account(person_id)
        assert (account["claimed"], account["open_until"]) == (True, None)
        assert await causes(world, person_id) == ["withdrawn"]

    async def test_a_return_within_it_changes_nothing(self, world: World) -> None:
        """A transfer told the withdrawal before the enrollment."""
        person_id = await world.claimed()
        before = await world.events(person_id)
        await world.withdraw(person_id)
        await world.come_back(person_id)
        assert await world.pass_by(days=400) == 0
        assert await world.events(person_id) == before
        assert (await world.account(person_id))["open_until"] is None

    async def test_it_counts_from_the_first_word_of_a_withdrawal(self, world: World) -> None:
        """A source that repeats it every night does not keep the account open for ever."""
        person_id = await world.claimed()
        await world.withdraw(person_id, hours_ago=73)
        await world.withdraw(person_id, hours_ago=1, reason="moved")
        assert await world.pass_by() == 1

    async def test_a_graduate_has_the_summer(self, world: World) -> None:
        person_id = await world.claimed()
        await world.withdraw(person_id, reason=" Graduated ")
        assert await world.pass_by(days=89) == 0
        assert await world.pass_by(days=91) == 1

    async def test_staff_who_leave_are_suspended_alike_and_come_back(self, world: World) -> None:
        person_id = await world.employ()
        await world.leave(person_id)
        assert await world.pass_by(hours=71) == 0
        assert await world.pass_by(hours=73) == 1
        assert await causes(world, person_id) == ["withdrawn"]
        now = clock.now()
        await world.roster(
            person_id,
            StaffEmployed(
                enrollment_id="e2", identity=Identity("hr-e12345", "e12345", "Okafor", "Grace"),
                received_at=now, basis=now, baseline=False, current=True,
            ),
        )  # fmt: skip
        assert await causes(world, person_id) == []

    async def test_each_district_says_how_long(self, world: World) -> None:
        differing(world.kit, suspension_grace_hours=0)
        await world.withdraw(await world.claimed())
        assert await world.pass_by() == 1

    async def test_a_voided_enrollment_leaves_nobody_behind(self, world: World) -> None:
        person_id = await world.claimed()
        await world.roster(person_id, EnrollmentVoided(enrollment_id="e1"))
        assert await world.pass_by(hours=71) == 0
        assert await world.pass_by(hours=73) == 1
        assert await causes(world, person_id) == ["withdrawn"]

    async def test_one_of_two_enrollments_voided_is_no_departure_and_no_beginning_of_a_grace(
        self, world: World
    ) -> None:
        person_id = await world.claimed()
        await world.come_back(person_id)
        hours_ago = clock.now() - timedelta(hours=80)
        await world.roster(person_id, EnrollmentVoided(enrollment_id="e1"), hours_ago)
        await world.withdraw(person_id)
        assert await world.pass_by(hours=71) == 0
        await world.come_back(person_id)
        await world.roster(person_id, EnrollmentVoided(enrollment_id="e3"))
        assert await world.pass_by(hours=73) == 1
        assert await causes(world, person_id) == []

    async def test_nobody_is_suspended_before_the_read_model_knows(self, world: World) -> None:
        """It lags behind: what it says of somebody is as old as its gate."""
        differing(world.kit, suspension_grace_hours=0)
        person_id = await world.claimed()
        await world.roster(person_id, EnrollmentVoided(enrollment_id="e1"), read=False)
        assert await world.pass_by(hours=1) == 0

    async def test_a_history_that_cannot_be_read_holds_up_nobody_else(self, world: World) -> None:
        broken, other = await world.claimed(), await world.claimed("0000002", "Li", "X")
        for person_id in (broken, other):
            await world.withdraw(person_id)
        async with world.kit.db.connection() as conn:
            await conn.execute("UPDATE event SET district = 'other' WHERE stream_id = $1", broken)
        assert await world.pass_by(hours=73) == 2
        assert await causes(world, other) == ["withdrawn"]
        assert [row["person_id"] for row in await world.fetch("SELECT person_id FROM departure")] == [broken]
        assert await world.pass_by(hours=73.5) == 0
        assert await world.pass_by(hours=75) == 1

    async def test_several_workers_suspend_each_account_once(self, world: World) -> None:
        persons = [await world.enroll(f"{n:07}") for n in range(12)]
        for person_id in persons:
            await world.withdraw(person_id, hours_ago=100)
        workers = [SuspensionWorker(world.kit.store, world.kit.policies) for _ in range(4)]

        async def work(worker: SuspensionWorker) -> None:
            while await worker.suspend_next(clock.now()):
                pass

        await asyncio.gather(*map(work, workers))
        for person_id in persons:
            assert await world.events(person_id) == [AccountSuspended(cause="withdrawn", generation=0)]
        assert await world.fetch("SELECT * FROM departure") == []

    async def test_dying_between_the_event_and_the_end_of_the_row_leaves_neither(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        person_id = await world.claimed()
        before = await world.events(person_id)
        await world.withdraw(person_id)
        with monkeypatch.context() as dying:
            dying.setattr(departures.sql, "end_departure", "SELECT 1 / 0, $1::uuid")
            with pytest.raises(Exception, match="division by zero"):
                await world.pass_by(hours=73)
        assert await world.events(person_id) == before
        assert await world.pass_by(hours=73) == 1
        assert await causes(world, person_id) == ["withdrawn"]

    async def test_an_account_that_an_error_of_ours_keeps_open_does_not_hold_up_the_others(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        persons = [await world.claimed(f"000000{n}") for n in (1, 2)]
        for person_id in persons:
            await world.withdraw(person_id)
        with monkeypatch.context() as broken:
            transact = departures.transact

            async def fails_for_the_first(*args: Any, **named: Any) -> Any:
                if args[3] == persons[0]:
                    raise KeyError("an error of ours")
                return await transact(*args, **named)

            broken.setattr(departures, "transact", fails_for_the_first)
            assert await world.pass_by(hours=73) == 2
        assert [await causes(world, person_id) for person_id in persons] == [[], ["withdrawn"]]
        assert await world.pass_by(hours=74.5) == 1
        assert await causes(world, persons[0]) == ["withdrawn"]


class TestTheReturn:
    async def test_it_opens_the_account_at_once_without_a_new_claim(self, world: World) -> None:
        person_id = await world.claimed()
        await world.withdraw(person_id, hours_ago=100)
        await world.pass_by()
        await world.come_back(person_id)
        account = await world.account(person_id)
        assert (account["claimed"], account["suspended"], account["open_until"]) == (True, False, None)
        assert (await world.events(person_id))[-1] == AccountRestored(cause="withdrawn", generation=0)

    async def test_it_does_not_lift_what_the_desk_closed(self, world: World) -> None:
        person_id = await world.claimed()
        await close(world, person_id)
        await world.withdraw(person_id, hours_ago=100)
        await world.pass_by()
        assert await causes(world, person_id) == ["desk", "withdrawn"]
        await world.come_back(person_id)
        assert await causes(world, person_id) == ["desk"]

    async def test_the_timeline_shows_both_though_nobody_acted(self, world: World) -> None:
        person_id = await world.enroll()
        await world.withdraw(person_id, hours_ago=100)
        await world.pass_by()
        await world.come_back(person_id)
        status, timeline = await world.desk("GET", f"/persons/{person_id}/timeline")
        assert status == 200
        told = [(event["type"], event["data"]["cause"], event["actor_name"]) for event in timeline["events"]]
        assert told == [("AccountSuspended", "withdrawn", None), ("AccountRestored", "withdrawn", None)]

    async def test_an_older_enrollment_told_late_is_no_return(self, world: World) -> None:
        person_id = await world.claimed()
        await world.withdraw(person_id, hours_ago=100)
        await world.pass_by()
        now = clock.now()
        await world.roster(
            person_id,
            StudentEnrolled(
                enrollment_id="e0", identity=Identity("sis-0123456", "0123456", "O'Neil", "Mary-Ann"),
                received_at=now, basis=now, baseline=False, current=False,
            ),
        )  # fmt: skip
        assert await causes(world, person_id) == ["withdrawn"]

    async def test_who_left_again_is_suspended_again(self, world: World) -> None:
        person_id = await world.claimed()
        for _ in range(2):
            await world.withdraw(person_id)
            await world.pass_by(hours=73)
            assert await causes(world, person_id) == ["withdrawn"]
            await world.come_back(person_id)
            assert await causes(world, person_id) == []


class TestMerges:
    async def two(self, world: World) -> tuple[UUID, UUID]:
        return await world.claimed("0000001", "Li", "X"), await world.claimed("0000002", "Li", "X")

    async def test_of_two_claimed_accounts_the_survivors_stays(self, world: World) -> None:
        stays, goes = await self.two(world)
        told = PersonsMerged(person_id=stays, merged_person_id=goes)
        await world.roster(stays, told)
        await world.roster(goes, told)
        assert await causes(world, stays) == []
        assert await causes(world, goes) == ["merged"]
        seen = await world.account(goes)
        assert (seen["merged_into"], seen["enrolled"]) == (str(stays), False)
        assert (await world.account(stays))["merged_into"] is None
        assert await world.pass_by(days=100) == 0

    async def test_whose_survivor_has_not_claimed_has_the_grace_to_do_so(self, world: World) -> None:
        stays = await world.enroll("0000001", "Li", "X")
        goes = await world.claimed("0000002", "Li", "X")
        await world.roster(goes, PersonsMerged(person_id=stays, merged_person_id=goes))
        assert await causes(world, goes) == []
        assert (await world.account(goes))["open_until"]
        assert (await world.account(stays))["may_claim_now"]
        await world.pass_by(hours=73)
        assert await causes(world, goes) == ["withdrawn"]

    @pytest.mark.parametrize("claimed", [True, False])
    async def test_a_split_opens_the_account_again(self, world: World, claimed: bool) -> None:
        stays = await (world.claimed if claimed else world.enroll)("0000001", "Li", "X")
        goes = await world.claimed("0123456")
        await world.roster(goes, PersonsMerged(person_id=stays, merged_person_id=goes))
        await world.pass_by(hours=73)
        assert await causes(world, goes) == ["merged" if claimed else "withdrawn"]
        await world.roster(goes, PersonsSplit(merged_person_id=goes))
        await world.come_back(goes)
        account = await world.account(goes)
        assert (account["suspended"], account["claimed"], account["merged_into"]) == (False, True, None)


class TestTheDesk:
    async def test_it_closes_an_account_and_opens_it_again(self, world: World) -> None:
        person_id = await world.claimed()
        for _ in range(2):
            assert await close(world, person_id, desk_ticket="T-7") == (204, None)
        (seen,) = (await world.account(person_id))["suspensions"]
        assert (seen["cause"], seen["actor"], seen["actor_name"]) == ("desk", "desk-1", "desk-1 by name")
        assert seen["desk_ticket"] == "T-7"
        for _ in range(2):
            path = f"/accounts/{person_id}/suspension?desk_ticket=T-8"
            assert await world.desk("DELETE", path, sub="desk-2") == (204, None)
        assert await causes(world, person_id) == []
        assert (await world.events(person_id))[-2:] == [
            AccountSuspended(cause="desk", generation=0, actor="desk-1", desk_ticket="T-7"),
            AccountRestored(cause="desk", generation=0, actor="desk-2", desk_ticket="T-8"),
        ]

    async def test_an_unclaimed_account_cannot_be_claimed_meanwhile(self, world: World) -> None:
        person_id = await world.enroll()
        _, claim = await world.claim()
        await close(world, person_id)
        status, problem = await world.claim()
        assert (status, problem["reason"]) == (403, "account_suspended")
        assert "causes" not in problem
        assert not (await world.account(person_id))["may_claim_now"]
        assert (await world.standing(claim))[1]["reason"] == "account_suspended"
        await world.seal(person_id, claim)
        assert (await world.standing(claim))[1]["reason"] == "account_suspended"
        await world.desk("DELETE", f"/accounts/{person_id}/suspension")
        status, claim = await world.claim()
        assert status == 201
        await world.seal(person_id, claim)
        assert (await world.account(person_id))["claimed"]

    async def test_a_reset_leaves_it_closed(self, world: World) -> None:
        person_id = await world.claimed()
        await close(world, person_id)
        await world.desk("POST", f"/accounts/{person_id}/resets", json={})
        assert await causes(world, person_id) == ["desk"]
        assert (await world.claim())[1]["reason"] == "account_suspended"

    @pytest.mark.parametrize("method", ["PUT", "DELETE"])
    async def test_it_knows_whom(self, world: World, method: str) -> None:
        more = {"json": {}} if method == "PUT" else {}
        status, problem = await world.desk(method, f"/accounts/{uuid4()}/suspension", **more)
        assert (status, problem["reason"]) == (404, "person_unknown")
        person_id = await world.enroll()
        status, problem = await world.desk(
            method, f"/accounts/{person_id}/suspension", scope="roster:write", **more
        )
        assert (status, problem["reason"]) == (403, "scope_missing")


async def test_a_credential_sealed_for_who_left_since_is_rejected(world: World) -> None:
    person_id = await world.enroll()
    _, claim = await world.claim()
    await world.withdraw(person_id, hours_ago=100)
    await world.pass_by()
    fact = CredentialsSet(claim_id=UUID(claim["claim_id"]), credential_id=uuid4(), generation=0)
    await world.auth(person_id, fact)
    assert (await world.standing(claim))[1]["reason"] == "not_enrolled"
