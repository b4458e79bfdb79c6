"""The one path that changes anything: load, fold, decide, append at the expected version."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import structlog

from shared.database import LOST_RACE, Connection
from shared.errors import Unavailable, WrongDistrict
from shared.event_store import EventStore
from shared.messages import Cause, Event, Recorded

log = structlog.get_logger(__name__)

S = TypeVar("S")

FIRST_PAUSE_S = 0.005
LONGEST_PAUSE_S = 0.25


@dataclass(frozen=True)
class Decider(Generic[S]):
    """A service's rules as far as the kit knows them: the state of a person of whom nothing is known, and the fold."""

    initial: S
    evolve: Callable[[S, Recorded[Any]], S]

    def state_after(self, history: Sequence[Recorded[Event]]) -> S:
        """The state that a history adds up to."""
        state = self.initial
        for recorded in history:
            state = self.evolve(state, recorded)
        return state


@dataclass(frozen=True)
class Outcome(Generic[S]):
    """What came of a command: the state after it, the events that it appended (none: a repeat), and its facts."""

    state: S
    events: list[Recorded[Event]]
    facts: Any


async def transact(
    store: EventStore,
    decider: Decider[S],
    district: str,
    stream_id: UUID,
    decide: Callable[[S, Any], Sequence[Event]],
    *,
    now: datetime,
    cause: Cause,
    conn: Connection | None = None,
    load: Callable[[Connection], Awaitable[Any]] | None = None,
    then: Callable[[Connection, Outcome[S]], Awaitable[None]] | None = None,
    attempts: int = 8,
) -> Outcome[S]:
    """Run one command on one person.

    `load(conn)` reads (and locks) what else the decision needs; `decide(state, facts)` answers the events or raises
    Rejected; `then(conn, outcome)` writes rows that must change with them, also when there are no events.

    With `conn` it runs once, within the caller's transaction: a VersionConflict is the caller's, who tries the whole
    again and calls `store.wake()` after the commit. Without, it has its own transaction, tries again up to
    `attempts` times when somebody was faster, and wakes the relay. Raises Rejected, VersionConflict (every attempt
    lost), WrongDistrict, EventTooLarge, Unavailable.
    """

    async def attempt(conn: Connection) -> Outcome[S]:
        history = await store.load(conn, stream_id)
        if history and history[0].district != district:
            raise WrongDistrict(stream_id, district)
        state = decider.state_after(history)
        facts = None if load is None else await load(conn)
        events = decide(state, facts)
        recorded = await store.append(
            conn, district, stream_id, history[-1].version if history else 0, events, now=now, cause=cause
        )
        for event in recorded:
            state = decider.evolve(state, event)
        outcome = Outcome(state, recorded, facts)
        if then is not None:
            await then(conn, outcome)
        return outcome

    if conn is not None:
        return await attempt(conn)
    return await _own_transaction(store, stream_id, attempt, attempts)


async def _own_transaction(
    store: EventStore,
    stream_id: UUID,
    attempt: Callable[[Connection], Awaitable[Outcome[S]]],
    attempts: int,
) -> Outcome[S]:
    """Try until nobody was faster and the commit's outcome is known.

    When the connection breaks during COMMIT, nobody says whether it took effect. Deciding again on the loaded state
    can never append twice, but what was done already would look like a repeat, or be refused ("claimed already").
    So the events' ids are looked for first: found, they took effect, and that attempt's outcome is the answer. Still
    under way on the server, they hold the stream's lock: our next append waits for them and then conflicts.
    """
    unsure: list[Outcome[S]] = []
    for number in range(1, attempts + 1):
        tried = None
        try:
            async with store.db.transaction() as conn:
                done = await _find(store, conn, stream_id, unsure)
                tried = None if done else await attempt(conn)
        except LOST_RACE:
            log.debug("lost_race", stream_id=str(stream_id), attempt=number)
            if number == attempts:
                raise
        except Unavailable:
            if tried is not None:
                unsure.append(tried)
            if not unsure or number == attempts:
                raise
        else:
            outcome = done or tried
            assert outcome is not None
            if outcome.events:
                store.wake()
            return outcome
        await _pause(number)
    raise AssertionError(f"attempts is {attempts}")


async def _find(
    store: EventStore, conn: Connection, stream_id: UUID, unsure: list[Outcome[S]]
) -> Outcome[S] | None:
    """The outcome, of those whose commit was lost, that took effect all the same."""
    with_events = [outcome for outcome in unsure if outcome.events]
    if not with_events:
        return None
    recorded = {event.id for event in await store.load(conn, stream_id)}
    return next((outcome for outcome in with_events if outcome.events[0].id in recorded), None)


async def _pause(attempt: int) -> None:
    """A random pause that grows: those who met once should not meet again."""
    await asyncio.sleep(random.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt)))
