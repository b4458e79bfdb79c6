"""Whoever leaves is suspended once the grace is over, and is let in again at once on return.

What the roster says of leaving becomes a row of work, `departure`, in the transaction of the consumer that heard it;
a worker takes the rows that are due. The facts are `AccountSuspended` and `AccountRestored`: an event and the end of
its row are one transaction, so dying anywhere leaves the row to be taken again, or nothing to do.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from services.claims import decider
from services.claims.decider import Account, Pupil
from services.claims.handlers import DECIDER, hold_pupil, sql
from shared import clock
from shared.database import LOST_RACE, Connection
from shared.event_store import EventStore
from shared.letter import curable
from shared.messages import Cause, Event, Recorded
from shared.policies import Policies
from shared.policy import Policy
from shared.transact import transact

# A school that closes is suspended one account after the other, so that live claims find the database free.
PAUSE_BETWEEN_S = 0.02
POLL_S = 1.0
# An account that an error of ours keeps from being suspended must not hold up the others.
AGAIN_AFTER = timedelta(hours=1)

log = structlog.get_logger(__name__)


async def left(
    conn: Connection, recorded: Recorded[Any], *, withdrawn: bool = True, graduated: bool = False
) -> None:
    """The roster says that somebody left; or (not `withdrawn`) that an enrollment does not count, after which perhaps
    none does. The grace begins when it first said so; once somebody has graduated, it is a graduate's."""
    heard = recorded.stream_id, recorded.district, recorded.version, recorded.time
    await conn.execute(sql.note_departure, *heard, withdrawn, graduated)


async def came_back(
    store: EventStore, conn: Connection, recorded: Recorded[Any], *, now: datetime, cause: Cause
) -> None:
    """The roster says that somebody is enrolled. The worker that may be at their row is waited for."""
    await conn.execute(sql.end_departure, recorded.stream_id)
    # Nearly all enrollments are no return: their histories are not loaded for it.
    if await conn.fetchval(sql.is_suspended, recorded.stream_id):
        await _decide(store, conn, recorded, decider.restore_returned, now=now, cause=cause)


async def merged(
    store: EventStore,
    conn: Connection,
    recorded: Recorded[Any],
    survivor: UUID,
    *,
    now: datetime,
    cause: Cause,
) -> None:
    """The roster says that somebody's record is another name of the survivor. If the survivor has claimed, this account
    closes at once; else whoever signs in with it has the grace to claim the survivor's."""
    if not await conn.fetchval(sql.is_claimed, survivor):
        await left(conn, recorded)
        return
    await _decide(store, conn, recorded, decider.suspend_merged, now=now, cause=cause)


async def split(
    store: EventStore, conn: Connection, recorded: Recorded[Any], *, now: datetime, cause: Cause
) -> None:
    """The roster says that the merge was wrong. Whether they are enrolled it tells next."""
    await _decide(store, conn, recorded, decider.restore_split, now=now, cause=cause)


async def _decide(
    store: EventStore,
    conn: Connection,
    recorded: Recorded[Any],
    rule: Callable[[Account], Sequence[Event]],
    *,
    now: datetime,
    cause: Cause,
) -> None:
    def decide(account: Account, _: Any) -> Sequence[Event]:
        return rule(account)

    await transact(
        store, DECIDER, recorded.district, recorded.stream_id, decide, now=now, cause=cause, conn=conn
    )


class SuspensionWorker:
    """Takes departures that are due one after the other, each in a transaction of its own; several may run at once."""

    def __init__(self, store: EventStore, policies: Policies) -> None:
        self._store, self._policies = store, policies

    async def run(self) -> None:
        """For ever. Whatever trying again may cure is tried again."""
        while True:
            try:
                took = await self.suspend_next(clock.now())
            except LOST_RACE:
                continue  # something else was decided about that very account
            await asyncio.sleep(PAUSE_BETWEEN_S if took else POLL_S)

    async def suspend_next(self, now: datetime) -> bool:
        """Settles the next departure that is due; False when there is none. A district whose policy is missing waits
        for it."""
        for district in self._policies.districts:
            if await self._suspend_next_of(self._policies.get(district), now):
                return True
        return False

    async def _suspend_next_of(self, policy: Policy, now: datetime) -> bool:
        due = now - policy.suspension_grace, now - policy.graduation_grace
        async with self._store.db.transaction() as conn:
            person_id = await conn.fetchval(sql.take_departure, policy.district, *due, now - AGAIN_AFTER)
            if person_id is None:
                return False
            if await self._suspend(conn, person_id, policy.district, now):
                await conn.execute(sql.end_departure, person_id)
            else:
                await conn.execute(sql.put_off_departure, person_id, now)
        self._store.wake()
        return True

    async def _suspend(self, conn: Connection, person_id: UUID, district: str, now: datetime) -> bool:
        def decide(account: Account, pupil: Pupil | None) -> Sequence[Event]:
            return decider.suspend_departed(account, pupil)

        try:
            async with conn.transaction():
                await transact(
                    self._store, DECIDER, district, person_id, decide,
                    now=now, cause=Cause.new(), conn=conn, load=hold_pupil(person_id, district),
                )  # fmt: skip
        except Exception as error:
            if curable(error):
                raise
            log.error("suspension_failed", person_id=str(person_id), exc_info=error)
            return False
        return True
