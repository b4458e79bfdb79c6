"""The routes by which people sign in to applications: for their browsers, and for the portal that asks who they are."""

from datetime import datetime
from typing import Any

import msgspec

from services.auth import authorizing, logouts
from services.auth.authorizing import Onward
from services.auth.calls import DISTRICT, Feature, ReturnQuery, redirect
from shared.auth import SESSION
from shared.errors import Rejected
from shared.web import Call, Reply, Route

LONGEST_QUERY = 6 * 1024  # below what the server takes for a line


class AuthorizeQuery(msgspec.Struct, frozen=True):
    """RFC 6749, 4.1.1; RFC 7636, 4.3; OpenID Connect Core, 3.1.2.1. What else there is, is passed over."""

    client_id: str
    redirect_uri: str
    response_type: str
    scope: str
    code_challenge: str | None = None
    code_challenge_method: str | None = None
    state: str | None = None
    nonce: str | None = None
    prompt: str | None = None
    max_age: str | None = None
    login_hint: str | None = None
    ui_locales: str | None = None
    response_mode: str | None = None
    request_uri: str | None = None


class LogoutQuery(msgspec.Struct, frozen=True):
    """OpenID Connect RP-Initiated Logout 1.0, 2."""

    id_token_hint: str | None = None
    client_id: str | None = None
    post_logout_redirect_uri: str | None = None
    state: str | None = None


class AuthorizationView(msgspec.Struct, frozen=True, kw_only=True):
    """`signed_in_since`: an older session is not an answer to what the application asked; none: every living one is."""

    application: str
    client_id: str
    scopes: tuple[str, ...]
    prompts: tuple[str, ...]
    login_hint: str | None
    ui_locales: str | None
    signed_in_since: datetime | None
    expires_at: datetime


class Accepted(msgspec.Struct, frozen=True):
    """Where the front end sends the browser, which is known again there."""

    location: str


class Authorize(Feature):
    """Single sign-on."""

    async def authorize(self, call: Call[Any]) -> Reply:
        found = await authorizing.begin(self.auth, call.policy, call.pairs, call.request.cookies, call.now)
        return redirect(found)

    async def log_out(self, call: Call[Any]) -> Reply:
        found = await logouts.log_out(self.auth, call.policy, call.pairs, call.request.cookies, call.now)
        return redirect(found)

    async def repeat_as_get(self, call: Call[Any]) -> Reply:
        """A form that another site posts brings no cookies along; the GET that it leads to does."""
        query = call.raw.decode("ascii", "replace")
        if len(query) > LONGEST_QUERY:
            raise Rejected("body_too_large", limit_bytes=LONGEST_QUERY)
        if not query.isascii() or any(character <= " " for character in query):
            raise Rejected("malformed_request")
        return redirect(Onward(f"{self.auth.kit.settings.issuer}{call.request.path}?{query}"))

    async def show(self, call: Call[None]) -> Reply:
        found = await authorizing.find_pending(
            self.auth, call.district, call.uuid("authorization_id"), call.now
        )
        asked = found.asked
        return Reply(
            200,
            AuthorizationView(
                application=found.application,
                client_id=found.client_id,
                scopes=asked.scopes,
                prompts=asked.prompts,
                login_hint=asked.login_hint,
                ui_locales=asked.ui_locales,
                signed_in_since=authorizing.signed_in_since(found, call.now),
                expires_at=found.expires_at,
            ),
        )

    async def accept(self, call: Call[None]) -> Reply:
        assert call.caller is not None
        token = call.caller.claims["token"]
        where = await authorizing.accept(
            self.auth, call.policy, call.uuid("authorization_id"), token, call.now
        )
        return Reply(200, Accepted(where))

    async def complete(self, call: Call[None]) -> Reply:
        proof = dict(call.pairs).get("accepted", "")
        found = await authorizing.complete(
            self.auth, call.policy, call.uuid("authorization_id"), proof, call.request.cookies, call.now
        )
        return redirect(found)

    def routes(self) -> list[Route]:
        def page(method: Any, path: str, handler: Any, summary: str, shape: Any, **refusals: int) -> Route:
            described = {"query": shape} if method == "GET" else {"body": shape}
            return Route(
                method, f"{DISTRICT}/{path}", handler, summary=summary, **described, success={303: None},
                refusals=refusals, pairs=True, page=True, form=method == "POST",
            )  # fmt: skip

        asked = f"{DISTRICT}/authorizations/{{authorization_id}}"
        return [
            page(
                "GET", "authorize", self.authorize,
                "Where applications send people to sign in (RFC 6749, OpenID Connect).", AuthorizeQuery,
                application_unknown=400, redirect_uri_unknown=400, request_uri_unknown=400,
            ),
            page("POST", "authorize", self.repeat_as_get, "The same, posted.", AuthorizeQuery),
            Route(
                "GET", asked, self.show,
                summary="What an application waits for; for the portal that signs its person in.",
                success={200: AuthorizationView},
            ),
            Route(
                "POST", f"{asked}/acceptance", self.accept,
                summary="Its person has signed in: where the browser goes on.",
                caller=SESSION, success={200: Accepted}, refusals={"sign_in_again": 403},
            ),
            page(
                "GET", "authorizations/{authorization_id}/return", self.complete,
                "Where the portal sends the browser back to, and the application gets its code.", ReturnQuery,
                authorization_ended=400,
            ),
            page(
                "GET", "logout", self.log_out, "Sign out at an application's word (RP-Initiated Logout).", LogoutQuery,
                logout_invalid=400, redirect_uri_unknown=400,
            ),
            page("POST", "logout", self.repeat_as_get, "The same, posted.", LogoutQuery),
        ]  # fmt: skip
