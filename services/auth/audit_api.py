"""The route by which the help desk looks into the audit."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from services.auth import audit
from services.auth.calls import DISTRICT, Feature
from shared.auth import Scope
from shared.web import Body, Call, Reply, Route

PAGE = 100
Word = Annotated[str, Meta(min_length=1, max_length=64)]


class AuditQuery(Body, frozen=True, kw_only=True):
    """`since` and `until` bound the moment, `until` itself left out. `before`: the `next_before` of the page before."""

    person_id: UUID | None = None
    what: Word | None = None
    outcome: Word | None = None
    reference: Word | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = PAGE


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """`what` was asked for, and its `outcome`: `done`, or the reason of the refusal, whose truth is under `reference`.
    `actor`: who of the desk asked, or which client; `client`: which was given a token, or changed.
    `desk_ticket`: for which ticket the help desk did it, where it said so.
    `device` and `network` tell one from another, and nothing else."""

    audit_id: int
    at: datetime
    what: str
    outcome: str
    person_id: UUID | None
    actor: str | None
    actor_name: str | None
    client: str | None
    device: str | None
    device_kind: str | None
    network: str | None
    reference: str | None
    desk_ticket: str | None
    correlation_id: UUID


class AuditView(msgspec.Struct, frozen=True):
    lines: list[AuditLine]
    next_before: int | None


class Audit(Feature):
    """For the help desk; what is of no district, for operators of every one."""

    async def show(self, call: Call[None]) -> Reply:
        query: AuditQuery = call.query
        wanted = msgspec.structs.asdict(query)
        wanted["limit"] += 1
        found = await audit.search(call.kit.db, call.district, **wanted)
        lines = [AuditLine(**row) for row in found[: query.limit]]
        return Reply(200, AuditView(lines, lines[-1].audit_id if len(found) > query.limit else None))

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET", f"{DISTRICT}/audit", self.show,
                summary="Who signed in, who was refused, what was given out and changed, for 90 days.",
                caller=Scope("desk"), query=AuditQuery, success={200: AuditView},
            ),
            Route(
                "GET", "/v1/operations/audit", self.show,
                summary="The same of what is of no district: changes of clients.",
                caller=Scope("operator"), query=AuditQuery, success={200: AuditView},
            ),
        ]  # fmt: skip
