"""The routes of the operator who registers applications."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
import structlog
from msgspec import Meta

from services.auth import applications
from services.auth.calls import Feature, actor
from services.auth.oidc_rules import (
    MAX_LENGTH,
    Application,
    Authentication,
    IdTokenAlgorithm,
    Need,
    Type,
)
from shared.auth import Scope
from shared.database import Connection
from shared.once import once
from shared.web import Body, Call, Reply, Route

log = structlog.get_logger(__name__)

Uri = Annotated[str, Meta(min_length=1, max_length=MAX_LENGTH)]
APPLICATIONS = "/v1/operations/applications"


class ApplicationChange(Body, frozen=True, kw_only=True):
    """What may be said anew of an application; what is left out is as for a new one."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    districts: Annotated[
        list[str], Meta(min_length=1, max_length=100, description="Slugs; `*` is every district.")
    ]
    redirect_uris: Annotated[
        list[Uri],
        Meta(
            min_length=1,
            max_length=50,
            description="Compared character by character; of a native application on 127.0.0.1 or [::1] with any port.",
        ),
    ]
    post_logout_redirect_uris: Annotated[list[Uri], Meta(max_length=50)] = msgspec.field(default_factory=list)
    scopes: Annotated[list[str], Meta(min_length=1, max_length=20)] = msgspec.field(
        default_factory=lambda: ["openid"]
    )
    keys: Annotated[
        list[dict[str, Any]],
        Meta(
            max_length=10,
            description="Public JWKs by which a web application shows who it is, in place of a secret.",
        ),
    ] = msgspec.field(default_factory=list)
    pushed: Annotated[
        Need, Meta(description="`required`: what it asks for counts only when it pushed it ahead (RFC 9126).")
    ] = "optional"
    pkce: Annotated[
        Need, Meta(description="`optional` only for a confidential application that knows no PKCE.")
    ] = "required"
    id_token_algorithm: IdTokenAlgorithm = "RS256"
    access_token_minutes: Annotated[int, Meta(ge=1, le=60)] = 10
    backchannel_logout_uri: Annotated[
        Uri | None, Meta(description="Where it is told that a session has ended (Back-Channel Logout 1.0).")
    ] = None


class ApplicationBody(ApplicationChange, frozen=True, kw_only=True):
    type: Annotated[
        Type,
        Meta(
            description="`web` keeps a secret on a server; `native` and `spa` run at their user and keep none."
        ),
    ]
    sector: Annotated[
        str,
        Meta(max_length=255, description="Applications of one sector know a person by one pairwise name."),
    ] = ""


class ApplicationMade(msgspec.Struct, frozen=True):
    """`secret` is shown once; there is none for what runs at its user."""

    id: str
    secret: str | None


class ApplicationView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    districts: tuple[str, ...]
    type: Type
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...]
    scopes: tuple[str, ...]
    authentication: Authentication
    pkce: Need
    id_token_algorithm: IdTokenAlgorithm
    access_token_minutes: int
    backchannel_logout_uri: str | None
    keys: tuple[dict[str, Any], ...]
    pushed: Need
    sector: str
    registered_by: Annotated[
        UUID | None,
        Meta(description="The registration token by which it registered itself; null: an operator did."),
    ]


class ApplicationsView(msgspec.Struct, frozen=True):
    applications: list[ApplicationView]


class Applications(Feature):
    """For operators of every district. Secrets are rotated, and applications removed, as every client."""

    async def register(self, call: Call[ApplicationBody]) -> Reply:
        authentication: Authentication = "key" if call.body.keys else "secret"
        if call.body.type != "web":
            authentication = "none"
        application = _application("", call.body, type=call.body.type, authentication=authentication)

        async def work(conn: Connection) -> Reply:
            made = await applications.register(self.auth, conn, application, call.now)
            return Reply(201, ApplicationMade(*made))

        reply = await once(call, call.kit.db, work, shown_once=True)
        call.noted["client"] = reply.body.id
        log.info("application_registered", client=reply.body.id, by=actor(call))
        return reply

    async def change(self, call: Call[ApplicationChange]) -> Reply:
        client_id = call.path["client_id"]

        async def work(conn: Connection) -> Reply:
            await applications.change(self.auth, conn, _application(client_id, call.body, type="web"))
            return Reply(204)

        reply = await once(call, call.kit.db, work)
        self.auth.remembered.clients.forget([client_id])
        log.info("application_changed", client=client_id, by=actor(call))
        return reply

    async def list_all(self, call: Call[None]) -> Reply:
        async with call.kit.db.connection() as conn:
            found = await applications.list_all(conn)
        return Reply(200, ApplicationsView([_view(each) for each in found]))

    def routes(self) -> list[Route]:
        operator = Scope("operator")
        refusals = {"application_invalid": 422, "client_district_unknown": 422}
        return [
            Route(
                "POST", APPLICATIONS, self.register, audit="register_application",
                summary="Register an application that signs people in here; a secret is shown once.",
                caller=operator, body=ApplicationBody, success={201: ApplicationMade}, refusals=refusals,
            ),
            Route(
                "GET", APPLICATIONS, self.list_all,
                summary="The applications, without their secrets.", caller=operator, success={200: ApplicationsView},
            ),
            Route(
                "PUT", f"{APPLICATIONS}/{{client_id}}", self.change, audit="change_application",
                summary="What an application is called and may do, all of it; its secret stays.",
                caller=operator, body=ApplicationChange, success={204: None}, refusals=refusals,
            ),
        ]  # fmt: skip


def _application(client_id: str, body: ApplicationChange, **more: Any) -> Application:
    said = msgspec.to_builtins(body)
    return msgspec.convert(said | more | {"client_id": client_id}, Application)


def _view(application: Application) -> ApplicationView:
    return msgspec.convert(msgspec.to_builtins(application) | {"id": application.client_id}, ApplicationView)
