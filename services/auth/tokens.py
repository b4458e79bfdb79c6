"""Machines and staff: clients and their secrets, the tokens that they get (RFC 6749, 9068), and what a token is worth
(RFC 7662, 7009)."""

import base64
import hmac
import secrets
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus
from uuid import UUID, uuid4

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from services.auth.handlers import Auth
from services.auth.passwords import token_hash
from services.auth.remembered import CLIENTS
from services.auth.session_checks import Session, find_session, session_may
from services.auth.sessions import TOKEN_PREFIX, end_session
from shared.auth import AUDIENCE, CLIENT_TYP, EVERY_DISTRICT, Caller, bearer
from shared.database import Connection, queries
from shared.errors import Rejected
from shared.policy import Policy

SCOPES = ("roster:write", "desk", "teacher", "operator", "introspect", "exchange")
TOKEN_LIFE = timedelta(minutes=10)
SECRET_PREFIX = "hrc_"
PREVIOUS_KEPT = 5  # secrets of one client that count beside the present one

_sql = queries(__package__)


class Client(Struct, frozen=True, kw_only=True):
    """A machine, or a person of the staff. `human`: exactly one person's; `person_id`: whose, where that was said."""

    client_id: str
    name: str
    scopes: list[str]
    districts: list[str]
    human: bool
    person_id: UUID | None
    secret_hash: bytes
    previous_hashes: list[bytes]  # older ones, each until it ends
    previous_until: list[datetime]

    def knows(self, secret: str, now: datetime) -> bool:
        """Whether this is one of the secrets that count."""
        given = token_hash(secret)
        ending = zip(self.previous_hashes, self.previous_until, strict=True)
        known = [self.secret_hash, *(older for older, until in ending if now < until)]
        return any(hmac.compare_digest(given, each) for each in known)

    def serves(self, district: str) -> bool:
        return district in self.districts or EVERY_DISTRICT in self.districts


class Issued(Struct, frozen=True):
    """An access token that was just made."""

    token: str
    scope: str
    life_s: int


class BootstrapFile(Struct, frozen=True):
    """HOMEROOM_BOOTSTRAP_CLIENT_FILE."""

    id: str
    secret: str


async def authenticate(
    auth: Auth, authorization: list[str], form: dict[str, str | None], now: datetime
) -> Client:
    """The client that a request to an OAuth endpoint comes from: by Basic or by the form, never both.
    Raises Rejected `invalid_client`."""
    client_id, secret = _credentials(authorization, form)
    client = await find_client(auth, client_id)
    if client is None or not client.knows(secret, now):
        raise Rejected("invalid_client")
    return client


async def find_client(auth: Auth, client_id: str) -> Client | None:
    """A client that was not removed."""
    memory = auth.remembered.clients
    if (remembered := memory.find(client_id)) is not None:
        return remembered
    looked = memory.look()
    async with auth.kit.db.connection() as conn:
        row = await conn.fetchrow(_sql.find_client, client_id)
    if row is None:
        return None
    client = Client(**dict(row))
    memory.keep(client_id, client_id, client, looked)
    return client


def _credentials(authorization: list[str], form: dict[str, str | None]) -> tuple[str, str]:
    by_form = form.get("client_id"), form.get("client_secret")
    if not authorization:
        client_id, secret = by_form
        if not client_id or not secret:
            raise Rejected("invalid_client")
        return client_id, secret
    scheme, _, encoded = authorization[0].partition(" ")
    if len(authorization) > 1 or scheme.lower() != "basic" or by_form[1]:
        raise Rejected("invalid_client")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:  # no base64, no ASCII, or no UTF-8 within
        raise Rejected("invalid_client") from None
    client_id, _, secret = (unquote_plus(part) for part in decoded.partition(":"))
    if "\0" in client_id or by_form[0] not in (None, client_id):
        raise Rejected("invalid_client")
    return client_id, secret


def issue(auth: Auth, client: Client, district: str, scope: str | None, now: datetime) -> Issued:
    """An access token for one district, with what was asked for or all that the client has.
    Raises Rejected unauthorized_client, invalid_scope."""
    if not client.serves(district):
        raise Rejected("unauthorized_client")
    wanted = scope.split() if scope else client.scopes
    if not wanted or not set(wanted) <= set(client.scopes):
        raise Rejected("invalid_scope", scopes=client.scopes)
    claims = {
        "sub": client.client_id,
        "client_id": client.client_id,
        "name": client.name,
        "scope": " ".join(sorted(set(wanted))),
        "districts": client.districts,
        "human": client.human,
    }
    if client.person_id is not None:
        claims["person"] = str(client.person_id)
    return sign(auth, district, claims, now, now + TOKEN_LIFE)


def sign(auth: Auth, district: str, claims: dict[str, Any], now: datetime, ends_at: datetime) -> Issued:
    """An access token (RFC 9068) for one district, with what the claims say of whoever acts."""
    issued_at, expires = int(now.timestamp()), int(ends_at.timestamp())
    common = {
        "iss": f"{auth.kit.settings.issuer}/v1/districts/{district}",
        "aud": AUDIENCE,
        "district": district,
        "iat": issued_at,
        "exp": expires,
        "jti": str(uuid4()),
    }
    return Issued(auth.kit.signer.sign(CLIENT_TYP, claims | common), claims["scope"], expires - issued_at)


async def client_of(auth: Auth, token: str, district: str, now: datetime) -> Caller:
    """Whose access token this is: an Authenticator. Here, where clients and sessions are known, one that was removed or
    has ended is so at once, and so is what was taken from it; the other services believe the token until it ends."""
    caller = await auth.kit.tokens.client(token, district, now)
    client_id, scopes = caller.subject, caller.scopes
    if session := caller.claims.get("sid"):  # exchanged for a person's session: the client only carries it
        if not await session_may(auth, auth.kit.policies.get(caller.district), session, scopes, now):
            raise Rejected("token_invalid")
        client_id, scopes = caller.claims["client_id"], frozenset(["exchange"])
    client = await find_client(auth, client_id)
    if client is None or not scopes <= set(client.scopes) or not client.serves(caller.district):
        raise Rejected("token_invalid")
    return caller


async def may_introspect(
    auth: Auth, district: str, authorization: list[str], form: dict[str, str | None], now: datetime
) -> None:
    """Raises Rejected unless the caller shows the `introspect` scope here: as a client, or by a token of its own."""
    if authorization and authorization[0].lower().startswith("bearer "):
        caller = await client_of(auth, bearer(authorization), district, now)
        scopes = caller.scopes
    else:
        client = await authenticate(auth, authorization, form, now)
        scopes = frozenset(client.scopes) if client.serves(district) else frozenset()
    if "introspect" not in scopes:
        raise Rejected("scope_missing", scopes=["introspect"])


async def introspect(auth: Auth, policy: Policy, token: str, now: datetime) -> dict[str, Any]:
    """What a session or a client's token is worth here and now (RFC 7662); of anything else only that it is worth
    nothing."""
    if token.startswith(TOKEN_PREFIX):
        session = await find_session(auth, policy, token, now)
        return {"active": False} if session is None else session_attributes(auth, policy, session)
    try:
        caller = await client_of(auth, token, policy.district, now)
    except Rejected:
        return {"active": False}
    shown = ("iss", "sub", "aud", "client_id", "scope", "iat", "exp", "jti", "district", "act", "username")
    told = {name: caller.claims[name] for name in shown if name in caller.claims}
    return {"active": True, "token_type": "Bearer"} | told


def session_attributes(auth: Auth, policy: Policy, session: Session) -> dict[str, Any]:
    """What introspection says of a session."""
    return {
        "active": True,
        "token_type": "session",
        "iss": f"{auth.kit.settings.issuer}/v1/districts/{policy.district}",
        "sub": str(session.person_id),
        "username": session.username,
        "iat": int(session.created_at.timestamp()),
        "exp": int(min(session.expires_at, session.idle_expires_at).timestamp()),
        "district": policy.district,
    }


def remembered_client(auth: Auth, authorization: str, now: datetime) -> Client | None:
    """The client that shows its id and secret by Basic, if that is known without asking."""
    shown, hashed = auth.remembered.shown, token_hash(authorization)
    client = shown.get(hashed)
    if client is not None and auth.remembered.clients.find(client.client_id) is client:
        return client
    try:
        client_id, secret = _credentials([authorization], {})
    except Rejected:
        return None
    client = auth.remembered.clients.find(client_id)
    if client is None or not client.knows(secret, now):
        return None
    if hmac.compare_digest(client.secret_hash, token_hash(secret)):  # one that does not end by itself
        if len(shown) >= CLIENTS:
            shown.clear()
        shown[hashed] = client
    return client


async def revoke(auth: Auth, district: str, token: str) -> None:
    """Ends a session. A client's token cannot be called back: it dies within minutes. Raises
    `unsupported_token_type`."""
    if not token.startswith(TOKEN_PREFIX) and token.count(".") == 2:
        raise Rejected("unsupported_token_type")
    await end_session(auth, district, token)


class Standing(Struct, frozen=True, kw_only=True):
    """What an operator says of a client."""

    name: str
    scopes: list[str]
    districts: list[str]
    human: bool
    person_id: UUID | None = None

    @property
    def rules(self) -> bool:
        """An operator of every district: without any, nobody could make another."""
        return "operator" in self.scopes and EVERY_DISTRICT in self.districts

    def check(self, auth: Auth) -> None:
        """Raises Rejected scope_unknown, client_district_unknown."""
        if unknown := sorted(set(self.scopes) - set(SCOPES)):
            raise Rejected("scope_unknown", scopes=unknown)
        if unknown := sorted(set(self.districts) - {EVERY_DISTRICT, *auth.kit.policies.districts}):
            raise Rejected("client_district_unknown", districts=unknown)
        if self.person_id and not self.human:
            raise Rejected("client_not_human")


async def create_client(auth: Auth, conn: Connection, standing: Standing, now: datetime) -> tuple[str, str]:
    """A new client's id and secret; the secret is shown once. Raises Rejected scope_unknown, client_district_unknown,
    client_not_human, person_unknown, not_staff."""
    standing.check(auth)
    await _require_staff(conn, standing.person_id)
    client_id, secret = str(uuid4()), SECRET_PREFIX + secrets.token_urlsafe(32)
    await conn.execute(_sql.insert_client, client_id, *astuple(standing), token_hash(secret), now)
    return client_id, secret


async def change_client(auth: Auth, conn: Connection, client_id: str, standing: Standing) -> None:
    """Raises Rejected not_found, scope_unknown, client_district_unknown, client_not_human, person_unknown, not_staff,
    last_operator."""
    standing.check(auth)
    await _require_staff(conn, standing.person_id)
    if not standing.rules:
        await _leave_an_operator(conn, client_id)
    if not await conn.fetchval(_sql.change_client, client_id, *astuple(standing)):
        raise Rejected("not_found")


async def _require_staff(conn: Connection, person_id: UUID | None) -> None:
    """Of whatever district: a client is not bound to one."""
    if person_id is not None:
        kind = await conn.fetchval(_sql.kind_of, person_id)
        if kind != "staff":
            raise Rejected("not_staff" if kind else "person_unknown")


async def remove_client(conn: Connection, client_id: str, by: str, now: datetime) -> None:
    """It gets no more tokens, and auth believes none of those it has. Raises Rejected not_found, last_operator."""
    await _leave_an_operator(conn, client_id)
    if not await conn.fetchval(_sql.remove_client, client_id, now, by):
        raise Rejected("not_found")
    await conn.execute(_sql.end_previous_secrets, client_id)


async def _leave_an_operator(conn: Connection, client_id: str) -> None:
    if [row["client_id"] for row in await conn.fetch(_sql.lock_operators)] == [client_id]:
        raise Rejected("last_operator")


async def rotate_client(
    conn: Connection, client_id: str, overlap: timedelta, now: datetime
) -> tuple[str, datetime]:
    """A new secret; the present one counts until the moment that is answered, older ones as long as was promised of
    them. Without an overlap all of them end at once. Raises Rejected not_found, secrets_overlap."""
    secret, until = SECRET_PREFIX + secrets.token_urlsafe(32), now + overlap
    present = await conn.fetchval(_sql.lock_client, client_id)
    if present is None:
        raise Rejected("not_found")
    if not overlap:
        await conn.execute(_sql.end_previous_secrets, client_id)
    elif await conn.fetchval(_sql.count_previous_secrets, client_id, now) < PREVIOUS_KEPT:
        await conn.execute(_sql.keep_previous_secret, client_id, present, until)
    else:
        raise Rejected("secrets_overlap", secrets=PREVIOUS_KEPT)
    await conn.execute(_sql.replace_secret, client_id, token_hash(secret), now)
    return secret, until


async def list_clients(conn: Connection, removed: bool, now: datetime) -> list[dict[str, Any]]:
    """The clients, or those that were removed, oldest first, without anything of their secrets."""
    return [dict(row) for row in await conn.fetch(_sql.list_clients, now, removed)]


async def ensure_bootstrap_client(auth: Auth, file: Path, now: datetime) -> bool:
    """Makes the operator client that the file names, when there never was one of that id; True if it did."""
    named = msgspec.json.decode(file.read_bytes(), type=BootstrapFile)
    standing = Standing(name="bootstrap", scopes=["operator"], districts=[EVERY_DISTRICT], human=False)
    async with auth.kit.db.connection() as conn:
        made = await conn.execute(
            _sql.insert_client, named.id, *astuple(standing), token_hash(named.secret), now
        )
    return made.endswith(" 1")
