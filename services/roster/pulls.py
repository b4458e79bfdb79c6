"""Pulls: exports that are not uploaded but asked for, page by page, from the rostering service of a district's SIS.

A pull is an import that is `pulling` first. Each page is kept in a transaction of its own, so that a crash costs one
page. When all are there they become the zip that could have been uploaded, and the import goes on as every other.

What is pulled must be one state of the records. Items may come and go while it is read, and what stands behind them
moves up or down: then somebody is missing who has not left. So each page is asked for from the last item of the page
before, which has to be its first, and the total must stay. If it moved, that collection is begun anew. A provider that
does not count (X-Total-Count is missing) is at its end when nothing follows that last item.
"""

import asyncio
import contextlib
import ssl
import zipfile
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from uuid import UUID, uuid4

import asyncpg
import msgspec
import structlog

from services.roster import imports
from services.roster.import_worker import LONG, SILENCE_ALLOWED, failed
from services.roster.oneroster import rest
from services.roster.oneroster.archive import Limits
from services.roster.provider import Page, Provider, connecting, trusting
from shared import clock
from shared.database import Connection, Database, Row, close, connect, queries, unavailable_when_lost
from shared.errors import Rejected, Unavailable
from shared.messages import Cause
from shared.policy import Policy, RestRule
from shared.service import Kit

log = structlog.get_logger(__name__)
sql = queries(__package__, "pulls.sql")

POLL_S = 1.0
AT_ONCE = 4  # requests, of whatever districts
MOST_PULLS = 1000  # one for each district
MAX_RESTARTS = 3
# Of each page, when nobody answers: somebody waits for the answer, or nobody does for 20 minutes.
TRIES, SCHEDULED_TRIES = 6, 25
LONGEST_PULL = timedelta(hours=6)
OVERLAP = timedelta(
    minutes=5
)  # of what is asked for twice: clocks differ, and what is written takes its time
EARLY = timedelta(
    hours=1
)  # a whole pull is due that much before its days are over, or it would slip by a day
SCHEDULE = "schedule"  # who asks for a pull that its policy asks for

FILES = (
    ("orgs.csv", "orgs"),
    ("users.csv", "users"),
    ("roles.csv", "users"),
    ("academicSessions.csv", "academicSessions"),
    ("classes.csv", "classes"),
    ("enrollments.csv", "enrollments"),
)


class Pull(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. `full`: everything, or None: what the policy says is due."""

    district: str
    author: str
    who: str | None = None
    dry_run: bool
    baseline: bool
    full: bool | None
    now: datetime
    cause: Cause


async def begin(conn: Connection, policy: Policy, pull: Pull) -> UUID:
    """Raises Rejected `pull_not_configured`, `import_running`."""
    if policy.imports.rest is None:
        raise Rejected("pull_not_configured")
    await imports.refuse_second(conn, pull.district)
    last = await conn.fetchrow(sql.last_pull, pull.district)
    assert last is not None
    days = timedelta(days=policy.imports.rest.full_every_days) - EARLY
    due = last["full_at"] is None or last["full_at"] <= pull.now - days
    full = due if pull.full is None else pull.full or last["full_at"] is None
    since = None if full else last["pulled_at"] - OVERLAP
    import_id = uuid4()
    try:
        await conn.execute(
            sql.begin_pull, import_id, pull.district, pull.dry_run, pull.baseline, pull.now, pull.author,
            pull.cause.correlation_id, full, since, pull.who,
        )  # fmt: skip
    except asyncpg.UniqueViolationError:
        raise Rejected("import_running") from None
    return import_id


async def begin_due(db: Database, policy: Policy, now: datetime) -> UUID | None:
    """The pull that the district's schedule asks for, once for each of its moments. One that falls into an import that
    is still open waits for its end; of several that fell into it, or into a standstill, the last is made up for."""
    rule = policy.imports.rest
    slot = rule.last_slot(policy.zone, now) if rule else None
    if slot is None:
        return None
    try:
        async with db.transaction() as conn:
            seen = await conn.fetchval(sql.seen_slot, policy.district)
            if seen is not None and seen >= slot:
                return None
            if await conn.fetchval(sql.take_slot, policy.district, slot) is None or seen is None:
                return None  # a schedule that is new begins with its next moment
            asked = Pull(
                district=policy.district, author=SCHEDULE, dry_run=False, baseline=False, full=None, now=now,
                cause=Cause.new(),
            )  # fmt: skip
            return await begin(conn, policy, asked)
    except Rejected:
        return None


class PullWorker:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._running: dict[UUID, asyncio.Task[None]] = {}
        # Of requests, not of pulls: an SIS that has us wait for hours holds up no other district.
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """For ever, on a connection that holds the lock. Whatever fails: the lock goes, and it begins anew."""
        name = f"homeroom-{self._kit.settings.service}-pulls"
        conn = await connect(
            self._kit.settings.postgres, application_name=name, idle_session_timeout=SILENCE_ALLOWED, **LONG
        )
        try:
            with unavailable_when_lost(conn):
                while not await conn.fetchval(sql.take_lock):
                    await asyncio.sleep(POLL_S)
                while True:
                    await self._look(conn)
                    await asyncio.sleep(POLL_S)
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)
            self._running.clear()
            await close(conn)

    async def _look(self, conn: Connection) -> None:
        policies, now = self._kit.policies, clock.now()
        for district in policies.districts:
            if import_id := await begin_due(self._kit.db, policies.get(district), now):
                log.info("pull_due", district=district, import_id=str(import_id))
        self._running = {pull: task for pull, task in self._running.items() if not task.done()}
        if room := MOST_PULLS - len(self._running):
            for row in await conn.fetch(sql.pulling, policies.districts, list(self._running), now, room):
                policy = policies.get(row["district"])
                self._running[row["import_id"]] = asyncio.create_task(self._pull(row, policy))

    async def _pull(self, row: Row, policy: Policy) -> None:
        """To its end; an error of ours, also in ending it, is counted, or it would be pulled anew for ever."""
        kit, import_id = self._kit, row["import_id"]
        try:
            try:
                await self._run(row, policy)
            except Rejected as refusal:
                await self._refuse(row, policy, refusal)
        except Ended:
            log.info("pull_ended_elsewhere", import_id=str(import_id))
        except Exception as error:
            with contextlib.suppress(Unavailable):  # then it is pulling still, and is found again
                await failed(kit, row, policy, error)

    async def _run(self, row: Row, policy: Policy) -> None:
        rule, secret, trusted = _access(self._kit, policy)
        tries = SCHEDULED_TRIES if row["author"] == SCHEDULE else TRIES
        async with connecting(trusted) as http:
            provider = Provider(http, rule, secret, tries=tries, turns=self._turns)
            await Pulling(self._kit.db, row, policy, provider).run()

    async def _refuse(self, row: Row, policy: Policy, refusal: Rejected) -> None:
        import_id, reason, details = row["import_id"], refusal.reason, refusal.details
        log.warning("pull_refused", district=policy.district, import_id=str(import_id), reason=reason)
        async with self._kit.db.transaction() as conn:
            await imports.end(
                conn, policy, import_id, "refused", reason=reason, details=details, now=clock.now()
            )


def _access(kit: Kit, policy: Policy) -> tuple[RestRule, str, ssl.SSLContext | None]:
    """The rule, the secret, and whom to trust. Raises Rejected `pull_not_configured`."""
    rule, folder, missing = policy.imports.rest, kit.settings.provider_secret_dir, "secret"
    if rule is None:
        raise Rejected("pull_not_configured", missing="policy")
    try:
        if folder is not None:
            secret = (folder / policy.district).read_text(encoding="utf-8").strip()
            missing = "ca_file"
            return rule, secret, trusting(folder / rule.ca_file) if rule.ca_file else None
    except (OSError, UnicodeDecodeError) as error:
        log.error("pull_file_unread", district=policy.district, missing=missing, error=type(error).__name__)
    raise Rejected("pull_not_configured", missing=missing)


class Ended(Exception):
    """Somebody has ended the import meanwhile."""


class _Moved(Exception):
    """What was read before is not where it was."""


class Pulling:
    """One pull, from wherever it stands."""

    def __init__(self, db: Database, row: Row, policy: Policy, provider: Provider) -> None:
        assert policy.imports.rest is not None
        self._db, self._provider = db, provider
        self._import_id: UUID = row["import_id"]
        self._since: datetime | None = row["pull_since"]
        self._ends = row["received_at"] + LONGEST_PULL
        self._mode: Literal["bulk", "delta"] = "bulk" if row["pull_full"] else "delta"
        self._limit, self._source = policy.imports.rest.page_size, policy.imports.rest.url
        self._classes = policy.imports.classes

    async def run(self) -> None:
        """Until it is received. Raises Rejected when nothing of it may be used; Ended when it is no longer ours."""
        for collection in rest.collections(self._classes):
            while True:
                try:
                    if not await self._next_page(collection):
                        break
                except _Moved:
                    await self._begin_again(collection)
        await self._finish()

    async def _next_page(self, collection: rest.Collection) -> bool:
        """Pulls and keeps the page after those that are kept; False when there is none."""
        async with self._db.connection() as conn:
            last = await conn.fetchrow(sql.last_page, self._import_id, collection)
        if last is not None and last["next_offset"] == last["total"]:
            return False
        if clock.now() > self._ends:
            raise Rejected("pull_too_long", hours=int(LONGEST_PULL.total_seconds()) // 3600)
        since = self._since if collection in rest.MODIFIED else None
        offset = last["next_offset"] - 1 if last else 0
        page = await self._provider.page(collection, offset=offset, limit=self._limit, since=since)
        await self._keep(collection, last, page, following(collection, last, page))
        return True

    async def _keep(self, collection: str, last: Row | None, page: Page, items: list[rest.Item]) -> None:
        n, begun = (last["n"] + 1, last["next_offset"]) if last else (0, 0)
        last_id, done = items[-1].sourced_id if items else "", begun + len(items)
        total = page.total if items else done
        async with self._db.transaction() as conn:
            await self._still(conn)
            if await conn.fetchrow(sql.last_page, self._import_id, collection) != last:
                raise Ended  # here: another process goes on with it
            await conn.execute(
                sql.insert_page,
                self._import_id,
                collection,
                n,
                done,
                total,
                last_id,
                rest.files_of(items),
            )
            await conn.execute(sql.record_page, self._import_id, done, total or done, clock.now(), page.at)

    async def _begin_again(self, collection: rest.Collection) -> None:
        """Raises Rejected `source_moved` when it does not hold still."""
        async with self._db.transaction() as conn:
            await self._still(conn)
            await conn.execute(sql.delete_collection, self._import_id, collection)
            restarts = await conn.fetchval(sql.begin_again, self._import_id, clock.now())
        if restarts > MAX_RESTARTS:
            raise Rejected("source_moved", collection=collection, tries=restarts)

    async def _still(self, conn: Connection) -> None:
        if await conn.fetchrow(sql.pulling_locked, self._import_id) is None:
            raise Ended

    async def _finish(self) -> None:
        """All pages become the zip that could have been uploaded."""
        with TemporaryDirectory(prefix="homeroom-pull-") as folder:
            path = Path(folder) / "export.zip"
            await self._write(path)
            async with self._db.connection() as conn:
                await conn.execute(imports.sql.delete_pieces, self._import_id)  # of an end that was cut off
            size, digest = await imports.store(self._db, self._import_id, _pieces(path))
        async with self._db.transaction() as conn:
            if await conn.execute(sql.pulled, self._import_id, size, digest, clock.now()) == "UPDATE 1":
                await conn.execute(imports.sql.delete_pages, self._import_id)
            else:
                await conn.execute(imports.sql.delete_pieces, self._import_id)

    async def _write(self, path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            says = rest.manifest(self._mode, self._source, classes=self._classes)
            archive.writestr("manifest.csv", says)
            wanted = rest.collections(self._classes)
            for file, collection in ((f, c) for f, c in FILES if c in wanted):
                with archive.open(file, "w") as out:
                    out.write(rest.table([rest.HEADERS[file]]).encode())
                    async for content in self._contents(file, collection):
                        out.write(content.encode())

    async def _contents(self, file: str, collection: str) -> AsyncIterator[str]:
        n = -1
        while True:
            async with self._db.connection() as conn:
                row = await conn.fetchrow(sql.page_of_file, self._import_id, collection, file, n)
            if row is None:
                return
            n = row["n"]
            yield row["content"] or ""


def following(collection: str, last: Any, page: Page) -> list[rest.Item]:
    """Those items of a page that come after the ones that are kept.

    Raises _Moved; Rejected `provider_unexpected` when the page does not bring us on, `rows_too_many`.
    """
    items, limit = page.items, Limits().rows
    if last is not None:
        if page.total != last["total"] or not items or items[0].sourced_id != last["last_id"]:
            raise _Moved
        items = items[1:]
    begun = last["next_offset"] if last else 0
    if max(begun + len(items), page.total or 0) > limit:
        raise Rejected("rows_too_many", file=collection, limit=limit)
    if page.total is not None and not items and begun < page.total:
        rest.unexpected("page_empty", collection=collection, at=begun, total=page.total)
    if page.total is not None and begun + len(items) > page.total:
        rest.unexpected("total_exceeded", collection=collection, at=begun, total=page.total)
    return items


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(imports.PIECE_BYTES):
            yield piece
