"""The routes of machines and staff as the RFCs say: tokens, what they are worth, and the keys to check them with."""

from typing import Any

import msgspec
from aiohttp import hdrs

from services.auth import exchange, session_checks, tokens
from services.auth.calls import DISTRICT, Feature, occasion
from services.auth.passwords import hash_token
from shared.errors import Rejected
from shared.policy import Texts
from shared.quick import Asked, Quick
from shared.reading import FORM_TYPE
from shared.web import Call, Handler, Reply, Route

KEYS_MAX_AGE_S = 300
CLIENT_REFUSALS = {"invalid_client": 401}


class TokenForm(msgspec.Struct, frozen=True):
    grant_type: str
    scope: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    subject_token: str | None = None
    subject_token_type: str | None = None
    requested_token_type: str | None = None


class InspectedForm(msgspec.Struct, frozen=True):
    token: str
    token_type_hint: str | None = None
    client_id: str | None = None
    client_secret: str | None = None


class TokenIssued(msgspec.Struct, frozen=True, omit_defaults=True):
    access_token: str
    token_type: str
    expires_in: int
    scope: str
    issued_token_type: str | None = None  # of an exchange


class DistrictView(msgspec.Struct, frozen=True):
    """Where an app goes on that was given a district's code."""

    district: str
    names: Texts
    time_zone: str
    issuer: str


class OAuth(Feature):
    """For clients, and for apps that look for their district."""

    async def token(self, call: Call[TokenForm]) -> Reply:
        body, kind = call.body, None
        if body.grant_type not in ("client_credentials", exchange.GRANT):
            raise Rejected("unsupported_grant_type")
        client = await tokens.authenticate(self.auth, *_credentials(call), call.now)
        if body.grant_type == exchange.GRANT:
            issued, kind = await self._exchange(call, client), exchange.ACCESS_TOKEN
        else:
            issued = tokens.issue(self.auth, client, call.district, body.scope, call.now)
        reply = TokenIssued(issued.token, "Bearer", issued.life_s, issued.scope, kind)
        return Reply(200, reply, {"Pragma": "no-cache"})

    async def _exchange(self, call: Call[TokenForm], client: tokens.Client) -> tokens.Issued:
        body = call.body
        if body.requested_token_type not in (None, exchange.ACCESS_TOKEN):
            raise Rejected(
                "invalid_body", field="$.requested_token_type", problem="only an access token is given"
            )
        if not body.subject_token or body.subject_token_type != exchange.ACCESS_TOKEN:
            raise Rejected("subject_token_invalid")
        return await exchange.exchange(self.auth, occasion(call), client, body.subject_token, body.scope)

    async def introspect(self, call: Call[InspectedForm]) -> Reply:
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

    async def revoke(self, call: Call[InspectedForm]) -> Reply:
        client = await tokens.authenticate(self.auth, *_credentials(call), call.now)
        if not client.serves(call.district):
            raise Rejected("unauthorized_client")
        await tokens.revoke(self.auth, call.district, call.body.token)
        return Reply(200)

    async def show_keys(self, call: Call[None]) -> Reply:
        return Reply(200, call.kit.keys.jwks("auth"), {"Cache-Control": f"public, max-age={KEYS_MAX_AGE_S}"})

    async def show_district(self, call: Call[None]) -> Reply:
        policy = call.kit.policies.by_code(call.path["code"])
        if policy is None:
            raise Rejected("not_found")
        issuer = f"{call.kit.settings.issuer}/v1/districts/{policy.district}"
        return Reply(200, DistrictView(policy.district, policy.names, policy.time_zone, issuer))

    def routes(self) -> list[Route]:
        def form(
            path: str,
            handler: Handler,
            summary: str,
            body: Any,
            success: Any,
            quick: Quick | None = None,
            **refusals: int,
        ) -> Route:
            told = {**CLIENT_REFUSALS, **refusals}
            return Route(
                "POST", f"{DISTRICT}/{path}", handler, summary=summary, body=body, success={200: success},
                refusals=told, form=True, quick=quick,
            )  # fmt: skip

        return [
            form(
                "token", self.token,
                "A client's access token (RFC 6749, client credentials), or that of a member of the staff for their"
                " session (RFC 8693, token exchange).",
                TokenForm, TokenIssued,
                unsupported_grant_type=400, invalid_scope=400, unauthorized_client=400, subject_token_invalid=400,
                role_missing=400,
            ),
            form(
                "introspect", self.introspect, "What a token is worth (RFC 7662).", InspectedForm, dict[str, Any],
                quick=self.introspect_at_once,
                scope_missing=403, token_invalid=401, token_expired=401, district_forbidden=403,
            ),
            form(
                "revoke", self.revoke, "End a session by its token (RFC 7009).", InspectedForm, None,
                unauthorized_client=400, unsupported_token_type=400,
            ),
            Route(
                "GET", f"{DISTRICT}/jwks", self.show_keys,
                summary="The public keys of auth's tokens (RFC 7517).",
                success={200: dict[str, Any]}, needs_store=False,
            ),
            Route(
                "GET", "/v1/district-codes/{code}", self.show_district,
                summary="The district of a code, for an app.", success={200: DistrictView}, needs_store=False,
            ),
        ]  # fmt: skip


def _credentials(call: Call[Any]) -> tuple[list[str], dict[str, str | None]]:
    """How a client shows who it is at the OAuth endpoints: its Authorization headers, or fields of the form."""
    form = {"client_id": call.body.client_id, "client_secret": call.body.client_secret}
    return call.request.headers.getall(hdrs.AUTHORIZATION, []), form
