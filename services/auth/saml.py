"""Signing in to an application that speaks SAML: its request, who signs in, and the response that it is posted.

As with the others (authorizing) the browser goes to the portal and comes back, known by its cookie. What it brings to
the application is a form, and a page of the portal posts it: the portal is given a word that is good once, and for it
gets the response, which is made only then.
"""

import base64
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
from lxml import etree
from msgspec import Struct

from services.auth import authorizing, oidc_rules, saml_responses, saml_rules, saml_xml, service_providers
from services.auth.authorizing import Onward
from services.auth.handlers import Auth
from services.auth.oidc_rules import Asked
from services.auth.passwords import token_hash
from services.auth.saml_responses import Envelope
from services.auth.saml_rules import PASSWORD_CONTEXT, Refused, ServiceProvider, Told
from services.auth.sign_ons import Living, hold, issuer_of, pairwise, sid_of
from shared.database import Connection, queries
from shared.errors import Rejected, Unavailable
from shared.policy import Policy

_sql = queries(__package__, "saml.sql")
_oidc = queries(__package__, "oidc.sql")


class SamlAsked(Asked, frozen=True, kw_only=True):
    """What an application asks for in SAML: `redirect_uri` is its ACS, `state` its RelayState. Without a `request_id`
    it has not asked."""

    request_id: str | None = None
    context: str = PASSWORD_CONTEXT


class Refusal(Struct, frozen=True):
    """As Refused, kept."""

    status: str
    second: str | None
    message: str


class Posted(Struct, frozen=True, kw_only=True):
    """What a page posts to an application. `person_id`: of whom it tells, if it tells of anybody."""

    application: str
    client_id: str
    acs: str
    response: str
    relay_state: str | None
    person_id: UUID | None


def entity_id(auth: Auth, district: str) -> str:
    """The name of a district's identity provider, which is where its metadata is."""
    return f"{issuer_of(auth, district)}/saml/metadata"


def sign_on_url(auth: Auth, district: str) -> str:
    return f"{issuer_of(auth, district)}/saml/sso"


async def begin(
    auth: Auth, policy: Policy, raw_query: str, given: Mapping[str, str], cookies: Mapping[str, str], now: datetime
) -> Onward:  # fmt: skip
    """A browser that an application sent by HTTP-Redirect, or one whose form has been read. Raises Rejected
    saml_request_invalid, application_unknown, acs_unknown, which are told to the person alone."""
    if "posted" in given:
        provider, asked = await _take_posted(auth, policy, given["posted"], now)
        return await _answer(auth, policy, provider, asked, cookies, now)
    root = saml_xml.parse(saml_xml.inflate(given.get("SAMLRequest", "")))
    provider = await _sender(auth, policy, root)
    signed = bool(provider.certificates) and saml_xml.query_is_signed_by(raw_query, provider.certificates)
    try:
        asked = await _accept(auth, policy, provider, root, given.get("RelayState"), now, signed=signed)
        return await _answer(auth, policy, provider, asked, cookies, now)
    except _Told as told:
        return await told.onward(auth, policy, now)


async def post(auth: Auth, policy: Policy, given: Mapping[str, str], now: datetime) -> Onward:
    """The same by HTTP-POST. A form that another site posts brings no cookies along; the GET that it leads to does."""
    root = saml_xml.parse(saml_xml.decode(given.get("SAMLRequest", "")))
    provider = await _sender(auth, policy, root)
    signed = bool(provider.certificates) and saml_xml.has_signature(root)
    if signed:
        root = saml_xml.signed_by(root, provider.certificates)
    try:
        asked = await _accept(auth, policy, provider, root, given.get("RelayState"), now, signed=signed)
    except _Told as told:
        return await told.onward(auth, policy, now)
    authorization_id = uuid4()
    async with auth.kit.db.connection() as conn:
        await conn.execute(
            _oidc.insert_request, authorization_id, policy.district, provider.client_id, None,
            msgspec.to_builtins(asked), now, now + oidc_rules.PUSHED_LIFE,
        )  # fmt: skip
    return Onward(f"{sign_on_url(auth, policy.district)}?posted={authorization_id}")


async def start(
    auth: Auth, policy: Policy, client_id: str, relay_state: str | None, cookies: Mapping[str, str], now: datetime
) -> Onward:  # fmt: skip
    """A tile of the portal: nobody asked. Raises Rejected application_unknown, also for an application that is not
    registered for that."""
    async with auth.kit.db.connection() as conn:
        provider = await service_providers.find(conn, client_id)
    if (
        provider is None
        or not service_providers.serves(provider, policy.district)
        or not provider.unsolicited
    ):
        raise Rejected("application_unknown")
    relay_state = saml_rules.check_relay_state(relay_state)
    asked = SamlAsked(redirect_uri=provider.acs[0].url, scopes=(), state=relay_state)
    return await _answer(auth, policy, provider, asked, cookies, now)


async def complete(
    auth: Auth, policy: Policy, authorization_id: UUID, proof: str, cookies: Mapping[str, str], now: datetime
) -> Onward:
    """The browser is back from the portal. Raises Rejected authorization_ended."""
    async with auth.kit.db.transaction() as conn:
        found = await authorizing.come_back(conn, policy, authorization_id, proof, cookies, now)
        provider = await service_providers.find(conn, found.client_id)
        if provider is None:
            raise Rejected("authorization_ended")
        asked = msgspec.convert(found.asked, SamlAsked)
        location = await _tell(auth, conn, policy, provider, asked, now, session=found.session)
    return Onward(location, (found.cookie,))


async def redeem(auth: Auth, policy: Policy, answer: str, now: datetime) -> Posted:
    """What is posted to an application, once. Raises Rejected authorization_ended."""
    keyed, hashed = auth.saml_keys.current(), token_hash(answer)
    async with auth.kit.db.transaction() as conn:
        # The session first, then what stands on it: the order in which whoever ends a session takes them.
        session_hash = await conn.fetchval(_sql.session_of_answer, hashed, policy.district)
        session = await hold(conn, policy, session_hash, now) if session_hash else None
        row = await conn.fetchrow(_sql.take_answer, hashed, policy.district, now)
        provider = await service_providers.find(conn, row["client_id"]) if row else None
    if row is None or provider is None or (row["session_hash"] is not None and session is None):
        raise Rejected("authorization_ended")
    asked = msgspec.convert(row["asked"], SamlAsked)
    if asked.redirect_uri not in {acs.url for acs in provider.acs}:
        raise Rejected("authorization_ended")
    envelope = Envelope(
        issuer=entity_id(auth, policy.district),
        acs=asked.redirect_uri,
        request_id=asked.request_id,
        response_id=f"_{secrets.token_hex(20)}",
        assertion_id=f"_{secrets.token_hex(20)}",
        now=now,
    )
    if session is None:
        refusal = msgspec.convert(row["refusal"], Refusal)
        raw = saml_responses.refused(envelope, Refused(*msgspec.structs.astuple(refusal)), keyed)
    else:
        told = _told(auth, policy, provider, asked, session)
        raw = saml_responses.granted(envelope, provider, told, keyed)
    return Posted(
        application=provider.name,
        client_id=provider.client_id,
        acs=asked.redirect_uri,
        response=base64.b64encode(raw).decode(),
        relay_state=asked.state,
        person_id=session.person_id if session else None,
    )


def _told(auth: Auth, policy: Policy, provider: ServiceProvider, asked: SamlAsked, session: Living) -> Told:
    username = policy.username(session.kind, session.number)
    about = {
        "username": username,
        "name": f"{session.first_name} {session.last_name}",
        "first_name": session.first_name,
        "last_name": session.last_name,
        "kind": session.kind,
        "number": session.number,
        "district": policy.district,
    }
    return Told(
        name_id=saml_rules.name_id(
            provider, pairwise(auth, policy, provider.sector, session.person_id), username
        ),
        session_index=sid_of(auth, provider, session.session_hash),
        signed_in_at=session.signed_in_at,
        session_ends_at=session.expires_at,
        context=asked.context,
        attributes=saml_rules.attributes(provider, about),
    )


class _Told(Exception):
    """A refusal that the application is told."""

    def __init__(self, provider: ServiceProvider, asked: SamlAsked, refusal: Refused) -> None:
        super().__init__(refusal.message)
        self.provider, self.asked, self.refusal = provider, asked, refusal

    async def onward(self, auth: Auth, policy: Policy, now: datetime) -> Onward:
        async with auth.kit.db.transaction() as conn:
            return Onward(
                await _tell(auth, conn, policy, self.provider, self.asked, now, refusal=self.refusal)
            )


async def _sender(auth: Auth, policy: Policy, root: etree._Element) -> ServiceProvider:
    """Whose request it says that it is."""
    issuer = saml_xml.read_request(root).issuer
    async with auth.kit.db.connection() as conn:
        provider = await service_providers.find_serving(conn, issuer, policy.district)
    if provider is None:
        raise Rejected("application_unknown")
    return provider


async def _accept(
    auth: Auth, policy: Policy, provider: ServiceProvider, root: etree._Element, relay_state: str | None,
    now: datetime, *, signed: bool,
) -> SamlAsked:  # fmt: skip
    """What a request asks for, which counts once. Raises Rejected, _Told."""
    request = saml_xml.read_request(root)
    if request.issuer != provider.entity_id:
        raise saml_xml.refuse("what is signed is another application's")
    here = sign_on_url(auth, policy.district)
    until = saml_rules.check_request(provider, request, here, now, signed=signed)
    asked = SamlAsked(
        redirect_uri=saml_rules.find_acs(provider, request),
        scopes=(),
        state=saml_rules.check_relay_state(relay_state),
        prompts=("none",) * request.passive + ("login",) * request.force,
        request_id=request.id,
    )
    auth.requests.take()
    once = token_hash(f"{policy.district}\0{provider.client_id}\0{request.id}")
    async with auth.kit.db.connection() as conn:
        if not await conn.fetchval(_sql.note_request, once, until):
            raise saml_xml.refuse("it came before")
    try:
        return msgspec.structs.replace(asked, context=saml_rules.check_wishes(provider, request))
    except Refused as refusal:
        raise _Told(provider, asked, refusal) from None


async def _take_posted(
    auth: Auth, policy: Policy, said: str, now: datetime
) -> tuple[ServiceProvider, SamlAsked]:
    try:
        authorization_id = UUID(said)
    except ValueError:
        raise Rejected("authorization_ended") from None
    async with auth.kit.db.connection() as conn:
        row = await conn.fetchrow(_sql.take_posted, authorization_id, policy.district, now)
        provider = await service_providers.find(conn, row["client_id"]) if row else None
    if row is None or provider is None:
        raise Rejected("authorization_ended")
    return provider, msgspec.convert(row["asked"], SamlAsked)


async def _answer(
    auth: Auth,
    policy: Policy,
    provider: ServiceProvider,
    asked: SamlAsked,
    cookies: Mapping[str, str],
    now: datetime,
) -> Onward:
    if oidc_rules.answers_silently(asked):
        async with auth.kit.db.transaction() as conn:
            if session := await authorizing.signed_in(conn, policy, asked, cookies, now):
                return Onward(await _tell(auth, conn, policy, provider, asked, now, session=session))
    if "none" in asked.prompts:
        refusal = Refused(saml_rules.RESPONDER, saml_rules.NO_PASSIVE, "nobody is signed in")
        return await _Told(provider, asked, refusal).onward(auth, policy, now)
    _portal(auth)
    return await authorizing.wait(auth, policy, provider.client_id, asked, cookies, now)


async def _tell(
    auth: Auth, conn: Connection, policy: Policy, provider: ServiceProvider, asked: SamlAsked, now: datetime, *,
    session: Living | None = None, refusal: Refused | None = None,
) -> str:  # fmt: skip
    """The page of the portal that posts the answer."""
    answer = secrets.token_urlsafe(32)
    kept: Any = refusal and msgspec.to_builtins(Refusal(refusal.status, refusal.second, refusal.message))
    await conn.execute(
        _sql.insert_answer, token_hash(answer), provider.client_id, policy.district,
        session.session_hash if session else None, msgspec.to_builtins(asked), kept, now + oidc_rules.CODE_LIFE,
    )  # fmt: skip
    return f"{_portal(auth)}/{policy.district}/sign-on/answer?answer={answer}"


def _portal(auth: Auth) -> str:
    """Raises Unavailable."""
    if auth.kit.settings.portal_url is None:
        raise Unavailable("portal", retry_after_s=60)
    return auth.kit.settings.portal_url
