"""Signing in, what a session is worth, and the password of somebody who is signed in.

Unknown usernames cost and answer the same as wrong passwords: the same queries and writes, the same pauses, a
hash compared with nothing. The reference in the answer is where the difference lies, for the help desk alone.
"""

import math
import secrets
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from msgspec import Struct

from services.auth import decider, devices, pauses
from services.auth.devices import Device, Origin
from services.auth.handlers import Auth, Occasion, find_person, read_state, replace_password
from services.auth.passwords import token_hash
from services.auth.pauses import Failures, Level
from services.auth.session_checks import Session
from shared.database import Connection, Row, queries
from shared.errors import Rejected, Unavailable
from shared.policy import Policy

TOKEN_PREFIX = "hrs_"
SHOWN = 100  # sessions of one person, the last used first
REPEATED_WITHIN = timedelta(minutes=10)  # how long a change of password may be sent again

_sql = queries(__package__)
log = structlog.get_logger(__name__)


class Account(Struct, frozen=True):
    """The one person whom a username means, with their live credential, suspended or not."""

    person_id: UUID
    username: str
    credential_id: UUID
    verifier: str
    questions: tuple[str, ...]
    suspended: bool


class Counted(Struct, frozen=True):
    """Where a wrong password is counted: for an account, by the device that it knows or by all others (b""), and
    against which budget; and what was counted there when it was read."""

    account: bytes
    device: bytes
    failures: Failures | None
    budget: bytes | None = None
    level: Level | None = None
    stranger: bool = False

    @property
    def known(self) -> bool:
        return self.device != b""


class Found(Struct, frozen=True):
    """What a username led to: an account, or why not (for the help desk)."""

    account: Account | None
    counted: Counted
    secret: dict[str, Any]


class SessionOpened(Struct, frozen=True, kw_only=True):
    """A session that was just opened. `session` is the Bearer of who signed in, shown once. `device` is for the header
    `Homeroom-Device` of the next sign-ins in this browser or app, whosever they are."""

    session: str
    expires_at: datetime
    person_id: UUID
    username: str
    device: str
    must_change: bool = False


async def find_account(auth: Auth, on: Occasion, username: str, come: Origin | None = None) -> Found:
    """Whom a username means: one person with a live credential; and what wrong passwords count where it is typed."""
    named = on.policy.read_username(username)
    number = named[1] if named else ""
    key = auth.account(on.policy, username)
    device, budget = (come.device_id, come.budget) if come else (b"", None)
    async with auth.kit.db.connection() as conn:
        rows = await conn.fetch(_sql.find_account, on.district, number, key, device, budget)
    counted = _counted(rows[0], key, come)
    persons = [row for row in rows if row["person_id"]]
    able = [row for row in persons if row["password"]]
    if len(able) > 1:  # a number that was given to somebody else: who has left makes room
        able = [row for row in able if row["status"] == "enrolled"] or able
    # Two numbers are being swapped, perhaps: who had this one first keeps signing in, until the other event comes.
    if able:
        secret = {"person_id": able[0]["person_id"]}
        if len(able) > 1:
            secret["same_number"] = [row["person_id"] for row in able[1:]]
        return Found(_account(able[0], on.policy), counted, secret)
    if len(persons) == 1:
        return Found(None, counted, {"cause": "not_claimed", "person_id": persons[0]["person_id"]})
    return Found(None, counted, {"cause": "not_claimed" if persons else "username_unknown"})


def _account(row: Row, policy: Policy) -> Account:
    return Account(
        row["person_id"],
        policy.username(row["kind"], row["number"]),
        row["credential_id"],
        row["password"],
        tuple(row["questions"] or ()),
        row["suspended"],
    )


async def sign_in(auth: Auth, on: Occasion, username: str, password: str, come: Origin) -> SessionOpened:
    """Opens a session. Raises Rejected `authentication_failed`, one for every wrong credential;
    `account_suspended`, to whoever knows the password; `sign_in_paused`."""

    async def one_try() -> SessionOpened:
        found = await find_account(auth, on, username, come)
        verifier = found.account.verifier if found.account else None
        right = await _look(auth, on, found.counted, password, verifier, come.device)
        if not right or found.account is None:
            await _count_wrong(auth, on, found.counted)
            raise Rejected("authentication_failed", secret={"cause": "wrong_password"} | found.secret)
        if found.account.suspended:
            await _forgive(auth, found.counted)
            raise Rejected("account_suspended", secret=found.secret)
        opened = await _open(auth, on, found.account, found.counted, come)
        await _upgrade(auth, found.account, password)
        return opened

    # A known device does not stand behind those who guess elsewhere.
    turn = auth.account(on.policy, username) + come.device_id
    opened: SessionOpened = await auth.turns.take(turn, one_try)
    return opened


async def _look(
    auth: Auth,
    on: Occasion,
    counted: Counted,
    password: str,
    verifier: str | None,
    device: Device | None = None,
) -> bool:
    """Whether a password is right. Raises Rejected `sign_in_paused`.

    Who has typed a wrong one lately has the next one counted before it is looked at, and only the first to count after
    what was read is looked at: guesses take turns across processes too. Most people have not; for them a wrong one is
    counted afterwards (`_count_wrong`), which costs a right one nothing.
    """
    failures = counted.failures
    places = {"known": counted.known, "stranger": counted.stranger}
    if wait := pauses.wait(failures, counted.level, on.policy, on.now, **places):
        told: dict[str, Any] = {"retry_after_s": math.ceil(wait.left.total_seconds())}
        if wait.anew:
            told["device"] = devices.issue(auth.hasher.peppers, on.policy, device, on.now)
        raise Rejected("sign_in_paused", **told)

    async def count() -> None:
        if failures and not await _count(auth, on, counted, failures.count):
            raise Rejected("sign_in_paused", retry_after_s=1)  # another guess is being judged at this moment

    return await auth.hasher.matches("password", decider.composed(password), verifier, first=count)


async def _count_wrong(auth: Auth, on: Occasion, counted: Counted) -> None:
    if counted.failures is None:
        await _count(auth, on, counted, None)


async def _count(auth: Auth, on: Occasion, counted: Counted, after: int | None) -> bool:
    """Counts a wrong password; `after` so many, or not at all."""
    refill = pauses.refill_an_hour(on.policy.sign_in, stranger=counted.stranger) / 3600
    forgotten = on.now - pauses.FORGOTTEN_AFTER
    row = (counted.account, on.now, forgotten, after, counted.device, counted.budget, refill)
    async with auth.kit.db.connection() as conn:
        return bool(await conn.fetchval(_sql.count_wrong_password, *row))


async def _forgive(auth: Auth, counted: Counted) -> None:
    if counted.failures:
        async with auth.kit.db.connection() as conn:
            await conn.execute(_sql.forgive, counted.account, counted.device, counted.budget)


async def _open(auth: Auth, on: Occasion, account: Account, counted: Counted, come: Origin) -> SessionOpened:
    token = TOKEN_PREFIX + secrets.token_urlsafe(32)
    expires_at = on.now + on.policy.session.absolute
    device = come.device or devices.new(on.now)
    async with auth.kit.db.connection() as conn:
        await conn.execute(
            _sql.open_session,
            token_hash(token),
            on.district,
            account.person_id,
            account.credential_id,
            on.now,
            expires_at,
            counted.account,
            counted.device,
            device.id,
            counted.budget if counted.failures else None,
            come.kind,
        )
    return SessionOpened(
        session=token,
        expires_at=expires_at,
        person_id=account.person_id,
        username=account.username,
        device=devices.issue(auth.hasher.peppers, on.policy, device, on.now),
    )


async def _upgrade(auth: Auth, account: Account, password: str) -> None:
    """Moves a verifier on to the present pepper and strength while the password is at hand. It can wait for
    next time."""
    if not auth.hasher.outdated(account.verifier):
        return
    try:
        better = await auth.hasher.make("password", decider.composed(password))
        async with auth.kit.db.connection() as conn:
            await conn.execute(_sql.upgrade_verifier, account.credential_id, account.verifier, better)
    except Unavailable as error:
        log.info("upgrade_postponed", dependency=error.dependency)


async def end_session(auth: Auth, district: str, token: str) -> None:
    """Signs out. An unknown token has nothing to end."""
    async with auth.kit.db.connection() as conn:
        person_id = await conn.fetchval(_sql.end_session, token_hash(token), district)
    auth.remembered.sessions.forget([person_id] if person_id else [])


async def end_sessions(auth: Auth, on: Occasion, person_id: UUID, actor: str) -> None:
    """Signs a person out everywhere. Raises Rejected person_unknown."""
    async with auth.kit.db.connection() as conn:
        await find_person(conn, on.district, person_id)
        ended = await conn.fetchval(_sql.end_sessions, person_id, on.district)
    auth.remembered.sessions.forget([person_id])
    log.info("sessions_ended", person_id=str(person_id), actor=actor, ended=ended)


async def list_sessions(auth: Auth, on: Occasion, session: Session) -> list[dict[str, Any]]:
    """Where the person of a session is signed in, the last used first."""
    async with auth.kit.db.connection() as conn:
        used_since = on.now - on.policy.session.idle
        rows = await conn.fetch(_sql.sessions_of, session.person_id, on.now, used_since, SHOWN)
    return [dict(row) | {"current": row["session_id"] == session.session_id} for row in rows]


async def change_password(
    auth: Auth, on: Occasion, session: Session, token: str, current: str, new: str
) -> None:
    """A new password for who is signed in; the other sessions end. Raises Rejected: authentication_failed,
    sign_in_paused, the password's reasons. Sent again after its answer was lost, it is done already."""
    key = auth.account(on.policy, session.username)

    async def one_try() -> None:
        async with auth.kit.db.connection() as conn:
            row = await conn.fetchrow(_sql.find_own_verifier, token_hash(token), key)
        if row is None:
            raise Rejected("token_invalid")
        # Who is signed in answers for this session alone.
        counted = Counted(key, session.session_id.bytes, _failures(row))
        live = read_state(row["state"]).live
        right = await _look(auth, on, counted, current, row["password"])
        repeated = not right and live is not None and on.now - live.since < REPEATED_WITHIN
        done = repeated and await auth.hasher.matches("password", decider.composed(new), row["password"])
        if not right and not done:
            await _count_wrong(auth, on, counted)
            raise _failed("wrong_password", session.person_id)
        await _forgive(auth, counted)
        if right:
            await _replace(auth, on, session.person_id, row["credential_id"], token, new)

    await auth.turns.take(key + session.session_id.bytes, one_try)


async def _replace(auth: Auth, on: Occasion, person_id: UUID, verified: UUID, token: str, new: str) -> None:
    async def keep_this_one(conn: Connection, credential_id: UUID) -> None:
        await conn.execute(_sql.move_session, person_id, token_hash(token), credential_id)

    try:
        await replace_password(auth, on, person_id, verified, new, "change", "self", keep_this_one)
    except Rejected as refusal:
        if refusal.reason != "credential_replaced":
            raise
        raise _failed(refusal.reason, person_id) from None
    auth.remembered.sessions.forget([person_id])


def _failed(cause: str, person_id: UUID) -> Rejected:
    return Rejected("authentication_failed", secret={"cause": cause, "person_id": person_id})


def _counted(row: Row, account: bytes, come: Origin | None) -> Counted:
    if come is None or row["known"]:
        return Counted(account, come.device_id if come else b"", _failures(row))
    level = Level(row["level"], row["level_at"]) if row["level"] is not None else None
    return Counted(account, b"", _failures(row), come.budget, level, come.stranger)


def _failures(row: Row) -> Failures | None:
    return Failures(row["count"], row["last_at"]) if row["count"] is not None else None
