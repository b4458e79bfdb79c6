"""What the help desk sees of an account: who it is on file, why a claim fails, what was done, by whom."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from services.claims import decider
from services.claims.decider import Account, Claim, Pupil, Suspension, Waiver
from services.claims.handlers import sql
from services.claims.projections import ACCOUNT, ADMISSION, Admission, Enrollment
from shared.actors import names_of
from shared.auth import SESSIONS_END_WITHIN
from shared.database import Connection
from shared.errors import Rejected
from shared.policy import Kind, Policy
from shared.timeline import Refusal, RefusalSeen

RECENT = 20  # resets, refusals and claims that are shown, the newest first
UNDER_ONE_NUMBER = 20


class ClaimSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to claim: open, completed, rejected (with its reason) or expired."""

    claim_id: UUID
    state: str
    reason: str | None
    opened_at: datetime
    expires_at: datetime


class ResetSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One reset, as an item of its batch; `done` when auth has confirmed that the sessions have ended."""

    batch_id: UUID
    cause: str
    author: str
    author_name: str | None
    approved_by: str | None
    approved_by_name: str | None
    desk_ticket: str | None
    state: str
    reason: str | None
    sessions_ended: int | None
    changed_at: datetime


class WaiverSeen(Waiver, frozen=True, kw_only=True):
    """Who let this person claim without waiting, also by name."""

    actor_name: str | None


class SuspensionSeen(Suspension, frozen=True, kw_only=True):
    """Why an account is closed, since when, and who closed it, also by name."""

    actor_name: str | None


class ParkedSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A fact of the roster about this person could not be applied: nothing is certain until that is mended."""

    since: datetime
    dead_letter: int | None
    reason: str | None


class AccountSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the help desk asks about one pupil's account.

    `eligible_at` is the moment from which the pupil can claim, None if every enrollment was voided; `may_claim_now`
    also counts a waiver, and says no for whoever is withdrawn, suspended, claimed, parked or not alone under the
    number. `claim_needs_code`: whoever claims it also shows a one-time code of the help desk.
    `open_until`: the pupil has left, and the account is suspended at that moment unless they return. `merged_into`: the
    record is another name of that person, whose account counts.
    """

    person_id: UUID
    kind: Kind
    username: str
    number: str
    last_name: str
    first_name: str
    school: str | None
    grade: str | None
    enrolled: bool
    claimed: bool
    claimed_at: datetime | None
    generation: int
    reset_at: datetime | None
    baseline: bool
    basis: datetime | None
    eligible_at: datetime | None
    eligible_at_local: str | None
    time_zone: str
    may_claim_now: bool
    claim_needs_code: bool
    waiver: WaiverSeen | None
    suspended: bool
    suspensions: list[SuspensionSeen]
    open_until: datetime | None
    open_until_local: str | None
    enrollments: list[Enrollment]
    same_number: list[UUID]
    merged_into: UUID | None
    parked: ParkedSeen | None
    claims: list[ClaimSeen]
    resets: list[ResetSeen]
    refusals: list[RefusalSeen]


async def find_accounts(conn: Connection, username: str, policy: Policy, now: datetime) -> list[AccountSeen]:
    """The accounts of everybody whom the roster has under a username, the enrolled first."""
    named = policy.read_username(username)
    if named is None:
        return []
    persons = await conn.fetch(sql.persons_under, policy.district, named[1], UNDER_ONE_NUMBER)
    return [await show_account(conn, row["person_id"], policy, now) for row in persons]


async def show_account(conn: Connection, person_id: UUID, policy: Policy, now: datetime) -> AccountSeen:
    """One account. Raises Rejected `person_unknown`."""
    parked = await conn.fetchrow(sql.parked, person_id)  # first: what is read after it is at least as new
    row = (await ADMISSION.load(conn, [person_id])).get(person_id)
    if row is None or row.district != policy.district or not row.number:
        raise Rejected("person_unknown")
    account = (await ACCOUNT.load(conn, [person_id])).get(person_id, decider.initial)
    others = await conn.fetch(
        sql.others_enrolled_under, policy.district, row.number, person_id, UNDER_ONE_NUMBER
    )
    believed = now - SESSIONS_END_WITHIN
    resets = await conn.fetch(sql.recent_resets, person_id, policy.district, RECENT, believed)
    refusals = await conn.fetch(sql.recent_refusals, person_id, policy.district, RECENT)
    pupil = _pupil(row, parked is not None, len(others))
    opens = decider.eligible_at(pupil, policy)
    closes = None if pupil.attends else await _open_until(conn, person_id, policy)
    return AccountSeen(
        person_id=person_id,
        kind=row.kind,
        username=policy.username(row.kind, row.number),
        number=row.number,
        last_name=row.last_name,
        first_name=row.first_name,
        school=row.school,
        grade=row.grade,
        enrolled=pupil.enrolled,
        claimed=account.claimed,
        claimed_at=account.claimed_at,
        generation=account.generation,
        reset_at=account.reset_at,
        baseline=row.baseline,
        basis=row.basis,
        eligible_at=opens,
        eligible_at_local=_local(opens, policy),
        time_zone=policy.time_zone,
        may_claim_now=_may_claim(account, pupil, policy, now),
        claim_needs_code=policy.claim_needs_code(row.kind),
        waiver=await _waiver(conn, account.waiver),
        suspended=account.suspended,
        suspensions=await _suspensions(conn, account.suspensions),
        open_until=closes,
        open_until_local=_local(closes, policy),
        enrollments=row.enrollments,
        same_number=[other["person_id"] for other in others],
        merged_into=row.merged_into,
        parked=ParkedSeen(**dict(parked)) if parked else None,
        claims=[_claim(account, claim, now) for claim in reversed(account.claims[-RECENT:])],
        resets=[ResetSeen(**dict(reset)) for reset in resets],
        refusals=[RefusalSeen(**dict(refusal)) for refusal in refusals],
    )


async def on_file(conn: Connection, refusal: Refusal) -> dict[str, Any]:
    """What the roster says now of the names that differed when somebody was refused."""
    differs = [name for name in refusal.detail.get("differs", ()) if name in decider.NAMES]
    if not differs or refusal.person_id is None:
        return {}
    row = (await ADMISSION.load(conn, [refusal.person_id])).get(refusal.person_id)
    return {name: getattr(row, name) for name in differs} if row else {}


def _pupil(row: Admission, parked: bool, namesakes: int) -> Pupil:
    return Pupil(
        person_id=row.person_id,
        kind=row.kind,
        number=row.number,
        last_name=row.last_name,
        first_name=row.first_name,
        enrolled=row.status == "enrolled",
        basis=row.basis,
        baseline=row.baseline,
        parked=parked,
        namesakes=namesakes,
    )


async def _open_until(conn: Connection, person_id: UUID, policy: Policy) -> datetime | None:
    row = await conn.fetchrow(sql.departure_of, person_id)
    return decider.open_until(row["left_at"], policy, graduated=row["graduated"]) if row else None


def _local(at: datetime | None, policy: Policy) -> str | None:
    return at.astimezone(policy.zone).isoformat() if at else None


async def _suspensions(conn: Connection, standing: list[Suspension]) -> list[SuspensionSeen]:
    names = await names_of(conn, [each.actor for each in standing if each.actor])
    return [
        SuspensionSeen(**msgspec.structs.asdict(each), actor_name=names.get(each.actor or ""))
        for each in standing
    ]


async def _waiver(conn: Connection, waiver: Waiver | None) -> WaiverSeen | None:
    if waiver is None:
        return None
    names = await names_of(conn, [waiver.actor])
    return WaiverSeen(**msgspec.structs.asdict(waiver), actor_name=names.get(waiver.actor))


def _may_claim(account: Account, pupil: Pupil, policy: Policy, now: datetime) -> bool:
    try:
        decider.identify(decider.Typed(pupil.last_name, pupil.first_name, pupil.number), [pupil], policy)
        decider.admit(account, pupil, policy, now)
    except Rejected:
        return False
    return not pupil.namesakes


def _claim(account: Account, claim: Claim, now: datetime) -> ClaimSeen:
    state, reason = decider.claim_state(account, claim, now)
    return ClaimSeen(
        claim_id=claim.claim_id,
        state=state,
        reason=reason,
        opened_at=claim.opened_at,
        expires_at=claim.expires_at,
    )
