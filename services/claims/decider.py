"""The rules of claims, to be read aloud: who may claim an account and when, which claim wins, and what ends one.

Every rule takes what is so (`Account`, the state of one person's stream, and `Pupil`, what the roster says of the
person), what is asked, the district's policy and the time, and answers with the facts to record, or raises Rejected.
Nothing here looks at a clock or a database.

A refusal that only its own pupil may understand is uniform: `claim_refused`, the same for everybody, with the true
reason in `Rejected.secret` for the help desk: which field differed, never what was typed, nor a copy of what is on
file.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import msgspec

from services.claims.events import (
    AccountClaimed,
    AccountReset,
    AccountRestored,
    AccountSuspended,
    ClaimOpened,
    ClaimRejected,
    SuspensionCause,
    WaitingPeriodWaived,
    WaiverRevoked,
    WhyRejected,
)
from shared.errors import Rejected
from shared.messages import Event, Recorded, rfc3339
from shared.policy import NAME_MAX_LENGTH, Kind, Policy

# The newest claims of an account that are remembered: days of trying, at any district's bound.
CLAIMS_KEPT = 100
NAMES = ("last_name", "first_name")
NOBODY = UUID(int=0)

# What one reset covers.
Extent = Literal["account", "lines", "school", "all_students"]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt. Decided once it has a `credential_id`: rejected if there is a `reason`, completed otherwise."""

    claim_id: UUID
    generation: int
    opened_at: datetime
    expires_at: datetime
    credential_id: UUID | None = None
    reason: WhyRejected | None = None


class Waiver(msgspec.Struct, frozen=True, kw_only=True):
    """Who let this person claim without waiting, when and why."""

    actor: str
    at: datetime
    desk_ticket: str | None = None
    reason: str | None = None


class Suspension(msgspec.Struct, frozen=True, kw_only=True):
    """Why an account is closed and since when; who closed it, if that was a person."""

    cause: SuspensionCause
    at: datetime
    actor: str | None = None
    desk_ticket: str | None = None


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One person's account: the fold of its stream, and the row of the read model `account`."""

    person_id: UUID = NOBODY
    district: str = ""
    generation: int = 0
    claim_id: UUID | None = None  # the claim that won; none: the account is unclaimed
    credential_id: UUID | None = None
    claimed_at: datetime | None = None
    reset_at: datetime | None = None
    waiver: Waiver | None = None
    claims: list[Claim] = msgspec.field(default_factory=list)
    suspensions: list[Suspension] = msgspec.field(default_factory=list)  # one for each cause that stands
    version: int = 0

    @property
    def claimed(self) -> bool:
        return self.claim_id is not None

    @property
    def suspended(self) -> bool:
        return bool(self.suspensions)

    def suspended_for(self, cause: SuspensionCause) -> bool:
        return any(suspension.cause == cause for suspension in self.suspensions)

    def claim(self, claim_id: UUID) -> Claim | None:
        return next((c for c in self.claims if c.claim_id == claim_id), None)


class Pupil(msgspec.Struct, frozen=True, kw_only=True):
    """What the roster says of a person, a student or staff, as far as the rules of claims ask for it."""

    person_id: UUID
    kind: Kind
    number: str
    last_name: str
    first_name: str
    enrolled: bool
    basis: datetime | None  # the moment from which the wait counts; none: every enrollment was voided
    baseline: bool  # known to the district before Homeroom
    parked: bool  # events of this person could not be applied: nothing about them is certain
    namesakes: int = 0  # other enrolled persons under the same number

    @property
    def attends(self) -> bool:
        """Enrolled, by an enrollment that counts."""
        return self.enrolled and self.basis is not None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """How much a reset would do: so many accounts, `staff` among them or not; `alone`: what whoever asks has reset
    within a day without a second person."""

    accounts: int
    extent: Extent
    staff: bool = False
    alone: int = 0


class Typed(msgspec.Struct, frozen=True):
    """What somebody typed to begin a claim, after the input itself was found to be in order."""

    last_name: str
    first_name: str
    number: str


initial = Account()


def evolve(account: Account, recorded: Recorded[Any]) -> Account:
    """The account after one more of its events."""
    account = _replace(
        account, person_id=recorded.stream_id, district=recorded.district, version=recorded.version
    )
    match recorded.data:
        case ClaimOpened() as opened:
            claim = Claim(
                claim_id=opened.claim_id,
                generation=opened.generation,
                opened_at=recorded.time,
                expires_at=opened.expires_at,
            )
            return _replace(account, claims=[*account.claims, claim][-CLAIMS_KEPT:])
        case AccountClaimed() as claimed:
            return _replace(
                account,
                claim_id=claimed.claim_id,
                credential_id=claimed.credential_id,
                claimed_at=recorded.time,
                claims=_decided(account, claimed.claim_id, credential_id=claimed.credential_id),
            )
        case ClaimRejected() as rejected:
            claims = _decided(
                account, rejected.claim_id, credential_id=rejected.credential_id, reason=rejected.why
            )
            return _replace(account, claims=claims)
        case AccountReset() as reset:
            return _replace(
                account,
                generation=reset.generation,
                claim_id=None,
                credential_id=None,
                claimed_at=None,
                reset_at=recorded.time,
            )
        case WaitingPeriodWaived() as waived:
            waiver = Waiver(
                actor=waived.actor, at=recorded.time, desk_ticket=waived.desk_ticket, reason=waived.reason
            )
            return _replace(account, waiver=waiver)
        case WaiverRevoked():
            return _replace(account, waiver=None)
        case AccountSuspended() as told:
            suspension = Suspension(
                cause=told.cause, at=recorded.time, actor=told.actor, desk_ticket=told.desk_ticket
            )
            return _replace(account, suspensions=[*account.suspensions, suspension])
        case AccountRestored(cause=cause):
            standing = [suspension for suspension in account.suspensions if suspension.cause != cause]
            return _replace(account, suspensions=standing)
    return account


# Beginning a claim


def read_claim(last_name: str, first_name: str, number: str, policy: Policy) -> Typed:
    """What needs only a look at the input is said plainly: a number that is none, a name left out or endless."""
    digits = policy.read_any_number(number)
    for field, name in (("last_name", last_name), ("first_name", first_name)):
        if not name.strip():
            raise Rejected("name_missing", field=field)
        if len(name) > NAME_MAX_LENGTH:
            raise Rejected("name_long", field=field, max_length=NAME_MAX_LENGTH)
    return Typed(last_name, first_name, digits)


def identify(typed: Typed, found: Sequence[Pupil], policy: Policy) -> Pupil:
    """Exactly one enrolled pupil has this number, and the names are exactly theirs; all else is refused alike."""
    if not found:
        raise uniform("number_unknown")
    if parked := [pupil for pupil in found if pupil.parked]:
        raise uniform("history_parked", person_id=parked[0].person_id)
    enrolled = [pupil for pupil in found if pupil.enrolled]
    if not enrolled:
        raise uniform("withdrawn", person_id=found[0].person_id)
    if len(enrolled) > 1:
        raise uniform("number_conflict", persons=[str(pupil.person_id) for pupil in enrolled])
    pupil = enrolled[0]
    differs = [name for name in NAMES if not policy.same_name(getattr(typed, name), getattr(pupil, name))]
    if differs:
        raise uniform("names_differ", person_id=pupil.person_id, differs=differs)
    return pupil


def admit(account: Account, pupil: Pupil, policy: Policy, now: datetime) -> None:
    """An identified pupil may claim: an account that is open and free, after the wait, and not for ever anew in one
    day."""
    if account.suspended:
        causes = [suspension.cause for suspension in account.suspensions]
        raise matched(policy, pupil, "account_suspended", {}, {"causes": causes})
    if account.claimed_at:
        told: dict[str, Any] = {"username": policy.username(pupil.kind, pupil.number)}
        raise matched(policy, pupil, "account_claimed", told, {"claimed_at": rfc3339(account.claimed_at)})
    opens = eligible_at(pupil, policy)
    if opens is None or pupil.basis is None:
        raise uniform("enrollment_voided", person_id=pupil.person_id)
    if not may_claim_at(now, account, pupil, policy):
        told = moment("eligible_at", opens, policy)
        raise matched(policy, pupil, "waiting_period", told, told | {"basis": rfc3339(pupil.basis)})
    bound = min(policy.claims_a_day, CLAIMS_KEPT)
    this_time = [claim.opened_at for claim in account.claims if claim.generation == account.generation]
    lately = sorted(at for at in this_time if at > now - DAY)[-bound:]
    if len(lately) == bound:
        again = whole_second(lately[0] + DAY)
        told = moment("retry_at", again, policy) | {"retry_after_s": math.ceil((again - now).total_seconds())}
        raise matched(policy, pupil, "claims_exhausted", told, told)


def open_claim(account: Account, pupil: Pupil, policy: Policy, now: datetime, claim_id: UUID) -> list[Event]:
    """A claim opens, and lives as long as a ticket does; one that is open and asked for again is open already."""
    asked = account.claim(claim_id)
    if asked and claim_state(account, asked, now)[0] == "open":
        return []
    admit(account, pupil, policy, now)
    expires_at = now.replace(microsecond=0) + policy.ticket_life
    return [ClaimOpened(claim_id=claim_id, generation=account.generation, expires_at=expires_at)]


def eligible_at(pupil: Pupil, policy: Policy) -> datetime | None:
    """The moment from which the pupil may claim, a whole second and never early; None without any enrollment."""
    if pupil.basis is None:
        return None
    delay = timedelta(0) if pupil.baseline else policy.claim_delay(pupil.kind)
    if not delay:  # who has nothing to wait for does not wait for the end of the second either
        return pupil.basis.replace(microsecond=0)
    return whole_second(pupil.basis + delay)


def may_claim_at(moment: datetime, account: Account, pupil: Pupil, policy: Policy) -> bool:
    """Whether the wait is over, or waived. Without an enrollment there is nothing to wait for, or to waive."""
    opens = eligible_at(pupil, policy)
    return opens is not None and (account.waiver is not None or opens <= moment)


# Completing a claim


def decide_claim(
    account: Account,
    pupil: Pupil | None,
    policy: Policy,
    *,
    claim_id: UUID,
    credential_id: UUID,
    generation: int,
    sealed_at: datetime,
) -> list[Event]:
    """A credential was sealed for a claim: the account is claimed, or the credential rejected. `sealed_at` counts,
    not the moment at which it is heard of. A credential that was decided already is passed over."""
    claim = account.claim(claim_id)
    if claim and claim.credential_id == credential_id:
        return []
    named: dict[str, Any] = {"claim_id": claim_id, "credential_id": credential_id, "generation": generation}
    why = _why_rejected(account, claim, pupil, policy, generation, sealed_at)
    if why == "account_suspended":  # a word that readers of the event do not know
        return [ClaimRejected(**named, reason="claim_superseded", suspended=True)]
    if why:
        return [ClaimRejected(**named, reason=why)]
    return [AccountClaimed(**named, sealed_at=sealed_at)]


def _why_rejected(
    account: Account,
    claim: Claim | None,
    pupil: Pupil | None,
    policy: Policy,
    generation: int,
    sealed_at: datetime,
) -> WhyRejected | None:
    if generation < account.generation:
        return "claim_superseded"
    if claim is None or claim.generation != generation:
        return "claim_unknown"
    if claim.credential_id:  # decided, by another credential
        return claim.reason or "account_claimed"
    if account.claimed:
        return "account_claimed"
    if sealed_at > claim.expires_at:
        return "claim_expired"
    if pupil is None or pupil.parked or not pupil.attends:
        return "not_enrolled"
    if account.suspended:
        return "account_suspended"
    if pupil.namesakes:
        return "number_conflict"
    return None if may_claim_at(sealed_at, account, pupil, policy) else "waiting_period"


def claim_state(account: Account, claim: Claim, now: datetime) -> tuple[str, str | None]:
    """How a claim stands (open, completed, rejected, expired), and the reason if it is rejected."""
    if claim.reason:
        return "rejected", claim.reason
    if claim.generation < account.generation:
        return "rejected", "claim_superseded"
    if account.claimed:
        return ("completed", None) if account.claim_id == claim.claim_id else ("rejected", "account_claimed")
    if account.suspended:
        return "rejected", "account_suspended"
    return ("expired", None) if now > claim.expires_at else ("open", None)


# The help desk


def reset(account: Account, *, batch_id: UUID, actor: str, desk_ticket: str | None) -> list[Event]:
    """One account is reset by itself: also an unclaimed one, whose open claims end."""
    return [
        AccountReset(
            generation=account.generation + 1,
            batch_id=batch_id,
            cause="desk",
            actor=actor,
            desk_ticket=desk_ticket,
        )
    ]


def reset_listed(
    account: Account, *, generation: int, as_of: datetime, batch_id: UUID, actor: str, desk_ticket: str | None
) -> list[Event]:
    """One account of a list is reset, as it stood when the list was frozen: never an unclaimed one, never one that
    was reset, or claimed, since."""
    if account.generation != generation:
        raise Rejected("reset_since")
    if account.claimed_at is None:
        raise Rejected("not_claimed")
    if account.claimed_at > as_of:
        raise Rejected("claimed_since")
    return reset(account, batch_id=batch_id, actor=actor, desk_ticket=desk_ticket)


def needs_second_person(wanted: Wanted, policy: Policy) -> bool:
    """Whether somebody else approves a reset first: of many, of all students however few they are, of staff, or of more
    than one may reset alone within a day."""
    return _is_great(wanted, policy) or _is_too_much_alone(wanted, policy)


def list_waits(wanted: Wanted, policy: Policy, *, human: bool) -> bool:
    """Whether a list waits for a second person. Two people answer for such a list, who asks and who approves: a machine
    does neither."""
    waits = needs_second_person(wanted, policy)
    if waits and not human:
        if _is_great(wanted, policy):
            raise Rejected("person_required", approval_above=policy.approval_above)
        raise _exhausted(policy)
    return waits


def allow_single(wanted: Wanted, policy: Policy) -> None:
    """One account is reset at once, if nobody else has to approve it."""
    if _is_great(wanted, policy):
        raise Rejected("approval_required")
    if _is_too_much_alone(wanted, policy):
        raise _exhausted(policy)


def _is_great(wanted: Wanted, policy: Policy) -> bool:
    return wanted.extent == "all_students" or wanted.staff or wanted.accounts > policy.approval_above


def _is_too_much_alone(wanted: Wanted, policy: Policy) -> bool:
    return wanted.alone + wanted.accounts > policy.resets_alone_a_day


def _exhausted(policy: Policy) -> Rejected:
    return Rejected("resets_exhausted", resets_alone_a_day=policy.resets_alone_a_day)


def approve_list(author: str, approver: str, policy: Policy, *, human: bool, by: int, held: int) -> None:
    """Somebody lets a list begin that waits: a person, and another one than who asked for it. `by`: the approver's
    rank, `held`: the highest in the list."""
    if not human:
        raise Rejected("person_required", approval_above=policy.approval_above)
    if approver == author:
        raise Rejected("approver_is_author")
    if not may_reset(held, by, policy):
        raise Rejected("role_not_below")


def may_reset(held: int, by: int, policy: Policy) -> bool:
    """Whether somebody of rank `by` may ask for, or approve, the reset of an account whose roles rank `held`. Staff is
    always reset by two people; of peers a policy may say that two are not enough."""
    return held == 0 or held < by or (held == by and policy.roles.peers == "approval")


def refuse_not_below(held: int, by: int) -> None:
    """For what one person does alone: who holds a role is changed by a role above it."""
    if held and held >= by:
        raise Rejected("role_not_below")


def reset_lost(account: Account, *, claim_id: UUID | None, generation: int, batch_id: UUID) -> list[Event]:
    """auth no longer has the credential of this account: it is reset, unless it is another's or an older one's."""
    if not account.claimed or generation != account.generation or claim_id not in (None, account.claim_id):
        return []
    return [AccountReset(generation=generation + 1, batch_id=batch_id, cause="credential_lost", actor="auth")]


def waive(account: Account, *, actor: str, desk_ticket: str | None, reason: str | None) -> list[Event]:
    """The help desk lets one person claim at once. Said twice, it is recorded once. It speaks of the person, not of
    the account's present generation: a pupil who is reset on the first day does not have to wait after all."""
    if account.waiver:
        return []
    return [
        WaitingPeriodWaived(
            generation=account.generation, actor=actor, desk_ticket=desk_ticket, reason=reason
        )
    ]


def revoke_waiver(account: Account, *, actor: str, desk_ticket: str | None) -> list[Event]:
    """The waiting period counts again; a claim that was completed under the waiver stays."""
    if not account.waiver:
        return []
    return [WaiverRevoked(generation=account.generation, actor=actor, desk_ticket=desk_ticket)]


# Suspension: an account is closed while any cause stands, and each cause ends by itself


def suspend(account: Account, *, actor: str, desk_ticket: str | None) -> list[Event]:
    """The help desk closes an account, claimed or not; said twice, it is recorded once."""
    return _suspended(account, "desk", actor, desk_ticket)


def restore(account: Account, *, actor: str, desk_ticket: str | None) -> list[Event]:
    """The help desk takes back its own suspension. Whoever has left stays out, by the other cause."""
    return _restored(account, "desk", actor, desk_ticket)


def open_until(left_at: datetime, policy: Policy, *, graduated: bool) -> datetime:
    """Until when the account of somebody who left stays open: a transfer may tell the withdrawal before the new
    enrollment, and graduates have letters to write. `left_at`: when the roster heard of it. The day on which a pupil is
    said to have left is often told afterwards, when the grace would be over before it began."""
    return left_at + (policy.graduation_grace if graduated else policy.suspension_grace)


def suspend_departed(account: Account, pupil: Pupil | None) -> list[Event]:
    """The grace of somebody who left is over: the account is suspended, unless they are back."""
    return [] if pupil and pupil.attends else _suspended(account, "withdrawn")


def restore_returned(account: Account) -> list[Event]:
    """Somebody who left is back: the account opens as it was. What the help desk closed stays closed."""
    return _restored(account, "withdrawn")


def suspend_merged(account: Account) -> list[Event]:
    """The record is another name of somebody who has claimed: there is one account for one person, and it is theirs."""
    return _suspended(account, "merged")


def restore_split(account: Account) -> list[Event]:
    """The merge was wrong: the account is its own person's again."""
    return _restored(account, "merged")


def _suspended(
    account: Account, cause: SuspensionCause, actor: str | None = None, desk_ticket: str | None = None
) -> list[Event]:
    if account.suspended_for(cause):
        return []
    generation = account.generation
    return [AccountSuspended(cause=cause, generation=generation, actor=actor, desk_ticket=desk_ticket)]


def _restored(
    account: Account, cause: SuspensionCause, actor: str | None = None, desk_ticket: str | None = None
) -> list[Event]:
    if not account.suspended_for(cause):
        return []
    generation = account.generation
    return [AccountRestored(cause=cause, generation=generation, actor=actor, desk_ticket=desk_ticket)]


# What a refusal tells, and moments


DAY = timedelta(days=1)


def uniform(true_reason: str, **secret: Any) -> Rejected:
    """A refusal that says the same to everybody; the help desk finds the true reason under its reference."""
    return Rejected("claim_refused", secret={"reason": true_reason, **secret})


def matched(
    policy: Policy, pupil: Pupil, reason: str, told: Mapping[str, Any], kept: Mapping[str, Any]
) -> Rejected:
    """A refusal to somebody who has shown the exact names and number: told why, unless the district says otherwise.
    What is `kept` the help desk finds."""
    truth = uniform(reason, person_id=pupil.person_id, **kept)
    return truth if policy.claim_refusals == "uniform" else Rejected(reason, secret=truth.secret, **told)


def moment(name: str, at: datetime, policy: Policy) -> dict[str, Any]:
    """A moment as a refusal shows it: in UTC, and as the district's clocks say it."""
    return {
        name: rfc3339(at),
        f"{name}_local": at.astimezone(policy.zone).isoformat(),
        "time_zone": policy.time_zone,
    }


def whole_second(at: datetime) -> datetime:
    """The first whole second that is not before: what is shown is what is compared."""
    return at if not at.microsecond else at.replace(microsecond=0) + timedelta(seconds=1)


def _decided(account: Account, claim_id: UUID, **how: Any) -> list[Claim]:
    """The claims with one more decided; what was decided first stays."""
    return [
        _replace(claim, **how) if claim.claim_id == claim_id and not claim.credential_id else claim
        for claim in account.claims
    ]


_replace = msgspec.structs.replace
