"""Signing in to an application: what it asked for, who signs in, and the code that it is answered with.

The browser comes to /authorize and is sent to the portal, where its person signs in; the portal accepts in their name,
with their session, and sends the browser back here, where it is known again by its cookie. Only then is a code made:
nobody is signed in to anything by a link that somebody else prepared (login CSRF), and nobody's session goes on in
another browser (fixation). A browser that is signed in already is answered at once.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import msgspec
from msgspec import Struct

from services.auth import applications, oidc_rules
from services.auth.handlers import Auth
from services.auth.oidc_rules import Application, Asked
from services.auth.passwords import token_hash
from services.auth.sign_ons import Living, hold, issuer_of, living
from shared.database import Connection, queries
from shared.errors import Rejected
from shared.policy import Policy

BROWSER_COOKIE = "__Host-homeroom-browser"
SESSION_COOKIE = "__Host-homeroom-session-"  # and the district

_sql = queries(__package__, "oidc.sql")
_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}")


class Onward(Struct, frozen=True):
    """Where a browser goes next, and the cookies that it is given."""

    location: str
    cookies: tuple[str, ...] = ()


class Pending(Struct, frozen=True):
    """What an application waits for."""

    application: str
    client_id: str
    asked: Asked
    asked_at: datetime
    expires_at: datetime
    saml: bool


class Returned(Struct, frozen=True):
    """A browser that is back, and whose session it has now."""

    client_id: str
    asked: Any
    session: Living
    cookie: str


async def begin(
    auth: Auth,
    policy: Policy,
    pairs: Sequence[tuple[str, str]],
    cookies: Mapping[str, str],
    now: datetime,
) -> Onward:
    """A browser that an application sent. Raises Rejected application_unknown, redirect_uri_unknown where it is not
    known to whom the answer belongs; everything else the application is told."""
    given, repeated = read_once(pairs)
    async with auth.kit.db.connection() as conn:
        application = await applications.find(conn, given.get("client_id", ""))
    if application is None or not applications.serves(application, policy.district):
        raise Rejected("application_unknown")
    asked, state = None, given.get("state")
    if given.get("request_uri", "").startswith(oidc_rules.PUSHED):
        asked = await _take_pushed(auth, policy, application, given["request_uri"], now)
        redirect_uri, state = asked.redirect_uri, asked.state
    else:
        redirect_uri = oidc_rules.find_redirect(application, given.get("redirect_uri"))
    try:
        if asked is None and application.pushed == "required":
            raise Rejected(
                "invalid_request", error_description="what is asked for has to be pushed (RFC 9126)"
            )
        asked = asked or oidc_rules.accept_request(application, redirect_uri, given, repeated)
        return await _answer(auth, policy, application, asked, cookies, now)
    except Rejected as refusal:
        told = {"error": refusal.reason, "error_description": refusal.details.get("error_description")}
        return Onward(_answered(auth, policy, redirect_uri, state, told))


async def push(
    auth: Auth, policy: Policy, application: Application, pairs: Sequence[tuple[str, str]], now: datetime
) -> str:
    """What an application pushes ahead of the browser: the request_uri for it. Raises Rejected as `accept_request`."""
    given, repeated = read_once(pairs)
    try:
        redirect_uri = oidc_rules.find_redirect(application, given.get("redirect_uri"))
    except Rejected:
        raise Rejected("invalid_request", error_description="redirect_uri is not a registered one") from None
    asked = oidc_rules.accept_request(application, redirect_uri, given, repeated)
    auth.requests.take()
    authorization_id = uuid4()
    async with auth.kit.db.connection() as conn:
        await conn.execute(
            _sql.insert_request, authorization_id, policy.district, application.client_id, None,
            msgspec.to_builtins(asked), now, now + oidc_rules.PUSHED_LIFE,
        )  # fmt: skip
    return f"{oidc_rules.PUSHED}{authorization_id}"


async def _take_pushed(
    auth: Auth, policy: Policy, application: Application, request_uri: str, now: datetime
) -> Asked:
    """Raises Rejected request_uri_unknown."""
    try:
        authorization_id = UUID(request_uri.removeprefix(oidc_rules.PUSHED))
    except ValueError:
        raise Rejected("request_uri_unknown") from None
    async with auth.kit.db.connection() as conn:
        asked = await conn.fetchval(
            _sql.take_pushed, authorization_id, policy.district, application.client_id, now
        )
    if asked is None:
        raise Rejected("request_uri_unknown")
    return msgspec.convert(asked, Asked)


def read_once(pairs: Sequence[tuple[str, str]]) -> tuple[dict[str, str], list[str]]:
    """The parameters that were given once; and the names of the others, which are as if not given. Empty ones are too
    (RFC 6749, 3.1)."""
    given = {name: value for name, value in pairs if value}
    names = [name for name, value in pairs if value]
    repeated = sorted({name for name in names if names.count(name) > 1})
    return {name: value for name, value in given.items() if name not in repeated}, repeated


async def _answer(
    auth: Auth,
    policy: Policy,
    application: Application,
    asked: Asked,
    cookies: Mapping[str, str],
    now: datetime,
) -> Onward:
    if oidc_rules.answers_silently(asked):
        async with auth.kit.db.transaction() as conn:
            if session := await signed_in(conn, policy, asked, cookies, now):
                return Onward(await _make_code(auth, conn, policy, application, asked, session, now))
    if "none" in asked.prompts:
        raise Rejected("login_required")
    return await wait(auth, policy, application.client_id, asked, cookies, now)


async def signed_in(
    conn: Connection, policy: Policy, asked: Asked, cookies: Mapping[str, str], now: datetime
) -> Living | None:
    """The session of a browser that is signed in already, held, if it is an answer to what was asked."""
    cookie = cookies.get(SESSION_COOKIE + policy.district)
    session_hash = cookie and await conn.fetchval(_sql.find_browser_session, token_hash(cookie), now)
    session = await hold(conn, policy, session_hash, now) if session_hash else None
    if session is None or not oidc_rules.session_answers(asked, now, session.signed_in_at, now):
        return None
    await conn.execute(_sql.touch_session, session.session_hash, now, now)
    return session


async def wait(
    auth: Auth, policy: Policy, client_id: str, asked: Asked, cookies: Mapping[str, str], now: datetime
) -> Onward:
    """To the portal, where somebody signs in. Raises Rejected temporarily_unavailable."""
    portal = auth.kit.settings.portal_url
    if portal is None:
        raise Rejected("temporarily_unavailable", error_description="no portal is set up to sign in at")
    auth.requests.take()
    browser = cookies.get(BROWSER_COOKIE, "")
    if not _COOKIE.fullmatch(browser):
        browser = secrets.token_urlsafe(32)
    authorization_id = uuid4()
    async with auth.kit.db.connection() as conn:
        await conn.execute(
            _sql.insert_request, authorization_id, policy.district, client_id, token_hash(browser),
            msgspec.to_builtins(asked), now, now + oidc_rules.REQUEST_LIFE,
        )  # fmt: skip
    life_s = int(oidc_rules.REQUEST_LIFE.total_seconds())
    return Onward(
        f"{portal}/{policy.district}/sign-on?authorization={authorization_id}",
        (_cookie(BROWSER_COOKIE, browser, life_s),),
    )


async def find_pending(auth: Auth, district: str, authorization_id: UUID, now: datetime) -> Pending:
    """What a front end shows to whoever is to sign in. Raises Rejected not_found."""
    async with auth.kit.db.connection() as conn:
        row = await conn.fetchrow(_sql.find_request, authorization_id, district, now)
    if row is None:
        raise Rejected("not_found")
    asked = msgspec.convert(row["asked"], Asked)
    return Pending(row["name"], row["client_id"], asked, row["created_at"], row["expires_at"], row["saml"])


def signed_in_since(pending: Pending, now: datetime) -> datetime | None:
    return oidc_rules.signed_in_since(pending.asked, pending.asked_at, now)


async def accept(auth: Auth, policy: Policy, authorization_id: UUID, session: str, now: datetime) -> str:
    """Whose front end brings this session has signed in: where the browser goes on. Raises Rejected not_found;
    sign_in_again, when the application wants a fresher session."""
    pending = await find_pending(auth, policy.district, authorization_id, now)
    proof, session_hash = secrets.token_urlsafe(32), token_hash(session)
    async with auth.kit.db.connection() as conn:
        found = await living(conn, policy, session_hash, now)
        if found is None:
            raise Rejected("token_invalid")
        if not oidc_rules.session_answers(pending.asked, pending.asked_at, found.signed_in_at, now):
            raise Rejected("sign_in_again")
        accepted = await conn.fetchval(_sql.accept_request, authorization_id, session_hash, token_hash(proof))
    if not accepted:
        raise Rejected("not_found")
    kind = "saml/authorizations" if pending.saml else "authorizations"
    return f"{issuer_of(auth, policy.district)}/{kind}/{authorization_id}/return?accepted={proof}"


async def complete(
    auth: Auth, policy: Policy, authorization_id: UUID, proof: str, cookies: Mapping[str, str], now: datetime
) -> Onward:
    """The browser is back: the code, and the cookie by which it is known again. Raises Rejected authorization_ended,
    also for another browser than the one that asked."""
    async with auth.kit.db.transaction() as conn:
        found = await come_back(conn, policy, authorization_id, proof, cookies, now)
        application = await applications.find(conn, found.client_id)
        if application is None:
            raise Rejected("authorization_ended")
        asked = msgspec.convert(found.asked, Asked)
        location = await _make_code(auth, conn, policy, application, asked, found.session, now)
    return Onward(location, (found.cookie,))


async def come_back(
    conn: Connection,
    policy: Policy,
    authorization_id: UUID,
    proof: str,
    cookies: Mapping[str, str],
    now: datetime,
) -> Returned:
    """Once, the browser that asked, with the proof of its portal; it is known again from now on. Raises Rejected
    authorization_ended."""
    browser = token_hash(cookies.get(BROWSER_COOKIE, ""))
    row = await conn.fetchrow(
        _sql.complete_request, authorization_id, policy.district, browser, token_hash(proof), now
    )
    session = await hold(conn, policy, row["session_hash"], now) if row else None
    if row is None or session is None:
        raise Rejected("authorization_ended")
    cookie = secrets.token_urlsafe(32)
    await conn.execute(_sql.put_browser_session, token_hash(cookie), session.session_hash, session.expires_at)
    known_again = _cookie(SESSION_COOKIE + policy.district, cookie)
    return Returned(row["client_id"], row["asked"], session, known_again)


async def _make_code(
    auth: Auth, conn: Connection, policy: Policy, application: Application, asked: Asked, session: Living,
    now: datetime,
) -> str:  # fmt: skip
    """Where the browser takes a new code."""
    code = secrets.token_urlsafe(32)
    await conn.execute(
        _sql.insert_code, token_hash(code), uuid4(), application.client_id, session.session_hash, asked.redirect_uri,
        asked.challenge, list(asked.scopes), asked.nonce, now + oidc_rules.CODE_LIFE,
    )  # fmt: skip
    return _answered(auth, policy, asked.redirect_uri, asked.state, {"code": code})


def _answered(
    auth: Auth, policy: Policy, redirect_uri: str, state: str | None, told: Mapping[str, str | None]
) -> str:
    """The application's address with the answer to it, and who answers (RFC 9207)."""
    answer = dict(told) | {"state": state, "iss": issuer_of(auth, policy.district)}
    query = urlencode({name: value for name, value in answer.items() if value is not None})
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{query}"


def _cookie(name: str, value: str, life_s: int | None = None) -> str:
    """Without a life it is the browser's to forget."""
    age = "" if life_s is None else f"; Max-Age={life_s}"
    return f"{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{age}"


def forget_cookie(district: str) -> str:
    return _cookie(SESSION_COOKIE + district, "", 0)
