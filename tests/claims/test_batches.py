"""Resets, from the help desk's request until auth has confirmed: one, pasted lines, approval, crash, cancel."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from services.claims.consumer import CredentialLost, CredentialRevoked
from services.claims.events import AccountReset
from services.claims.projections import Identity, NumberChanged
from tests.claims.conftest import World
from tests.claims.test_api import differing

NAMES = [("0000001", "De La Cruz", "Mary Ann"), ("0000002", "O'Neil", "Siobhán"), ("0000003", "Li", "X")]


async def three_claimed(world: World) -> list[UUID]:
    return [await world.claimed(*who) for who in NAMES]


def lines(*indexes: int) -> list[str]:
    return [f"{first} {last} {number}" for number, last, first in (NAMES[i] for i in indexes or range(3))]


async def start(world: World, pasted: Any, **more: Any) -> Any:
    status, batch = await world.desk("POST", "/reset-batches", json={"lines": pasted}, **more)
    assert status == 202
    return batch


async def seen(world: World, batch: Any) -> Any:
    status, now = await world.desk("GET", f"/reset-batches/{batch['batch_id']}")
    assert status == 200
    return now


def states(batch: Any) -> list[str]:
    return [line["state"] for line in batch["lines"]]


async def revoked(world: World, person_id: UUID, generation: int = 1, sessions_ended: int = 2) -> None:
    """auth confirms, and its processes have forgotten what they believed."""
    await world.auth(person_id, CredentialRevoked(generation=generation, sessions_ended=sessions_ended))
    await world.fetch(
        "UPDATE reset_item SET changed_at = changed_at - interval '2 seconds' WHERE state = 'done'"
    )


async def generations(world: World, *persons: UUID) -> list[int]:
    return [(await world.account(person_id))["generation"] for person_id in persons]


class TestOne:
    async def test_it_is_done_when_auth_has_confirmed(self, world: World) -> None:
        person_id = await world.claimed()
        async with world.http.post(
            f"/v1/districts/ccps/accounts/{person_id}/resets",
            json={"desk_ticket": "T-9"},
            headers={"Authorization": f"Bearer {world.token('desk-1', 'desk')}"},
        ) as response:
            batch = await response.json()
        assert response.status == 202
        assert response.headers["Location"] == f"/v1/districts/ccps/reset-batches/{batch['batch_id']}"
        assert (batch["state"], batch["total"], batch["done"], states(batch)) == ("running", 1, 0, ["reset"])
        account = await world.account(person_id)
        assert (account["claimed"], account["generation"]) == (False, 1)
        await world.auth(person_id, CredentialRevoked(generation=1, sessions_ended=2))
        batch = await seen(world, batch)
        assert (batch["state"], batch["done"], states(batch)) == ("running", 0, ["reset"]), (
            "a process of auth may still believe a session"
        )
        assert [r["state"] for r in (await world.account(person_id))["resets"]] == ["reset"]
        await world.fetch("UPDATE reset_item SET changed_at = changed_at - interval '2 seconds'")
        batch = await seen(world, batch)
        assert (batch["state"], batch["done"], states(batch)) == ("done", 1, ["done"])
        assert batch["lines"][0]["sessions_ended"] == 2
        (reset,) = (await world.account(person_id))["resets"]
        assert (reset["author"], reset["desk_ticket"], reset["state"]) == ("desk-1", "T-9", "done")
        event = (await world.events(person_id))[-1]
        assert isinstance(event, AccountReset)
        assert (event.actor, event.desk_ticket, str(event.batch_id)) == ("desk-1", "T-9", batch["batch_id"])

    async def test_the_pupil_claims_again_and_the_late_answer_of_auth_spoils_nothing(
        self, world: World
    ) -> None:
        person_id = await world.claimed()
        await world.desk("POST", f"/accounts/{person_id}/resets", json={})
        _, claim = await world.claim()
        await world.seal(person_id, claim, generation=1)
        await revoked(world, person_id)
        account = await world.account(person_id)
        assert (account["claimed"], account["generation"]) == (True, 1)
        assert (await world.standing(claim))[1]["state"] == "completed"

    async def test_an_unclaimed_account_gets_a_new_generation_and_its_open_claim_ends(
        self, world: World
    ) -> None:
        person_id = await world.enroll()
        _, claim = await world.claim()
        status, _ = await world.desk("POST", f"/accounts/{person_id}/resets", json={})
        assert status == 202
        await world.seal(person_id, claim)
        assert (await world.standing(claim))[1] == {
            "claim_id": claim["claim_id"], "state": "rejected", "reason": "claim_superseded",
        }  # fmt: skip

    async def test_a_repeat_under_one_key_resets_once(self, world: World) -> None:
        person_id = await world.claimed()
        asked = {"json": {}, "headers": {"Idempotency-Key": "k"}}
        answers = [await world.desk("POST", f"/accounts/{person_id}/resets", **asked) for _ in range(3)]
        assert answers[0] == answers[1] == answers[2]
        assert answers[0][1]["lines"][0]["username"] == "S0123456"
        assert await generations(world, person_id) == [1]
        [kept] = await world.fetch("SELECT * FROM command")
        assert "S0123456" not in str(kept), "whom a reply names is looked up for each repeat"

    async def test_an_older_confirmation_confirms_nothing_newer(self, world: World) -> None:
        person_id = await world.claimed()
        batch = (await world.desk("POST", f"/accounts/{person_id}/resets", json={}))[1]
        again = (await world.desk("POST", f"/accounts/{person_id}/resets", json={}))[1]
        await revoked(world, person_id, generation=1)
        assert [(await seen(world, b))["state"] for b in (batch, again)] == ["done", "running"]
        await revoked(world, person_id, generation=2, sessions_ended=0)
        assert (await seen(world, again))["state"] == "done"

    async def test_an_unknown_person(self, world: World) -> None:
        status, problem = await world.desk("POST", f"/accounts/{uuid4()}/resets", json={})
        assert (status, problem["reason"]) == (404, "person_unknown")
        assert await world.fetch("SELECT * FROM reset_batch") == []

    async def test_where_even_one_needs_a_second_person(self, world: World) -> None:
        person_id = await world.claimed()
        differing(world.kit, approval_above=0)
        status, problem = await world.desk("POST", f"/accounts/{person_id}/resets", json={})
        assert (status, problem["reason"]) == (403, "approval_required")
        assert await generations(world, person_id) == [0]

    async def test_staff_is_never_reset_without_a_second_person(self, world: World) -> None:
        person_id = await world.claimed("e12345", "Okafor", "Grace")
        status, problem = await world.desk("POST", f"/accounts/{person_id}/resets", json={})
        assert (status, problem["reason"]) == (403, "approval_required")
        asked = {"json": {"lines": ["Grace Okafor e12345"]}}
        status, preview = await world.desk("POST", "/reset-batches?dry_run", **asked)
        assert (status, preview["total"], preview["approval_required"]) == (200, 1, True)
        status, problem = await world.desk("POST", "/reset-batches", sub="machine", human=False, **asked)
        assert (status, problem["reason"]) == (403, "person_required")
        batch = await start(world, ["Grace Okafor e12345"])
        assert (batch["state"], batch["lines"][0]["username"]) == ("awaiting_approval", "e12345")
        assert await world.work() == 0
        path = f"/reset-batches/{batch['batch_id']}/approval"
        assert (await world.desk("POST", path))[1]["reason"] == "approver_is_author"
        assert (await world.desk("POST", path, sub="desk-2"))[0] == 202
        assert await world.work() == 1
        assert await generations(world, person_id) == [1]


class TestALostCredential:
    async def test_it_resets_its_account_and_the_desk_sees_why(self, world: World) -> None:
        person_id = await world.claimed()
        await world.auth(person_id, CredentialLost(generation=0))
        account = await world.account(person_id)
        assert (account["claimed"], account["generation"]) == (False, 1)
        (reset,) = account["resets"]
        assert (reset["cause"], reset["author"], reset["state"]) == ("credential_lost", "auth", "reset")
        await revoked(world, person_id, sessions_ended=0)
        assert (await world.account(person_id))["resets"][0]["state"] == "done"

    async def test_one_of_an_older_generation_is_passed_over(self, world: World) -> None:
        person_id = await world.claimed()
        await world.desk("POST", f"/accounts/{person_id}/resets", json={})
        await world.auth(person_id, CredentialLost(generation=0))
        assert await generations(world, person_id) == [1]


class TestLines:
    async def test_a_dry_run_reports_and_changes_nothing(self, world: World) -> None:
        persons = await three_claimed(world)
        await world.enroll("0000004", "New", "Pupil")
        pasted = [
            *lines(),
            "New Pupil 0000004",
            "Pupil New 0000004",
            "No Body 7777777",
            "Li X 0000003",
            "X 3",
        ]
        status, preview = await world.desk("POST", "/reset-batches?dry_run", json={"lines": pasted})
        assert status == 200
        assert (preview["total"], preview["approval_required"]) == (3, False)
        assert states(preview) == [
            "matched", "matched", "matched", "name_differs", "not_claimed", "unmatched", "name_differs", "malformed",
        ]  # fmt: skip
        assert preview["lines"][3]["on_file"] == "Pupil New"
        assert await generations(world, *persons) == [0, 0, 0]
        assert await world.fetch("SELECT * FROM reset_batch") == []

    async def test_the_worker_resets_them_and_auth_confirms_each(self, world: World) -> None:
        persons = await three_claimed(world)
        batch = await start(world, "\n".join(lines()))
        assert (batch["state"], batch["total"], states(batch)) == ("running", 3, ["matched"] * 3)
        assert await world.work() == 3
        assert states(await seen(world, batch)) == ["reset"] * 3
        assert await generations(world, *persons) == [1, 1, 1]
        for person_id in persons:
            await revoked(world, person_id)
        batch = await seen(world, batch)
        assert (batch["state"], batch["done"], batch["counts"]) == ("done", 3, {"done": 3})

    async def test_an_unclaimed_account_of_the_list_keeps_its_open_claim(self, world: World) -> None:
        person_id = await world.enroll(*NAMES[0])
        _, claim = await world.claim(*NAMES[0])
        batch = await start(world, lines(0))
        assert (batch["state"], batch["total"], states(batch)) == ("done", 0, ["not_claimed"])
        assert await world.work() == 0
        await world.seal(person_id, claim)
        assert (await world.standing(claim))[1]["state"] == "completed"

    async def test_who_claimed_again_since_the_list_was_frozen_is_left_alone(self, world: World) -> None:
        first, other, _ = await three_claimed(world)
        batch = await start(world, lines(0, 1))
        await world.desk("POST", f"/accounts/{first}/resets", json={})
        _, claim = await world.claim(*NAMES[0])
        await world.seal(first, claim, generation=1)
        assert await world.work() == 2
        found = await seen(world, batch)
        assert [(line["state"], line.get("reason")) for line in found["lines"]] == [
            ("skipped", "reset_since"), ("reset", None),
        ]  # fmt: skip
        assert (await world.account(first))["claimed"] is True
        assert (await world.account(other))["claimed"] is False

    async def test_names_and_numbers_are_shown_and_not_kept(self, world: World) -> None:
        first, *_ = await three_claimed(world)
        batch = await start(world, ["Mary De La Cruz 0000001", *lines(1)])
        shown = (await seen(world, batch))["lines"]
        assert [line["username"] for line in shown] == ["S0000001", "S0000002"]
        assert [line["name"] for line in shown] == ["Mary Ann De La Cruz", "Siobhán O'Neil"]
        assert not any("on_file" in line for line in shown)
        kept = str(await world.fetch("SELECT * FROM reset_batch"))
        assert not any(of in kept for of in ("Cruz", "0000001", "0000002", "Neil"))
        await world.roster(first, NumberChanged(identity=Identity("s", "0000008", "De La Cruz", "Mary Ann")))
        line = (await seen(world, batch))["lines"][0]
        assert (line["username"], line["name"]) == ("S0000008", "Mary Ann De La Cruz")

    async def test_the_reset_of_one_shows_whose_it_is(self, world: World) -> None:
        person_id = await world.claimed()
        _, batch = await world.desk("POST", f"/accounts/{person_id}/resets", json={})
        assert batch["lines"][0]["username"] == "S0123456"
        assert "0123456" not in str(await world.fetch("SELECT * FROM reset_batch"))

    @pytest.mark.parametrize(
        ("pasted", "reason"),
        [
            ([], "lines_missing"),
            (["A B 1"] * 2001, "lines_too_many"),
            (7, "invalid_body"),
            ([7], "invalid_body"),
        ],
    )
    async def test_lines_are_bounded(self, world: World, pasted: Any, reason: str) -> None:
        status, problem = await world.desk("POST", "/reset-batches", json={"lines": pasted})
        assert (status, problem["reason"]) == (422, reason)

    async def test_a_misspelt_dry_run_resets_nobody(self, world: World) -> None:
        await three_claimed(world)
        status, problem = await world.desk("POST", "/reset-batches?dryrun", json={"lines": lines()})
        assert (status, problem["reason"]) == (422, "invalid_query")

    async def test_a_repeat_under_one_key_is_one_batch(self, world: World) -> None:
        await three_claimed(world)
        key = {"headers": {"Idempotency-Key": "k"}}
        one, again = await start(world, lines(), **key), await start(world, lines(), **key)
        assert one["batch_id"] == again["batch_id"]
        assert await world.work() == 3


class TestApproval:
    async def waiting(self, world: World) -> Any:
        differing(world.kit, approval_above=2)
        batch = await start(world, lines())
        assert batch["state"] == "awaiting_approval"
        assert await world.work() == 0
        return batch

    async def approve(self, world: World, batch: Any, **by: Any) -> tuple[int, Any]:
        return await world.desk("POST", f"/reset-batches/{batch['batch_id']}/approval", **by)

    async def test_a_long_list_waits_for_a_second_person(self, world: World) -> None:
        persons = await three_claimed(world)
        batch = await self.waiting(world)
        status, problem = await self.approve(world, batch)
        assert (status, problem["reason"]) == (403, "approver_is_author")
        for _ in range(2):
            status, approved = await self.approve(world, batch, sub="desk-2")
            assert (status, approved["state"], approved["approved_by"]) == (202, "running", "desk-2")
        assert (approved["author_name"], approved["approved_by_name"]) == ("desk-1 by name", "desk-2 by name")
        assert await world.work() == 3
        assert await generations(world, *persons) == [1, 1, 1]

    async def test_a_machine_neither_asks_for_a_long_list_nor_approves_one(self, world: World) -> None:
        persons = await three_claimed(world)
        batch = await self.waiting(world)
        refused = await self.approve(world, batch, sub="machine", human=False)
        assert (refused[0], refused[1]["reason"]) == (403, "person_required")
        asked = {"json": {"lines": lines()}, "sub": "machine", "human": False}
        status, problem = await world.desk("POST", "/reset-batches", **asked)
        assert (status, problem["reason"]) == (403, "person_required")
        assert len(await world.fetch("SELECT FROM reset_batch")) == 1
        status, preview = await world.desk("POST", "/reset-batches?dry_run", **asked)
        assert (status, preview["approval_required"]) == (200, True)
        assert await world.work() == 0
        assert await generations(world, *persons) == [0, 0, 0]

    async def test_a_machine_resets_one_and_a_short_list(self, world: World) -> None:
        first, *others = await three_claimed(world)
        differing(world.kit, approval_above=2)
        machine: Any = {"sub": "machine", "human": False}
        status, _ = await world.desk("POST", f"/accounts/{first}/resets", json={}, **machine)
        assert status == 202
        assert (await start(world, lines(1, 2), **machine))["state"] == "running"
        assert await world.work() == 2
        assert await generations(world, first, *others) == [1, 1, 1]

    async def test_exactly_the_bound_needs_nobody(self, world: World) -> None:
        await three_claimed(world)
        differing(world.kit, approval_above=3)
        assert (await start(world, lines()))["state"] == "running"

    async def test_a_cancelled_list_cannot_be_approved(self, world: World) -> None:
        persons = await three_claimed(world)
        batch = await self.waiting(world)
        for _ in range(2):
            assert await world.desk("DELETE", f"/reset-batches/{batch['batch_id']}") == (204, None)
        status, problem = await self.approve(world, batch, sub="desk-2")
        assert (status, problem["reason"]) == (409, "batch_cancelled")
        assert await world.work() == 0
        assert await generations(world, *persons) == [0, 0, 0]

    async def test_an_unknown_batch(self, world: World) -> None:
        path = f"/reset-batches/{uuid4()}"
        for method, ending in (("GET", ""), ("DELETE", ""), ("POST", "/approval")):
            status, problem = await world.desk(method, path + ending)
            assert (status, problem["reason"]) == (404, "batch_unknown")

    async def test_only_desk_and_operator(self, world: World) -> None:
        for scope, expected in (("desk", 202), ("operator", 202), ("roster:write", 403)):
            status, _ = await world.desk(
                "POST", "/reset-batches", json={"lines": ["A B 0000001"]}, scope=scope
            )
            assert status == expected


async def test_they_are_listed_the_newest_first(world: World) -> None:
    await three_claimed(world)
    differing(world.kit, approval_above=1)
    alone, waiting = await start(world, lines(0)), await start(world, lines(1, 2))
    first = (await world.desk("GET", "/reset-batches?limit=1"))[1]
    assert [(each["batch_id"], each["state"], each["total"]) for each in first["batches"]] == [
        (waiting["batch_id"], "awaiting_approval", 2)
    ]
    rest = (await world.desk("GET", f"/reset-batches?limit=1&after={first['next_after']}"))[1]
    assert [(each["batch_id"], each["state"]) for each in rest["batches"]] == [(alone["batch_id"], "running")]
    assert rest["next_after"] is None
    only = (await world.desk("GET", "/reset-batches?waiting"))[1]["batches"]
    assert [each["author_name"] for each in only] == ["desk-1 by name"]
    await world.desk("DELETE", f"/reset-batches/{waiting['batch_id']}")
    assert (await world.desk("GET", "/reset-batches?waiting"))[1]["batches"] == []
    assert (await world.desk("GET", "/reset-batches"))[1]["batches"][0]["state"] == "cancelled"
