"""What an application holds of a person who has signed in to it: its tokens, and what they are worth.

Every one of them stands on the session: it is looked at each time, and what ends it takes them along (sql/0021).
"""

import base64
import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from msgspec import Struct

from services.auth import applications, oidc_rules
from services.auth.handlers import Auth
from services.auth.oidc_rules import Application, Subject
from services.auth.passwords import token_hash
from services.auth.saml_rules import ServiceProvider
from services.auth.session_checks import TOUCH_AFTER
from shared.auth import Caller
from shared.database import Connection, queries
from shared.errors import Rejected
from shared.policy import Kind, Policy

ACCESS_PREFIX, REFRESH_PREFIX = "hra_", "hrr_"

_sql = queries(__package__, "oidc.sql")
log = structlog.get_logger(__name__)


class Living(Struct, frozen=True, kw_only=True):
    """A session that is good now, as applications' tokens stand on it."""

    session_hash: bytes
    person_id: UUID
    signed_in_at: datetime
    expires_at: datetime
    kind: Kind
    number: str
    first_name: str
    last_name: str


class Granted(Struct, frozen=True, kw_only=True):
    """What the token endpoint gives for a code or a refresh token."""

    access_token: str
    expires_in: int
    scope: str
    id_token: str
    refresh_token: str | None


class Held(Struct, frozen=True, kw_only=True):
    """An application's token that is good now."""

    kind: str
    application: Application
    session: Living
    sid: str
    scopes: tuple[str, ...]
    issued_at: datetime
    expires_at: datetime


def is_ours(token: str) -> bool:
    """Whether it looks like an application's token."""
    return token.startswith((ACCESS_PREFIX, REFRESH_PREFIX))


async def living(conn: Connection, policy: Policy, session_hash: bytes, now: datetime) -> Living | None:
    row = await conn.fetchrow(
        _sql.living_session, session_hash, policy.district, now, now - policy.session.idle
    )
    if row is None:
        return None
    return Living(
        session_hash=session_hash,
        person_id=row["person_id"],
        signed_in_at=row["created_at"],
        expires_at=row["expires_at"],
        kind=row["kind"],
        number=row["number"],
        first_name=row["first_name"],
        last_name=row["last_name"],
    )


def subject_of(auth: Auth, policy: Policy, application: Application, session: Living) -> Subject:
    """The person of a session, by the name that this application knows them by."""
    return Subject(
        sub=sub_of(auth, policy, application, session.person_id),
        username=policy.username(session.kind, session.number),
        kind=session.kind,
        number=session.number,
        first_name=session.first_name,
        last_name=session.last_name,
    )


def sub_of(auth: Auth, policy: Policy, application: Application, person_id: UUID) -> str:
    """The name by which an application knows a person: theirs, or where the policy says so one of its sector alone."""
    if oidc_rules.public_subject(policy):
        return str(person_id)
    return pairwise(auth, policy, application.sector, person_id)


def pairwise(auth: Auth, policy: Policy, sector: str, person_id: UUID) -> str:
    """A person's name at the applications of one sector."""
    return _encoded(auth.hasher.peppers.keyed("subject", policy.district, sector, str(person_id)))


def sid_of(auth: Auth, application: Application | ServiceProvider, session_hash: bytes) -> str:
    """A session's name at one application; those of two cannot be matched."""
    return _encoded(auth.hasher.peppers.keyed("sid", application.client_id, session_hash.hex())[:16])


async def redeem(
    auth: Auth, policy: Policy, application: Application, code: str, redirect_uri: str, verifier: str | None,
    now: datetime,
) -> Granted:  # fmt: skip
    """Raises Rejected invalid_grant: unknown, used, too late, of another application or address, or without its proof
    (RFC 7636). A code that its application brings a second time ends what came of the first."""
    challenge = None if verifier is None else _challenge(verifier)
    wanted = (token_hash(code), application.client_id, redirect_uri, challenge, now)
    row = None
    async with auth.kit.db.transaction() as conn:
        # The session first, then what stands on it: the order in which whoever ends a session takes them.
        session_hash = await conn.fetchval(_sql.session_of_code, *wanted[:2])
        session = await hold(conn, policy, session_hash, now) if session_hash else None
        if session:
            row = await conn.fetchrow(_sql.redeem_code, *wanted)
        if session and row:
            scopes, sid = row["scopes"], sid_of(auth, application, session.session_hash)
            await conn.execute(
                _sql.insert_sign_on, row["sign_on_id"], application.client_id, policy.district, session.session_hash,
                session.person_id, sid, scopes, now, session.expires_at,
            )  # fmt: skip
            grant = _Grant(auth, policy, application, session, row["sign_on_id"], sid)
            return await grant.issue(conn, scopes, scopes, now, row["nonce"])
    async with auth.kit.db.connection() as conn:
        if await conn.fetchval(_sql.end_replayed, *wanted[:2]):
            log.warning("code_replayed", client=application.client_id)
    raise Rejected("invalid_grant")


async def refresh(
    auth: Auth, policy: Policy, application: Application, token: str, scope: str | None, now: datetime
) -> Granted:
    """Raises Rejected invalid_grant, invalid_scope. A refresh token that is used twice ends its family (RFC 9700,
    4.14.2). Refreshing is using the session."""
    hashed = token_hash(token)
    async with auth.kit.db.transaction() as conn:
        session_hash = await conn.fetchval(_sql.session_of_refresh_token, hashed, application.client_id)
        session = await hold(conn, policy, session_hash, now) if session_hash else None
        row = None
        if session:
            row = await conn.fetchrow(
                _sql.use_refresh_token, hashed, application.client_id, policy.district, now
            )
        if row and session:
            scopes = oidc_rules.narrowed(
                row["scopes"], scope
            )  # of the access token: the next renewal may have all
            await conn.execute(_sql.touch_session, session.session_hash, now, now - TOUCH_AFTER)
            grant = _Grant(auth, policy, application, session, row["sign_on_id"], row["sid"])
            return await grant.issue(conn, scopes, row["scopes"], now)
    async with auth.kit.db.connection() as conn:
        if await conn.fetchval(_sql.end_reused, hashed, application.client_id):
            log.warning("refresh_token_reused", client=application.client_id)
    raise Rejected("invalid_grant")


async def hold(conn: Connection, policy: Policy, session_hash: bytes, now: datetime) -> Living | None:
    """A living session that nobody ends before this transaction has: else what is made of it would outlive it."""
    await conn.execute(_sql.hold_session, session_hash)
    return await living(conn, policy, session_hash, now)


class _Grant(Struct, frozen=True):
    """One signing in, of which tokens are made."""

    auth: Auth
    policy: Policy
    application: Application
    session: Living
    sign_on_id: UUID
    sid: str

    async def issue(
        self, conn: Connection, scopes: Sequence[str], granted: Sequence[str], now: datetime, nonce: str | None = None
    ) -> Granted:  # fmt: skip
        application = self.application
        ends = min(now + timedelta(minutes=application.access_token_minutes), self.session.expires_at)
        access = ACCESS_PREFIX + secrets.token_urlsafe(32)
        await conn.execute(
            _sql.insert_token, token_hash(access), self.sign_on_id, "access", list(scopes), now, ends
        )
        renewal = None
        if "offline_access" in granted:
            renewal = REFRESH_PREFIX + secrets.token_urlsafe(32)
            kept = (
                token_hash(renewal),
                self.sign_on_id,
                "refresh",
                list(granted),
                now,
                self.session.expires_at,
            )
            await conn.execute(_sql.insert_token, *kept)
        claims = oidc_rules.id_token(
            issuer_of(self.auth, self.policy.district),
            application,
            subject_of(self.auth, self.policy, application, self.session).sub,
            self.sid,
            signed_in_at=self.session.signed_in_at,
            now=now,
            nonce=nonce,
            at_hash=_encoded(hashlib.sha256(access.encode()).digest()[:16]),
        )
        return Granted(
            access_token=access,
            expires_in=int((ends - now).total_seconds()),
            scope=" ".join(scopes),
            id_token=self.auth.kit.signer.sign("JWT", claims, application.id_token_algorithm),
            refresh_token=renewal,
        )


def issuer_of(auth: Auth, district: str) -> str:
    """The issuer of a district's tokens, character by character the same everywhere."""
    return f"{auth.kit.settings.issuer}/v1/districts/{district}"


async def find_held(auth: Auth, policy: Policy, token: str, now: datetime) -> Held | None:
    """An application's token, if it is good here and now."""
    async with auth.kit.db.connection() as conn:
        row = await conn.fetchrow(_sql.find_token, token_hash(token), policy.district, now)
        if row is None:
            return None
        session = await living(conn, policy, row["session_hash"], now)
        application = await applications.find(conn, row["client_id"])
    if session is None or application is None or not applications.serves(application, policy.district):
        return None
    return Held(
        kind=row["kind"],
        application=application,
        session=session,
        sid=row["sid"],
        scopes=tuple(row["scopes"]),
        issued_at=row["issued_at"],
        expires_at=row["expires_at"],
    )


async def person_of(auth: Auth, token: str, district: str, now: datetime) -> Caller:
    """For whom an access token speaks: an Authenticator."""
    policy = auth.kit.policies.get(district)
    held = await find_held(auth, policy, token, now) if token.startswith(ACCESS_PREFIX) else None
    if held is None:
        raise Rejected("token_invalid")
    subject = subject_of(auth, policy, held.application, held.session)
    claims = {"subject": subject, "client_id": held.application.client_id}
    return Caller(subject.sub, "application", district, frozenset(held.scopes), claims)


async def introspect(
    auth: Auth, policy: Policy, asker: Application | None, token: str, now: datetime
) -> dict[str, Any]:
    """What an application's token is worth (RFC 7662). An application is told of its own, and whoever may introspect
    (`asker` is none) of every one."""
    held = await find_held(auth, policy, token, now)
    if held is None or (asker is not None and asker.client_id != held.application.client_id):
        return {"active": False}
    subject = subject_of(auth, policy, held.application, held.session)
    told = {
        "active": True,
        "token_type": "Bearer" if held.kind == "access" else "refresh_token",
        "iss": issuer_of(auth, policy.district),
        "client_id": held.application.client_id,
        "sub": subject.sub,
        "sid": held.sid,
        "scope": " ".join(held.scopes),
        "iat": int(held.issued_at.timestamp()),
        "exp": int(held.expires_at.timestamp()),
        "district": policy.district,
    }
    return told if asker else told | {"username": subject.username}


async def revoke(auth: Auth, application: Application, token: str) -> None:
    """RFC 7009: an access token, or with a refresh token everything of the same signing in. What is not the
    application's own is as if unknown."""
    statement = _sql.revoke_access if token.startswith(ACCESS_PREFIX) else _sql.revoke_refresh
    async with auth.kit.db.connection() as conn:
        await conn.execute(statement, token_hash(token), application.client_id)


def _challenge(verifier: str) -> str:
    """RFC 7636, 4.6. Raises Rejected invalid_grant for what no verifier can be."""
    if not oidc_rules.is_verifier(verifier):
        raise Rejected("invalid_grant")
    return _encoded(hashlib.sha256(verifier.encode()).digest())


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
