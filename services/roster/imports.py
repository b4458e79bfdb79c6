"""Imports: whole OneRoster exports of a district, from the upload to the report.

An import is received in pieces, read and planned as a whole (import_plan), perhaps waits for a second person, and is
applied in chunks (import_worker). What is applied is said and taken exactly as if the district had published it.
"""

import hashlib
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from itertools import chain
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec

from services.roster import decider
from services.roster.oneroster.cells import Flaw
from shared.database import Connection, Database, Row, queries
from shared.errors import Rejected
from shared.expiry import Expiring
from shared.messages import Cause
from shared.policy import Kind, Policy

sql = queries(__package__, "imports.sql")

PIECE_BYTES = 1024 * 1024
LISTED = 100
PAGE = 500
FORGOTTEN_AT_ONCE = 3  # reports, of which each may have a row for everybody
UPLOAD_LIFE = timedelta(hours=1)
UPLOADS = (
    8  # of a district that are on their way, each up to 256 MB; those among them that died go after an hour
)
REPORT_LIFE = timedelta(days=400)

EXPIRING = [
    Expiring("import", "changed_at", UPLOAD_LIFE, only="state = 'receiving'"),
    Expiring("import", "ended_at", REPORT_LIFE),
]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What an upload asks for, and who asks."""

    district: str
    author: str
    who: str
    dry_run: bool
    baseline: bool
    as_of: datetime
    file_name: str | None
    now: datetime
    cause: Cause


class Threshold(msgspec.Struct, frozen=True):
    """Above which a second person is needed, and what the import comes to."""

    enrolled: int
    withdrawn: int
    renumbered: int
    approval_above: int
    approval_above_percent: int
    exceeded: bool


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """An import as its district sees it.

    `state`: pulling (from the SIS), received, awaiting_approval, applying, done, cancelled, refused or failed (both
    with `reason` and `details`). `author_name` and `approved_by_name` are what these clients are called. `counts`:
    persons by what the export means for them; one person may count as several kinds. `problems`: rows that were not
    taken, by reason.
    `total`, `done`: rows to be applied, and applied; while it is pulled, items of the collection at hand. `pull_full`:
    it was pulled, whole (true) or what was modified after `pull_since` (false); null: it was uploaded.
    """

    import_id: UUID
    state: str
    dry_run: bool
    baseline: bool
    as_of: datetime
    received_at: datetime
    ended_at: datetime | None
    file_name: str | None
    bytes: int
    sha256: str
    version: str | None
    mode: str | None
    source: str | None
    author: str
    author_name: str | None
    approved_by: str | None
    approved_by_name: str | None
    reason: str | None
    details: dict[str, Any]
    counts: dict[str, int]
    problems: dict[str, int]
    passed_over: dict[str, int]
    threshold: Threshold | None
    total: int
    done: int
    pull_full: bool | None
    pull_since: datetime | None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What the export means for one person; `n` is where to go on from. `state`: planned, applied, overtaken (something
    newer had been said) or refused. `kind`: what the export says that they are, if it does. `before` is what was on
    file, `after` what the export says; None: nothing. `assigned`, `unassigned`: classes, by id, that the person is in
    or teaches from now on, or that stand otherwise, and those that they are not in any more."""

    n: int
    kinds: list[str]
    state: str
    source_id: str
    kind: Kind | None
    file: str | None
    line: int | None
    before: dict[str, str | None] | None
    after: dict[str, str | None]
    assigned: list[str]
    unassigned: list[str]
    reason: str | None
    details: dict[str, Any]


class Problem(Flaw, frozen=True, kw_only=True):
    """What is wrong with a row of a file; `n` is where to go on from."""

    n: int


# ------------------------------------------------------------------ receiving


async def begin(db: Database, asked: Asked, *, repeatable: bool) -> UUID:
    """A place for an upload. Raises Rejected `as_of_in_future`, `import_running`, `uploads_too_many`.

    `repeatable`: under a key, so the import that is open may be its own; `received` finds that out.
    """
    if asked.as_of > asked.now:
        raise Rejected("as_of_in_future", now=asked.now)
    import_id = uuid4()
    async with db.transaction() as conn:
        if not repeatable:
            await refuse_second(conn, asked.district)
        if await conn.fetchval(sql.count_uploads, asked.district) >= UPLOADS:
            raise Rejected("uploads_too_many", limit=UPLOADS)
        await conn.execute(
            sql.begin_import, import_id, asked.district, asked.dry_run, asked.baseline, asked.as_of, asked.now,
            asked.file_name, asked.author, asked.cause.correlation_id, asked.who,
        )  # fmt: skip
    return import_id


async def store(db: Database, import_id: UUID, pieces: AsyncIterator[bytes]) -> tuple[int, bytes]:
    """Keeps the file piece by piece, each in a transaction of its own; its size and digest."""
    digest, size, n = hashlib.sha256(), 0, 0
    async for piece in pieces:
        async with db.connection() as conn:
            await conn.execute(sql.insert_piece, import_id, n, piece)
        digest.update(piece)
        size, n = size + len(piece), n + 1
    return size, digest.digest()


async def received(
    conn: Connection, district: str, import_id: UUID, size: int, digest: bytes, now: datetime
) -> None:
    """The file is whole: the worker takes it up. Raises Rejected `import_running` when another was faster."""
    await refuse_second(conn, district)
    try:
        await conn.execute(sql.receive_import, import_id, size, digest, now)
    except asyncpg.UniqueViolationError:
        raise Rejected("import_running") from None


async def refuse_second(conn: Connection, district: str) -> None:
    """Raises Rejected `import_running`: one at a time for each district."""
    if running := await conn.fetchval(sql.open_import, district):
        raise Rejected("import_running", import_id=running)


async def discard(db: Database, import_id: UUID) -> None:
    """An upload that came to nothing leaves nothing."""
    async with db.connection() as conn:
        await conn.execute(sql.discard_import, import_id)


# ------------------------------------------------------------------ asking, approving, cancelling


async def show(conn: Connection, policy: Policy, import_id: UUID) -> Import:
    """Raises Rejected `import_unknown`."""
    return _seen(await _found(conn, sql.find_import, policy.district, import_id), policy)


async def recent(conn: Connection, policy: Policy) -> list[Import]:
    """The last imports of a district, the newest first."""
    return [_seen(row, policy) for row in await conn.fetch(sql.recent_imports, policy.district, LISTED)]


async def changes(
    conn: Connection, district: str, import_id: UUID, *, kind: str | None, state: str | None, after: int
) -> list[Change]:
    """One page of what an import means, person by person. Raises Rejected `import_unknown`."""
    await _found(conn, sql.find_import, district, import_id)
    return [_change(row) for row in await conn.fetch(sql.changes_of, import_id, after, PAGE, kind, state)]


async def problems(conn: Connection, district: str, import_id: UUID, *, after: int) -> list[Problem]:
    """One page of what is wrong with rows. Raises Rejected `import_unknown`."""
    await _found(conn, sql.find_import, district, import_id)
    rows = await conn.fetch(sql.flaws_of, import_id, after, PAGE)
    return [msgspec.convert({"n": row["n"]} | row["flaw"], Problem) for row in rows]


async def approve(
    conn: Connection,
    district: str,
    import_id: UUID,
    *,
    approver: str,
    who: str,
    human: bool,
    now: datetime,
) -> None:
    """A second person, `who` stands behind the approver, lets an import go on. Said twice, it is done once. Raises
    Rejected `import_unknown`, `import_ended`, `person_required`, `approver_is_author`."""
    row = await _found(conn, sql.find_import_locked, district, import_id)
    if row["state"] in ("refused", "cancelled", "failed"):
        raise Rejected("import_ended", state=row["state"])
    if row["state"] == "awaiting_approval":
        decider.approve_import(row["author_who"] or row["author"], who, human=human)
        await conn.execute(sql.approve_import, import_id, approver, now)


async def cancel(conn: Connection, policy: Policy, import_id: UUID, *, now: datetime) -> None:
    """Stops an import where it is; what was applied stays. Raises Rejected `import_unknown`, `import_ended`."""
    row = await _found(conn, sql.find_import_locked, policy.district, import_id)
    if row["state"] in ("done", "refused", "failed"):
        raise Rejected("import_ended", state=row["state"])
    await end(conn, policy, import_id, "cancelled", now=now)


async def end(
    conn: Connection,
    policy: Policy,
    import_id: UUID,
    state: str,
    *,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
    now: datetime,
) -> None:
    """The report stays; the file, rows about people for whom nothing changes, and older reports than the district keeps
    go."""
    await conn.execute(sql.end_import, import_id, state, reason, details or {}, now)
    await conn.execute(sql.delete_pieces, import_id)
    await conn.execute(sql.delete_pages, import_id)
    await conn.execute(sql.delete_unchanged, import_id)
    await conn.execute(sql.forget_reports, policy.district, policy.imports.reports_kept, FORGOTTEN_AT_ONCE)


async def _found(conn: Connection, query: str, district: str, import_id: UUID) -> Row:
    row = await conn.fetchrow(query, import_id, district)
    if row is None:
        raise Rejected("import_unknown")
    return row


def _seen(row: Row, policy: Policy) -> Import:
    counts: dict[str, int] = dict(row["counts"])
    enrolled = counts.pop("enrolled_before", None)
    figures = None if enrolled is None else threshold(counts, enrolled, policy)
    counts.pop("renumbered_enrolled", None)
    problems = {k.removeprefix("flaw:"): counts.pop(k) for k in list(counts) if k.startswith("flaw:")}
    shown = {field: row[field] for field in Import.__struct_fields__ if field in row.keys()}  # noqa: SIM118
    sha256 = (row["sha256"] or b"").hex()
    return Import(**shown | {"counts": counts, "problems": problems, "threshold": figures, "sha256": sha256})


def threshold(counts: Mapping[str, int], enrolled: int, policy: Policy) -> Threshold:
    """How the figures of an import stand to what its district lets pass without a second person."""
    withdrawn, renumbered = counts.get("withdrawn", 0), counts.get("renumbered_enrolled", 0)
    rule = policy.imports
    exceeded = any(decider.needs_second_person(n, enrolled, policy) for n in (withdrawn, renumbered))
    return Threshold(
        enrolled, withdrawn, renumbered, rule.approval_above, rule.approval_above_percent, exceeded
    )


def _change(row: Row) -> Change:
    fields = (*decider.IDENTITY, *dict.fromkeys(chain(*decider.PLACEMENT.values())), "gone")
    before = row["before"] and dict(row["before"])
    on_file = before.pop("classes", None) if before else []
    assigned, unassigned = _classes(row, on_file) if on_file is not None else ([], [])
    return Change(
        n=row["n"],
        kinds=row["kinds"],
        state=row["state"],
        source_id=row["source_id"],
        kind=row["kind"],
        file=row["file"],
        line=row["line"],
        before=before,
        after={field: row[field] for field in fields if row[field] is not None},
        assigned=assigned,
        unassigned=unassigned,
        reason=row["reason"],
        details=row["details"] or {},
    )


def _classes(row: Row, on_file: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The classes that a row of an import assigns, and those that it takes away."""
    held = {each["class_id"]: each for each in on_file}
    named = {each["class_id"]: each for each in row["classes"] or ()}
    gone = (
        {key for key, each in held.items() if each.get("exported")}
        if row["classes_whole"]
        else row["unassigned"]
    )
    assigned = [key for key, each in named.items() if held.get(key) != each]
    return assigned, sorted(held.keys() & set(gone or ()) - named.keys())
