"""What every service tells the help desk: a person's history as it recorded it, and why something was refused."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import msgspec

from shared.actors import names_of
from shared.auth import Scope
from shared.database import queries
from shared.errors import Rejected
from shared.web import Body, Call, Reply, Route

if TYPE_CHECKING:
    from shared.service import Kit

MAX_EVENTS = 200

_sql = queries("shared", "web.sql")


class Refusal(msgspec.Struct, frozen=True):
    """`reason` is what the caller was told, `detail` the truth: which field differed, never what was typed. `on_file`:
    what is on file now where something differed."""

    reference: str
    district: str
    route: str
    reason: str
    detail: dict[str, Any]
    person_id: UUID | None
    at: datetime
    on_file: dict[str, Any] = {}


class RefusalSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One refusal on an account's page. `reason` is what the person was told, `detail` the truth."""

    reference: str
    reason: str
    detail: dict[str, Any]
    at: datetime


class TimelineQuery(Body, frozen=True):
    """`at`: what was known at that moment; `after`: the version to go on from."""

    at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    after: Annotated[int, msgspec.Meta(ge=0, le=2**62)] = 0


class TimelineEvent(msgspec.Struct, frozen=True):
    """`actor_name`: what the client is called whose id the event has as `actor`."""

    id: UUID
    type: str
    version: int
    time: datetime
    recorded_at: datetime
    data: msgspec.Raw
    correlation_id: str
    causation_id: str | None
    actor_name: str | None = None


class _Acted(msgspec.Struct):
    """Whatever else an event says."""

    actor: str | None = None

    @property
    def client_id(self) -> str:
        return (self.actor or "").rpartition(":")[2]  # before a colon stands how: "code:…"


class Timeline(msgspec.Struct, frozen=True):
    """`next_after` goes on where a long history was cut."""

    service: str
    person_id: UUID
    events: list[TimelineEvent]
    next_after: int | None


def routes(kit: "Kit") -> list[Route]:
    async def show_refusal(call: Call[None]) -> Reply:
        reference = call.path["reference"].strip().upper()
        async with kit.db.connection() as conn:
            row = await conn.fetchrow(_sql.find_refusal, reference, call.district)
            if row is None:
                raise Rejected("not_found")
            refusal = Refusal(**dict(row))
            on_file = await kit.spec.on_file(conn, refusal)
        return Reply(200, msgspec.structs.replace(refusal, on_file=on_file))

    async def show_timeline(call: Call[None]) -> Reply:
        person_id, query = call.uuid("person_id"), call.query
        try:
            at = query.at and query.at.astimezone(UTC)
        except OverflowError:
            raise Rejected("invalid_query", field="$.at", problem="at the end of all time") from None
        async with kit.db.connection() as conn:
            rows = await conn.fetch(_sql.timeline, person_id, call.district, at, query.after, MAX_EVENTS + 1)
            if not rows and not await conn.fetchval(_sql.person_known, person_id, call.district):
                raise Rejected("not_found")
            acted = [msgspec.json.decode(row["data"], type=_Acted).client_id for row in rows[:MAX_EVENTS]]
            names = await names_of(conn, acted)
        events = [
            TimelineEvent(**(dict(row) | {"data": msgspec.Raw(row["data"])}), actor_name=names.get(client_id))
            for row, client_id in zip(rows, acted, strict=False)
        ]
        more = events[-1].version if len(rows) > MAX_EVENTS else None
        return Reply(200, Timeline(kit.settings.service, person_id, events, more))

    return [
        Route(
            "GET",
            "/v1/districts/{district}/refusals/{reference}",
            show_refusal,
            summary="The true reason of a refusal, by its reference code.",
            caller=Scope("desk"),
            success={200: Refusal},
        ),
        Route(
            "GET",
            "/v1/districts/{district}/persons/{person_id}/timeline",
            show_timeline,
            summary="What this service recorded of a person, also as of a moment.",
            caller=Scope("desk"),
            query=TimelineQuery,
            success={200: Timeline},
        ),
    ]
