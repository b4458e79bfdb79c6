"""Works on the districts' imports, one process at a time, one import after the other.

Each chunk is one transaction: the statements' events, the marks, and what the report says of the rows. Killed anywhere,
it goes on at the rows that are still planned.
"""

import asyncio
import hashlib
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import structlog

from services.roster import handlers, imports
from services.roster.decider import (
    EXPORT,
    IDENTITY,
    PLACEMENT,
    Command,
    CorrectPerson,
    EnrollPerson,
    ExportedClasses,
    Mark,
    MissInExport,
)
from services.roster.events import Assignment
from services.roster.import_plan import ReaderDied, ReadModelBehind, plan
from services.roster.imports import sql
from services.roster.ingress import Statement
from shared import clock
from shared.database import (
    LOST_RACE,
    PASSING,
    Connection,
    Row,
    close,
    connect,
    unavailable_when_lost,
)
from shared.errors import Unavailable
from shared.messages import Cause
from shared.policy import Policy
from shared.problems import new_reference
from shared.service import Kit

log = structlog.get_logger(__name__)

POLL_S = 0.5
CHUNK_ROWS = 400
# After an error of ours others have their turn; so often in a row, about four minutes in all, and it is given up.
MAX_TRIES = 10
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
# A worker that hangs loses its lock after this, and another takes over. Longer than any of its own waits.
SILENCE_ALLOWED = "900s"
LONG = {"statement_timeout": "600s", "idle_in_transaction_session_timeout": SILENCE_ALLOWED}


class ImportWorker:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def run(self) -> None:
        """For ever, on a connection that holds the lock. Whatever fails: the lock goes, and it begins anew."""
        name = f"homeroom-{self._kit.settings.service}-imports"
        conn = await connect(
            self._kit.settings.postgres, application_name=name, idle_session_timeout=SILENCE_ALLOWED, **LONG
        )
        try:
            with unavailable_when_lost(conn):
                while not await conn.fetchval(sql.take_lock):
                    await asyncio.sleep(POLL_S)
                while True:
                    if not await self.work(conn):
                        await asyncio.sleep(POLL_S)
        finally:
            await close(conn)

    async def work(self, conn: Connection) -> bool:
        """One step of the oldest import that waits for one; False when none does."""
        policies = self._kit.policies
        row = await conn.fetchrow(sql.next_import, policies.districts, clock.now())
        if row is None:
            return False
        policy = policies.get(row["district"])
        try:
            if row["state"] == "received":
                await plan(conn, self._kit.settings, row, policy)
            else:
                await self._apply(row, policy)
        except LOST_RACE:
            log.debug("import_lost_race", import_id=str(row["import_id"]))
        except ReadModelBehind:
            await postpone(self._kit, row, 0)
        except Exception as error:
            await failed(self._kit, row, policy, error)
            if isinstance(error, (*PASSING, Unavailable, asyncpg.InterfaceError)):
                raise  # the connection may be of no use any more
        return True

    async def _apply(self, row: Row, policy: Policy) -> None:
        async with self._kit.db.transaction() as conn:
            await apply_chunk(self._kit, conn, row, policy, clock.now())
        self._kit.store.wake()


async def failed(kit: Kit, row: Row, policy: Policy, error: Exception) -> None:
    """An error of ours: later again, and given up after MAX_TRIES. If the database is away, nothing counts."""
    import_id, reference = row["import_id"], new_reference(kit.settings.service)
    log.error("import_step_failed", import_id=str(import_id), reference=reference, exc_info=error)
    tries = await postpone(kit, row, 1)
    if tries >= MAX_TRIES:
        reason = "export_unreadable" if isinstance(error, ReaderDied) else "import_failed"
        details, now = {"reference": reference, "tries": tries}, clock.now()
        async with kit.db.transaction() as conn:
            await imports.end(conn, policy, import_id, "failed", reason=reason, details=details, now=now)


async def postpone(kit: Kit, row: Row, failures: int) -> int:
    """How often it has failed in a row; 0 when somebody has ended it meanwhile."""
    pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(row["crashes"], 10))
    next_try_at = clock.now() + timedelta(seconds=pause_s)
    async with kit.db.connection() as conn:
        return await conn.fetchval(sql.postpone, row["import_id"], failures, next_try_at) or 0


async def apply_chunk(kit: Kit, conn: Connection, row: Row, policy: Policy, now: datetime) -> None:
    """The next rows of an import; when there are none, its end."""
    import_id = row["import_id"]
    if await conn.fetchrow(sql.applying_locked, import_id) is None:
        return  # cancelled meanwhile
    rows = await conn.fetch(sql.next_rows, import_id, CHUNK_ROWS)
    if not rows:
        await imports.end(conn, policy, import_id, "done", now=now)
        return
    statements = {r["n"]: statement(row, r) for r in rows}
    unchanged = {r["n"] for r in rows if not r["kinds"]}
    heard = await handlers.confirm(
        conn,
        policy.district,
        [(statements[r["n"]].command, r["version"]) for r in rows if r["n"] in unchanged],
    )
    settled = {n for n in unchanged if statements[n].command.source_id in heard}
    await _decide(
        kit, conn, policy, import_id, {n: s for n, s in statements.items() if n not in settled}, now
    )
    await conn.execute(sql.delete_rows, import_id, list(unchanged))
    await conn.execute(sql.record_progress, import_id, len(rows), now)


async def _decide(
    kit: Kit,
    conn: Connection,
    policy: Policy,
    import_id: Any,
    statements: dict[int, Statement],
    now: datetime,
) -> None:
    taken = await handlers.take(kit.store, conn, policy.district, policy, list(statements.values()), now=now)
    settled = [
        (n, {"accepted": "applied", "unchanged": "overtaken"}.get(o.state, o.state), o.reason, o.details)
        for n, o in zip(statements, taken, strict=True)
    ]
    if settled:
        await conn.execute(sql.settle_rows, import_id, *map(list, zip(*settled, strict=True)))


def statement(row: Row, said: Row) -> Statement:
    """What a row of an import says, as if the district had published it."""
    spoken = command(row, said)
    event_id = f"import:{row['import_id']}:{said['n']}"
    return Statement(
        event_id=event_id,
        type=type(spoken).__name__,
        digest=hashlib.sha256(msgspec.json.encode(spoken)).digest(),
        received_at=row["received_at"],
        command=spoken,
        cause=Cause(row["correlation_id"], event_id),
    )


def command(row: Row, said: Row) -> Command:
    """Of two exports of the same moment the one counts that came later: so the mark's second part is its number."""
    common: dict[str, Any] = {
        "mark": Mark(row["as_of"], f"import:{row['seq']:012}"),
        "source_id": said["source_id"],
    }
    if said["gone"] is not None:
        return MissInExport(**common, reason=said["gone"])
    common |= {field: said[field] for field in ("kind", *IDENTITY, *PLACEMENT[said["kind"]])}
    if said["classes_whole"] is not None:
        common["classes"] = ExportedClasses(
            assigned=msgspec.convert(said["classes"], tuple[Assignment, ...]),
            unassigned=tuple(said["unassigned"]),
            whole=said["classes_whole"],
        )
    if said["partial"]:
        return CorrectPerson(**common)
    return EnrollPerson(
        **common, enrollment_id=EXPORT, received_at=row["received_at"], baseline=row["baseline"]
    )
