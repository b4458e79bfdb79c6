"""A claim's last two steps: a password is staged, and sealed with the answers; then claims says whether it won."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from msgspec import Struct

from services.auth import decider
from services.auth.codes import code_hash
from services.auth.decider import Answer, Claim, State
from services.auth.handlers import (
    Auth,
    Occasion,
    common_forms,
    count_try,
    find_verifiers,
    read_state,
    record,
    used_before,
)
from services.auth.projections import Person
from shared.database import Connection, Row, queries
from shared.errors import Rejected
from shared.transact import Outcome

VERDICT_PATIENCE_S = 2.0
FIRST_LOOK_S, LONGEST_LOOK_S = 0.1, 0.4  # in case another process of this service hears the verdict

_sql = queries(__package__)


class Standing(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a claim stands. completed: signing in works now. `sealed`: only claims' verdict is still to
    come."""

    claim_id: UUID
    state: Literal["open", "completed", "rejected", "expired"]
    username: str
    sealed: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class Known:
    """What is known of a claim and its person at one moment."""

    staged: Row
    state: State
    person: Person | None

    @classmethod
    def of(cls, row: Row, claim: Claim, district: str) -> "Known":
        person = None
        if row["number"] is not None:
            names = {name: row[name] for name in ("kind", "number", "last_name", "first_name")}
            person = Person(person_id=claim.person_id, district=district, status="", **names)
        return cls(row, read_state(row["state"]), person)

    def standing(self, claim: Claim, now: datetime) -> Standing:
        stage = decider.claim_state(self.state, claim.claim_id)
        state: Literal["open", "completed", "rejected", "expired"] = "open"
        reason = self.state.verdicts.get(claim.claim_id)
        if stage == "rejected":
            state = "rejected"
        elif stage == "completed" and self.person:  # without a number there is no username to sign in with
            state = "completed"
        elif stage == "open":
            try:
                decider.still_open(self.state, claim, now)
            except Rejected as over:  # it can never be sealed any more
                state = "expired" if over.reason == "claim_expired" else "rejected"
                reason = None if state == "expired" else over.details.get("cause", over.reason)
        return Standing(
            claim_id=claim.claim_id,
            state=state,
            username=claim.username,
            sealed=stage in ("sealed", "completed") and state == "open",
            reason=reason,
        )


async def _know(auth: Auth, on: Occasion, claim: Claim) -> Known:
    async with auth.kit.db.connection() as conn:
        row = await conn.fetchrow(_sql.find_claim, claim.claim_id, claim.person_id)
    assert row is not None
    return Known.of(row, claim, on.district)


async def put_password(auth: Auth, on: Occasion, claim: Claim, typed: str, code: str | None) -> str:
    """Stages a password; answers the ETag that the answers must name. The same password again has the same
    ETag: the clicks of a double click take turns. `code`: of the help desk, where the claim asks for one; once
    it was right, this claim is not asked again."""
    turn = claim.claim_id.bytes
    etag: str = await auth.turns.take(turn, lambda: _put_password(auth, on, claim, typed, code))
    return etag


async def _put_password(auth: Auth, on: Occasion, claim: Claim, typed: str, code: str | None) -> str:
    known = await _know(auth, on, claim)
    decider.still_open(known.state, claim, on.now)
    own = known.person.own_words(claim.username) if known.person else (claim.username,)
    password = decider.accept_password(typed, own, await common_forms(auth, typed), on.policy)
    staged = known.staged
    if staged["password"] and await auth.hasher.matches("password", password, staged["password"]):
        return str(staged["etag"])
    decider.stage_password(known.state, claim, staged["taken"] or 0, on.policy, on.now)
    asked = claim.code_required and not staged["code_by"]
    if asked:
        await _show_code(auth, on, claim, code)
    async with auth.kit.db.connection() as conn:
        used = await find_verifiers(conn, decider.remembered(known.state, on.policy, on.now))
    verifier = await auth.hasher.make_unused(
        password, used, first=None if asked else lambda: _count(auth, on, claim)
    )
    if verifier is None:
        raise used_before(on.policy)
    etag = secrets.token_hex(8)
    async with auth.kit.db.connection() as conn:
        if not await conn.fetchval(_sql.stage, claim.claim_id, verifier, etag):
            raise Rejected("claim_sealed")
    return etag


async def _count(auth: Auth, on: Occasion, claim: Claim) -> None:
    """Counts a password of this claim before anything is answered by it. Raises Rejected claim_passwords_used_up."""
    limit = on.policy.claim_passwords
    row = (claim.claim_id, on.district, claim.person_id, claim.generation, claim.expires_at, limit)
    async with auth.kit.db.connection() as conn:
        if not await conn.fetchval(_sql.count_password, *row):
            raise Rejected("claim_passwords_used_up", passwords=limit)


async def _show_code(auth: Auth, on: Occasion, claim: Claim, code: str | None) -> None:
    """Uses up the desk's code for this claim. A wrong one is one of the claim's passwords, which bounds the tries.
    Raises Rejected code_required, code_wrong."""
    if code is None:
        raise Rejected("code_required")
    await _count(auth, on, claim)
    hashed = code_hash(auth, claim.person_id, code)
    async with auth.kit.db.connection() as conn:
        if not await conn.fetchval(_sql.claim_by_code, claim.claim_id, claim.person_id, hashed, on.now):
            raise Rejected("code_wrong")


async def put_answers(
    auth: Auth, on: Occasion, claim: Claim, etags: frozenset[str], answers: Sequence[Answer]
) -> Standing:
    """Completes a claim here: seals it, and waits a while for what claims says. A repeat is answered as the
    first."""
    secret = decider.accept_answers(answers, on.policy, on.now)
    known = await _know(auth, on, claim)
    with auth.arrivals.expect(claim.claim_id) as verdict:
        try:
            decider.still_open(known.state, claim, on.now)
            _check_staged(known.staged, etags)
            verifier = await auth.hasher.make("answers", secret) if answers else None
            await _seal(auth, on, claim, etags, verifier, [a.question for a in answers])
        except Rejected as refusal:
            if refusal.reason != "claim_sealed":
                raise
            turn = claim.claim_id.bytes
            await auth.turns.take(turn, lambda: _check_repeat(auth, on, claim, etags, secret))
        standing = await _settled(auth, on, claim, verdict)
    if standing.state == "rejected":
        raise Rejected("claim_rejected", cause=standing.reason)
    return standing


async def _seal(
    auth: Auth,
    on: Occasion,
    claim: Claim,
    etags: frozenset[str],
    answers: str | None,
    questions: Sequence[str],
) -> None:
    credential_id = uuid4()

    async def lock(conn: Connection) -> Row | None:
        return await conn.fetchrow(_sql.lock_staging, claim.claim_id)

    def decide(state: State, staged: Row | None) -> Sequence[Any]:
        events = decider.seal(state, claim, credential_id, on.now)
        _check_staged(staged, etags)
        return events

    async def write(conn: Connection, outcome: Outcome[State]) -> None:
        await conn.execute(_sql.seal, claim.claim_id, credential_id, answers, sorted(questions), on.now)

    await record(auth, on, claim.person_id, decide, load=lock, then=write)


def _check_staged(staged: Row | None, etags: frozenset[str]) -> None:
    """The answers are for the password that their sender saw accepted, not for another tab's."""
    if staged is not None and staged["credential_id"]:  # sealed since the state was read
        raise Rejected("claim_sealed")
    if staged is None or staged["password"] is None:
        raise Rejected("password_missing")
    if etags.isdisjoint(("*", staged["etag"])):
        raise Rejected("password_replaced")


async def _check_repeat(auth: Auth, on: Occasion, claim: Claim, etags: frozenset[str], secret: str) -> None:
    """The same step again after its answer was lost is fine; another password or other answers would be
    silently dropped. Other answers are a try at the account's questions: tickets are left behind on tablets."""
    staged = (await _know(auth, on, claim)).staged
    if etags.isdisjoint(("*", staged["etag"])):
        raise Rejected("password_replaced" if staged["etag"] else "claim_sealed")
    if not secret:  # the district asks no questions
        return
    async with auth.kit.db.connection() as conn:
        verifier = await conn.fetchval(_sql.find_answers, staged["credential_id"])
    account = auth.account(on.policy, claim.username)

    async def count() -> None:
        if await count_try(auth, on, account, claim.person_id):
            raise Rejected("claim_sealed")

    if not await auth.hasher.matches("answers", secret, verifier, first=count):
        raise Rejected("claim_sealed")
    async with auth.kit.db.connection() as conn:
        await conn.execute(_sql.give_back_tries, account, decider.day_of(on.policy, on.now)[0])


async def _settled(auth: Auth, on: Occasion, claim: Claim, verdict: asyncio.Future[None]) -> Standing:
    """Where the claim stands once the verdict is in, or patience ends. If we die here, nothing is lost: it is
    sealed."""
    clock = asyncio.get_running_loop().time
    deadline, pause = clock() + VERDICT_PATIENCE_S, FIRST_LOOK_S
    while True:
        standing = await claim_standing(auth, on, claim)
        left = deadline - clock()
        if standing.state in ("completed", "rejected") or left <= 0:
            return standing
        if verdict.done():  # heard, but not in force: the roster's word on this person is still on its way
            await asyncio.sleep(min(pause, left))
        else:
            await asyncio.wait({verdict}, timeout=min(pause, left))
        pause = min(2 * pause, LONGEST_LOOK_S)


async def claim_standing(auth: Auth, on: Occasion, claim: Claim) -> Standing:
    return (await _know(auth, on, claim)).standing(claim, on.now)
