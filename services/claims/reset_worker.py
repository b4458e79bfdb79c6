"""Who resets what is planned: some accounts in a transaction, and the next when auth has confirmed these.

An account's way to auth and back is the way that a claim goes: through this database, Kafka and auth's. So how long
auth takes to confirm tells how long claims take as well, and sets the pace: more at once while that is quick, half as
many as soon as it is not, and a rest after each. What is under way is never more than one pace's accounts for each
worker, so no claim waits behind many of them; when auth is away, next to nothing is reset.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from services.claims import decider
from services.claims.batches import sql
from services.claims.decider import Account
from services.claims.handlers import DECIDER
from shared import clock
from shared.database import LOST_RACE, Connection, Row
from shared.errors import Rejected
from shared.event_store import EventStore
from shared.letter import curable
from shared.messages import Cause, Event
from shared.problems import new_reference
from shared.transact import transact

POLL_S = 0.5
CONFIRM_POLL_S = 0.02
CONFIRM_PATIENCE_S = 5.0
AFTER_A_LOST_RACE_S = 0.02

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Pace:
    """How many accounts are reset at once."""

    accounts: int = 8

    QUICK_S = 0.2  # from the first account's transaction to the last one's confirmation
    MOST = 24
    STEP = 4
    REST = 1.0  # of the time that they took

    def after(self, took_s: float) -> "Pace":
        """The next pace, when the last accounts took so long."""
        if took_s > self.QUICK_S:
            return Pace(max(1, self.accounts // 2))
        return Pace(min(self.MOST, self.accounts + self.STEP))

    def rest_s(self, took_s: float) -> float:
        """For how long everything is left to others."""
        return took_s * self.REST


class ResetWorker:
    """Resets what is planned; several may run at once."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def run(self) -> None:
        """For ever. Whatever trying again may cure is tried again."""
        loop, pace = asyncio.get_running_loop(), Pace()
        while True:
            began = loop.time()
            try:
                taken = await self.reset_next(clock.now(), pace.accounts)
            except LOST_RACE:  # a claim of one of those accounts was faster
                await asyncio.sleep(AFTER_A_LOST_RACE_S)
                continue
            if not taken:
                await asyncio.sleep(POLL_S)
                continue
            await self._confirmed(taken)
            took_s = loop.time() - began
            pace = pace.after(took_s)
            await asyncio.sleep(pace.rest_s(took_s))

    async def reset_next(self, now: datetime, accounts: int) -> Sequence[Row]:
        """Resets the next planned accounts, at most so many, in one transaction; their items, none when nothing is
        planned."""
        async with self._store.db.transaction() as conn:
            items = await conn.fetch(sql.take_items, accounts)
            if not items:
                return items
            outcomes = [await self._reset(conn, item, now) for item in items]
            await conn.execute(sql.mark_items, *_ids(items), *zip(*outcomes, strict=True), now)
        self._store.wake()
        return items

    async def _reset(self, conn: Connection, item: Row, now: datetime) -> tuple[str, str | None, str | None]:
        """What became of one account: its item's state, and of one that was not reset the reason; of an error of ours
        also the reference under which it was logged. That account is set aside, until the desk has it tried again."""

        def decide(account: Account, _: Any) -> Sequence[Event]:
            return decider.reset_listed(
                account, generation=item["generation"], as_of=item["as_of"],
                batch_id=item["batch_id"], actor=item["author"], desk_ticket=item["desk_ticket"],
            )  # fmt: skip

        try:
            async with conn.transaction():
                await transact(
                    self._store, DECIDER, item["district"], item["person_id"], decide,
                    now=now, cause=Cause(item["correlation_id"]), conn=conn,
                )  # fmt: skip
        except Rejected as rejected:
            return "skipped", rejected.reason, None
        except Exception as error:
            if curable(error):
                raise
            reference = new_reference("claims")
            log.error(
                "reset_failed",
                batch_id=str(item["batch_id"]),
                person_id=str(item["person_id"]),
                reference=reference,
                exc_info=error,
            )
            return "failed", "reset_failed", reference
        return "reset", None, None

    async def _confirmed(self, items: Sequence[Row]) -> None:
        """Waits until auth has answered for all of these, and not for ever: what is set aside there must not hold up
        the others."""
        try:
            async with asyncio.timeout(CONFIRM_PATIENCE_S):
                while await self._unconfirmed(items):
                    await asyncio.sleep(CONFIRM_POLL_S)
        except TimeoutError:
            log.warning("resets_unconfirmed", accounts=len(items), after_s=CONFIRM_PATIENCE_S)

    async def _unconfirmed(self, items: Sequence[Row]) -> int:
        async with self._store.db.connection() as conn:
            return int(await conn.fetchval(sql.count_unconfirmed, *_ids(items)))


def _ids(items: Sequence[Row]) -> tuple[list[Any], list[Any]]:
    return [item["batch_id"] for item in items], [item["person_id"] for item in items]
