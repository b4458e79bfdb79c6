"""What the tests of claims begin from: a policy, a pupil, an account with a past."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import msgspec

from services.claims import decider
from services.claims.decider import Account, Pupil
from services.claims.events import (
    AccountClaimed,
    AccountReset,
    AccountSuspended,
    ClaimOpened,
    SuspensionCause,
    WaitingPeriodWaived,
)
from shared import testing
from shared.messages import Event, Recorded
from shared.policies import load_policy
from shared.policy import Policy
from shared.testing import NOON, PERSON

CCPS = load_policy(Path(__file__).parents[2] / "policies" / "ccps.toml")
HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)


def some(name: str) -> UUID:
    """The id of that name: the same in every run."""
    return uuid5(PERSON, name)


def policy(**differing: Any) -> Policy:
    return msgspec.structs.replace(CCPS, **differing)


def pupil(**differing: Any) -> Pupil:
    """Mary-Ann O'Neil, 0123456, entered two days before noon."""
    usual = {
        "person_id": PERSON,
        "kind": "student",
        "number": "0123456",
        "last_name": "O'Neil",
        "first_name": "Mary-Ann",
        "enrolled": True,
        "basis": NOON - 48 * HOUR,
        "baseline": False,
        "parked": False,
    }
    return Pupil(**(usual | differing))


def recorded(
    event: Event, *, version: int = 1, at: datetime = NOON, service: str = "claims"
) -> Recorded[Any]:
    return testing.recorded(event, version, at=at, service=service)


def account(*past: Event | tuple[datetime, Event]) -> Account:
    """The account after these events; each happened at noon, unless it comes with a time of its own."""
    state = decider.initial
    for version, item in enumerate(past, 1):
        at, event = item if isinstance(item, tuple) else (NOON, item)
        state = decider.evolve(state, recorded(event, version=version, at=at))
    return state


def opened(
    claim: str = "claim", generation: int = 0, expires_at: datetime = NOON + 30 * MINUTE
) -> ClaimOpened:
    return ClaimOpened(claim_id=some(claim), generation=generation, expires_at=expires_at)


def claimed(claim: str = "claim", credential: str = "credential", generation: int = 0) -> AccountClaimed:
    return AccountClaimed(
        claim_id=some(claim), credential_id=some(credential), generation=generation, sealed_at=NOON
    )


def was_reset(generation: int = 1) -> AccountReset:
    return AccountReset(generation=generation, batch_id=some("batch"), cause="desk", actor="desk-1")


def waived() -> WaitingPeriodWaived:
    return WaitingPeriodWaived(generation=0, actor="desk-1", desk_ticket="T-1", reason="moved in today")


def suspended(cause: SuspensionCause = "withdrawn", actor: str | None = None) -> AccountSuspended:
    return AccountSuspended(cause=cause, generation=0, actor=actor)
