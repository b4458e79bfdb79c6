"""The way back in: three questions, always three, whoever asks; or a one-time code of the help desk.

Everything looks the same for usernames that do not exist: questions chosen by a keyed hash, tries that are
counted and rest, one refusal whatever was wrong. Only the reference tells, and only the desk.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from msgspec import Struct

from services.auth import decider
from services.auth.codes import code_hash
from services.auth.decider import Answer, State
from services.auth.devices import Device
from services.auth.handlers import (
    Auth,
    Occasion,
    canonical_username,
    count_try,
    find_person,
    record,
    replace_password,
)
from services.auth.passwords import First
from services.auth.sessions import find_account
from shared.auth import RECOVERY_TYP
from shared.database import Connection, Row, queries
from shared.errors import Rejected
from shared.messages import Cause
from shared.policy import Policy, Question
from shared.transact import Outcome

_sql = queries(__package__)


class RecoveryBegun(Struct, frozen=True):
    """Three questions, whoever asked. `ticket` is the Bearer of the next two steps until `expires_at`."""

    recovery_id: UUID
    ticket: str
    questions: list[Question]
    expires_at: datetime


async def begin(auth: Auth, on: Occasion, username: str) -> RecoveryBegun:
    """Asks three questions: the account's own, or for a username without one, always the same three
    others; in a district without questions none, and only a code opens it."""
    found = await find_account(auth, on, username)
    account, asks = found.account, on.policy.questions_required > 0
    questions = _in_order(on.policy, account.questions) if account and asks else ()
    if asks and not questions:  # no account, or questions that the district did not have, or has no more
        if on.policy.recovery_refusals == "guided":
            raise refused({"cause": "questions_outdated"} | found.secret)
        questions = decoys(auth, on.policy, username)  # of an account, a code still opens it
    recovery_id, expires_at = uuid4(), on.now + on.policy.ticket_life
    async with auth.kit.db.connection() as conn:
        await conn.execute(
            _sql.open_recovery,
            recovery_id,
            on.district,
            auth.account(on.policy, username),
            account and account.person_id,
            account and account.credential_id,
            questions,
            expires_at,
        )
    claims = {
        "iss": "homeroom-auth",
        "aud": ["auth"],
        "sub": str(recovery_id),
        "district": on.district,
        "iat": int(on.now.timestamp()),
        "exp": int(expires_at.timestamp()),
    }
    asked = [question for question in on.policy.questions if question.id in questions]
    return RecoveryBegun(recovery_id, auth.kit.signer.sign(RECOVERY_TYP, claims), asked, expires_at)


def decoys(auth: Auth, policy: Policy, username: str) -> tuple[str, ...]:
    """Questions for an account that does not exist: the same at every try, and nothing that anybody could
    tell apart."""
    name = canonical_username(policy, username)
    drawn = sorted(
        policy.questions, key=lambda q: auth.hasher.peppers.keyed("decoy", policy.district, name, q.id)
    )
    return _in_order(policy, [q.id for q in drawn[: policy.questions_required]])


def _in_order(policy: Policy, questions: Sequence[str]) -> tuple[str, ...]:
    """As the catalogue has them, so that the order tells nothing; none if one of them is not in it any
    more."""
    known = tuple(q.id for q in policy.questions if q.id in questions)
    return known if len(known) == len(questions) else ()


async def answer(auth: Auth, on: Occasion, recovery_id: UUID, answers: Sequence[Answer]) -> UUID | None:
    """Opens a recovery by its answers; whose it is. Raises Rejected `recovery_refused`, and what the answers alone
    show to be wrong."""
    row = await _find(auth, on, recovery_id)
    if row["opened_by"]:
        return _whose(row)
    secretly = {"person_id": row["person_id"]}
    if not row["questions"]:
        raise refused({"cause": "code_only"} | secretly)
    secret = decider.read_answers(answers, len(row["questions"]), on.policy)

    async def count() -> None:
        if until := await count_try(auth, on, row["account"], row["person_id"]):
            raise refused({"cause": "resting", "until": until} | secretly)

    if not await auth.hasher.matches("answers", secret, row["answers"], first=count):
        raise refused({"cause": _why(row, "wrong_answers")} | secretly)
    async with auth.kit.db.connection() as conn:
        await conn.execute(
            _sql.open_by_answers, recovery_id, row["account"], decider.day_of(on.policy, on.now)[0]
        )
    return _whose(row)


async def enter_code(auth: Auth, on: Occasion, recovery_id: UUID, typed: str) -> UUID | None:
    """Opens a recovery by the desk's code, also while the questions rest; whose it is. Raises Rejected
    `recovery_refused`."""
    row = await _find(auth, on, recovery_id)
    if row["opened_by"]:
        return _whose(row)
    hashed = code_hash(auth, row["person_id"], typed)
    async with auth.kit.db.connection() as conn:
        opened = await conn.fetchval(_sql.open_by_code, recovery_id, row["person_id"], hashed, on.now)
    if opened is None:
        raise refused({"cause": _why(row, "code_wrong_or_expired"), "person_id": row["person_id"]})
    return _whose(row)


async def put_password(
    auth: Auth, on: Occasion, recovery_id: UUID, typed: str, device: Device
) -> UUID | None:
    """Sets a new password on an opened recovery; every session ends, and the account knows the device. Sent again after
    its answer was lost, it is done already. Raises Rejected: recovery_refused, the password's reasons."""
    row = await _find(auth, on, recovery_id)
    if row["opened_by"] is None:
        raise refused({"cause": "not_opened", "person_id": row["person_id"]})

    async def count() -> None:  # the history, and a repeat, answer no more questions than in a claim
        async with auth.kit.db.connection() as conn:
            if not await conn.fetchval(_sql.count_recovery_password, recovery_id, on.policy.claim_passwords):
                raise refused({"cause": "too_many_passwords", "person_id": row["person_id"]})

    if row["new_credential_id"]:
        await _check_repeat(auth, row, typed, count)
        return _whose(row)

    async def close(conn: Connection, credential_id: UUID) -> None:
        await conn.execute(_sql.move_session, row["person_id"], None, credential_id)
        await conn.execute(_sql.close_recovery, recovery_id, credential_id, row["account"], device.id, on.now)

    try:
        await replace_password(
            auth,
            on,
            row["person_id"],
            row["credential_id"],
            typed,
            "recovery",
            row["opened_by"],
            close,
            count,
        )
    except Rejected as refusal:
        if refusal.reason == "account_suspended":
            raise refused({"cause": "account_suspended", "person_id": row["person_id"]}) from None
        if refusal.reason != "credential_replaced":
            raise
        await _check_repeat(auth, await _find(auth, on, recovery_id), typed, count)
    auth.remembered.sessions.forget([row["person_id"]])
    return _whose(row)


async def _check_repeat(auth: Auth, row: Row, typed: str, count: First) -> None:
    """Whether this recovery has already set this very password, and it still is the one."""
    async with auth.kit.db.connection() as conn:
        verifier = await conn.fetchval(_sql.find_renewed, row["person_id"], row["new_credential_id"])
    if not await auth.hasher.matches("password", decider.composed(typed), verifier, first=count):
        raise refused({"cause": "credential_replaced", "person_id": row["person_id"]})


async def _find(auth: Auth, on: Occasion, recovery_id: UUID) -> Row:
    async with auth.kit.db.connection() as conn:
        row = await conn.fetchrow(_sql.find_recovery, recovery_id, on.district, on.now)
    if row is None:
        raise refused({"cause": "recovery_unknown"})
    return row


def _whose(row: Row) -> UUID | None:
    person_id: UUID | None = row["person_id"]
    return person_id


def _why(row: Row, wrong: str) -> str:
    if row["person_id"] is None:
        return "no_account"
    if row["suspended"]:
        return "account_suspended"
    return wrong if row["answers"] else "credential_replaced"


def refused(secret: dict[str, Any]) -> Rejected:
    """The one refusal of every recovery."""
    return Rejected("recovery_refused", secret={k: v for k, v in secret.items() if v is not None})


# What the desk can do


async def lift_lockout(
    auth: Auth, on: Occasion, person_id: UUID, actor: str, desk_ticket: str | None
) -> None:
    """Forgets the wrong passwords and answers of an account. Raises Rejected person_unknown."""
    async with auth.kit.db.connection() as conn:
        person, _ = await find_person(conn, on.district, person_id)
    account = auth.account(on.policy, on.policy.username(person.kind, person.number))

    async def locked(conn: Connection) -> Any:
        return await conn.fetchval(_sql.is_locked, account)

    async def unlock(conn: Connection, outcome: Outcome[State]) -> None:
        await conn.execute(_sql.unlock, account)

    await record(
        auth,
        on,
        person_id,
        lambda state, locked: decider.lift_lockout(state, actor, desk_ticket, locked=locked),
        load=locked,
        then=unlock,
    )


async def announce_rests(auth: Auth, now: datetime, before: datetime, limit: int) -> int:
    """Records RecoveryRested for accounts whose questions rest since before a moment; answers how many were
    looked at. Not in the request that used up the last try: only accounts that exist have a history to write
    to."""
    async with auth.kit.db.connection() as conn:
        rows = await conn.fetch(_sql.find_unannounced, before, limit, auth.kit.policies.districts)
    for row in rows:
        await _announce(auth, row, now)
    return len(rows)


async def _announce(auth: Auth, row: Row, now: datetime) -> None:
    on = Occasion(auth.kit.policies.get(row["district"]), now, Cause.new())

    async def mark(conn: Connection, outcome: Outcome[State]) -> None:
        await conn.execute(_sql.announce, row["account"], row["day"])

    await record(auth, on, row["person_id"], lambda state, _: decider.rest(state, row["until"]), then=mark)
