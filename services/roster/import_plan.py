"""What an export means for its district: read in a process of its own, and planned by one statement in one transaction.

Dying anywhere before its commit leaves the import received, and planning begins anew.
"""

import asyncio
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import structlog

from services.roster import decider, imports, merges
from services.roster.import_reader import COLUMNS, HEAD, MAX_FLAWS, Refusal, Task, Told
from services.roster.imports import sql
from services.roster.oneroster.cells import VALUE_CHARACTERS, ClassFlaw
from services.roster.projections import PERSON
from shared import child, clock
from shared.database import Connection, Row
from shared.errors import HomeroomError, Rejected
from shared.messages import topic_of
from shared.policy import Policy
from shared.settings import Settings

log = structlog.get_logger(__name__)

READ_PATIENCE_S = 600.0
PLAN_TIMEOUT_S = 300.0
CATCH_UP_PATIENCE_S = 2.0
POLL_S = 0.05

BY_EXPORT = [{"enrollment_id": decider.EXPORT}]
BY_BASELINE_EXPORT = [{"enrollment_id": decider.EXPORT, "baseline": True}]


class ReaderDied(HomeroomError):
    """The reading process ended before its answer did."""


class ReadModelBehind(HomeroomError):
    """`person` does not hold yet what was recorded when planning began."""


class _Gone(HomeroomError):
    """Somebody cancelled the import meanwhile."""


async def plan(conn: Connection, settings: Settings, row: Row, policy: Policy) -> None:
    """Plan a received import, or end it as refused. `conn` is the worker's own, with time for long statements.

    Raises ReaderDied, ReadModelBehind, and whatever else fails: then the import is received as before.
    """
    import_id: UUID = row["import_id"]
    try:
        await _caught_up(conn, settings)
        pulled = row["pull_full"] is not None  # over REST a user has all their roles
        async with (
            _file(conn, import_id) as path,
            _reader(Task(str(path), row["as_of"], policy, pulled)) as reader,
            conn.transaction(),
        ):
            await _plan(conn, reader, row, policy)
    except Rejected as refusal:
        async with conn.transaction():
            details = refusal.details
            await imports.end(
                conn, policy, import_id, "refused", reason=refusal.reason, details=details, now=clock.now()
            )
    except _Gone:
        log.info("import_gone", import_id=str(import_id))


@asynccontextmanager
async def _file(conn: Connection, import_id: UUID) -> AsyncIterator[Path]:
    """The file as it was uploaded, for as long as it is read."""
    with tempfile.TemporaryDirectory(prefix="homeroom-import-") as folder:
        path = Path(folder) / "export.zip"
        with path.open("wb") as file:
            n = 0
            while (piece := await conn.fetchval(sql.pieces, import_id, n)) is not None:
                file.write(piece)
                n += 1
        yield path


async def _caught_up(conn: Connection, settings: Settings) -> None:
    """Wait a little until `person` holds all that is recorded now. Raises ReadModelBehind."""
    last = await conn.fetchval(sql.last_queued)
    topic = topic_of(settings.topic_prefix, settings.service)
    deadline = asyncio.get_running_loop().time() + CATCH_UP_PATIENCE_S
    while await conn.fetchval(sql.behind, last, PERSON.name, topic):
        if asyncio.get_running_loop().time() > deadline:
            raise ReadModelBehind
        await asyncio.sleep(POLL_S)


class _Reader:
    """The reading process, as an iterator of rows for COPY; then `told` and `flaws` say what the export was."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self._process, self._frames = process, process.stdout
        self.flaws: list[Any] = []
        self.told: Told | None = None

    async def rows(self) -> AsyncIterator[bytes]:
        """Raises Rejected for the whole export, ReaderDied."""
        try:
            async with asyncio.timeout(READ_PATIENCE_S):
                while self.told is None:
                    kind, length = HEAD.unpack(await self._frames.readexactly(HEAD.size))
                    content = await self._frames.readexactly(length)
                    if kind == b"R":
                        yield content
                    else:
                        self._note(kind, content)
        except asyncio.IncompleteReadError:
            raise ReaderDied(f"status {await child.ended(self._process)}") from None
        except TimeoutError:
            raise ReaderDied("out of time") from None

    def _note(self, kind: bytes, content: bytes) -> None:
        if kind == b"F":
            self.flaws.append(msgspec.json.decode(content))
        elif kind == b"E":
            self.told = msgspec.json.decode(content, type=Told)
        else:
            refusal = msgspec.json.decode(content, type=Refusal)
            raise Rejected(refusal.reason, **refusal.details)

    def refuse(self, flaws: list[ClassFlaw]) -> None:
        """More flaws, that only who knows the roster could find."""
        assert self.told is not None
        for flaw in flaws:
            self.told.flaws[flaw.reason] = self.told.flaws.get(flaw.reason, 0) + 1
        self.flaws += [msgspec.to_builtins(flaw) for flaw in flaws[: MAX_FLAWS - len(self.flaws)]]


@asynccontextmanager
async def _reader(task: Task) -> AsyncIterator[_Reader]:
    async with child.running("services.roster.import_reader") as process:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(task))
        process.stdin.close()
        yield _Reader(process)


async def _plan(conn: Connection, reader: _Reader, row: Row, policy: Policy) -> None:
    import_id, district, now = row["import_id"], row["district"], clock.now()
    await conn.execute(sql.stage)
    await conn.copy_to_table(
        "staged", source=reader.rows(), columns=COLUMNS, format="text", timeout=READ_PATIENCE_S
    )
    told = reader.told
    assert told is not None
    if row["pull_full"] is not None and (repeated := told.repeated):
        # The SIS counted somebody twice, so its pages lack somebody else, who would seem to have left.
        raise Rejected("provider_unexpected", problem="repeated", collection="users", items=repeated)
    newest = await conn.fetchval(sql.newest_bulk, district, import_id)
    if newest is not None and row["as_of"] < newest:
        raise Rejected("export_outdated", newest=newest)
    absence_counts = told.mode == "bulk" and not told.anonymous
    merged = await _set_merged_apart(conn, district, absence_counts)
    if absence_counts:
        await conn.execute(sql.stage_absent, district, BY_EXPORT, decider.ABSENT, timeout=PLAN_TIMEOUT_S)
    if told.mode == "delta":
        await _fill_classes(conn, reader, district)
    await conn.execute(sql.stage_other_kind, district, decider.ABSENT, timeout=PLAN_TIMEOUT_S)
    await conn.execute(sql.analyze_staged)
    by_exports = BY_EXPORT, BY_BASELINE_EXPORT
    await conn.execute(
        sql.plan, import_id, district, *by_exports, row["baseline"], decider.ABSENT, timeout=PLAN_TIMEOUT_S
    )
    counts, passed_over, total = await _count(conn, import_id, district, told, merged)
    await conn.execute(sql.insert_flaws, import_id, reader.flaws)
    await conn.execute(sql.insert_unknown, import_id, len(reader.flaws), district, MAX_FLAWS)
    await conn.execute(sql.delete_pieces, import_id)
    exceeded = imports.threshold(counts, counts["enrolled_before"], policy).exceeded
    state, reason = ("awaiting_approval", "threshold_exceeded") if exceeded else ("applying", None)
    recorded = await conn.execute(
        sql.record_plan, import_id, state, told.version, told.mode, told.source, counts, passed_over, total,
        reason, now,
    )  # fmt: skip
    if recorded != "UPDATE 1":
        raise _Gone(str(import_id))
    if row["dry_run"]:
        await imports.end(conn, policy, import_id, "done", reason=reason, now=now)
    log.info("import_planned", district=district, import_id=str(import_id), counts=counts)


async def _set_merged_apart(conn: Connection, district: str, absence_counts: bool) -> int:
    """What the export says of records that are another name of somebody; how many of them it still has for nothing."""
    if await conn.execute(sql.stage_survivors, district, merges.MAX_CHAIN) == "UPDATE 0":
        return 0
    if await conn.execute(sql.stage_in_their_place, absence_counts) != "UPDATE 0":
        await conn.execute(sql.unstage_replaced)
    return sum(row["there"] for row in await conn.fetch(sql.unstage_merged))


async def _fill_classes(conn: Connection, reader: _Reader, district: str) -> None:
    """What a delta does not say of a class its members on file tell. Of a class that nobody is in, nobody can."""
    rows = await conn.fetch(sql.unknown_classes, district, timeout=PLAN_TIMEOUT_S)
    flaws = [
        ClassFlaw(
            file="enrollments.csv", line=row["line"], column="classSourcedId", value=row["class_id"][:VALUE_CHARACTERS],
            reason="class_unknown", source_id=row["source_id"],
        )
        for row in rows
    ]  # fmt: skip
    reader.refuse(flaws)
    await conn.execute(sql.fill_classes, district, timeout=PLAN_TIMEOUT_S)


async def _count(
    conn: Connection, import_id: UUID, district: str, told: Told, merged: int
) -> tuple[dict[str, int], dict[str, int], int]:
    """The report's figures: persons by kind, what was passed over, and how many rows are to be applied."""
    counts = {row["kind"]: row["count"] for row in await conn.fetch(sql.count_kinds, import_id)}
    planned = await conn.fetchrow(sql.count_plan, import_id)
    beside = await conn.fetchrow(sql.count_beside, district, BY_EXPORT, decider.ABSENT)
    assert planned is not None
    assert beside is not None
    flaws = told.flaws
    if unknown := beside["unknown"]:
        flaws = flaws | {"person_unknown": unknown}
    if of_other_kind := beside["other_kind"]:
        flaws = flaws | {"kind_differs": of_other_kind}
    counts |= {"unchanged": planned["unchanged"], "refused": sum(flaws.values())}
    counts |= {"remarks": told.remarks, "shared_numbers": beside["shared_numbers"]}
    counts |= {"renumbered_enrolled": planned["renumbered"], "enrolled_before": beside["enrolled"]}
    counts |= {f"flaw:{reason}": n for reason, n in flaws.items()}
    passed_over = told.passed_over | {"never_here": beside["never_here"], "merged": merged}
    if told.mode == "bulk":
        passed_over |= {"never_exported": beside["never_exported"], "anonymous": told.anonymous}
    return counts, {what: n for what, n in passed_over.items() if n}, planned["total"]
