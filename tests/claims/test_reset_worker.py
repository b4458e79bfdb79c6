"""The worker of resets: nothing twice, nothing lost, nobody touched who claimed since, and a pace that auth sets."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from services.claims import batches, reset_worker
from services.claims.reset_worker import Pace, ResetWorker
from shared import clock
from shared.errors import VersionConflict
from tests.claims.conftest import World
from tests.claims.test_batches import generations, lines, revoked, seen, start, states, three_claimed


@asynccontextmanager
async def running(world: World) -> AsyncIterator[None]:
    worker = asyncio.create_task(ResetWorker(world.kit.store).run())
    try:
        yield
    finally:
        worker.cancel()
        await asyncio.wait([worker])
        assert worker.cancelled(), worker


async def becomes(world: World, batch: Any, *expected: str) -> None:
    async with asyncio.timeout(10):
        while states(await seen(world, batch)) != list(expected):
            await asyncio.sleep(0.01)


class TestPace:
    def test_it_grows_while_auth_is_quick_and_is_bounded(self) -> None:
        pace, seen = Pace(), []
        for _ in range(20):
            pace = pace.after(Pace.QUICK_S)
            seen.append(pace.accounts)
        assert seen == sorted(seen)
        assert seen[0] > Pace().accounts
        assert seen[-1] == Pace.MOST

    def test_it_is_halved_when_auth_is_slow_and_never_stops(self) -> None:
        pace = Pace(Pace.MOST)
        assert pace.after(Pace.QUICK_S + 0.001).accounts == Pace.MOST // 2
        for _ in range(10):
            pace = pace.after(reset_worker.CONFIRM_PATIENCE_S)
        assert pace.accounts == 1

    def test_it_rests_for_as_long_as_the_others_were_kept_waiting(self) -> None:
        assert Pace().rest_s(0.2) == pytest.approx(0.2 * Pace.REST)


class TestPacing:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reset_worker, "POLL_S", 0.01)
        monkeypatch.setattr(Pace, "REST", 0.0)

    async def test_nothing_more_is_reset_while_auth_has_not_confirmed(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Pace, "__init__", _of_two)
        persons = await three_claimed(world)
        batch = await start(world, lines())
        async with running(world):
            await becomes(world, batch, "reset", "reset", "matched")
            await asyncio.sleep(0.3)
            assert states(await seen(world, batch)) == ["reset", "reset", "matched"]
            await revoked(world, persons[0])
            await asyncio.sleep(0.3)
            assert states(await seen(world, batch)) == ["done", "reset", "matched"]
            await revoked(world, persons[1])
            await becomes(world, batch, "done", "done", "reset")

    async def test_who_is_set_aside_at_auth_does_not_hold_up_the_others_for_ever(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Pace, "__init__", _of_two)
        monkeypatch.setattr(reset_worker, "CONFIRM_PATIENCE_S", 0.2)
        await three_claimed(world)
        batch = await start(world, lines())
        async with running(world):
            await becomes(world, batch, "reset", "reset", "reset")


def _of_two(self: Pace, accounts: int = 2) -> None:
    object.__setattr__(self, "accounts", accounts)


def broken_for(monkeypatch: pytest.MonkeyPatch, *persons: UUID) -> None:
    """From now on an error of ours keeps these accounts from being reset."""
    transact = reset_worker.transact

    async def broken(*args: Any, **named: Any) -> Any:
        if args[3] in persons:
            raise KeyError("an error of ours")
        return await transact(*args, **named)

    monkeypatch.setattr(reset_worker, "transact", broken)


class TestTheWorker:
    async def test_cancelling_takes_back_what_has_not_begun(self, world: World) -> None:
        persons = await three_claimed(world)
        batch = await start(world, lines())
        worker = ResetWorker(world.kit.store)
        await worker.reset_next(clock.now(), 1)
        assert await world.desk("DELETE", f"/reset-batches/{batch['batch_id']}") == (204, None)
        assert await world.work() == 0
        found = await seen(world, batch)
        assert (found["state"], states(found)) == ("cancelled", ["reset", "cancelled", "cancelled"])
        assert await generations(world, *persons) == [1, 0, 0]

    async def test_cancelling_what_is_over_changes_nothing(self, world: World) -> None:
        (person_id, *_) = await three_claimed(world)
        batch = await start(world, lines(0))
        await world.work()
        await revoked(world, person_id)
        assert await world.desk("DELETE", f"/reset-batches/{batch['batch_id']}") == (204, None)
        assert (await seen(world, batch))["state"] == "done"

    async def test_dying_before_the_commit_leaves_the_account_for_the_next(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The event and the item's state are one transaction: neither is there without the other."""
        persons = await three_claimed(world)
        await start(world, lines())
        with monkeypatch.context() as dying:
            dying.setattr(batches.sql, "mark_items", "SELECT a_statement_that_fails")
            with pytest.raises(Exception, match="a_statement_that_fails"):
                await ResetWorker(world.kit.store).reset_next(clock.now(), 8)
        assert await generations(world, *persons) == [0, 0, 0]
        assert await world.work() == 3
        assert await generations(world, *persons) == [1, 1, 1]

    async def test_several_workers_share_a_batch_without_doing_anything_twice(self, world: World) -> None:
        persons = await three_claimed(world)
        await start(world, lines())
        assert sum(await asyncio.gather(*(world.work() for _ in range(4)))) == 3
        assert await generations(world, *persons) == [1, 1, 1]

    async def test_a_faster_claim_of_that_account_is_no_failure(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await three_claimed(world)
        batch = await start(world, lines(0))
        transact = reset_worker.transact

        async def beaten(*args: Any, **named: Any) -> Any:
            monkeypatch.setattr(reset_worker, "transact", transact)
            raise VersionConflict(UUID(int=0), 1)

        monkeypatch.setattr(reset_worker, "transact", beaten)
        async with running(world):
            await becomes(world, batch, "reset")

    async def test_an_account_whose_history_cannot_be_read_fails_alone(self, world: World) -> None:
        persons = await three_claimed(world)
        batch = await start(world, lines())
        await world.fetch(
            "UPDATE event SET type = 'Unheard' WHERE stream_id = $1 AND version = 1", persons[0]
        )
        assert await world.work() == 3
        found = await seen(world, batch)
        assert [(line["state"], line.get("reason")) for line in found["lines"]] == [
            ("failed", "reset_failed"), ("reset", None), ("reset", None),
        ]  # fmt: skip

    async def test_an_error_of_ours_sets_that_account_aside_and_the_others_go_on(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        persons = await three_claimed(world)
        batch = await start(world, lines())
        broken_for(monkeypatch, persons[0])
        async with running(world):
            await becomes(world, batch, "failed", "reset", "reset")
        line = (await seen(world, batch))["lines"][0]
        assert line["reason"] == "reset_failed"
        assert re.fullmatch(r"C-\w{4}-\w{3}", line["reference"])
        assert await generations(world, *persons) == [0, 1, 1]

    async def test_the_desk_has_tried_again_what_failed(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        persons = await three_claimed(world)
        batch = await start(world, lines())
        with monkeypatch.context() as broken:
            broken_for(broken, *persons[:2])
            await world.work()
        await world.desk("POST", f"/accounts/{persons[1]}/resets", json={})
        for _ in range(2):
            status, again = await world.desk("POST", f"/reset-batches/{batch['batch_id']}/retry")
            assert (status, states(again)) == (202, ["matched", "matched", "reset"])
        await world.work()
        found = [(line["state"], line.get("reason")) for line in (await seen(world, batch))["lines"]]
        assert found == [("reset", None), ("skipped", "reset_since"), ("reset", None)]
        assert await generations(world, *persons) == [1, 1, 1]

    async def test_what_was_cancelled_is_not_tried_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        persons = await three_claimed(world)
        batch = await start(world, lines())
        broken_for(monkeypatch, persons[0])
        await ResetWorker(world.kit.store).reset_next(clock.now(), 1)
        path = f"/reset-batches/{batch['batch_id']}"
        await world.desk("DELETE", path)
        status, problem = await world.desk("POST", f"{path}/retry")
        assert (status, problem["reason"]) == (409, "batch_cancelled")
        status, problem = await world.desk("POST", f"/reset-batches/{UUID(int=0)}/retry")
        assert (status, problem["reason"]) == (404, "batch_unknown")

    async def test_a_list_is_frozen_as_of_its_moment(self, world: World) -> None:
        """Even where clocks disagree: an account claimed after `as_of` is not touched."""
        await three_claimed(world)
        batch = await start(world, lines(0))
        earlier = clock.now() - timedelta(hours=1)
        await world.fetch("UPDATE reset_batch SET as_of = $1", earlier)
        await world.work()
        assert (await seen(world, batch))["lines"][0]["reason"] == "claimed_since"
