"""The routes of applications that register themselves, and of the operator who lets them."""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
import structlog
from aiohttp import hdrs
from msgspec import Meta

from services.auth import registration
from services.auth.calls import DISTRICT, Feature, actor
from services.auth.oidc_rules import SCOPES
from services.auth.registration_rules import HOST, MAX_HOST, Allowed, Metadata, Registered
from shared.auth import Scope, bearer
from shared.database import Connection
from shared.errors import Rejected
from shared.once import once
from shared.web import Body, Call, Reply, Route

TOKENS = "/v1/operations/registration-tokens"
BODY_LIMIT_BYTES = 32 * 1024
log = structlog.get_logger(__name__)


class RegistrationTokenBody(Body, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=100, description="Whom it is given to.")]
    district: Annotated[str, Meta(min_length=1, max_length=63)]
    redirect_hosts: Annotated[
        list[Annotated[str, Meta(max_length=MAX_HOST, pattern=f"^(?:{HOST})$")]],
        Meta(
            min_length=1,
            max_length=20,
            description="At which the applications' addresses have to be, `app.example.org`; of native ones"
            " `127.0.0.1`, `[::1]` or a scheme with its colon, `org.example.app:`.",
        ),
    ]
    scopes: Annotated[
        list[str], Meta(min_length=1, max_length=20, description="What they may ask for at most.")
    ] = msgspec.field(default_factory=lambda: ["openid"])
    uses: Annotated[int, Meta(ge=1, le=1000)] = 1
    days: Annotated[int, Meta(ge=1, le=365)] = 7


class RegistrationTokenMade(msgspec.Struct, frozen=True):
    """`token` is shown once."""

    id: UUID
    token: str
    expires_at: datetime


class RegistrationTokenView(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    district: str
    name: str
    redirect_hosts: list[str]
    scopes: list[str]
    uses_left: int
    created_at: datetime
    expires_at: datetime


class RegistrationTokensView(msgspec.Struct, frozen=True):
    registration_tokens: list[RegistrationTokenView]


class Registration(Feature):
    """Tokens are an operator's of every district to give; who has one needs nothing else."""

    async def make_token(self, call: Call[RegistrationTokenBody]) -> Reply:
        said = call.body
        if "openid" not in said.scopes or not set(said.scopes) <= set(SCOPES):
            problem = f"openid, and of the others {', '.join(SCOPES[1:])}"
            raise Rejected("application_invalid", field="scopes", problem=problem)

        async def work(conn: Connection) -> Reply:
            made = await registration.make_token(
                self.auth, conn, district=said.district, name=said.name,
                allowed=Allowed(said.redirect_hosts, said.scopes), uses=said.uses, life=timedelta(days=said.days),
                now=call.now,
            )  # fmt: skip
            return Reply(201, RegistrationTokenMade(*made))

        reply = await once(call, call.kit.db, work, shown_once=True)
        log.info("registration_token_made", token_id=str(reply.body.id), by=actor(call))
        return reply

    async def list_tokens(self, call: Call[None]) -> Reply:
        async with call.kit.db.connection() as conn:
            rows = await registration.list_tokens(conn, call.now)
        views = [
            RegistrationTokenView(**{"id" if k == "token_id" else k: v for k, v in row.items()})
            for row in rows
        ]
        return Reply(200, RegistrationTokensView(views))

    async def remove_token(self, call: Call[None]) -> Reply:
        token_id = call.uuid("token_id")

        async def work(conn: Connection) -> Reply:
            await registration.remove_token(conn, token_id)
            return Reply(204)

        reply = await once(call, call.kit.db, work)
        log.info("registration_token_removed", token_id=str(token_id), by=actor(call))
        return reply

    async def register(self, call: Call[Metadata]) -> Reply:
        token = bearer(call.request.headers.getall(hdrs.AUTHORIZATION, []))
        registered = await registration.register(self.auth, call.policy, token, call.body, call.now)
        call.noted["client"] = registered.client_id
        log.info("application_registered", client=registered.client_id, by="registration token")
        return Reply(201, registered, {"Pragma": "no-cache"})

    def routes(self) -> list[Route]:
        operator = Scope("operator")
        return [
            Route(
                "POST", TOKENS, self.make_token, audit="create_registration_token",
                summary="A token with which applications of a district register themselves; shown once.",
                caller=operator, body=RegistrationTokenBody, success={201: RegistrationTokenMade},
                refusals={"application_invalid": 422, "client_district_unknown": 422},
            ),
            Route(
                "GET", TOKENS, self.list_tokens,
                summary="The registration tokens that still count, never themselves.",
                caller=operator, success={200: RegistrationTokensView},
            ),
            Route(
                "DELETE", f"{TOKENS}/{{token_id}}", self.remove_token, audit="remove_registration_token",
                summary="Let nobody register with a token any more; whatever did stays.",
                caller=operator, success={204: None},
            ),
            Route(
                "POST", f"{DISTRICT}/register", self.register, audit="register_application",
                summary="Register oneself with a registration token (RFC 7591). A repeat is another application.",
                body=Metadata, success={201: Registered}, body_limit=BODY_LIMIT_BYTES, oauth="invalid_client_metadata",
                refusals={
                    "token_missing": 401, "token_invalid": 401, "invalid_redirect_uri": 400,
                    "invalid_client_metadata": 400,
                },
            ),
        ]  # fmt: skip
