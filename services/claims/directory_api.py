"""The routes of whom the help desk looks for."""

from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct

from services.claims import directory
from services.claims.calls import DISTRICT
from services.claims.directory import Directory, Figure, Sought
from shared.activity import Activity, ActivityQuery
from shared.auth import Scope
from shared.errors import Rejected
from shared.web import Body, Call, Reply, Route

PAGE, PAGE_MAX = 50, 200

Text = Annotated[str, Meta(min_length=1, max_length=255)]


class DirectoryQuery(Body, frozen=True, kw_only=True):
    """`search`: parts of names, a number or a username, or the beginnings of any; `after`: the person behind whom the
    page begins. One of `search`, `school`, `grade` and `class_id` at least."""

    search: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    school: Text | None = None
    grade: Text | None = None
    class_id: Text | None = None
    claimed: (
        Annotated[bool, Meta(description="Only the enrolled who have claimed, or who have not.")] | None
    ) = None
    after: UUID | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = PAGE


class UnclaimedQuery(Body, frozen=True, kw_only=True):
    by: Literal["school", "grade", "class"] = "school"
    school: Text | None = None
    grade: Text | None = None


class Unclaimed(Struct, frozen=True):
    figures: list[Figure]


async def show_directory(call: Call[None]) -> Reply:
    query = call.query
    sought = Sought(
        search=query.search,
        school=query.school,
        grade=query.grade,
        class_id=query.class_id,
        claimed=query.claimed,
    )
    if not (query.search or query.school or query.grade or query.class_id):
        raise Rejected("search_missing")
    async with call.kit.db.connection() as conn:
        page = await directory.find(conn, call.policy, sought, after=query.after, limit=query.limit)
    return Reply(200, page)


async def show_unclaimed(call: Call[None]) -> Reply:
    query = call.query
    async with call.kit.db.connection() as conn:
        figures = await directory.unclaimed(conn, call.policy, query.by, query.school, query.grade, call.now)
    return Reply(200, Unclaimed(figures))


async def show_activity(call: Call[None]) -> Reply:
    async with call.kit.db.connection() as conn:
        shown = await directory.claims_a_minute(conn, call.district, call.query.minutes, call.now)
    return Reply(200, shown)


def routes() -> list[Route]:
    desk = Scope("desk", "operator")
    return [
        Route(
            "GET", f"{DISTRICT}/directory", show_directory,
            summary="Persons by part of a name, number or username, by school, grade or class, claimed or not.",
            caller=desk, query=DirectoryQuery, success={200: Directory},
            refusals={"search_missing": 422, "search_short": 422},
        ),
        Route(
            "GET", f"{DISTRICT}/unclaimed", show_unclaimed,
            summary="How many pupils have not claimed yet, by school, by grade, or by class of a school.",
            caller=desk, query=UnclaimedQuery, success={200: Unclaimed}, refusals={"school_missing": 422},
        ),
        Route(
            "GET", f"{DISTRICT}/activity", show_activity,
            summary="Accounts claimed, and claims refused, in each of the last minutes.",
            caller=desk, query=ActivityQuery, success={200: Activity},
        ),
    ]  # fmt: skip
