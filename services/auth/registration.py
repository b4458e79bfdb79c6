"""Registration tokens (RFC 7591, 1.2), and the applications that register themselves with them."""

import secrets
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec

from services.auth import applications, registration_rules
from services.auth.handlers import Auth
from services.auth.oidc_rules import Application
from services.auth.passwords import token_hash
from services.auth.registration_rules import Allowed, Metadata, Registered
from shared.database import Connection, Row, queries
from shared.errors import Rejected
from shared.policy import Policy

TOKEN_PREFIX = "hrr_"

_sql = queries(__package__, "registration.sql")


async def make_token(
    auth: Auth,
    conn: Connection,
    *,
    district: str,
    name: str,
    allowed: Allowed,
    uses: int,
    life: timedelta,
    now: datetime,
) -> tuple[UUID, str, datetime]:
    """A new token's id, the token itself, shown once, and its end. Raises Rejected client_district_unknown."""
    if district not in auth.kit.policies.districts:
        raise Rejected("client_district_unknown", districts=[district])
    token_id, token, ends = uuid4(), TOKEN_PREFIX + secrets.token_urlsafe(32), now + life
    await conn.execute(
        _sql.insert_token, token_id, token_hash(token), district, name, list(allowed.redirect_hosts),
        list(allowed.scopes), uses, now, ends,
    )  # fmt: skip
    return token_id, token, ends


async def list_tokens(conn: Connection, now: datetime) -> list[Row]:
    """Those that are still good for something."""
    return list(await conn.fetch(_sql.list_tokens, now))


async def remove_token(conn: Connection, token_id: UUID) -> None:
    """Raises Rejected not_found."""
    if await conn.execute(_sql.remove_token, token_id) == "DELETE 0":
        raise Rejected("not_found")


async def register(auth: Auth, policy: Policy, token: str, said: Metadata, now: datetime) -> Registered:
    """The application, and one use of the token gone: both or neither. Raises Rejected token_invalid,
    invalid_redirect_uri, invalid_client_metadata."""
    async with auth.kit.db.transaction() as conn:
        row = await conn.fetchrow(_sql.use_token, token_hash(token), policy.district, now)
        if row is None:
            raise Rejected("token_invalid")
        allowed = Allowed(row["redirect_hosts"], row["scopes"])
        application = registration_rules.accept(said, allowed, policy.district, row["token_id"])
        client_id, secret = await _made(auth, conn, application, now)
    application = msgspec.structs.replace(application, client_id=client_id)
    return registration_rules.told(application, said, policy, secret=secret, issued_at=int(now.timestamp()))


async def _made(
    auth: Auth, conn: Connection, application: Application, now: datetime
) -> tuple[str, str | None]:
    try:
        return await applications.register(auth, conn, application, now)
    except Rejected as refusal:
        if refusal.reason != "application_invalid":
            raise
        raise registration_rules.as_metadata(refusal) from None
