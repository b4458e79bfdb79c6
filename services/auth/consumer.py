"""What claims decides and what the roster tells, turned into own commands at the border.

`AccountClaimed` makes a sealed credential live, `ClaimRejected` discards it, `AccountReset` revokes what came before,
`AccountSuspended` closes the account to everybody until `AccountRestored`. What the roster says of leaving ends roles.
Gate, checkpoint and effect are one transaction; the call of the claim's last step is woken after it.
"""

from uuid import UUID

from services.auth import handlers
from services.auth.events import SuspensionCause
from services.auth.handlers import Auth, Occasion
from shared import clock
from shared.consumer import Reaction
from shared.database import Connection
from shared.messages import Cause, Event, EventCodec, Recorded


class AccountClaimed(Event, frozen=True, kw_only=True):
    claim_id: UUID
    credential_id: UUID
    generation: int


class ClaimRejected(Event, frozen=True, kw_only=True):
    claim_id: UUID
    credential_id: UUID
    reason: str
    suspended: bool = False


class AccountReset(Event, frozen=True, kw_only=True):
    generation: int


class AccountSuspended(Event, frozen=True, kw_only=True):
    cause: SuspensionCause
    generation: int


class AccountRestored(Event, frozen=True, kw_only=True):
    cause: SuspensionCause
    generation: int


CLAIMS = EventCodec(
    "claims", [AccountClaimed, ClaimRejected, AccountReset, AccountSuspended, AccountRestored]
)


class StaffLeft(Event, frozen=True, kw_only=True):
    pass


class PersonsMerged(Event, frozen=True, kw_only=True):
    merged_person_id: UUID


LEAVING = EventCodec("roster", [StaffLeft, PersonsMerged])
# Of a first load all is passed over, and costs one look at the gates of so many.
LEAVING_BATCH = 500


def reactions(auth: Auth) -> list[Reaction]:
    """One reader of each topic: a reset never overtakes the claim that it ends."""
    return [_verdicts(auth), _departures(auth)]


def _departures(auth: Auth) -> Reaction:
    async def react(conn: Connection, recorded: Recorded[Event]) -> None:
        told = recorded.data
        if isinstance(told, PersonsMerged) and told.merged_person_id != recorded.stream_id:
            return
        on = Occasion(auth.kit.policies.get(recorded.district), clock.now(), Cause.of(recorded))
        await handlers.leave(auth, conn, on, recorded.stream_id, recorded.version)

    return Reaction(name="departures", source="roster", codec=LEAVING, react=react, batch=LEAVING_BATCH)


def _verdicts(auth: Auth) -> Reaction:
    async def react(conn: Connection, recorded: Recorded[Event]) -> None:
        person_id = recorded.stream_id
        on = Occasion(auth.kit.policies.get(recorded.district), clock.now(), Cause.of(recorded))
        match recorded.data:
            case AccountClaimed(claim_id=claim, credential_id=credential, generation=generation):
                await handlers.activate(auth, conn, on, person_id, claim, credential, generation)
            case ClaimRejected(claim_id=claim, credential_id=credential) as told:
                why = "account_suspended" if told.suspended else told.reason
                await handlers.discard(auth, conn, on, person_id, claim, credential, why)
            case AccountReset(generation=generation):
                await handlers.revoke(auth, conn, on, person_id, generation)
            case AccountSuspended(cause=cause, generation=generation):
                await handlers.suspend(auth, conn, on, person_id, cause, generation)
            case AccountRestored(cause=cause, generation=generation):
                await handlers.restore(auth, conn, on, person_id, cause, generation)

    def after(recorded: Recorded[Event]) -> None:
        if isinstance(recorded.data, AccountClaimed | ClaimRejected):
            auth.arrivals.tell(recorded.data.claim_id)
        else:
            auth.remembered.sessions.forget([recorded.stream_id])

    return Reaction(name="verdicts", source="claims", codec=CLAIMS, react=react, after=after)
