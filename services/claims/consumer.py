"""What auth and the roster tell, turned into own commands at the border.

`CredentialsSet` asks whether the claim is good, `CredentialRevoked` confirms a reset, `CredentialLost` leads to one.
`RoleGranted` and `RoleRevoked` say whose accounts a help desk does not reset or close.
`StudentWithdrawn`, `StaffLeft` and `EnrollmentVoided` begin the grace of who left; `StudentEnrolled` and
`StaffEmployed` open the account again. `PersonsMerged` closes the account of the record that does not stay.
All of one record (gate, checkpoint, the event that it leads to) is one transaction: dying before it commits leaves the
record to be read again, dying after it leaves a repeat that the gate drops.
"""

from uuid import UUID

from services.claims import batches, departures, handlers
from services.claims.projections import (
    ROSTER,
    EnrollmentVoided,
    PersonsMerged,
    PersonsSplit,
    StaffEmployed,
    StaffLeft,
    StudentEnrolled,
    StudentWithdrawn,
)
from shared import clock
from shared.consumer import Reaction
from shared.database import Connection
from shared.messages import Cause, Event, EventCodec, Recorded
from shared.policy import Role
from shared.service import Kit


class CredentialsSet(Event, frozen=True, kw_only=True):
    claim_id: UUID
    credential_id: UUID
    generation: int


class CredentialLost(Event, frozen=True, kw_only=True):
    generation: int
    claim_id: UUID | None = None


class CredentialRevoked(Event, frozen=True, kw_only=True):
    generation: int
    sessions_ended: int


class RoleGranted(Event, frozen=True, kw_only=True):
    role: Role


class RoleRevoked(Event, frozen=True, kw_only=True):
    role: Role


AUTH = EventCodec("auth", [CredentialsSet, CredentialLost, CredentialRevoked, RoleGranted, RoleRevoked])


# Of a first load nearly all is passed over, and costs one look at the gates of so many.
DEPARTURES_BATCH = 500


def reactions(kit: Kit) -> list[Reaction]:
    """One reader of each topic, so that what concerns one person is taken in the order in which it was recorded."""
    return [_credentials(kit), _departures(kit)]


def _departures(kit: Kit) -> Reaction:
    async def react(conn: Connection, recorded: Recorded[Event]) -> None:
        now, cause = clock.now(), Cause.of(recorded)
        match recorded.data:
            case StudentWithdrawn(reason=reason):
                graduated = kit.policies.get(recorded.district).is_graduation(reason)
                await departures.left(conn, recorded, graduated=graduated)
            case StaffLeft():
                await departures.left(conn, recorded)
            case EnrollmentVoided():
                await departures.left(conn, recorded, withdrawn=False)
            # The first event of a person is no return.
            case StudentEnrolled(current=True) | StaffEmployed(current=True) if recorded.version > 1:
                await departures.came_back(kit.store, conn, recorded, now=now, cause=cause)
            case PersonsMerged(person_id=into, merged_person_id=who) if who == recorded.stream_id:
                await departures.merged(kit.store, conn, recorded, into, now=now, cause=cause)
            case PersonsSplit(merged_person_id=who) if who == recorded.stream_id:
                await departures.split(kit.store, conn, recorded, now=now, cause=cause)

    return Reaction("departures", "roster", ROSTER, react, batch=DEPARTURES_BATCH)


def _credentials(kit: Kit) -> Reaction:
    async def react(conn: Connection, recorded: Recorded[Event]) -> None:
        person_id, now, cause = recorded.stream_id, clock.now(), Cause.of(recorded)
        match recorded.data:
            case CredentialsSet() as told:
                await handlers.complete_claim(
                    kit.store, conn, person_id, kit.policies.get(recorded.district),
                    claim_id=told.claim_id, credential_id=told.credential_id, generation=told.generation,
                    sealed_at=recorded.time, now=now, cause=cause,
                )  # fmt: skip
            case CredentialLost() as told:
                await batches.reset_lost(
                    kit.store, conn, person_id, recorded.district,
                    claim_id=told.claim_id, generation=told.generation, now=now, cause=cause,
                )  # fmt: skip
            case CredentialRevoked() as told:
                await batches.confirm(
                    conn, person_id, generation=told.generation, sessions_ended=told.sessions_ended, now=now
                )
            case RoleGranted(role=role):
                await conn.execute(handlers.sql.note_role, person_id, role)
            case RoleRevoked(role=role):
                await conn.execute(handlers.sql.end_role, person_id, role)

    return Reaction("credentials", "auth", AUTH, react)
