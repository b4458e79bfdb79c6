"""The routes of resets: of one account, of pasted lines, of a school, of all students."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from services.claims import batches, bulk_resets, decider
from services.claims.batch_view import PAGE, Batch, Batches, list_batches, show
from services.claims.bulk_resets import SchoolFigures
from services.claims.calls import DISTRICT, DeskBody, asked_of
from services.claims.decider import Extent, Wanted
from services.claims.reset_lines import Finding
from shared.auth import Scope
from shared.database import Connection
from shared.errors import Rejected
from shared.once import once
from shared.web import Body, Call, Reply, Route

LISTED_MAX = 100
LINES_LIMIT_BYTES = 2 * 1024 * 1024


class BatchBody(DeskBody, frozen=True, kw_only=True):
    """Exactly one of: ticket lines, `Firstname Lastname 0123456` each, as a list or as one text; a school, as the
    roster names it; all students."""

    lines: list[str] | str | UnsetType = UNSET
    school: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET
    all_students: bool = False

    @property
    def of_school(self) -> str | None:
        return None if isinstance(self.school, UnsetType) else self.school


class BatchQuery(Body, frozen=True, kw_only=True):
    dry_run: bool = False


class BatchesQuery(Body, frozen=True, kw_only=True):
    """`waiting`: only those that wait for a second person; `after`: the batch behind which the page begins."""

    waiting: bool = False
    after: UUID | None = None
    limit: Annotated[int, Meta(ge=1, le=LISTED_MAX)] = 20


class PageQuery(Body, frozen=True, kw_only=True):
    """`after`: the `line` to go on from. `limit`: how many lines at most; none for the figures alone."""

    after: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    limit: Annotated[int, Meta(ge=0, le=PAGE)] = PAGE


class Preview(Struct, frozen=True, kw_only=True):
    """What would be done: `total` accounts reset, a second person needed or not, `unclaimed` accounts that have nothing
    to reset. `lines` of what was pasted, `schools` otherwise."""

    total: int
    approval_required: bool
    unclaimed: int
    lines: list[Finding]
    schools: list[SchoolFigures]


async def reset_account(call: Call[DeskBody]) -> Reply:
    person_id, asked = call.uuid("person_id"), asked_of(call, call.body.desk_ticket)

    async def work(conn: Connection) -> Reply:
        batch_id = await batches.reset_one(call.kit.store, conn, person_id, call.policy, asked)
        return await _accepted(call, conn, batch_id)

    return await once(call, call.kit.db, work, again=partial(_again, call))


async def start_batch(call: Call[BatchBody]) -> Reply:
    _require_one(call.body)
    if call.query.dry_run:
        async with call.kit.db.connection() as conn:
            return Reply(200, await _preview(call, conn))

    async def work(conn: Connection) -> Reply:
        body, policy, asked = call.body, call.policy, asked_of(call, call.body.desk_ticket)
        if isinstance(body.lines, UnsetType):
            batch_id = await bulk_resets.start(conn, body.of_school, policy, asked)
        else:
            plan = await batches.plan(conn, body.lines, policy, asked.rank)
            batch_id = await batches.start(conn, plan, policy, asked)
        return await _accepted(call, conn, batch_id)

    return await once(call, call.kit.db, work, again=partial(_again, call))


async def _preview(call: Call[BatchBody], conn: Connection) -> Preview:
    body, policy = call.body, call.policy
    lines: list[Finding] = []
    schools: list[SchoolFigures] = []
    asked = asked_of(call)
    alone = await batches.reset_alone(conn, policy.district, asked)
    if isinstance(body.lines, UnsetType):
        schools = await bulk_resets.figures(conn, policy.district, body.of_school)
        extent: Extent = "all_students" if body.all_students else "school"
        unclaimed = sum(of.unclaimed for of in schools)
        wanted = Wanted(accounts=sum(of.total for of in schools), extent=extent, alone=alone)
    else:
        plan = await batches.plan(conn, body.lines, policy, asked.rank)
        lines, unclaimed, wanted = plan.findings, plan.unclaimed, plan.wanted(alone=alone)
    return Preview(
        total=wanted.accounts,
        approval_required=decider.needs_second_person(wanted, policy),
        unclaimed=unclaimed,
        lines=lines,
        schools=schools,
    )


def _require_one(body: BatchBody) -> None:
    is_given = {
        "lines": body.lines is not UNSET, "school": body.school is not UNSET, "all_students": body.all_students,
    }  # fmt: skip
    given = [name for name, there in is_given.items() if there]
    if len(given) != 1:
        raise Rejected("batch_unclear", given=given)


async def show_batch(call: Call[None]) -> Reply:
    page = call.query
    async with call.kit.db.connection() as conn:
        batch_id = call.uuid("batch_id")
        seen = await show(conn, call.policy, batch_id, call.now, after=page.after, limit=page.limit)
    return Reply(200, seen)


async def approve_batch(call: Call[None]) -> Reply:
    batch_id = call.uuid("batch_id")

    async def work(conn: Connection) -> Reply:
        await batches.approve(conn, batch_id, call.policy, asked_of(call))
        return await _accepted(call, conn, batch_id)

    return await once(call, call.kit.db, work, again=partial(_again, call))


async def show_batches(call: Call[None]) -> Reply:
    query = call.query
    async with call.kit.db.connection() as conn:
        page = await list_batches(
            conn, call.district, waiting=query.waiting, after=query.after, limit=query.limit
        )
    return Reply(200, page)


async def retry_batch(call: Call[None]) -> Reply:
    batch_id = call.uuid("batch_id")

    async def work(conn: Connection) -> Reply:
        await batches.retry(conn, call.district, batch_id, now=call.now)
        return await _accepted(call, conn, batch_id)

    return await once(call, call.kit.db, work, again=partial(_again, call))


async def cancel_batch(call: Call[None]) -> Reply:
    async with call.kit.db.transaction() as conn:
        await batches.cancel(conn, call.district, call.uuid("batch_id"), now=call.now)
    return Reply(204)


async def _accepted(call: Call[Any], conn: Connection, batch_id: UUID) -> Reply:
    where = {"Location": f"/v1/districts/{call.district}/reset-batches/{batch_id}"}
    return Reply(202, await show(conn, call.policy, batch_id, call.now), where)


async def _again(call: Call[Any], conn: Connection, headers: Mapping[str, str]) -> Batch:
    """For a repeat: its lines name people, so no reply is kept."""
    return await show(conn, call.policy, UUID(headers["Location"].rpartition("/")[2]), call.now)


def routes() -> list[Route]:
    desk_only, desk_or_operator = Scope("desk"), Scope("desk", "operator")
    batch = f"{DISTRICT}/reset-batches/{{batch_id}}"
    return [
        Route(
            "POST", f"{DISTRICT}/accounts/{{person_id}}/resets", reset_account,
            summary="Reset one account, claimed or not: a batch of one.",
            caller=desk_only, body=DeskBody, success={202: Batch},
            refusals={"person_unknown": 404, "approval_required": 403, "resets_exhausted": 403},
        ),
        Route(
            "POST", f"{DISTRICT}/reset-batches", start_batch,
            summary="Reset the claimed accounts that ticket lines name, or those of a school's pupils, or of all;"
            " `dry_run` only reports.",
            caller=desk_or_operator, body=BatchBody, query=BatchQuery, success={200: Preview, 202: Batch},
            refusals={
                "batch_unclear": 422, "lines_missing": 422, "lines_too_many": 422, "school_unknown": 422,
                "person_required": 403, "resets_exhausted": 403, "nobody_claimed": 409, "bulk_reset_open": 409,
            },
            body_limit=LINES_LIMIT_BYTES,
        ),
        Route(
            "GET", f"{DISTRICT}/reset-batches", show_batches,
            summary="The district's resets, the newest first; `waiting`: those that wait for a second person.",
            caller=desk_or_operator, query=BatchesQuery, success={200: Batches},
        ),
        Route(
            "GET", batch, show_batch,
            summary="How far a reset is, line by line.",
            caller=desk_or_operator, query=PageQuery, success={200: Batch}, refusals={"batch_unknown": 404},
        ),
        Route(
            "DELETE", batch, cancel_batch,
            summary="Take back what has not begun.",
            caller=desk_or_operator, success={204: None}, refusals={"batch_unknown": 404},
        ),
        Route(
            "POST", f"{batch}/approval", approve_batch,
            summary="Let a long list begin, as a second person.",
            caller=desk_or_operator, success={202: Batch},
            refusals={
                "batch_unknown": 404, "person_required": 403, "approver_is_author": 403, "role_not_below": 403,
                "batch_cancelled": 409,
            },
        ),
        Route(
            "POST", f"{batch}/retry", retry_batch,
            summary="Try again what failed.",
            caller=desk_or_operator, success={202: Batch}, refusals={"batch_unknown": 404, "batch_cancelled": 409},
        ),
    ]  # fmt: skip
