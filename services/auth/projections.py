"""What auth reads: `person`, who is who, from the roster's topic; `credential`, its own state, within the
append."""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.auth import decider
from services.auth.decider import State
from services.auth.events import CODEC, CredentialRestored
from shared.messages import Event, EventCodec, Recorded
from shared.policy import Kind
from shared.projection import Projection

# The roster's facts, as far as auth reads them


class Identity(Struct, frozen=True):
    """A person's number and names in the SIS."""

    number: str
    last_name: str
    first_name: str


class StudentEnrolled(Event, frozen=True, kw_only=True):
    identity: Identity
    current: bool


class StaffEmployed(Event, frozen=True, kw_only=True):
    identity: Identity
    current: bool


class NameCorrected(Event, frozen=True, kw_only=True):
    identity: Identity
    kind: Kind = "student"


class NumberChanged(Event, frozen=True, kw_only=True):
    identity: Identity
    kind: Kind = "student"


class StudentWithdrawn(Event, frozen=True, kw_only=True):
    pass


class StaffLeft(Event, frozen=True, kw_only=True):
    pass


class PersonsMerged(Event, frozen=True, kw_only=True):
    merged_person_id: UUID


ROSTER = EventCodec(
    "roster",
    [
        StudentEnrolled,
        StaffEmployed,
        NameCorrected,
        NumberChanged,
        StudentWithdrawn,
        StaffLeft,
        PersonsMerged,
    ],
)


class Person(Struct, frozen=True, kw_only=True):
    """A pupil of the roster, or a member of the staff. There is no row before the first enrollment: nobody
    signs in without a number."""

    person_id: UUID
    district: str
    kind: Kind
    number: str
    last_name: str
    first_name: str
    status: str  # enrolled, withdrawn
    number_since: datetime | None = None  # when the roster gave them this number
    version: int = 0

    def own_words(self, username: str) -> tuple[str, ...]:
        """What this person's password must not be made of alone."""
        return (self.last_name, self.first_name, self.number, username)


def evolve_person(row: Person | None, recorded: Recorded[Any]) -> Person | None:
    match recorded.data:
        case PersonsMerged(merged_person_id=merged) if merged != recorded.stream_id:
            return row
        case StudentWithdrawn() | StaffLeft() | PersonsMerged():
            return replace(row, status="withdrawn") if row else None
        case StudentEnrolled() | StaffEmployed() | NameCorrected() | NumberChanged() as told:
            returned = isinstance(told, StudentEnrolled | StaffEmployed) and told.current
            same = row is not None and row.number == told.identity.number
            return Person(
                person_id=recorded.stream_id,
                district=recorded.district,
                kind=_kind(told),
                number=told.identity.number,
                last_name=told.identity.last_name,
                first_name=told.identity.first_name,
                status="enrolled" if returned or row is None else row.status,
                number_since=row.number_since if row and same else recorded.time,
            )
    return row


def _kind(told: StudentEnrolled | StaffEmployed | NameCorrected | NumberChanged) -> Kind:
    if isinstance(told, NameCorrected | NumberChanged):
        return told.kind
    return "staff" if isinstance(told, StaffEmployed) else "student"


PERSON = Projection(name="person", source="roster", codec=ROSTER, row=Person, evolve=evolve_person)


class Credential(Struct, frozen=True, kw_only=True):
    """The rules' state as a row; the columns beside `state` are what sign-in joins and the desk looks at."""

    person_id: UUID
    district: str
    generation: int
    status: str  # none, pending, live, suspended (live, but for that), revoked
    credential_id: UUID | None
    claim_id: UUID | None
    restored_at: datetime | None = None  # when a suspension ended last: older sessions are worth nothing
    state: State
    version: int = 0


def evolve_credential(row: Credential | None, recorded: Recorded[Any]) -> Credential:
    state = decider.evolve(row.state if row else decider.initial, recorded)
    shown = state.live or (state.sealed[-1] if state.sealed else None)
    if shown:
        status = "pending" if state.live is None else "suspended" if state.suspended else "live"
    else:
        status = "revoked" if state.used else "none"
    restored_at = row.restored_at if row else None
    return Credential(
        person_id=recorded.stream_id,
        district=recorded.district,
        generation=shown.generation if shown else state.generation,
        status=status,
        credential_id=shown.credential_id if shown else None,
        claim_id=shown.claim_id if shown else None,
        restored_at=recorded.time if isinstance(recorded.data, CredentialRestored) else restored_at,
        state=state,
    )


CREDENTIAL = Projection(
    name="credential", source="auth", codec=CODEC, row=Credential, evolve=evolve_credential, inline=True
)
