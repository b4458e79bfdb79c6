"""How an application shows who it is by a key of its own (private_key_jwt; RFC 7523, OpenID Connect Core, 9).

The keys are those that were registered: none is fetched from anywhere, and what a header proposes is not looked at.
"""

from datetime import datetime, timedelta

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from msgspec import Struct

from services.auth import applications, sign_ons
from services.auth.handlers import Auth
from services.auth.oidc_rules import ASSERTION_ALGORITHMS, Application
from services.auth.passwords import token_hash
from shared.auth import MAX_TOKEN_LENGTH
from shared.database import queries
from shared.errors import Rejected

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST_LIFE = timedelta(minutes=10)
CLOCKS_DIFFER = timedelta(seconds=30)

_sql = queries(__package__, "oidc.sql")


class Assertion(Struct, frozen=True):
    """What counts of a client's assertion."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: int | float
    jti: str


async def authenticate(auth: Auth, district: str, assertion: str, now: datetime) -> Application:
    """The application whose key signed this. Raises Rejected invalid_client."""
    try:
        if len(assertion) > MAX_TOKEN_LENGTH:
            raise ValueError
        said = msgspec.json.decode(jws.extract_compact(assertion.encode()).payload, type=Assertion)
        async with auth.kit.db.connection() as conn:
            application = await applications.find(conn, said.sub)
        if application is None or application.authentication != "key":
            raise ValueError
        keys = KeySet.import_key_set({"keys": [dict(key) for key in application.keys]})
        jws.deserialize_compact(assertion, keys, algorithms=list(ASSERTION_ALGORITHMS))
    except (JoseError, ValueError, msgspec.MsgspecError, RecursionError):
        raise Rejected("invalid_client") from None
    issuer = sign_ons.issuer_of(auth, district)
    audience = [said.aud] if isinstance(said.aud, str) else said.aud
    left = timedelta(seconds=said.exp - now.timestamp())
    if said.iss != said.sub or not {issuer, f"{issuer}/token"} & set(audience):
        raise Rejected("invalid_client")
    if not timedelta(0) < left <= LONGEST_LIFE + CLOCKS_DIFFER:
        raise Rejected("invalid_client")
    async with auth.kit.db.connection() as conn:
        once = token_hash(f"{said.sub}\0{said.jti}"), now + left
        if not await conn.fetchval(_sql.note_assertion, *once):
            raise Rejected("invalid_client")
    return application
