"""The routes of auth: an HTTP request becomes a command or a question, and what comes of it a reply."""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
from aiohttp import hdrs
from msgspec import Meta

from services.auth import handlers, recovery, sessions, tokens
from services.auth.decider import Answer, Claim
from services.auth.handlers import Auth, Occasion, Standing
from services.auth.recovery import RecoveryBegun
from services.auth.sessions import Session, SessionOpened
from shared.auth import PUBLIC, RECOVERY, SESSION, TICKET, Authenticator, Caller, Scope
from shared.database import Connection
from shared.errors import Rejected
from shared.once import once
from shared.policy import Texts
from shared.web import Body, Call, Handler, Reply, Route

DISTRICT = "/v1/districts/{district}"
UNIFORM_S = (
    0.1  # refusals of wrong credentials and recoveries leave at a multiple of this after the request came
)
KEYS_MAX_AGE_S = 300
PASSWORD_REFUSALS = {
    "password_short": 422, "password_long": 422, "password_common": 422, "password_used_before": 422,
}  # fmt: skip
ANSWER_REFUSALS = {"answers_wrong_count": 422, "answers_repeated": 422, "answer_invalid": 422}
CLAIM_REFUSALS = {"claim_sealed": 409, "claim_expired": 409, "claim_superseded": 409, "claim_rejected": 409}
CLIENT_REFUSALS = {"invalid_client": 401}

Username = Annotated[str, Meta(max_length=255)]
Typed = Annotated[
    str, Meta(max_length=4096)
]  # what no rule reads; a rule's own bounds have their own reasons
DeskTicket = Annotated[
    str, Meta(min_length=1, max_length=64, description="The help desk's own ticket number.")
]


class PasswordBody(Body, frozen=True, kw_only=True):
    password: Typed


class AnswersBody(Body, frozen=True, kw_only=True):
    answers: Annotated[list[Answer], Meta(max_length=50)]


class ProofBody(Body, frozen=True, kw_only=True):
    """Either the answers to the questions, or the help desk's one-time code."""

    answers: Annotated[list[Answer], Meta(max_length=50)] | None = None
    code: Annotated[str, Meta(max_length=64)] | None = None


class SignInBody(Body, frozen=True, kw_only=True):
    username: Username
    password: Typed


class ChangeBody(Body, frozen=True, kw_only=True):
    current: Typed
    new: Typed


class RecoveryBody(Body, frozen=True, kw_only=True):
    username: Username


class DeskBody(Body, frozen=True, kw_only=True):
    desk_ticket: DeskTicket | None = None


class DeskQuery(DeskBody, frozen=True, kw_only=True):
    """The same, where there is no body."""


class TokenForm(msgspec.Struct, frozen=True):
    grant_type: str
    scope: str | None = None
    client_id: str | None = None
    client_secret: str | None = None


class InspectedForm(msgspec.Struct, frozen=True):
    token: str
    token_type_hint: str | None = None
    client_id: str | None = None
    client_secret: str | None = None


class ClientBody(Body, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    scopes: Annotated[list[str], Meta(min_length=1, max_length=20)]
    districts: Annotated[
        list[str], Meta(min_length=1, max_length=100, description="Slugs; `*` is every district.")
    ]
    human: Annotated[bool, Meta(description="Exactly one person's, who answers for what it does.")] = False


class RotateBody(Body, frozen=True, kw_only=True):
    overlap_minutes: Annotated[
        int,
        Meta(
            ge=0,
            le=7 * 24 * 60,
            description="How long the present secret still counts; older ones as long as was promised of them."
            " 0: the new one alone counts, at once.",
        ),
    ] = 60


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    person_id: UUID
    username: str
    created_at: datetime
    expires_at: datetime
    idle_expires_at: datetime


class CodeIssued(msgspec.Struct, frozen=True):
    """`code` is shown once; the pupil types it where the answers would go."""

    code: str
    expires_at: datetime


class TokenIssued(msgspec.Struct, frozen=True):
    access_token: str
    token_type: str
    expires_in: int
    scope: str


class ClientMade(msgspec.Struct, frozen=True):
    """`secret` is shown once."""

    id: str
    secret: str


class ClientRotated(msgspec.Struct, frozen=True):
    """`secret` is shown once; the one before counts until `previous_until`."""

    id: str
    secret: str
    previous_until: datetime


class ClientView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    scopes: list[str]
    districts: list[str]
    human: bool
    created_at: datetime
    rotated_at: datetime | None
    previous_until: datetime | None


class ClientsView(msgspec.Struct, frozen=True):
    clients: list[ClientView]


class DistrictView(msgspec.Struct, frozen=True):
    """Where an app goes on that was given a district's code."""

    district: str
    names: Texts
    time_zone: str
    issuer: str


class Api:
    """One method for each route."""

    def __init__(self, auth: Auth) -> None:
        self.auth = auth

    # A claim's last two steps

    async def put_password(self, call: Call[PasswordBody]) -> Reply:
        etag = await handlers.put_password(self.auth, _occasion(call), _claim(call), call.body.password)
        return Reply(200, None, {"ETag": f'"{etag}"'})

    async def put_answers(self, call: Call[AnswersBody]) -> Reply:
        etags = _etags(call)
        standing = await handlers.put_answers(
            self.auth, _occasion(call), _claim(call), etags, call.body.answers
        )
        if standing.state == "completed":
            return Reply(200, standing)
        return Reply(202, standing, {"Location": f"/v1/districts/{call.district}/claims/{standing.claim_id}"})

    async def show_claim(self, call: Call[None]) -> Reply:
        return Reply(200, await handlers.claim_standing(self.auth, _occasion(call), _claim(call)))

    # Sessions

    async def sign_in(self, call: Call[SignInBody]) -> Reply:
        body = call.body
        return Reply(201, await sessions.sign_in(self.auth, _occasion(call), body.username, body.password))

    async def show_session(self, call: Call[None]) -> Reply:
        return Reply(200, msgspec.convert(_session(call)[0], SessionView, from_attributes=True))

    async def sign_out(self, call: Call[None]) -> Reply:
        await sessions.end_session(self.auth, call.district, _session(call)[1])
        return Reply(204)

    async def end_sessions(self, call: Call[None]) -> Reply:
        await sessions.end_sessions(self.auth, _occasion(call), call.uuid("person_id"), _actor(call))
        return Reply(204)

    async def change_password(self, call: Call[ChangeBody]) -> Reply:
        session, token = _session(call)
        body = call.body
        await sessions.change_password(self.auth, _occasion(call), session, token, body.current, body.new)
        return Reply(204)

    # Recovery

    async def begin_recovery(self, call: Call[RecoveryBody]) -> Reply:
        return Reply(201, await recovery.begin(self.auth, _occasion(call), call.body.username))

    async def answer_recovery(self, call: Call[ProofBody]) -> Reply:
        recovery_id, body = _recovery(call), call.body
        if body.code is not None and body.answers is None:
            await recovery.enter_code(self.auth, _occasion(call), recovery_id, body.code)
        elif body.answers is not None and body.code is None:
            await recovery.answer(self.auth, _occasion(call), recovery_id, body.answers)
        else:
            raise Rejected("invalid_body", field="$", problem="either `answers` or `code`")
        return Reply(200, {"state": "opened"})

    async def recover(self, call: Call[PasswordBody]) -> Reply:
        await recovery.put_password(self.auth, _occasion(call), _recovery(call), call.body.password)
        return Reply(204)

    async def issue_code(self, call: Call[DeskBody]) -> Reply:
        async def work(conn: Connection) -> Reply:
            code, expires_at = await recovery.issue_code(
                self.auth, conn, _occasion(call), call.uuid("person_id"), _actor(call), call.body.desk_ticket
            )
            return Reply(201, CodeIssued(code, expires_at))

        return await once(call, call.kit.db, work, shown_once=True)

    async def lift_lockout(self, call: Call[None]) -> Reply:
        await recovery.lift_lockout(
            self.auth, _occasion(call), call.uuid("person_id"), _actor(call), call.query.desk_ticket
        )
        return Reply(204)

    # Machines and staff

    async def token(self, call: Call[TokenForm]) -> Reply:
        if call.body.grant_type != "client_credentials":
            raise Rejected("unsupported_grant_type")
        client = await tokens.authenticate(self.auth, *_credentials(call), call.now)
        issued = tokens.issue(self.auth, client, call.district, call.body.scope, call.now)
        life_s = int(tokens.TOKEN_LIFE.total_seconds())
        return Reply(200, TokenIssued(issued.token, "Bearer", life_s, issued.scope), {"Pragma": "no-cache"})

    async def introspect(self, call: Call[InspectedForm]) -> Reply:
        await tokens.may_introspect(self.auth, call.district, *_credentials(call), call.now)
        return Reply(200, await tokens.introspect(self.auth, call.policy, call.body.token, call.now))

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

    async def create_client(self, call: Call[ClientBody]) -> Reply:
        async def work(conn: Connection) -> Reply:
            body = call.body
            client_id, secret = await tokens.create_client(
                self.auth, conn, body.name, body.scopes, body.districts, body.human, call.now
            )
            return Reply(201, ClientMade(client_id, secret))

        return await once(call, call.kit.db, work, shown_once=True)

    async def rotate_client(self, call: Call[RotateBody]) -> Reply:
        client_id, overlap = call.path["client_id"], timedelta(minutes=call.body.overlap_minutes)

        async def work(conn: Connection) -> Reply:
            secret, until = await tokens.rotate_client(conn, client_id, overlap, call.now)
            return Reply(200, ClientRotated(client_id, secret, until))

        return await once(call, call.kit.db, work, shown_once=True)

    async def list_clients(self, call: Call[None]) -> Reply:
        async with call.kit.db.connection() as conn:
            rows = await tokens.list_clients(conn, call.now)
        return Reply(200, ClientsView([ClientView(**row) for row in rows]))


def _occasion(call: Call[Any]) -> Occasion:
    return Occasion(call.policy, call.now, call.cause)


def _claim(call: Call[Any]) -> Claim:
    """What the ticket says, if it is the one of this claim."""
    assert call.caller is not None
    ticket = call.caller.claims
    if ticket.get("jti") != str(call.uuid("claim_id")):
        raise Rejected("not_found")
    try:
        return Claim(
            claim_id=call.uuid("claim_id"),
            person_id=UUID(call.caller.subject),
            generation=int(ticket["generation"]),
            username=str(ticket["username"]),
            expires_at=datetime.fromtimestamp(ticket["exp"], call.now.tzinfo),
        )
    except (KeyError, ValueError):
        raise Rejected("token_invalid") from None


def _etags(call: Call[Any]) -> frozenset[str]:
    """The strong tags of If-Match, or `*`."""
    header = ",".join(call.request.headers.getall(hdrs.IF_MATCH, []))
    if not header.strip():
        raise Rejected("if_match_missing")
    return frozenset(["*"] if header.strip() == "*" else re.findall(r'(?:^|,)\s*"([^"]*)"', header))


def _recovery(call: Call[Any]) -> UUID:
    """The recovery of the path, if it is the ticket's."""
    assert call.caller is not None
    recovery_id = call.uuid("recovery_id")
    if call.caller.subject != str(recovery_id):
        raise Rejected("not_found")
    return recovery_id


def _session(call: Call[Any]) -> tuple[Session, str]:
    """The caller's session and its token."""
    assert call.caller is not None
    return call.caller.claims["session"], call.caller.claims["token"]


def _actor(call: Call[Any]) -> str:
    assert call.caller is not None
    return call.caller.subject


def _credentials(call: Call[Any]) -> tuple[list[str], dict[str, str | None]]:
    """How a client shows who it is at the OAuth endpoints: its Authorization headers, or fields of the form."""
    form = {"client_id": call.body.client_id, "client_secret": call.body.client_secret}
    return call.request.headers.getall(hdrs.AUTHORIZATION, []), form


def session_authenticator(auth: Auth) -> Authenticator:
    """How a session's token is looked up."""

    async def authenticate(token: str, district: str, now: datetime) -> Caller:
        session = await sessions.find_session(auth, auth.kit.policies.get(district), token, now)
        if session is None:
            raise Rejected("token_invalid")
        claims = {"session": session, "token": token}
        return Caller(str(session.person_id), "session", district, claims=claims, name=session.username)

    return authenticate


def routes(auth: Auth) -> list[Route]:
    """The table of routes; also teaches the kit how this service knows its callers."""
    kit, api = auth.kit, Api(auth)
    kit.authenticators["session"] = session_authenticator(auth)
    return [
        *_claim_routes(api),
        *_session_routes(api),
        *_recovery_routes(api),
        *_oauth_routes(api),
        *_operator_routes(api),
    ]


def _claim_routes(api: Api) -> list[Route]:
    claim = f"{DISTRICT}/claims/{{claim_id}}"
    return [
        Route(
            "PUT", f"{claim}/password", api.put_password,
            summary="A claim's password; its ETag is for the answers. Replaces the one before.",
            caller=TICKET, body=PasswordBody, success={200: None},
            refusals={**PASSWORD_REFUSALS, **CLAIM_REFUSALS, "claim_passwords_used_up": 409},
        ),
        Route(
            "PUT", f"{claim}/answers", api.put_answers,
            summary="A claim's answers, which complete it. 200: sign in now. 202: ask at the Location.",
            caller=TICKET, body=AnswersBody, success={200: Standing, 202: Standing},
            refusals={
                **ANSWER_REFUSALS, **CLAIM_REFUSALS,
                "password_missing": 409, "password_replaced": 412, "if_match_missing": 428,
            },
        ),
        Route(
            "GET", claim, api.show_claim,
            summary="How the claim of this ticket stands here: completed means that signing in works.",
            caller=TICKET, success={200: Standing},
        ),
    ]  # fmt: skip


def _session_routes(api: Api) -> list[Route]:
    wrong = {"authentication_failed": UNIFORM_S}
    return [
        Route(
            "POST", f"{DISTRICT}/sessions", api.sign_in,
            summary="Sign in with username and password.",
            caller=PUBLIC, body=SignInBody, success={201: SessionOpened},
            refusals={"authentication_failed": 401, "sign_in_paused": 429}, uniform_s=wrong,
        ),
        Route(
            "GET", f"{DISTRICT}/sessions/current", api.show_session,
            summary="Whose session this is.",
            caller=SESSION, success={200: SessionView},
        ),
        Route(
            "DELETE", f"{DISTRICT}/sessions/current", api.sign_out,
            summary="Sign out.",
            caller=SESSION, success={204: None},
        ),
        Route(
            "DELETE", f"{DISTRICT}/accounts/{{person_id}}/sessions", api.end_sessions,
            summary="Sign a pupil out everywhere.",
            caller=Scope("desk"), success={204: None}, refusals={"person_unknown": 404},
        ),
        Route(
            "PUT", f"{DISTRICT}/password", api.change_password,
            summary="A new password for who is signed in; other sessions end.",
            caller=SESSION, body=ChangeBody, success={204: None},
            refusals={**PASSWORD_REFUSALS, "authentication_failed": 403, "sign_in_paused": 429}, uniform_s=wrong,
        ),
    ]  # fmt: skip


def _recovery_routes(api: Api) -> list[Route]:
    recovery_, person = f"{DISTRICT}/recoveries/{{recovery_id}}", f"{DISTRICT}/accounts/{{person_id}}"
    uniform = {"recovery_refused": UNIFORM_S}
    return [
        Route(
            "POST", f"{DISTRICT}/recoveries", api.begin_recovery,
            summary="Forgot my password: three questions, whether the username exists or not.",
            caller=PUBLIC, body=RecoveryBody, success={201: RecoveryBegun},
            refusals={"recovery_refused": 403}, uniform_s=uniform,
        ),
        Route(
            "POST", f"{recovery_}/answers", api.answer_recovery,
            summary="Open a recovery by its answers, or by the help desk's code.",
            caller=RECOVERY, body=ProofBody, success={200: dict[str, str]},
            refusals={"recovery_refused": 403, "answers_wrong_count": 422, "answer_invalid": 422}, uniform_s=uniform,
        ),
        Route(
            "PUT", f"{recovery_}/password", api.recover,
            summary="The new password of an opened recovery; every session ends.",
            caller=RECOVERY, body=PasswordBody, success={204: None},
            refusals={**PASSWORD_REFUSALS, "recovery_refused": 403}, uniform_s=uniform,
        ),
        Route(
            "POST", f"{person}/recovery-codes", api.issue_code,
            summary="A one-time code with which a pupil opens a recovery at once.",
            caller=Scope("desk"), body=DeskBody, success={201: CodeIssued},
            refusals={"person_unknown": 404, "not_claimed": 409},
        ),
        Route(
            "DELETE", f"{person}/lockout", api.lift_lockout,
            summary="Forget the wrong passwords and answers of an account.",
            caller=Scope("desk"), query=DeskQuery, success={204: None}, refusals={"person_unknown": 404},
        ),
    ]  # fmt: skip


def _oauth_routes(api: Api) -> list[Route]:
    def form(path: str, handler: Handler, summary: str, body: Any, success: Any, **refusals: int) -> Route:
        told = {**CLIENT_REFUSALS, **refusals}
        return Route(
            "POST", f"{DISTRICT}/{path}", handler, summary=summary, body=body, success={200: success}, refusals=told,
            form=True,
        )  # fmt: skip

    return [
        form(
            "token", api.token, "A client's access token (RFC 6749, client credentials).", TokenForm, TokenIssued,
            unsupported_grant_type=400, invalid_scope=400, unauthorized_client=400,
        ),
        form(
            "introspect", api.introspect, "What a token is worth (RFC 7662).", InspectedForm, dict[str, Any],
            scope_missing=403, token_invalid=401, token_expired=401, district_forbidden=403,
        ),
        form(
            "revoke", api.revoke, "End a session by its token (RFC 7009).", InspectedForm, None,
            unauthorized_client=400, unsupported_token_type=400,
        ),
        Route(
            "GET", f"{DISTRICT}/jwks", api.show_keys,
            summary="The public keys of auth's tokens (RFC 7517).", success={200: dict[str, Any]}, needs_store=False,
        ),
        Route(
            "GET", "/v1/district-codes/{code}", api.show_district,
            summary="The district of a code, for an app.", success={200: DistrictView}, needs_store=False,
        ),
    ]  # fmt: skip


def _operator_routes(api: Api) -> list[Route]:
    clients, operator = "/v1/operations/clients", Scope("operator")
    return [
        Route(
            "POST", clients, api.create_client,
            summary="A new client; its secret is shown once.",
            caller=operator, body=ClientBody, success={201: ClientMade},
            refusals={"scope_unknown": 422, "client_district_unknown": 422},
        ),
        Route(
            "GET", clients, api.list_clients,
            summary="The clients, without their secrets.", caller=operator, success={200: ClientsView},
        ),
        Route(
            "POST", f"{clients}/{{client_id}}/rotate", api.rotate_client,
            summary="A new secret for a client; the present one still counts for a while.",
            caller=operator, body=RotateBody, success={200: ClientRotated}, refusals={"secrets_overlap": 409},
        ),
    ]  # fmt: skip
