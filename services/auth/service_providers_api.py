"""The routes of the operator who registers applications that speak SAML."""

from typing import Annotated

import msgspec
import structlog
from msgspec import Meta

from services.auth import saml_metadata, service_providers
from services.auth.calls import Feature, actor
from services.auth.saml_rules import MAX_ENTITY_ID, MAX_URI, Acs, NameId, ServiceProvider
from services.auth.saml_xml import LIMIT_BYTES
from shared.auth import Scope
from shared.database import Connection
from shared.errors import Rejected
from shared.once import once
from shared.web import Body, Call, Reply, Route

log = structlog.get_logger(__name__)

APPLICATIONS = "/v1/operations/saml-applications"
BODY_LIMIT_BYTES = 3 * LIMIT_BYTES  # with metadata, in JSON


class AcsBody(Body, frozen=True):
    url: Annotated[str, Meta(min_length=1, max_length=MAX_URI)]
    index: Annotated[int, Meta(ge=0, le=99_999)] = 0


class SamlApplicationBody(Body, frozen=True, kw_only=True):
    """All that may be said of an application. With `metadata` of its own, that says its entity id, addresses and
    certificates."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    districts: Annotated[
        list[str], Meta(min_length=1, max_length=100, description="Slugs; `*` is every district.")
    ]
    metadata: Annotated[str, Meta(max_length=LIMIT_BYTES)] | None = None
    entity_id: Annotated[str, Meta(min_length=1, max_length=MAX_ENTITY_ID)] | None = None
    acs: Annotated[
        list[AcsBody],
        Meta(max_length=20, description="Compared character by character; the first is the default."),
    ] = msgspec.field(default_factory=list)
    certificates: Annotated[
        list[Annotated[str, Meta(max_length=8192)]],
        Meta(max_length=5, description="PEM or base64; with one, each of its requests has to be signed."),
    ] = msgspec.field(default_factory=list)
    name_id: NameId = "persistent"
    email_domain: (
        Annotated[str, Meta(max_length=253, description="Where addresses are told: username@domain.")] | None
    ) = None
    attributes: Annotated[
        dict[str, str],
        Meta(max_length=20, description="What it is told of a person, by the names that it knows."),
    ] = msgspec.field(default_factory=dict)
    unsolicited: Annotated[
        bool, Meta(description="It takes responses that it did not ask for, from a tile of the portal.")
    ] = False


class NewSamlApplicationBody(SamlApplicationBody, frozen=True, kw_only=True):
    sector: Annotated[
        str,
        Meta(max_length=255, description="Applications of one sector know a person by one pairwise name."),
    ] = ""


class SamlApplicationMade(msgspec.Struct, frozen=True):
    id: str


class SamlApplicationView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    districts: tuple[str, ...]
    entity_id: str
    acs: tuple[Acs, ...]
    certificates: tuple[str, ...]
    name_id: NameId
    email_domain: str | None
    attributes: dict[str, str]
    unsolicited: bool
    sector: str


class SamlApplicationsView(msgspec.Struct, frozen=True):
    applications: list[SamlApplicationView]


class ServiceProviders(Feature):
    """For operators of every district. They are removed as every client."""

    async def register(self, call: Call[NewSamlApplicationBody]) -> Reply:
        provider = _provider("", call.body, sector=call.body.sector)

        async def work(conn: Connection) -> Reply:
            made = await service_providers.register(self.auth, conn, provider, call.now)
            return Reply(201, SamlApplicationMade(made))

        reply = await once(call, call.kit.db, work)
        if isinstance(reply.body, SamlApplicationMade):  # else it is a repeat's
            call.noted["client"] = reply.body.id
            log.info("application_registered", client=reply.body.id, by=actor(call))
        return reply

    async def change(self, call: Call[SamlApplicationBody]) -> Reply:
        client_id = call.path["client_id"]
        provider = _provider(client_id, call.body)

        async def work(conn: Connection) -> Reply:
            await service_providers.change(self.auth, conn, provider)
            return Reply(204)

        reply = await once(call, call.kit.db, work)
        self.auth.remembered.clients.forget([client_id])
        log.info("application_changed", client=client_id, by=actor(call))
        return reply

    async def list_all(self, call: Call[None]) -> Reply:
        async with call.kit.db.connection() as conn:
            found = await service_providers.list_all(conn)
        return Reply(200, SamlApplicationsView([_view(each) for each in found]))

    def routes(self) -> list[Route]:
        operator = Scope("operator")
        refusals = {"application_invalid": 422, "client_district_unknown": 422, "metadata_invalid": 422}
        return [
            Route(
                "POST", APPLICATIONS, self.register, audit="register_application",
                summary="Register an application that speaks SAML.",
                caller=operator, body=NewSamlApplicationBody, body_limit=BODY_LIMIT_BYTES,
                success={201: SamlApplicationMade}, refusals=refusals,
            ),
            Route(
                "GET", APPLICATIONS, self.list_all,
                summary="The applications that speak SAML.", caller=operator, success={200: SamlApplicationsView},
            ),
            Route(
                "PUT", f"{APPLICATIONS}/{{client_id}}", self.change, audit="change_application",
                summary="What an application that speaks SAML is called and told, all of it.",
                caller=operator, body=SamlApplicationBody, body_limit=BODY_LIMIT_BYTES, success={204: None},
                refusals=refusals,
            ),
        ]  # fmt: skip


def _provider(client_id: str, body: SamlApplicationBody, sector: str = "") -> ServiceProvider:
    """Raises Rejected metadata_invalid, application_invalid."""
    said = msgspec.to_builtins(body) | {"client_id": client_id, "sector": sector}
    metadata = said.pop("metadata")
    if metadata is not None:
        if body.entity_id or body.acs or body.certificates:
            raise Rejected("application_invalid", field="metadata", problem="it says these itself")
        said |= msgspec.to_builtins(saml_metadata.read(metadata))
    elif body.entity_id is None:
        raise Rejected("application_invalid", field="entity_id", problem="missing, and so is metadata")
    return msgspec.convert(said, ServiceProvider)


def _view(provider: ServiceProvider) -> SamlApplicationView:
    return msgspec.convert(msgspec.to_builtins(provider) | {"id": provider.client_id}, SamlApplicationView)
