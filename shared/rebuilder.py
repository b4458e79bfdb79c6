"""The process that does a service's rebuilds: builds, compares, switches and drops, as the table `rebuild` asks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from shared import clock, kafka
from shared.builder import BuildFailed, Job, run_child
from shared.database import Connection, Database, Row, connect, queries, unavailable_when_lost
from shared.errors import HomeroomError, Unavailable
from shared.event_store import EventStore
from shared.letter import curable
from shared.messages import topic_of
from shared.projection import Projection
from shared.projector import LiveProjection
from shared.runner import Runner
from shared.settings import Settings

log = structlog.get_logger(__name__)

TICK_S = 0.5
RETRY_S = 1.0
LONG_S = 600.0  # for statements over whole tables
LOCK_S = 2.0  # who wants to switch waits no longer for readers, since others wait behind it
COMPARE_ROUNDS = 6  # what is on its way while the first one looks is compared by a later one
EXAMPLES = 20
SWITCH_PATIENCE_S = 5.0
MOST_BEHIND = 2000  # streams that a switch of an inline projection may catch up while appends wait
NEW, OLD = "new", "old"

_sql = queries("shared", "rebuild.sql")


class NotNow(HomeroomError):
    """A rebuild cannot do what is asked of it at the moment; the message says why. Asking again later may help."""


def consumer_of(projection: str, which: str) -> str:
    """The name under which gates and checkpoints of a table beside the running one are kept."""
    return f"{projection}@{which}"


def table_of(projection: str, which: str) -> str:
    return f"{projection}__{which}"


class Follower(LiveProjection):
    """Keeps a new table up. Its checkpoints are made by the build and gone after a switch or drop."""

    def __init__(self, projection: Projection[Any], settings: Settings, db: Database) -> None:
        super().__init__(
            projection,
            settings,
            db,
            name=consumer_of(projection.name, NEW),
            table=table_of(projection.name, NEW),
        )

    async def _begin(self, first: Mapping[int, int]) -> None:
        if (await self._checkpoints(first)).keys() != first.keys():
            raise Unavailable(f"rebuild of {self.projection.name}")


class Rebuilder:
    """Does a service's rebuilds, in one process at a time. `source` is where a child process finds the projections:
    "module:attribute" of a service's description."""

    _conn: Connection  # holds the lock that makes this process the one

    def __init__(
        self,
        settings: Settings,
        db: Database,
        store: EventStore,
        projections: Iterable[Projection[Any]],
        source: str,
    ) -> None:
        self._settings = settings
        self._db = db
        self._store = store
        self._projections = {projection.name: projection for projection in projections}
        self._source = source
        self._followed: dict[str, Follower] = {}

    @property
    def followers(self) -> list[Runner]:
        """What the projector of this process has to run for rebuilds."""
        return list(self._followed.values())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with self._db.connection() as conn:
                    opened = await conn.fetch(_sql.open)
                self._follow(opened)
                if opened:
                    await self._session()
            except Unavailable as error:
                log.warning("rebuilder_waits", error=str(error))
            await asyncio.sleep(RETRY_S)

    async def _session(self) -> None:
        """As long as a rebuild is open."""
        name = f"homeroom-{self._settings.service}-rebuilder"
        patience = {"idle_session_timeout": "30s", "statement_timeout": f"{LONG_S:.0f}s"}
        self._conn = await connect(self._settings.postgres, application_name=name, **patience)
        try:
            with unavailable_when_lost(self._conn):
                mine = False
                while opened := await self._conn.fetch(_sql.open):
                    self._follow(opened)
                    mine = mine or await self._conn.fetchval(_sql.be_the_one)
                    if mine:
                        for rebuild in opened:
                            await self._advance(rebuild)
                    await asyncio.sleep(TICK_S)
                self._follow(opened)
        finally:
            self._conn.terminate()

    def _follow(self, opened: Sequence[Row]) -> None:
        following = {row["projection"] for row in opened if row["state"] == "following"}
        self._followed = {
            name: self._followed.get(name) or Follower(self._projections[name], self._settings, self._db)
            for name in following & self._projections.keys()
        }

    async def _advance(self, rebuild: Row) -> None:
        """Do what is next; what goes wrong is written down, or tried again when trying may help."""
        state, wished = rebuild["state"], rebuild["wish"]
        projection = self._projections.get(rebuild["projection"])
        try:
            if projection is None:
                raise BuildFailed(f"this service has no projection {rebuild['projection']}")
            if wished == "drop":
                await self._drop(rebuild)
            elif wished is not None and state != "following":
                raise NotNow(f"it is {state}")
            elif state == "building":
                await self._build(rebuild, projection)
            elif wished == "switch":
                await self._switch(rebuild, projection)
            elif wished == "compare" or (state == "following" and "compared" not in rebuild["report"]):
                await self._compare(rebuild, projection)
        except NotNow as error:
            await self._enter(rebuild, state, error=str(error))
        except Exception as error:
            if curable(error):
                raise
            log.error("rebuild_failed", projection=rebuild["projection"], exc_info=error)
            said = f"{type(error).__name__}: {error}"
            if state == "building":
                await self._end(rebuild, NEW, "failed", error=said)
            else:
                await self._enter(rebuild, state, error=said)

    async def _end(self, rebuild: Row, which: str, state: str, **told: Any) -> None:
        """The table goes and the rebuild is over, both or neither: one without its table would wait for ever."""
        async with self._conn.transaction():
            await self._remove(rebuild["projection"], which)
            await self._enter(rebuild, state, finished=True, **told)

    async def _enter(
        self, rebuild: Row, state: str, *, error: str | None = None, finished: bool = False, **report: Any
    ) -> None:
        await self._conn.execute(_sql.enter, rebuild["id"], state, error, report, finished, rebuild["wish"])
        log.info("rebuild", projection=rebuild["projection"], state=state, error=error)

    # building

    async def _build(self, rebuild: Row, projection: Projection[Any]) -> None:
        ends = await self._ends(projection)
        if not rebuild["total"]:
            await self._prepare(projection)
        name, total = consumer_of(projection.name, NEW), max(1, sum(ends.values()))
        built = await self._checkpoints(name)
        left = [(part, end) for part, end in ends.items() if part not in built]
        processes = min(self._settings.rebuild_processes or os.cpu_count() or 1, len(left))
        jobs = [
            Job(
                settings=self._settings,
                source=self._source,
                projection=projection.name,
                rebuild_id=rebuild["id"],
                consumer=name,
                table=table_of(projection.name, NEW),
                ends=dict(left[n::processes]),
            )
            for n in range(processes)
        ]
        done = [0] * processes
        children = [
            asyncio.create_task(run_child(job, partial(done.__setitem__, n))) for n, job in enumerate(jobs)
        ]
        try:
            while True:
                count = sum(built.values()) + sum(done)
                if await self._conn.fetchval(_sql.progress, rebuild["id"], count, total) is not None:
                    return  # an operator wants something else
                if all(child.done() for child in children):
                    break
                await asyncio.wait(children, timeout=TICK_S, return_when=asyncio.FIRST_EXCEPTION)
                for child in children:
                    if child.done():
                        child.result()
            for child in children:
                child.result()
        finally:
            for child in children:
                child.cancel()
            await asyncio.gather(*children, return_exceptions=True)
        seconds = (clock.now() - rebuild["started_at"]).total_seconds()
        await self._enter(rebuild, "following", seconds=round(seconds, 3), rate=round(total / seconds))

    async def _ends(self, projection: Projection[Any]) -> dict[int, int]:
        """Where the history of each partition ends now."""
        topic = topic_of(self._settings.topic_prefix, projection.source)
        async with kafka.consuming(self._settings) as consumer:
            with kafka.unavailable_when_lost():
                async with asyncio.timeout(kafka.START_TIMEOUT_S):
                    ends = await consumer.end_offsets(await kafka.topic_partitions(consumer, topic))
        if not ends:
            raise Unavailable(f"kafka topic {topic}")
        return {tp.partition: end for tp, end in ends.items()}

    async def _prepare(self, projection: Projection[Any]) -> None:
        """An empty table like the running one; nothing left of an earlier attempt."""
        await self._remove(projection.name, NEW)
        table, name = table_of(projection.name, NEW), consumer_of(projection.name, NEW)
        async with self._conn.transaction():
            await self._conn.execute(f"CREATE TABLE {table} (LIKE {projection.name} INCLUDING ALL)")
            await self._conn.execute(_sql.copy_discarded, projection.name, name)

    async def _remove(self, projection: str, which: str) -> None:
        async with self._conn.transaction():
            await self._conn.execute(_sql.await_builders, projection)
            await self._conn.execute(f"DROP TABLE IF EXISTS {table_of(projection, which)}")
            await self._conn.execute(_sql.forget, consumer_of(projection, which), timeout=LONG_S)

    async def _checkpoints(self, consumer: str) -> dict[int, int]:
        return {row["part"]: row["next_offset"] for row in await self._conn.fetch(_sql.built_parts, consumer)}

    # comparing

    async def _compare(self, rebuild: Row, projection: Projection[Any]) -> None:
        """Once also unasked, as soon as the new table has caught up; a replay is dropped then."""
        if "compared" not in rebuild["report"] and not await self._caught_up(projection):
            return
        report = await self._report(projection)
        for _ in range(COMPARE_ROUNDS):
            if not report["not_compared"]:
                break
            await asyncio.sleep(TICK_S)
            report = await self._report(projection)
        if rebuild["purpose"] == "replay":
            await self._end(rebuild, NEW, "dropped", **report)
        else:
            await self._enter(rebuild, "following", **report)

    async def _caught_up(self, projection: Projection[Any]) -> bool:
        name = consumer_of(projection.name, NEW)
        if projection.inline:
            return int(await self._conn.fetchval(_sql.count_behind, name, timeout=LONG_S)) <= MOST_BEHIND
        new, live = await self._checkpoints(name), await self._conn.fetch(_sql.built_parts, projection.name)
        return all(new.get(part, -1) >= offset for part, offset in _to_reach(live).items())

    async def _report(self, projection: Projection[Any]) -> dict[str, Any]:
        """Both tables in one snapshot. Never what the rows say of a person: whose they are, and which columns."""
        new = consumer_of(projection.name, NEW)
        gates = "SELECT stream_id, version FROM gate WHERE consumer = {}"
        live = "SELECT stream_id, version FROM stream" if projection.inline else gates.format("$2")
        names = [new] if projection.inline else [new, projection.name]
        a, b = (", ".join(f"{t}.{column}" for column in projection.columns) for t in "ab")
        differs = f"l.version = n.version AND ROW({a}) IS DISTINCT FROM ROW({b})"
        pairs = (
            f"FROM ({live}) l FULL JOIN ({gates.format('$1')}) n USING (stream_id)"
            f" LEFT JOIN {projection.name} a ON a.person_id = stream_id"
            f" LEFT JOIN {table_of(projection.name, NEW)} b ON b.person_id = stream_id"
        )
        columns = ", ".join(
            f"CASE WHEN a.{column} IS DISTINCT FROM b.{column} THEN '{column}' END"
            for column in projection.columns
        )
        async with self._conn.transaction(isolation="repeatable_read", readonly=True):
            await self._conn.execute(f"SET LOCAL statement_timeout = '{LONG_S:.0f}s'")
            counts = await self._conn.fetchrow(
                f"SELECT count(*) FILTER (WHERE l.version = n.version) AS compared,"
                f" count(*) FILTER (WHERE {differs}) AS different,"
                f" count(*) FILTER (WHERE l.version IS DISTINCT FROM n.version) AS not_compared {pairs}",
                *names,
                timeout=LONG_S,
            )
            examples = await self._conn.fetch(
                f"SELECT stream_id AS person_id, n.version, array_remove(ARRAY[{columns}], NULL) AS columns {pairs}"
                f" WHERE {differs} LIMIT {EXAMPLES}",
                *names,
                timeout=LONG_S,
            )
            letters = await self._conn.fetchval(_sql.count_letters, new)
        assert counts is not None
        return {
            **counts,
            "examples": [dict(example) for example in examples],
            "dead_letters": letters,
            "compared_at": clock.now(),
        }

    # switching

    async def _switch(self, rebuild: Row, projection: Projection[Any]) -> None:
        """Serve from the new table. Readers wait for milliseconds; the projector, or appends, a little longer."""
        try:
            async with self._conn.transaction():
                await self._conn.execute(
                    f"SET LOCAL lock_timeout = '{LOCK_S:.0f}s'; SET LOCAL statement_timeout = '{LONG_S:.0f}s'"
                )
                await (self._take_over_inline if projection.inline else self._take_over)(projection)
                await self._swap_tables(projection.name)
                await self._enter(rebuild, "switched", switched_at=clock.now())
        except asyncpg.LockNotAvailableError as error:
            raise NotNow("somebody holds the table: ask again") from error

    async def _take_over(self, projection: Projection[Any]) -> None:
        """Hold the running projector, let the new one come up to it, and exchange their names."""
        live, new, old = projection.name, consumer_of(projection.name, NEW), consumer_of(projection.name, OLD)
        held = _to_reach(await self._conn.fetch(_sql.lock_checkpoints, live))
        deadline = asyncio.get_running_loop().time() + SWITCH_PATIENCE_S
        while True:
            reached = await self._checkpoints(new)
            if all(reached.get(part, -1) >= offset for part, offset in held.items()):
                break
            if asyncio.get_running_loop().time() > deadline:
                raise NotNow("the new table has not caught up with the running one")
            await asyncio.sleep(0.02)
        await self._conn.fetch(_sql.lock_checkpoints, new)
        await self._conn.execute(_sql.rename, live, old, timeout=LONG_S)
        await self._conn.execute(_sql.rename, new, live, timeout=LONG_S)

    async def _take_over_inline(self, projection: Projection[Any]) -> None:
        """Hold the appends and fold in what the topic does not have yet, out of the own events."""
        name, table = consumer_of(projection.name, NEW), table_of(projection.name, NEW)
        if await self._conn.fetchval(_sql.count_letters, name):
            raise NotNow("some events could not be applied to the new table: see its dead letters")
        await self._conn.fetch(_sql.lock_checkpoints, name)
        # Who has read a row to fold the next event into must be through before anything is read here.
        await self._conn.execute(f"LOCK TABLE {projection.name} IN ACCESS EXCLUSIVE MODE")
        behind = await self._conn.fetch(_sql.behind, name, MOST_BEHIND + 1, timeout=LONG_S)
        if len(behind) > MOST_BEHIND:
            raise NotNow("the new table has not caught up with the running one")
        rows: dict[UUID, Any] = dict(
            await projection.load(self._conn, [row["stream_id"] for row in behind], table=table)
        )
        for stream_id, version in behind:
            history = await self._store.load(self._conn, stream_id)
            due = [e for e in history if e.version > version and e.type in projection.codec.types]
            rows[stream_id] = projection.fold(rows.get(stream_id), due)
        await projection.write(self._conn, rows, table=table)
        await self._conn.execute(_sql.forget, name, timeout=LONG_S)

    async def _swap_tables(self, projection: str) -> None:
        """The new table takes the running one's name, its indexes theirs: migrations to come know them by name."""
        old, new = table_of(projection, OLD), table_of(projection, NEW)
        await self._conn.execute(f"LOCK TABLE {projection}, {new} IN ACCESS EXCLUSIVE MODE")
        for one, two in await self._conn.fetch(_sql.indexes, projection, new):
            await self._conn.execute(f'ALTER INDEX "{one}" RENAME TO "{one[:58]}__old"')
            await self._conn.execute(f'ALTER INDEX "{two}" RENAME TO "{one}"')
        await self._conn.execute(f"ALTER TABLE {projection} RENAME TO {old}")
        await self._conn.execute(f"ALTER TABLE {new} RENAME TO {projection}")

    async def _drop(self, rebuild: Row) -> None:
        """The table that is not served goes."""
        which, state = (OLD, "switched") if rebuild["state"] == "switched" else (NEW, "dropped")
        await self._end(rebuild, which, state)


def _to_reach(live: Iterable[Row]) -> dict[int, int]:
    """Where the running table stands. One that has stopped for good stands nowhere: its offsets mean nothing now."""
    return {row["part"]: row["next_offset"] for row in live if row["alarm"] is None}
