"""Who is calling: bearer tokens, what each may do, and the district it may do it in.

A route says which kind of caller it takes. Machines and staff bring a JWT of auth's token endpoint
(`at+jwt`), pupils a claim or recovery ticket; the auth service registers how it looks up its own opaque
sessions.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
from joserfc import jws
from joserfc.errors import JoseError

from shared.errors import Rejected
from shared.keys import ALGORITHM, KeyRing
from shared.policy import rank

AUDIENCE = "homeroom"
SESSIONS_END_WITHIN = timedelta(seconds=2)  # once a session has ended, no process of auth believes it longer
EVERY_DISTRICT = "*"
CLIENT_TYP, CLAIM_TYP, RECOVERY_TYP = "at+jwt", "claim-ticket+jwt", "recovery-ticket+jwt"
MAX_TOKEN_LENGTH = 4096
_MAX_REMEMBERED = 2048
_CLOCKS_DIFFER_S = 30

Kind = Literal["public", "client", "ticket", "recovery", "session", "application"]


@dataclass(frozen=True)
class Access:
    """Whom a route takes: one kind of caller; of clients, those with any of the scopes."""

    kind: Kind
    scopes: frozenset[str] = frozenset()


PUBLIC = Access("public")
TICKET = Access("ticket")  # opened by claims, good at claims and auth
RECOVERY = Access("recovery")
SESSION = Access("session")
APPLICATION = Access("application")  # by an access token that speaks for a person


def Scope(*scopes: str) -> Access:
    """Clients that have any of these scopes."""
    assert scopes
    return Access("client", frozenset(scopes))


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. `subject` is a client's id, a person's, or a recovery's; `claims` the token's own. The
    token that a session of the staff was exchanged for is a client's, with the person as its subject."""

    subject: str
    kind: Kind
    district: str
    scopes: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def human(self) -> bool:
        """Whether this is one person's client: only such a one counts where a second person is asked for."""
        return self.claims.get("human") is True

    @property
    def who(self) -> str:
        """The person behind this caller, by id, where auth knows whose it is; else the client. Two that are equal are
        one human, whatever they came with."""
        person = self.claims.get("person")
        return person if isinstance(person, str) else self.subject

    @property
    def rank(self) -> int:
        """Among the roles of the staff."""
        return rank(self.scopes)


# (token, district of the path or "", now) -> the caller, or Rejected token_invalid, token_expired,
# district_forbidden
Authenticator = Callable[[str, str, datetime], Awaitable[Caller]]


class _Claims(msgspec.Struct, frozen=True):
    """What every token of ours states. Others are read from the raw claims by who knows their meaning."""

    iss: str
    aud: str | list[str]
    sub: str
    exp: int
    iat: int
    district: str
    scope: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token whose signature was found good by a key that was there in this generation of the ring."""

    typ: object
    claims: _Claims
    raw: Mapping[str, Any]
    generation: int


class Tokens:
    """Verifies JWTs: exactly one algorithm, the signer that its `typ` belongs to, issuer, audience, time, district.

    Verifying costs twice an empty request (105 µs), and machines repeat the same token: what was verified is
    remembered while the keys stay as they are. Time and district are looked at each time.
    """

    def __init__(self, keys: KeyRing, *, issuer: str, service: str) -> None:
        self._keys, self._issuer, self._service = keys, issuer, service
        self._remembered: dict[tuple[str, str], _Verified] = {}  # by (signer, token)

    async def client(self, token: str, district: str, now: datetime) -> Caller:
        """A machine's or staff member's access token (RFC 9068), signed by auth. What is of no district is for those
        who serve every district: else an operator of one could see, and give themselves, the others."""
        found = self._verify(token, CLIENT_TYP, "auth", now)
        if found.claims.iss != f"{self._issuer}/v1/districts/{found.claims.district}":
            raise Rejected("token_invalid")
        _check(found.claims, AUDIENCE, district)
        if not district and EVERY_DISTRICT not in found.raw.get("districts", ()):
            raise Rejected("district_forbidden")
        scopes = frozenset(found.claims.scope.split())
        return _caller(found, "client", scopes)

    async def ticket(self, token: str, district: str, now: datetime) -> Caller:
        """A claim's ticket: the subject is the person, `jti` the claim.

        Taken once more for as long as it lived, so that its holder can be told how the claim stands: expired, or
        completed at the last moment. What it could do, the rules do not let it do any more.
        """
        found = self._verify(token, CLAIM_TYP, "claims", now, late=True)
        if found.claims.iss != "homeroom-claims":
            raise Rejected("token_invalid")
        _check(found.claims, self._service, district)
        return _caller(found, "ticket")

    async def recovery(self, token: str, district: str, now: datetime) -> Caller:
        """A recovery's ticket: the subject is the recovery. It does not say whose it is, or whether anybody's."""
        found = self._verify(token, RECOVERY_TYP, "auth", now)
        _check(found.claims, self._service, district)
        return _caller(found, "recovery")

    def _verify(self, token: str, typ: str, signer: str, now: datetime, *, late: bool = False) -> _Verified:
        found = self._remembered.get((signer, token))
        if found is None or found.generation != self._keys.generation:
            found = self._open(token, signer)
        if found.typ != typ:
            raise Rejected("token_invalid")
        exp, iat = found.claims.exp, found.claims.iat
        if exp + (exp - iat if late else 0) <= now.timestamp():
            raise Rejected("token_expired")
        if iat > now.timestamp() + _CLOCKS_DIFFER_S:
            raise Rejected("token_invalid")
        return found

    def _open(self, token: str, signer: str) -> _Verified:
        if len(token) > MAX_TOKEN_LENGTH:
            raise Rejected("token_invalid")
        try:
            header = jws.extract_compact(token.encode()).headers()
            kid = header.get("kid")
            # The key is the one of this id that the signer published: what else a header proposes is not
            # looked at.
            key = self._keys.get(signer, kid) if isinstance(kid, str) else None
            if key is None or header.get("alg") != ALGORITHM or "crit" in header:
                raise Rejected("token_invalid")
            opened = jws.deserialize_compact(token, key, algorithms=[ALGORITHM])
            raw = msgspec.json.decode(opened.payload, type=dict[str, Any])
            claims = msgspec.convert(raw, _Claims)
        except (JoseError, ValueError, msgspec.MsgspecError, RecursionError):
            raise Rejected("token_invalid") from None
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        found = _Verified(header.get("typ"), claims, raw, self._keys.generation)
        self._remembered[signer, token] = found
        return found


def _check(claims: _Claims, audience: str, district: str) -> None:
    if audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
        raise Rejected("token_invalid")
    if district and claims.district != district:
        raise Rejected("district_forbidden")


def _caller(found: _Verified, kind: Kind, scopes: frozenset[str] = frozenset()) -> Caller:
    claims = found.claims
    return Caller(claims.sub, kind, claims.district, scopes, found.raw, claims.name or claims.sub)


def bearer(headers: list[str]) -> str:
    """The token of the Authorization headers. Raises token_missing, or token_invalid for more than one."""
    if not headers:
        raise Rejected("token_missing")
    match = re.fullmatch(r"bearer +([!-~]+)", headers[0], re.IGNORECASE)
    if len(headers) > 1 or match is None:
        raise Rejected("token_invalid")
    return match[1]


def permit(caller: Caller, access: Access) -> None:
    """Raises scope_missing, with the scopes of which one is needed."""
    if access.scopes and not access.scopes & caller.scopes:
        raise Rejected("scope_missing", scopes=sorted(access.scopes))


def forwarded_for(header: str) -> str | None:
    """The address in the last element of a Forwarded header (RFC 7239): what the nearest front end saw."""
    last = header.rpartition(",")[2]
    match = re.search(r'(?:^|;)\s*for=(?:"([^"]{1,128})"|([^\s;",]{1,128}))', last, re.IGNORECASE)
    if match is None:
        return None
    node = match[1] or match[2]
    if node.startswith("["):
        return node[1:].partition("]")[0]
    return node.partition(":")[0] if node.count(":") == 1 else node
