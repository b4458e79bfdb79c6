"""THE RULES of credentials: who may set, change and recover a password, and what an answer of claims means
here.

State is one person's: the live credential, those sealed for claims that are still open, those used before. A
credential is only a name for a row of the vault; that is why nothing in here, and nothing in the events, is
secret. The second half are the rules of what pupils type: passwords and answers. The pauses after wrong ones
are in pauses.py.
"""

import unicodedata
from collections.abc import Collection, Container, Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from services.auth.events import (
    CredentialActivated,
    CredentialDiscarded,
    CredentialLost,
    CredentialRestored,
    CredentialRevoked,
    CredentialsSet,
    CredentialSuspended,
    LockoutLifted,
    PasswordChanged,
    RecoveryCodeIssued,
    RecoveryRested,
    RoleEnd,
    RoleGranted,
    RoleRevoked,
    SuspensionCause,
)
from shared import text
from shared.errors import Rejected
from shared.messages import Event, Recorded
from shared.policy import Kind, Policy, Role, rank, scopes_of

VERDICTS_KEPT = 20  # rejected claims that are remembered, so that whoever asks late still gets an answer
USED_KEPT = 50  # the most that a policy's history_count allows
WORD_MIN_LENGTH = 3  # shorter names are no hint to anybody
REST_MIN_LENGTH = 4  # what a password needs beside its owner's own names and number


class Credential(Struct, frozen=True):
    """A row of the vault by name. `since`: sealed, or if it is live, usable from then on."""

    credential_id: UUID
    claim_id: UUID
    generation: int
    since: datetime


class Used(Struct, frozen=True):
    """A credential that was live once, and until when."""

    credential_id: UUID
    until: datetime


class Held(Struct, frozen=True):
    """A role since when, and how much of the roster's history of its person was known then."""

    since: datetime
    roster_version: int


class State(Struct, frozen=True):
    """One person's credential. What is below `generation` was revoked."""

    generation: int = 0
    live: Credential | None = None
    sealed: tuple[Credential, ...] = ()
    used: tuple[Used, ...] = ()  # newest first
    verdicts: dict[UUID, str] = msgspec.field(default_factory=dict)  # claim: why it was rejected
    rested_until: datetime | None = None
    suspended: tuple[SuspensionCause, ...] = ()  # the causes that stand; none: the account is open
    roles: dict[Role, Held] = msgspec.field(default_factory=dict)


class Claim(Struct, frozen=True):
    """What a claim's ticket says."""

    claim_id: UUID
    person_id: UUID
    generation: int
    username: str
    expires_at: datetime
    code_required: bool = False


initial = State()


def evolve(state: State, recorded: Recorded[Event]) -> State:
    """The state after one more event."""
    match recorded.data:
        case CredentialsSet(claim_id=claim_id, credential_id=credential_id, generation=generation):
            new = Credential(credential_id, claim_id, generation, recorded.time)
            return replace(state, sealed=(*state.sealed, new))
        case CredentialActivated(claim_id=claim_id, credential_id=credential_id, generation=generation):
            new = Credential(credential_id, claim_id, generation, recorded.time)
            return replace(
                state, live=new, sealed=_without(state, claim_id), used=_retired(state, recorded.time)
            )
        case CredentialDiscarded(claim_id=claim_id, reason=reason):
            return replace(
                state, sealed=_without(state, claim_id), verdicts=_judged(state, {claim_id: reason})
            )
        case CredentialLost(claim_id=claim_id):
            verdict = {claim_id: "credential_lost"} if claim_id else {}
            return replace(state, sealed=_without(state, claim_id), verdicts=_judged(state, verdict))
        case PasswordChanged(credential_id=credential_id, generation=generation) if state.live:
            new = Credential(credential_id, state.live.claim_id, generation, recorded.time)
            return replace(state, live=new, used=_retired(state, recorded.time))
        case CredentialRevoked(generation=generation):
            return _revoked(state, generation, recorded.time)
        case RecoveryRested(until=until):
            return replace(state, rested_until=until)
        case LockoutLifted():
            return replace(state, rested_until=None)
        case CredentialSuspended(cause=cause):
            return replace(state, suspended=(*state.suspended, cause))
        case CredentialRestored(cause=cause):
            return replace(state, suspended=tuple(c for c in state.suspended if c != cause))
        case RoleGranted(role=role, roster_version=version):
            return replace(state, roles={**state.roles, role: Held(recorded.time, version)})
        case RoleRevoked(role=role):
            return replace(state, roles={held: how for held, how in state.roles.items() if held != role})
        case _:
            return state


def _revoked(state: State, generation: int, now: datetime) -> State:
    """Everything below the generation is void; what a quick second claim sealed in the new one stays."""
    ended = [c for c in (state.live, *state.sealed) if c and c.generation < generation]
    revoked = replace(
        state,
        generation=generation,
        sealed=tuple(c for c in state.sealed if c.generation >= generation),
        verdicts=_judged(state, {c.claim_id: "claim_superseded" for c in ended}),
        rested_until=None,
    )
    if state.live in ended:
        return replace(revoked, live=None, used=_retired(state, now))
    return revoked


def _without(state: State, claim_id: UUID | None) -> tuple[Credential, ...]:
    return tuple(c for c in state.sealed if c.claim_id != claim_id)


def _retired(state: State, now: datetime) -> tuple[Used, ...]:
    if state.live is None:
        return state.used
    return (Used(state.live.credential_id, now), *state.used)[:USED_KEPT]


def _judged(state: State, verdicts: Mapping[UUID, str]) -> dict[UUID, str]:
    return dict([*state.verdicts.items(), *verdicts.items()][-VERDICTS_KEPT:])


# A claim's last two steps, and what claims answers


def claim_state(state: State, claim_id: UUID) -> Literal["open", "sealed", "completed", "rejected"]:
    """Where a claim stands here. completed: its credential, or one that followed it, is live."""
    if state.live and state.live.claim_id == claim_id:
        return "completed"
    if any(c.claim_id == claim_id for c in state.sealed):
        return "sealed"
    return "rejected" if claim_id in state.verdicts else "open"


def stage_password(state: State, claim: Claim, taken: int, policy: Policy, now: datetime) -> None:
    """Whether this claim may take another password. Nothing is a fact yet, so nothing is recorded."""
    still_open(state, claim, now)
    # Else the password history would answer as many questions as one likes.
    if taken >= policy.claim_passwords:
        raise Rejected("claim_passwords_used_up", passwords=policy.claim_passwords)


def seal(state: State, claim: Claim, credential_id: UUID, now: datetime) -> list[Event]:
    """The last step of a claim here: password and answers are complete."""
    still_open(state, claim, now)
    return [CredentialsSet(claim_id=claim.claim_id, credential_id=credential_id, generation=claim.generation)]


def still_open(state: State, claim: Claim, now: datetime) -> None:
    """Raises Rejected when nothing more can be done with this claim."""
    match claim_state(state, claim.claim_id):
        case "rejected":
            raise Rejected("claim_rejected", cause=state.verdicts[claim.claim_id])
        case "sealed" | "completed":
            raise Rejected("claim_sealed")
    if state.live and state.live.generation == claim.generation:  # claims will say so too, only later
        raise Rejected("claim_rejected", cause="account_claimed")
    refuse_suspended(state)
    if claim.generation < state.generation:
        raise Rejected("claim_superseded")
    if now >= claim.expires_at:
        raise Rejected("claim_expired")


def activate(
    state: State, claim_id: UUID, credential_id: UUID, generation: int, *, kept: bool
) -> list[Event]:
    """claims accepted. `kept`: the vault holds this credential. A repeat, or one that a reset overtook,
    changes nothing."""
    if generation < state.generation or claim_state(state, claim_id) in ("completed", "rejected"):
        return []
    if any(used.credential_id == credential_id for used in state.used):
        return []
    fact: type[CredentialLost | CredentialActivated] = CredentialLost
    if kept and any(c.credential_id == credential_id for c in state.sealed):
        fact = CredentialActivated
    return [fact(claim_id=claim_id, credential_id=credential_id, generation=generation)]


def discard(state: State, claim_id: UUID, credential_id: UUID, reason: str) -> list[Event]:
    """claims rejected."""
    for sealed in state.sealed:
        if sealed.claim_id == claim_id and sealed.credential_id == credential_id:
            return [
                CredentialDiscarded(
                    claim_id=claim_id,
                    credential_id=credential_id,
                    generation=sealed.generation,
                    reason=reason,
                )
            ]
    return []


def revoke(state: State, generation: int, sessions_ended: int) -> list[Event]:
    """claims reset the account. Answered once for each generation, also when there was nothing to revoke."""
    if generation <= state.generation:
        return []
    live = state.live.credential_id if state.live and state.live.generation < generation else None
    revoked = CredentialRevoked(
        generation=generation, credential_id=live, sessions_ended=sessions_ended, cause="reset"
    )
    return [revoked, *_roles_ended(state, "reset", generation)]


def suspend(state: State, cause: SuspensionCause, generation: int, sessions_ended: int) -> list[Event]:
    """claims suspended the account, for a cause that may stand beside others. A reset leaves it suspended."""
    if cause in state.suspended:
        return []
    suspended = CredentialSuspended(cause=cause, generation=generation, sessions_ended=sessions_ended)
    return [suspended, *_roles_ended(state, "suspended", generation)]


def restore(state: State, cause: SuspensionCause, generation: int) -> list[Event]:
    """claims says that a cause is gone."""
    if cause not in state.suspended:
        return []
    return [CredentialRestored(cause=cause, generation=generation)]


def refuse_suspended(state: State) -> None:
    """For whoever has shown what only the account's own person knows, and for the help desk."""
    if state.suspended:
        raise Rejected("account_suspended", secret={"causes": state.suspended})


# Roles of the staff: given by an operator, to a person with a live credential, and gone with it


def grant_role(
    state: State,
    role: Role,
    kind: Kind,
    *,
    employed: bool,
    roster_version: int,
    own: bool,
    actor: str,
    desk_ticket: str | None,
) -> list[Event]:
    """Only who works here and has claimed may have one, and `own`: nobody gives one to themselves. `roster_version`: as
    far as it is known whether they work here. Said twice, it is recorded once."""
    if kind != "staff":
        raise Rejected("not_staff")
    if own:
        raise Rejected("role_own")
    if not employed:
        raise Rejected("has_left")
    if state.live is None:
        raise Rejected("not_claimed")
    refuse_suspended(state)
    if role in state.roles:
        return []
    return [
        RoleGranted(
            role=role,
            generation=state.live.generation,
            actor=actor,
            desk_ticket=desk_ticket,
            roster_version=roster_version,
        )
    ]


def revoke_role(state: State, role: Role, *, actor: str, desk_ticket: str | None) -> list[Event]:
    """An operator takes it back, their own too."""
    if role not in state.roles:
        return []
    generation = state.live.generation if state.live else state.generation
    return [
        RoleRevoked(role=role, generation=generation, cause="operator", actor=actor, desk_ticket=desk_ticket)
    ]


def leave(state: State, roster_version: int) -> list[Event]:
    """The roster says, in this version, that the person left. A role that was given knowing of it is of a later
    employment."""
    generation = state.live.generation if state.live else state.generation
    return _roles_ended(state, "left", generation, unknown=roster_version)


def _roles_ended(state: State, cause: RoleEnd, generation: int, unknown: int | None = None) -> list[Event]:
    """All of them; or those that were given when a version of the roster's history was `unknown`."""
    return [
        RoleRevoked(role=role, generation=generation, cause=cause)
        for role, held in sorted(state.roles.items())
        if unknown is None or held.roster_version < unknown
    ]


def is_below(state: State, by: int) -> bool:
    """Whether somebody of rank `by` may change this account: who holds a role is changed by a role above it alone."""
    return not state.roles or rank(state.roles) < by


def refuse_not_below(state: State, by: int) -> None:
    """`by`: the rank of whoever asks."""
    if not is_below(state, by):
        raise Rejected("role_not_below")


def may_act(state: State, wanted: Collection[str], *, employed: bool) -> list[str]:
    """The scopes that a session of this person is exchanged for: those of `wanted`, or all that the roles give. Raises
    Rejected `role_missing`, and `invalid_scope` for one that no role of theirs gives."""
    scopes = scopes_of(state.roles)
    if not (scopes and employed and state.live) or state.suspended:
        raise Rejected("role_missing")
    if not set(wanted) <= set(scopes):
        raise Rejected("invalid_scope", scopes=list(scopes))
    return sorted(set(wanted) or scopes)


# A person with a live credential


def change_password(
    state: State, verified: UUID, credential_id: UUID, cause: Literal["change", "recovery"], actor: str
) -> list[Event]:
    """`verified`: the credential whose password, answers or code were shown; if it is not the live one any
    more, nothing was shown."""
    if state.live is None or state.live.credential_id != verified:
        raise Rejected("credential_replaced")
    refuse_suspended(state)
    return [
        PasswordChanged(
            credential_id=credential_id,
            previous_credential_id=verified,
            generation=state.live.generation,
            cause=cause,
            actor=actor,
        )
    ]


def issue_code(
    state: State, actor: str, desk_ticket: str | None, expires_at: datetime, *, to_claim: bool, by: int
) -> list[Event]:
    """A code opens a recovery, so there must be an account to recover; unless it is asked for `to_claim` one. `by`: the
    rank of whoever gives it, who could take the account over with it."""
    refuse_not_below(state, by)
    if state.live is None and not to_claim:
        raise Rejected("not_claimed")
    refuse_suspended(state)
    generation = state.live.generation if state.live else state.generation
    return [
        RecoveryCodeIssued(generation=generation, actor=actor, desk_ticket=desk_ticket, expires_at=expires_at)
    ]


def rest(state: State, until: datetime) -> list[Event]:
    """The questions rest until the district's next day."""
    if state.live is None or (state.rested_until and state.rested_until >= until):
        return []
    return [RecoveryRested(generation=state.live.generation, until=until)]


def lift_lockout(state: State, actor: str, desk_ticket: str | None, *, locked: bool) -> list[Event]:
    """`locked`: there are wrong passwords or answers that count."""
    if not locked and state.rested_until is None:
        return []
    return [LockoutLifted(generation=state.generation, actor=actor, desk_ticket=desk_ticket)]


def remembered(state: State, policy: Policy, now: datetime) -> list[UUID]:
    """The credentials whose passwords may not be used again: the live one always, older ones by how long ago
    they were in use (`history_days`, 0 for ever) and how many there are (`history_count`, the live one among
    them)."""
    live = [state.live.credential_id] if state.live else []
    days = policy.password.history_days
    older = [u.credential_id for u in state.used if days == 0 or u.until > now - timedelta(days=days)]
    return [*live, *older[: policy.password.history_count - len(live)]]


# What pupils type


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """One challenge question, by its id, and what was typed."""

    question: str
    answer: str


def composed(typed: str) -> str:
    """A password in the form in which it is hashed and counted (NFC): what keyboards compose differently is
    the same."""
    return unicodedata.normalize("NFC", typed)


def accept_password(typed: str, own: Collection[str], common: Container[str], policy: Policy) -> str:
    """The password in the form that is hashed (NFC). No composition rule; refused are the wrong length, what
    everybody uses (`common`: as typed or in small letters), and what is made of the pupil's `own` names, number and
    username alone."""
    password = composed(typed)
    rule = policy.password
    if len(password) < rule.min_length:
        raise Rejected("password_short", min_length=rule.min_length)
    if len(password) > rule.max_length:
        raise Rejected("password_long", max_length=rule.max_length)
    if password in common or password.strip().lower() in common or _is_own(password, own):
        raise Rejected("password_common")
    return password


def _is_own(password: str, own: Collection[str]) -> bool:
    """Whether too little is left of it once its owner's own words are struck out ("Johnson123",
    "s0123456")."""
    rest = _letters(password)
    found = False
    for word in sorted({_letters(w) for w in own}, key=len, reverse=True):
        if len(word) >= WORD_MIN_LENGTH and word in rest:
            rest, found = rest.replace(word, ""), True
    return found and len(rest) < REST_MIN_LENGTH


def _letters(words: str) -> str:
    return "".join(c for c in text.folded(words) if c.isalnum())


def accept_answers(answers: Sequence[Answer], policy: Policy, now: datetime) -> str:
    """New answers to exactly so many different questions of the district's catalogue, joined into what is
    hashed."""
    if len(answers) != policy.questions_required:
        raise Rejected("answers_wrong_count", required=policy.questions_required)
    if len({a.question for a in answers}) != len(answers):
        raise Rejected("answers_repeated")
    accepted = {}
    for given in answers:
        question = policy.question(given.question)
        if question is None:
            raise Rejected("answer_invalid", question=given.question, hint="unknown_question")
        accepted[question.id] = question.accept(given.answer, now)
    return _joined(accepted)


def read_answers(answers: Sequence[Answer], required: int, policy: Policy) -> str:
    """Answers to the questions of a recovery, joined into what is compared. Answers to other questions than were asked
    are wrong ones; only what no pupil can ever have answered is pointed out (a month that is none): it says nothing
    about the account."""
    if len(answers) != required:
        raise Rejected("answers_wrong_count", required=required)
    read = {}
    for given in answers:
        question = policy.question(given.question)
        canonical = question.fold(given.answer) if question else ""
        if canonical is None:
            raise Rejected("answer_invalid", question=given.question, hint="not_an_answer")
        read[given.question] = canonical
    return _joined(read)


def _joined(answers: Mapping[str, str]) -> str:
    """All answers as one secret, whatever the order in which they were given. Neither part can hold a line
    break."""
    return "\n".join(f"{question}={answer}" for question, answer in sorted(answers.items()))


def day_of(policy: Policy, now: datetime) -> tuple[str, datetime]:
    """The district's present day by name, and the moment at which the next one begins there."""
    here = now.astimezone(policy.zone)
    tomorrow = datetime.combine(here.date() + timedelta(days=1), time(), policy.zone)
    return here.date().isoformat(), tomorrow.astimezone(now.tzinfo)
