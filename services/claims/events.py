"""The facts that claims records, one stream for each person's account. Contracts: contracts/events/claims/."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from shared.messages import Event, EventCodec

RejectionReason = Literal[
    "claim_expired", "claim_superseded", "account_claimed", "not_enrolled", "waiting_period", "claim_unknown",
    "number_conflict",
]  # fmt: skip
WhyRejected = RejectionReason | Literal["account_suspended"]
SuspensionCause = Literal["withdrawn", "desk", "merged"]


class ClaimOpened(Event, frozen=True, kw_only=True):
    """Somebody showed the names and number of a pupil who may claim; the claim waits for a credential."""

    claim_id: UUID
    generation: int
    expires_at: datetime


class AccountClaimed(Event, frozen=True, kw_only=True):
    """A claim was completed; at most one in each generation."""

    claim_id: UUID
    credential_id: UUID
    generation: int
    sealed_at: datetime


class ClaimRejected(Event, frozen=True, kw_only=True):
    """A sealed credential was not accepted; auth discards it. `suspended`: because the account was closed meanwhile,
    for which `reason` has no word of its own."""

    claim_id: UUID
    credential_id: UUID
    generation: int
    reason: RejectionReason
    suspended: bool = False

    @property
    def why(self) -> WhyRejected:
        return "account_suspended" if self.suspended else self.reason


class AccountReset(Event, frozen=True, kw_only=True):
    """The account is unclaimed again; `generation` is the one that begins."""

    generation: int
    batch_id: UUID
    cause: Literal["desk", "credential_lost"]
    actor: str
    desk_ticket: str | None = None


class WaitingPeriodWaived(Event, frozen=True, kw_only=True):
    """The help desk let this pupil claim without waiting; holds until revoked, across resets."""

    generation: int
    actor: str
    desk_ticket: str | None = None
    reason: str | None = None


class WaiverRevoked(Event, frozen=True, kw_only=True):
    """The waiver was taken back; the waiting period counts again."""

    generation: int
    actor: str
    desk_ticket: str | None = None


class AccountSuspended(Event, frozen=True, kw_only=True):
    """Nobody signs in to the account, or claims it, while any cause stands."""

    cause: SuspensionCause
    generation: int
    actor: str | None = None
    desk_ticket: str | None = None


class AccountRestored(Event, frozen=True, kw_only=True):
    """This cause of a suspension is gone; with the last one the account is as it was."""

    cause: SuspensionCause
    generation: int
    actor: str | None = None
    desk_ticket: str | None = None


CODEC = EventCodec(
    "claims",
    [
        ClaimOpened,
        AccountClaimed,
        ClaimRejected,
        AccountReset,
        WaitingPeriodWaived,
        WaiverRevoked,
        AccountSuspended,
        AccountRestored,
    ],
)
