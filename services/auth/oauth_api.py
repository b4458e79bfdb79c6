"""The routes as the RFCs say of machines, staff and applications: tokens, what they are worth, and the keys to check
them with."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from aiohttp import hdrs

from services.auth import (
    applications,
    authorizing,
    client_keys,
    exchange,
    oidc_rules,
    session_checks,
    sign_ons,
    tokens,
)
from services.auth.calls import DISTRICT, Feature, occasion
from services.auth.handlers import Auth
from services.auth.oidc_rules import Application
from services.auth.passwords import hash_token
from shared.auth import APPLICATION
from shared.errors import Rejected
from shared.policy import Texts
from shared.quick import Asked, Quick
from shared.reading import FORM_TYPE, read_pairs
from shared.web import Call, Handler, Reply, Route

KEYS_MAX_AGE_S = 300
USERINFO_METHODS: tuple[Literal["GET", "POST"], ...] = ("GET", "POST")
CLIENT_REFUSALS = {"invalid_client": 401}
_KEPT = {"Cache-Control": f"public, max-age={KEYS_MAX_AGE_S}"}


class TokenForm(msgspec.Struct, frozen=True):
    """The fields of every grant; which of them counts is that grant's to say."""

    grant_type: str
    scope: str | None = None
    code: str | None = None
    redirect_uri: str | None = None
    code_verifier: str | None = None
    refresh_token: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    client_assertion: str | None = None
    client_assertion_type: str | None = None
    subject_token: str | None = None
    subject_token_type: str | None = None
    requested_token_type: str | None = None


class InspectedForm(msgspec.Struct, frozen=True):
    token: str
    token_type_hint: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    client_assertion: str | None = None
    client_assertion_type: str | None = None


class PushedForm(msgspec.Struct, frozen=True):
    """RFC 9126, 2.1: what `authorize` takes, and how the application shows who it is."""

    client_id: str | None = None
    client_secret: str | None = None
    client_assertion: str | None = None
    client_assertion_type: str | None = None


class Pushed(msgspec.Struct, frozen=True):
    request_uri: str
    expires_in: int


class TokenIssued(msgspec.Struct, frozen=True, omit_defaults=True):
    access_token: str
    token_type: str
    expires_in: int
    scope: str
    issued_token_type: str | None = None  # of an exchange
    id_token: str | None = None
    refresh_token: str | None = None


class DistrictView(msgspec.Struct, frozen=True):
    """Where an app goes on that was given a district's code."""

    district: str
    names: Texts
    time_zone: str
    issuer: str


class OAuth(Feature):
    """For clients and applications, and for apps that look for their district."""

    def __init__(self, auth: Auth) -> None:
        super().__init__(auth)
        self.grants: dict[str, Callable[[Call[TokenForm]], Awaitable[TokenIssued]]] = {
            "client_credentials": self.by_client,
            exchange.GRANT: self.by_exchange,
            "authorization_code": self.by_code,
            "refresh_token": self.by_refresh_token,
        }

    async def token(self, call: Call[TokenForm]) -> Reply:
        grant = self.grants.get(call.body.grant_type)
        if grant is None:
            raise Rejected("unsupported_grant_type")
        return Reply(200, await grant(call), {"Pragma": "no-cache"})

    async def by_client(self, call: Call[TokenForm]) -> TokenIssued:
        client = await tokens.authenticate(self.auth, *_credentials(call), call.now)
        call.noted["client"] = client.client_id
        issued = tokens.issue(self.auth, client, call.district, call.body.scope, call.now)
        return TokenIssued(issued.token, "Bearer", issued.life_s, issued.scope)

    async def by_exchange(self, call: Call[TokenForm]) -> TokenIssued:
        client, body = await tokens.authenticate(self.auth, *_credentials(call), call.now), call.body
        call.noted["client"] = client.client_id
        if body.requested_token_type not in (None, exchange.ACCESS_TOKEN):
            raise Rejected(
                "invalid_body", field="$.requested_token_type", problem="only an access token is given"
            )
        if not body.subject_token or body.subject_token_type != exchange.ACCESS_TOKEN:
            raise Rejected("subject_token_invalid")
        issued = await exchange.exchange(self.auth, occasion(call), client, body.subject_token, body.scope)
        return TokenIssued(issued.token, "Bearer", issued.life_s, issued.scope, exchange.ACCESS_TOKEN)

    async def by_code(self, call: Call[TokenForm]) -> TokenIssued:
        application, form = await self._application(call), call.body
        if form.code is None:
            raise Rejected("invalid_request", error_description="code is missing")
        return _issued(
            await sign_ons.redeem(
                self.auth,
                call.policy,
                application,
                form.code,
                form.redirect_uri or "",
                form.code_verifier,
                call.now,
            )
        )

    async def by_refresh_token(self, call: Call[TokenForm]) -> TokenIssued:
        application, form = await self._application(call), call.body
        if form.refresh_token is None:
            raise Rejected("invalid_request", error_description="refresh_token is missing")
        return _issued(
            await sign_ons.refresh(
                self.auth, call.policy, application, form.refresh_token, form.scope, call.now
            )
        )

    async def _application(self, call: Call[Any]) -> Application:
        form = call.body
        if form.client_assertion is None and form.client_assertion_type is None:
            return await applications.authenticate(self.auth, call.district, *_credentials(call), call.now)
        if form.client_assertion_type != client_keys.ASSERTION_TYPE or form.client_secret is not None:
            raise Rejected("invalid_client")
        application = await client_keys.authenticate(
            self.auth, call.district, form.client_assertion or "", call.now
        )
        if form.client_id not in (None, application.client_id):
            raise Rejected("invalid_client")
        if not applications.serves(application, call.district):
            raise Rejected("unauthorized_client")
        return application

    async def push(self, call: Call[PushedForm]) -> Reply:
        application, pairs = await self._application(call), read_pairs(call.raw, call.request, call.route)
        request_uri = await authorizing.push(self.auth, call.policy, application, pairs, call.now)
        life_s = int(oidc_rules.PUSHED_LIFE.total_seconds())
        return Reply(201, Pushed(request_uri, life_s))

    async def userinfo(self, call: Call[None]) -> Reply:
        assert call.caller is not None
        told = oidc_rules.claims_of(call.caller.claims["subject"], call.caller.scopes, call.policy)
        return Reply(200, told)

    async def discover(self, call: Call[None]) -> Reply:
        issuer, algorithms = sign_ons.issuer_of(self.auth, call.district), call.kit.signer.algorithms()
        told = oidc_rules.discovery(issuer, call.policy, self.grants, algorithms)
        return Reply(200, told, _KEPT)

    async def introspect(self, call: Call[InspectedForm]) -> Reply:
        if sign_ons.is_ours(call.body.token):
            asker = await self._asker(call)
            return Reply(
                200, await sign_ons.introspect(self.auth, call.policy, asker, call.body.token, call.now)
            )
        await tokens.may_introspect(self.auth, call.district, *_credentials(call), call.now)
        return Reply(200, await tokens.introspect(self.auth, call.policy, call.body.token, call.now))

    def introspect_at_once(self, asked: Asked) -> bytes | None:
        """A session, for a client that shows its secret by Basic."""
        field, _, token = asked.body.partition(b"=")  # with more fields it is no token that anybody remembers
        if field != b"token" or asked.headers.get(hdrs.CONTENT_TYPE) != FORM_TYPE:
            return None
        client = tokens.remembered_client(self.auth, asked.authorization, asked.now)
        if client is None or "introspect" not in client.scopes or not client.serves(asked.policy.district):
            return None
        checked = session_checks.remembered(self.auth, asked.policy, hash_token(token), asked.now)
        if checked is None:
            return None
        return checked.reply(
            "introspection", lambda: tokens.session_attributes(self.auth, asked.policy, checked.session)
        )

    async def _asker(self, call: Call[InspectedForm]) -> Application | None:
        """The application that asks about a token of its own; none for whoever may ask about every one."""
        authorization, form = _credentials(call)
        if call.body.client_assertion is not None:
            return await self._application(call)
        try:
            await tokens.may_introspect(self.auth, call.district, authorization, form, call.now)
        except Rejected as refusal:
            if refusal.reason != "scope_missing":
                raise
        else:
            return None
        return await self._application(call)

    async def revoke(self, call: Call[InspectedForm]) -> Reply:
        if sign_ons.is_ours(call.body.token):
            await sign_ons.revoke(self.auth, await self._application(call), call.body.token)
            return Reply(200)
        client = await tokens.authenticate(self.auth, *_credentials(call), call.now)
        if not client.serves(call.district):
            raise Rejected("unauthorized_client")
        await tokens.revoke(self.auth, call.district, call.body.token)
        return Reply(200)

    async def show_keys(self, call: Call[None]) -> Reply:
        return Reply(200, call.kit.keys.jwks("auth"), _KEPT)

    async def show_district(self, call: Call[None]) -> Reply:
        policy = call.kit.policies.by_code(call.path["code"])
        if policy is None:
            raise Rejected("not_found")
        issuer = sign_ons.issuer_of(self.auth, policy.district)
        return Reply(200, DistrictView(policy.district, policy.names, policy.time_zone, issuer))

    def routes(self) -> list[Route]:
        def form(
            path: str,
            handler: Handler,
            summary: str,
            body: Any,
            success: Any,
            quick: Quick | None = None,
            audit: str = "",
            **refusals: int,
        ) -> Route:
            told = {**CLIENT_REFUSALS, **refusals}
            return Route(
                "POST", f"{DISTRICT}/{path}", handler, summary=summary, body=body, success={200: success},
                refusals=told, form=True, quick=quick, audit=audit,
            )  # fmt: skip

        return [
            Route(
                "POST", f"{DISTRICT}/par", self.push,
                summary="Push what `authorize` is to ask ahead of the browser (RFC 9126).",
                body=PushedForm, success={201: Pushed}, form=True,
                refusals=CLIENT_REFUSALS | {
                    "invalid_request": 400, "invalid_scope": 400, "unauthorized_client": 400,
                    "unsupported_response_type": 400, "request_not_supported": 400, "request_uri_not_supported": 400,
                    "registration_not_supported": 400,
                },
            ),
            form(
                "token", self.token,
                "Tokens: for a client's secret, a code or a refresh token (RFC 6749), and for a session of a member of"
                " the staff (RFC 8693, token exchange).",
                TokenForm, TokenIssued, audit="token",
                unsupported_grant_type=400, invalid_scope=400, unauthorized_client=400, invalid_grant=400,
                invalid_request=400, subject_token_invalid=400, role_missing=400,
            ),
            form(
                "introspect", self.introspect, "What a token is worth (RFC 7662).", InspectedForm, dict[str, Any],
                quick=self.introspect_at_once,
                scope_missing=403, unauthorized_client=400, token_invalid=401, token_expired=401,
                district_forbidden=403,
            ),
            form(
                "revoke", self.revoke, "End a session, or an application's token (RFC 7009).", InspectedForm, None,
                unauthorized_client=400, unsupported_token_type=400,
            ),
            Route(
                "GET", f"{DISTRICT}/jwks", self.show_keys,
                summary="The public keys of auth's tokens (RFC 7517).",
                success={200: dict[str, Any]}, needs_store=False,
            ),
            Route(
                "GET", f"{DISTRICT}/.well-known/openid-configuration", self.discover,
                summary="What this issuer offers (OpenID Connect Discovery).",
                success={200: dict[str, Any]}, needs_store=False,
            ),
            Route(
                "GET", "/.well-known/oauth-authorization-server/v1/districts/{district}", self.discover,
                summary="The same where RFC 8414 looks for it.",
                success={200: dict[str, Any]}, needs_store=False,
            ),
            *(
                Route(
                    method, f"{DISTRICT}/userinfo", self.userinfo,
                    summary="Who has signed in, as far as was asked for (OpenID Connect Core, 5.3).",
                    caller=APPLICATION, success={200: dict[str, Any]},
                )
                for method in USERINFO_METHODS
            ),
            Route(
                "GET", "/v1/district-codes/{code}", self.show_district,
                summary="The district of a code, for an app.", success={200: DistrictView}, needs_store=False,
            ),
        ]  # fmt: skip


def _issued(granted: sign_ons.Granted) -> TokenIssued:
    return TokenIssued(
        granted.access_token,
        "Bearer",
        granted.expires_in,
        granted.scope,
        id_token=granted.id_token,
        refresh_token=granted.refresh_token,
    )


def _credentials(call: Call[Any]) -> tuple[list[str], dict[str, str | None]]:
    """How a client shows who it is at the OAuth endpoints: its Authorization headers, or fields of the form."""
    form = {"client_id": call.body.client_id, "client_secret": call.body.client_secret}
    return call.request.headers.getall(hdrs.AUTHORIZATION, []), form
