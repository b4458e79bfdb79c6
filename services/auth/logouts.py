"""Signing out at an application's word (OpenID Connect RP-Initiated Logout 1.0).

An ID token names the session that it was made for (`sid`), and no other is ended by it: a link that carries somebody
else's ends nobody's session but theirs. Without one nothing is ended; the portal asks.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import urlencode

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from msgspec import Struct

from services.auth import applications, oidc_rules, sign_ons
from services.auth.authorizing import SESSION_COOKIE, Onward, forget_cookie, read_once
from services.auth.handlers import Auth
from services.auth.oidc_rules import Application
from services.auth.passwords import token_hash
from shared.auth import MAX_TOKEN_LENGTH
from shared.database import queries
from shared.errors import Rejected
from shared.policy import Policy

_sql = queries(__package__, "oidc.sql")
_sessions = queries(__package__)


class Hint(Struct, frozen=True):
    """What counts of an ID token that was made here, whenever that was."""

    iss: str
    aud: str
    sid: str


async def log_out(
    auth: Auth, policy: Policy, pairs: Sequence[tuple[str, str]], cookies: Mapping[str, str], now: datetime
) -> Onward:
    """Where the browser goes on. Raises Rejected logout_invalid, redirect_uri_unknown."""
    given, repeated = read_once(pairs)
    hint = read_hint(auth, policy.district, given["id_token_hint"]) if "id_token_hint" in given else None
    if repeated or (hint and given.get("client_id", hint.aud) != hint.aud):
        raise Rejected("logout_invalid")
    forgotten: tuple[str, ...] = ()
    ended = None
    async with auth.kit.db.transaction() as conn:
        application = await applications.find(conn, hint.aud if hint else given.get("client_id", ""))
        location = _after(auth, policy, application, given)
        if hint and application:
            cookie = cookies.get(SESSION_COOKIE + policy.district, "")
            browsers = await conn.fetchval(_sql.find_browser_session, token_hash(cookie), now)
            held = await conn.fetchval(_sql.find_by_sid, hint.sid, application.client_id, policy.district)
            if browsers is not None and sign_ons.sid_of(auth, application, browsers) == hint.sid:
                held, forgotten = browsers, (forget_cookie(policy.district),)
            ended = await conn.fetchval(_sessions.end_session, held, policy.district)
    auth.remembered.sessions.forget([ended] if ended else [])
    if hint is None:
        return Onward(f"{_portal(auth, policy)}?sign-out")
    return Onward(location or _portal(auth, policy), forgotten)


def read_hint(auth: Auth, district: str, token: str) -> Hint:
    """An ID token of this issuer, also one whose time is over. Raises Rejected logout_invalid."""
    try:
        if len(token) > MAX_TOKEN_LENGTH:
            raise ValueError
        header = jws.extract_compact(token.encode()).headers()
        algorithm, kid = header.get("alg"), header.get("kid")
        key = auth.kit.keys.get("auth", kid) if isinstance(kid, str) else None
        if key is None or key.get("alg") != algorithm or algorithm not in oidc_rules.ID_TOKEN_ALGORITHMS:
            raise ValueError
        opened = jws.deserialize_compact(token, key, algorithms=[algorithm])
        hint = msgspec.json.decode(opened.payload, type=Hint)
        if header.get("typ") != "JWT" or "crit" in header or hint.iss != sign_ons.issuer_of(auth, district):
            raise ValueError
    except (JoseError, ValueError, msgspec.MsgspecError, RecursionError):
        raise Rejected("logout_invalid") from None
    return hint


def _after(
    auth: Auth, policy: Policy, application: Application | None, given: Mapping[str, str]
) -> str | None:
    """The application's own page for those who have signed out, if it named one that is registered."""
    uri = given.get("post_logout_redirect_uri")
    if uri is None:
        return None
    if application is None or not applications.serves(application, policy.district):
        raise Rejected("redirect_uri_unknown")
    allowed = application.post_logout_redirect_uris
    oidc_rules.find_redirect(msgspec.structs.replace(application, redirect_uris=allowed), uri)
    if "state" not in given:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{urlencode({'state': given['state']})}"


def _portal(auth: Auth, policy: Policy) -> str:
    """Where a person sees whether they are signed in, and signs out."""
    portal = auth.kit.settings.portal_url
    if portal is None:
        raise Rejected("logout_invalid")
    return f"{portal}/{policy.district}"
