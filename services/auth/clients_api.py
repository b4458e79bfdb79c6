"""The routes of the operator who makes clients."""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
import structlog
from msgspec import Meta

from services.auth import tokens
from services.auth.calls import Feature, actor
from shared.auth import Scope
from shared.database import Connection
from shared.once import once
from shared.web import Body, Call, Reply, Route

STANDING_REFUSALS = {
    "scope_unknown": 422, "client_district_unknown": 422, "client_not_human": 422, "person_unknown": 422,
    "not_staff": 422,
}  # fmt: skip

log = structlog.get_logger(__name__)


class ClientBody(Body, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    scopes: Annotated[list[str], Meta(min_length=1, max_length=20)]
    districts: Annotated[
        list[str], Meta(min_length=1, max_length=100, description="Slugs; `*` is every district.")
    ]
    human: Annotated[bool, Meta(description="Exactly one person's, who answers for what it does.")] = False
    person_id: Annotated[
        UUID | None,
        Meta(
            description="Whose it is, a member of the staff: never a second person beside their own session."
        ),
    ] = None


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
    person_id: UUID | None
    created_at: datetime
    rotated_at: datetime | None
    previous_until: datetime | None
    removed_at: datetime | None
    removed_by_name: str | None


class ClientsQuery(Body, frozen=True, kw_only=True):
    removed: Annotated[
        bool, Meta(description="Those that were removed, in place of those that there are.")
    ] = False


class ClientsView(msgspec.Struct, frozen=True):
    clients: list[ClientView]


class Clients(Feature):
    """For operators of every district."""

    async def create_client(self, call: Call[ClientBody]) -> Reply:
        async def work(conn: Connection) -> Reply:
            client_id, secret = await tokens.create_client(self.auth, conn, _standing(call.body), call.now)
            return Reply(201, ClientMade(client_id, secret))

        reply = await once(call, call.kit.db, work, shown_once=True)
        call.noted["client"] = reply.body.id
        log.info("client_made", client=reply.body.id, by=actor(call))
        return reply

    async def change_client(self, call: Call[ClientBody]) -> Reply:
        client_id = call.path["client_id"]

        async def work(conn: Connection) -> Reply:
            await tokens.change_client(self.auth, conn, client_id, _standing(call.body))
            return Reply(204)

        reply = await once(call, call.kit.db, work)
        self.auth.remembered.clients.forget([client_id])
        log.info("client_changed", client=client_id, by=actor(call))
        return reply

    async def remove_client(self, call: Call[None]) -> Reply:
        client_id = call.path["client_id"]

        async def work(conn: Connection) -> Reply:
            await tokens.remove_client(conn, client_id, actor(call), call.now)
            return Reply(204)

        reply = await once(call, call.kit.db, work)
        self.auth.remembered.clients.forget([client_id])
        log.info("client_removed", client=client_id, by=actor(call))
        return reply

    async def rotate_client(self, call: Call[RotateBody]) -> Reply:
        client_id, overlap = call.path["client_id"], timedelta(minutes=call.body.overlap_minutes)

        async def work(conn: Connection) -> Reply:
            secret, until = await tokens.rotate_client(conn, client_id, overlap, call.now)
            return Reply(200, ClientRotated(client_id, secret, until))

        reply = await once(call, call.kit.db, work, shown_once=True)
        self.auth.remembered.clients.forget([client_id])
        log.info("client_rotated", client=client_id, by=actor(call))
        return reply

    async def list_clients(self, call: Call[None]) -> Reply:
        async with call.kit.db.connection() as conn:
            rows = await tokens.list_clients(conn, call.query.removed, call.now)
        return Reply(200, ClientsView([ClientView(**row) for row in rows]))

    def routes(self) -> list[Route]:
        clients, operator = "/v1/operations/clients", Scope("operator")
        return [
            Route(
                "POST", clients, self.create_client, audit="create_client",
                summary="A new client; its secret is shown once.",
                caller=operator, body=ClientBody, success={201: ClientMade},
                refusals=STANDING_REFUSALS,
            ),
            Route(
                "GET", clients, self.list_clients,
                summary="The clients, without their secrets.", caller=operator, query=ClientsQuery,
                success={200: ClientsView},
            ),
            Route(
                "PUT", f"{clients}/{{client_id}}", self.change_client, audit="change_client",
                summary="What a client is called and may do, all of it; its secret stays.",
                caller=operator, body=ClientBody, success={204: None},
                refusals={**STANDING_REFUSALS, "last_operator": 409},
            ),
            Route(
                "DELETE", f"{clients}/{{client_id}}", self.remove_client, audit="remove_client",
                summary="Shut a client out, for good: auth takes none of its tokens any more, the other services within"
                " ten minutes.",
                caller=operator, success={204: None}, refusals={"last_operator": 409},
            ),
            Route(
                "POST", f"{clients}/{{client_id}}/rotate", self.rotate_client, audit="rotate_client",
                summary="A new secret for a client; the present one still counts for a while.",
                caller=operator, body=RotateBody, success={200: ClientRotated}, refusals={"secrets_overlap": 409},
            ),
        ]  # fmt: skip


def _standing(body: ClientBody) -> tokens.Standing:
    return tokens.Standing(
        name=body.name,
        scopes=body.scopes,
        districts=body.districts,
        human=body.human,
        person_id=body.person_id,
    )
