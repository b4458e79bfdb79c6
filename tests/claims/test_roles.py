"""Staff with roles, whose accounts a help desk does not change by itself; and who is one person."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from services.claims import decider
from services.claims.consumer import RoleRevoked
from shared.errors import Rejected
from shared.policy import Policy, RolesRule
from tests.claims.conftest import World
from tests.claims.given import policy
from tests.claims.test_api import differing

LINE = "Grace Okafor e12345"
OPERATOR = "desk operator"


async def colleague(world: World, role: Any = "desk") -> UUID:
    person_id = await world.claimed("e12345", "Okafor", "Grace")
    await world.grant(person_id, role)
    return person_id


async def start(world: World, **more: Any) -> tuple[int, Any]:
    return await world.desk("POST", "/reset-batches", json={"lines": [LINE]}, **more)


async def approve(world: World, batch: Any, **more: Any) -> tuple[int, Any]:
    return await world.desk("POST", f"/reset-batches/{batch['batch_id']}/approval", **more)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_only_a_role_above_closes_and_opens_an_account(world: World, method: str) -> None:
    person_id = await colleague(world)
    body = {"json": {}} if method == "PUT" else {}
    path = f"/accounts/{person_id}/suspension"
    status, refusal = await world.desk(method, path, **body)
    assert (status, refusal["reason"]) == (403, "role_not_below")
    assert (await world.desk(method, path, scope=OPERATOR, **body))[0] == 204
    await world.auth(person_id, RoleRevoked(role="desk"))
    assert (await world.desk(method, path, **body))[0] == 204


async def test_a_peer_is_reset_by_two_people_if_the_policy_says_so(world: World) -> None:
    person_id = await colleague(world)
    status, batch = await start(world)
    assert (status, batch["state"]) == (202, "awaiting_approval")
    assert (await approve(world, batch, sub="desk-2"))[0] == 202
    await world.work()
    assert (await world.account(person_id))["generation"] == 1

    differing(world.kit, roles=RolesRule(peers="refused"))
    _, preview = await world.desk("POST", "/reset-batches?dry_run", json={"lines": [LINE]})
    assert [line["state"] for line in preview["lines"]] == ["role_not_below"]
    assert preview["total"] == 0


async def test_a_role_above_ones_own_nobody_resets_or_approves(world: World) -> None:
    await colleague(world, "operator")
    _, batch = await start(world)
    assert [line["state"] for line in batch["lines"]] == ["role_not_below"]
    _, batch = await start(world, scope=OPERATOR)
    assert batch["state"] == "awaiting_approval"
    status, refusal = await approve(world, batch, sub="desk-2")
    assert (status, refusal["reason"]) == (403, "role_not_below")
    assert (await approve(world, batch, sub="desk-2", scope=OPERATOR))[0] == 202


async def test_two_sessions_or_a_client_and_a_session_are_one_person(world: World) -> None:
    """The client is somebody's own, as auth says in its token; their session has the person as its subject."""
    await colleague(world)
    me = uuid4()
    _, batch = await start(world, sub="my-client", person=me)
    for sub in (str(me), "my-other-client"):
        status, refusal = await approve(world, batch, sub=sub, person=me)
        assert (status, refusal["reason"]) == (403, "approver_is_author")
    assert (await approve(world, batch, sub=str(uuid4())))[0] == 202


async def test_what_one_may_reset_alone_is_counted_by_person(world: World) -> None:
    differing(world.kit, resets_alone_a_day=1)
    me, pupils = uuid4(), [await world.claimed("0000001"), await world.claimed("0000002")]
    for person_id, sub, expected in zip(pupils, ("my-client", str(me)), (202, 403), strict=True):
        status, _ = await world.desk("POST", f"/accounts/{person_id}/resets", json={}, sub=sub, person=me)
        assert status == expected


async def test_a_batch_of_the_release_before_knows_its_author(world: World) -> None:
    await colleague(world)
    _, batch = await start(world)
    await world.fetch("UPDATE reset_batch SET author_who = NULL")
    assert (await approve(world, batch))[1]["reason"] == "approver_is_author"
    assert (await approve(world, batch, sub="desk-2"))[0] == 202


@pytest.mark.parametrize(
    ("held", "by", "peers", "may"),
    [
        (0, 0, "refused", True),
        (1, 1, "approval", True),
        (1, 1, "refused", False),
        (1, 2, "refused", True),
        (2, 1, "approval", False),
    ],
)
def test_who_may_reset_whom(held: int, by: int, peers: Any, may: bool) -> None:
    rules: Policy = policy(roles=RolesRule(peers=peers))
    assert decider.may_reset(held, by, rules) is may


def test_alone_one_changes_only_who_stands_below() -> None:
    for held, by in ((0, 0), (0, 1), (1, 2)):
        decider.refuse_not_below(held, by)
    for held, by in ((1, 1), (2, 1), (2, 2)):
        with pytest.raises(Rejected, match="role_not_below"):
            decider.refuse_not_below(held, by)
