"""Over HTTP: a district's system uploads an export, watches what becomes of it, and somebody else lets it go on."""

import asyncio
import contextlib
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from services.roster import imports, pulls
from services.roster.imports import Asked, Change, Import, Problem
from services.roster.pulls import Pull
from shared.auth import Scope
from shared.database import Connection
from shared.errors import HomeroomError, Rejected
from shared.once import key_of, once
from shared.reading import body_pieces
from shared.service import Kit
from shared.web import Body, Call, Reply, Route

BODY_LIMIT_BYTES = 256 * 1024 * 1024
DISTRICT = "/v1/districts/{district}"
OLDEST_YEARS = 10  # of an export

Kind = Literal[
    "added", "corrected", "renumbered", "moved", "withdrawn", "returned", "reassigned", "linked", "baseline"
]
After = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class UploadQuery(Body, frozen=True, kw_only=True):
    """`dry_run`: only report. `baseline`: pupils whom the district had before Homeroom, an operator's to say. `as_of`:
    when the export was made, now if it is not said; what was said after that moment is newer than the export."""

    dry_run: bool = False
    baseline: bool = False
    as_of: datetime | None = None
    file_name: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


class PullQuery(Body, frozen=True, kw_only=True):
    """`dry_run`: only report. `full`: everything, whatever the policy says is due. `baseline`: pupils whom the district
    had before Homeroom, an operator's to say."""

    dry_run: bool = False
    full: bool = False
    baseline: bool = False


class ChangesQuery(Body, frozen=True, kw_only=True):
    """`after`: the `n` to go on from."""

    kind: Kind | None = None
    state: Literal["planned", "applied", "overtaken", "refused"] | None = None
    after: After = 0


class ProblemsQuery(Body, frozen=True, kw_only=True):
    """`after`: the `n` to go on from."""

    after: After = 0


class Imports(msgspec.Struct, frozen=True):
    """The last ones, the newest first."""

    imports: list[Import]


class Changes(msgspec.Struct, frozen=True):
    changes: list[Change]
    next_after: int | None


class Problems(msgspec.Struct, frozen=True):
    problems: list[Problem]
    next_after: int | None


async def upload(call: Call[None]) -> Reply:
    """The file is kept piece by piece first; then one transaction makes it an import, or finds the one of a repeat."""
    kit, import_id = call.kit, await _begin(call)
    committed = False
    try:
        pieces = body_pieces(call.request, call.route, imports.PIECE_BYTES)
        size, digest = await imports.store(kit.db, import_id, pieces)
        call.raw = digest  # what a repeat under the same Idempotency-Key must have as well

        async def work(conn: Connection) -> Reply:
            await imports.received(conn, call.district, import_id, size, digest, call.now)
            return await _accepted(call, conn, import_id)

        reply = await once(call, kit.db, work)
        committed = "Idempotency-Replayed" not in reply.headers
        return reply
    finally:
        if not committed:
            with contextlib.suppress(HomeroomError):  # else upkeep does it
                await asyncio.shield(imports.discard(kit.db, import_id))


async def _begin(call: Call[None]) -> UUID:
    query, caller = call.query, call.caller
    assert caller is not None
    _check_baseline(call)
    if query.as_of is not None and query.as_of.tzinfo is None:
        raise Rejected(
            "invalid_query", field="$.as_of", problem="without an offset it could be several moments"
        )
    if query.as_of is not None and query.as_of.year < call.now.year - OLDEST_YEARS:
        raise Rejected("invalid_query", field="$.as_of", problem=f"more than {OLDEST_YEARS} years ago")
    asked = Asked(
        district=call.district,
        author=caller.subject,
        who=caller.who,
        dry_run=query.dry_run,
        baseline=query.baseline,
        as_of=query.as_of or call.now,
        file_name=query.file_name,
        now=call.now,
        cause=call.cause,
    )
    return await imports.begin(call.kit.db, asked, repeatable=key_of(call) is not None)


async def pull(call: Call[None]) -> Reply:
    query, caller = call.query, call.caller
    assert caller is not None
    _check_baseline(call)
    asked = Pull(
        district=call.district,
        author=caller.subject,
        who=caller.who,
        dry_run=query.dry_run,
        baseline=query.baseline,
        full=query.full or None,
        now=call.now,
        cause=call.cause,
    )

    async def work(conn: Connection) -> Reply:
        return await _accepted(call, conn, await pulls.begin(conn, call.policy, asked))

    return await once(call, call.kit.db, work)


def _check_baseline(call: Call[None]) -> None:
    """Raises Rejected `scope_missing`: only an operator says it."""
    assert call.caller is not None
    if call.query.baseline and "operator" not in call.caller.scopes:
        raise Rejected("scope_missing", scopes=["operator"])


async def show_imports(call: Call[None]) -> Reply:
    async with call.kit.db.connection() as conn:
        return Reply(200, Imports(await imports.recent(conn, call.policy)))


async def show_import(call: Call[None]) -> Reply:
    async with call.kit.db.connection() as conn:
        return Reply(200, await imports.show(conn, call.policy, call.uuid("import_id")))


async def show_changes(call: Call[None]) -> Reply:
    query = call.query
    async with call.kit.db.connection() as conn:
        found = await imports.changes(
            conn, call.district, call.uuid("import_id"), kind=query.kind, state=query.state, after=query.after
        )
    return Reply(200, Changes(found, found[-1].n if len(found) == imports.PAGE else None))


async def show_problems(call: Call[None]) -> Reply:
    async with call.kit.db.connection() as conn:
        found = await imports.problems(conn, call.district, call.uuid("import_id"), after=call.query.after)
    return Reply(200, Problems(found, found[-1].n if len(found) == imports.PAGE else None))


async def approve(call: Call[None]) -> Reply:
    import_id, caller = call.uuid("import_id"), call.caller
    assert caller is not None

    async def work(conn: Connection) -> Reply:
        await imports.approve(
            conn,
            call.district,
            import_id,
            approver=caller.subject,
            who=caller.who,
            human=caller.human,
            now=call.now,
        )
        return await _accepted(call, conn, import_id)

    return await once(call, call.kit.db, work)


async def cancel(call: Call[None]) -> Reply:
    async with call.kit.db.transaction() as conn:
        await imports.cancel(conn, call.policy, call.uuid("import_id"), now=call.now)
    return Reply(204)


async def _accepted(call: Call[Any], conn: Connection, import_id: UUID) -> Reply:
    where = {"Location": f"/v1/districts/{call.district}/imports/{import_id}"}
    return Reply(202, await imports.show(conn, call.policy, import_id), where)


def routes(kit: Kit) -> list[Route]:
    caller, one = Scope("roster:write", "operator"), f"{DISTRICT}/imports/{{import_id}}"
    reader = Scope("roster:write", "desk", "operator")  # who approves looks first
    unknown = {"import_unknown": 404}
    return [
        Route(
            "POST", f"{DISTRICT}/imports", upload,
            summary="Import a OneRoster export of the SIS, bulk or delta: a zip. `dry_run` only reports.",
            caller=caller, body=msgspec.Raw, query=UploadQuery, success={202: Import}, streamed=True,
            refusals={"import_running": 409, "uploads_too_many": 409, "as_of_in_future": 422},
            body_limit=BODY_LIMIT_BYTES, content_types=("application/zip",),
        ),
        Route(
            "POST", f"{DISTRICT}/imports/pulls", pull,
            summary="Pull an export from the SIS, as the district's policy says where, and import it.",
            caller=caller, query=PullQuery, success={202: Import},
            refusals={"import_running": 409, "pull_not_configured": 409},
        ),
        Route(
            "GET", f"{DISTRICT}/imports", show_imports,
            summary="The last imports, the newest first.", caller=reader, success={200: Imports},
        ),
        Route(
            "GET", one, show_import,
            summary="How far an import is, and what it means in figures.",
            caller=reader, success={200: Import}, refusals=unknown,
        ),
        Route(
            "GET", f"{one}/changes", show_changes,
            summary="What an import means, person by person: what was on file, and what the export says.",
            caller=reader, query=ChangesQuery, success={200: Changes}, refusals=unknown,
        ),
        Route(
            "GET", f"{one}/problems", show_problems,
            summary="What is wrong with rows of the export: file, line, column, value and reason.",
            caller=reader, query=ProblemsQuery, success={200: Problems}, refusals=unknown,
        ),
        Route(
            "POST", f"{one}/approval", approve,
            summary="Let an import go on that withdraws or renumbers many, as a second person.",
            caller=reader, success={202: Import},
            refusals=unknown | {"import_ended": 409, "person_required": 403, "approver_is_author": 403},
        ),
        Route(
            "DELETE", one, cancel,
            summary="Stop an import where it is. What was applied stays; the report says how far it came.",
            caller=caller, success={204: None}, refusals=unknown | {"import_ended": 409},
        ),
    ]  # fmt: skip
