"""What a session is worth: asked with every request, so answered from memory wherever that may be believed."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from services.auth import decider
from services.auth.handlers import Auth, read_state
from services.auth.passwords import token_hash
from shared.database import Row, queries
from shared.errors import Rejected
from shared.policy import Policy
from shared.web import encode

TOUCH_AFTER = timedelta(minutes=1)  # how often a session's last use is written down

_sql = queries(__package__)


class Session(Struct, frozen=True):
    """A session that is good now."""

    session_id: UUID
    person_id: UUID
    credential_id: UUID
    username: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    idle_expires_at: datetime

    def used(self, policy: Policy, now: datetime) -> "Session":
        return replace(self, last_seen_at=now, idle_expires_at=now + policy.session.idle)


@dataclass(slots=True)
class Checked:
    """A session as it was found under a policy. `replies`: what is answered of it, by kind, until it is used again."""

    policy: Policy
    session: Session
    replies: dict[str, bytes] = field(default_factory=dict)

    def reply(self, kind: str, make: Callable[[], Any]) -> bytes:
        """The encoded answer of a kind."""
        found = self.replies.get(kind)
        if found is None:
            found = self.replies[kind] = encode(make())
        return found


async def find_session(auth: Auth, policy: Policy, token: str, now: datetime) -> Session | None:
    """The session of a token, if it is good; notes that it was used."""
    hashed = token_hash(token)
    checked = remembered(auth, policy, hashed, now) or await _asked(auth, policy, hashed, now)
    return None if checked is None else checked.session


def remembered(auth: Auth, policy: Policy, hashed: bytes, now: datetime) -> Checked | None:
    """The session of a token's hash, if that is known without asking. Whether it is over for being idle is asked, too:
    another process may have seen it used."""
    checked: Checked | None = auth.remembered.sessions.find(hashed)
    if checked is None or checked.policy is not policy:
        return None
    session = checked.session
    if now >= session.expires_at or now >= session.idle_expires_at:
        return None
    if now - session.last_seen_at >= TOUCH_AFTER:
        auth.uses.note(hashed, now)
        checked.session = session.used(policy, now)
        checked.replies.clear()
    return checked


async def _asked(auth: Auth, policy: Policy, hashed: bytes, now: datetime) -> Checked | None:
    memory = auth.remembered.sessions
    looked = memory.look()
    async with auth.kit.db.connection() as conn:
        row = await conn.fetchrow(_sql.find_session, hashed)
    if row is None or row["district"] != policy.district:
        return None
    session = _session(row, policy, auth.uses.after(hashed, row["last_seen_at"]))
    if now >= min(session.expires_at, session.idle_expires_at):
        return None
    if now - session.last_seen_at >= TOUCH_AFTER:
        auth.uses.note(hashed, now)
        session = session.used(policy, now)
    checked = Checked(policy, session)
    memory.keep(hashed, session.person_id, checked, looked)
    return checked


async def session_may(auth: Auth, policy: Policy, sid: str, scopes: Collection[str], now: datetime) -> bool:
    """Whether the session of this id (its token's hash) is good, and its person may still do all of that."""
    hashed = bytes.fromhex(sid)
    async with auth.kit.db.connection() as conn:
        row = await conn.fetchrow(_sql.session_still, hashed, policy.district)
    if row is None:
        return False
    last_seen_at = auth.uses.after(hashed, row["last_seen_at"])
    if now >= min(row["expires_at"], last_seen_at + policy.session.idle):
        return False
    try:
        decider.may_act(read_state(row["state"]), scopes, employed=row["employed"])
    except Rejected:
        return False
    return True


def _session(row: Row, policy: Policy, last_seen_at: datetime) -> Session:
    return Session(
        session_id=row["session_id"],
        person_id=row["person_id"],
        credential_id=row["credential_id"],
        username=policy.username(row["kind"], row["number"]),
        created_at=row["created_at"],
        last_seen_at=last_seen_at,
        expires_at=row["expires_at"],
        idle_expires_at=last_seen_at + policy.session.idle,
    )
