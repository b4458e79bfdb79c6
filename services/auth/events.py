"""The facts that auth records, one stream for each person's credential; their contracts lie in
contracts/events/auth/.

No event holds a password, an answer, a code, or anything made from one: `credential_id` names a row of the
vault.
"""

from datetime import datetime
from typing import Literal
from uuid import UUID

from shared.messages import Event, EventCodec
from shared.policy import Role

SuspensionCause = Literal["withdrawn", "desk", "merged"]
RoleEnd = Literal["operator", "left", "suspended", "reset"]


class CredentialsSet(Event, frozen=True, kw_only=True):
    """A password and three answers are sealed for a claim; claims decides by this event's time."""

    claim_id: UUID
    credential_id: UUID
    generation: int


class CredentialActivated(Event, frozen=True, kw_only=True):
    """claims accepted the claim: this is the person's one live credential."""

    claim_id: UUID
    credential_id: UUID
    generation: int


class CredentialDiscarded(Event, frozen=True, kw_only=True):
    """claims rejected the claim, for its `reason`; the credential was never live."""

    claim_id: UUID
    credential_id: UUID
    generation: int
    reason: str


class CredentialLost(Event, frozen=True, kw_only=True):
    """claims accepted the claim, but the vault holds nothing for it; claims resets the account."""

    claim_id: UUID | None = None
    credential_id: UUID
    generation: int


class PasswordChanged(Event, frozen=True, kw_only=True):
    """A new password under a new credential; the answers stay, other sessions have ended."""

    credential_id: UUID
    previous_credential_id: UUID
    generation: int
    cause: Literal["change", "recovery"]
    actor: str


class CredentialRevoked(Event, frozen=True, kw_only=True):
    """What is below this generation is void, sessions included. Answers every reset, also when there was
    nothing."""

    generation: int
    credential_id: UUID | None = None
    sessions_ended: int
    cause: Literal["reset"]


class RecoveryCodeIssued(Event, frozen=True, kw_only=True):
    """The help desk gave out a one-time code: for a new password, or for a claim by staff."""

    generation: int
    actor: str
    desk_ticket: str | None = None
    expires_at: datetime


class RecoveryRested(Event, frozen=True, kw_only=True):
    """Too many wrong answers in a day: the questions rest until the district's next one."""

    generation: int
    until: datetime


class LockoutLifted(Event, frozen=True, kw_only=True):
    """The help desk lifted the pauses after wrong passwords and wrong answers."""

    generation: int
    actor: str
    desk_ticket: str | None = None


class CredentialSuspended(Event, frozen=True, kw_only=True):
    """claims suspended the account, claimed or not: nothing opens it while any cause stands."""

    cause: SuspensionCause
    generation: int
    sessions_ended: int


class CredentialRestored(Event, frozen=True, kw_only=True):
    """One cause is gone; with the last one the same password signs in again."""

    cause: SuspensionCause
    generation: int


class RoleGranted(Event, frozen=True, kw_only=True):
    """An operator gave a member of the staff a role in the district."""

    role: Role
    generation: int
    actor: str
    desk_ticket: str | None = None
    roster_version: int = 0


class RoleRevoked(Event, frozen=True, kw_only=True):
    """The role has ended, and does not come back by itself."""

    role: Role
    generation: int
    cause: RoleEnd
    actor: str | None = None
    desk_ticket: str | None = None


CODEC = EventCodec(
    "auth",
    [
        CredentialsSet,
        CredentialActivated,
        CredentialDiscarded,
        CredentialLost,
        PasswordChanged,
        CredentialRevoked,
        RecoveryCodeIssued,
        RecoveryRested,
        LockoutLifted,
        CredentialSuspended,
        CredentialRestored,
        RoleGranted,
        RoleRevoked,
    ],
)
