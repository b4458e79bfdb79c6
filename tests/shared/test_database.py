"""PostgreSQL that is away, hangs, or comes back; migrations that run once; SQL that has a name."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from shared import database as module
from shared.database import TAKES_AWAY, Database, MigrationChanged, SchemaNewer, connect, migrate, queries
from shared.errors import Unavailable
from shared.testing import NOON
from tests.shared.kit import Step


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    db = Database(database, max_size=2)
    yield db
    await db.close()


class Wire:
    """A TCP proxy before PostgreSQL that can hang: bytes stop, connections stay."""

    def __init__(self, dsn: str) -> None:
        self._far = urlsplit(dsn)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        netloc = f"{self._far.netloc.rpartition('@')[0]}@127.0.0.1:{port}"
        self.dsn = urlunsplit(self._far._replace(netloc=netloc))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for pump in self._pumps:
            pump.cancel()

    def hang(self) -> None:
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._far.hostname, self._far.port)
        for one, other in ((reader, far_writer), (far_reader, writer)):
            self._pumps.add(asyncio.create_task(self._pump(one, other)))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
        writer.close()


async def value(db: Database, sql: str = "SELECT 1", *arguments: Any) -> Any:
    async with db.connection() as conn:
        return await conn.fetchval(sql, *arguments)


async def table(db: Database) -> None:
    await value(db, "CREATE TABLE t (n integer)")


class TestAway:
    async def test_a_service_starts_without_postgres_and_is_told_at_each_use(self) -> None:
        db = Database("postgresql://nobody@127.0.0.1:1/none")
        for _ in range(3):
            with pytest.raises(Unavailable) as caught:
                await value(db)
            assert caught.value.dependency == "postgres"
        await db.close()

    async def test_a_database_that_is_not_there_yet_is_awaited(self, postgres_dsn: str) -> None:
        name = f"test_{uuid4().hex[:12]}"
        db = Database(urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}")))
        with pytest.raises(Unavailable):
            await value(db)
        admin = await asyncpg.connect(postgres_dsn)
        await admin.execute(f"CREATE DATABASE {name}")
        assert await value(db) == 1
        await db.close()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()

    async def test_a_connection_lost_in_use_is_said_and_the_next_is_new(self, db: Database) -> None:
        with pytest.raises(Unavailable):
            await value(db, "SELECT pg_terminate_backend(pg_backend_pid())")
        assert await value(db) == 1

    async def test_connections_lost_while_idle_are_no_matter(self, db: Database, postgres_dsn: str) -> None:
        pids = [await value(db, "SELECT pg_backend_pid()") for _ in range(2)]
        admin = await asyncpg.connect(postgres_dsn)
        await admin.execute("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", pids)
        await admin.close()
        await asyncio.sleep(0.1)
        assert await value(db) == 1

    async def test_a_server_that_hangs_is_given_up_and_returns(
        self, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "CONNECT_TIMEOUT_S", 0.3)
        async with Wire(database) as wire:
            db = Database(wire.dsn, max_size=2, command_timeout_s=0.3)
            await table(db)
            wire.hang()
            for _ in range(2):
                async with asyncio.timeout(3):
                    with pytest.raises(Unavailable):
                        await value(db)
            async with asyncio.timeout(3):
                with pytest.raises(Unavailable):
                    async with db.transaction() as conn:
                        await conn.execute("INSERT INTO t VALUES (1)")
            wire.flow()
            assert await value(db, "SELECT count(*) FROM t") == 0
            await db.close()

    async def test_a_server_that_hangs_within_a_transaction_is_given_up(self, database: str) -> None:
        async with Wire(database) as wire:
            db = Database(wire.dsn, max_size=1, command_timeout_s=0.3)
            await table(db)

            async def insert_while_it_hangs() -> None:
                async with db.transaction() as conn:
                    await conn.execute("INSERT INTO t VALUES (1)")
                    wire.hang()
                    await conn.execute("INSERT INTO t VALUES (2)")

            async with asyncio.timeout(3):
                with pytest.raises(Unavailable):
                    await insert_while_it_hangs()
            wire.flow()
            assert await value(db, "SELECT count(*) FROM t") == 0
            await db.close()

    async def test_more_callers_than_connections_are_shed_after_a_while(
        self, db: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "ACQUIRE_TIMEOUT_S", 0.1)
        async with db.connection(), db.connection():
            with pytest.raises(Unavailable):
                await value(db)
        assert await value(db) == 1

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT pg_sleep(5)",
            "SELECT pg_advisory_lock(1)",
            "CREATE TABLE u (n integer)",
        ],
    )
    async def test_the_server_gives_up_what_takes_too_long(self, db: Database, sql: str) -> None:
        """Statement time, lock time, and a server that became read-only are all said to pass."""
        async with db.connection() as holder, holder.transaction():
            await holder.execute("SELECT pg_advisory_xact_lock(1)")

            async def attempt() -> None:
                async with db.transaction() as conn:
                    await conn.execute(
                        "SET LOCAL statement_timeout = '200ms'; SET LOCAL lock_timeout = '100ms'"
                    )
                    if sql.startswith("CREATE"):
                        await conn.execute("SET LOCAL transaction_read_only = on")
                    await conn.execute(sql)

            with pytest.raises(Unavailable):
                await attempt()
        assert await value(db) == 1

    async def test_errors_that_do_not_pass_stay_what_they_are(self, db: Database) -> None:
        with pytest.raises(asyncpg.UndefinedTableError):
            await value(db, "SELECT 1 FROM nowhere")
        with pytest.raises(asyncpg.DataError):
            await value(db, "SELECT 1 / $1::int", 0)
        assert await value(db) == 1

    async def test_a_caller_who_goes_away_gives_its_connection_back(self, db: Database) -> None:
        for _ in range(5):
            task = asyncio.create_task(value(db, "SELECT pg_sleep(60)"))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await value(db) == 1

    async def test_a_lone_connection_is_said_to_be_unavailable_too(self) -> None:
        with pytest.raises(Unavailable):
            await connect("postgresql://nobody@127.0.0.1:1/none", application_name="test")


class TestTransactions:
    async def test_what_raises_is_rolled_back(self, db: Database) -> None:
        await table(db)
        with contextlib.suppress(ZeroDivisionError):
            async with db.transaction() as conn:
                await conn.execute("INSERT INTO t VALUES (1)")
                raise ZeroDivisionError
        async with db.transaction() as conn:
            await conn.execute("INSERT INTO t VALUES (2)")
        assert await value(db, "SELECT array_agg(n) FROM t") == [2]

    async def test_json_is_bytes_and_jsonb_is_values(self, db: Database) -> None:
        raw = b'{"b": 1,  "a": 2, "b": 3, "z": "\\u0000"}'
        assert await value(db, "SELECT $1::json", raw) == raw
        assert await value(db, "SELECT $1::json[]", [raw, None]) == [raw, None]
        for given in ({"a": [1, None, "é"]}, [1], "text", 5, True):
            assert await value(db, "SELECT $1::jsonb", given) == given
        assert await value(db, "SELECT $1::jsonb", Step(1, NOON)) == {"by": 1, "at": "2026-11-22T12:00:00Z"}
        assert await value(db, "SELECT $1::jsonb ->> 'a'", {"a": "x"}) == "x"
        assert await value(db, "SELECT NULL::jsonb") is None


PROJECT = Path(__file__).parents[2]
# From before the first release, when nobody had to run on beside them.
BEFORE_RELEASES = {"auth/0002_previous_secrets.sql"}
MIGRATIONS = sorted(
    file for folder in ("shared", "services") for file in (PROJECT / folder).rglob("sql/[0-9]*.sql")
)


@pytest.mark.parametrize("file", MIGRATIONS, ids=lambda file: f"{file.parts[-3]}/{file.name}")
def test_only_a_migration_that_says_so_takes_something_away(file: Path) -> None:
    """Processes of the release before read on; see docs/how-to/operate.md, "Upgrade"."""
    taking = re.search(
        r"\b(DROP\s+(COLUMN|TABLE|VIEW|FUNCTION)|RENAME|SET\s+NOT\s+NULL|ALTER\s+COLUMN\s+\w+\s+(SET\s+DATA\s+)?TYPE)\b",
        file.read_text(),
        re.IGNORECASE,
    )
    said = TAKES_AWAY in file.name or f"{file.parts[-3]}/{file.name}" in BEFORE_RELEASES
    assert bool(taking) == said, taking


class TestMigrations:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        sql = tmp_path / "counter" / "sql"
        sql.mkdir(parents=True)
        (sql / "0001_first.sql").write_text("CREATE TABLE first (n integer)")
        (sql / "0002_second.sql").write_text("INSERT INTO first VALUES (2); CREATE TABLE second ()")
        (sql / "queries.sql").write_text("-- name: nothing\nSELECT 1")
        return sql

    async def test_they_run_once_in_order_after_the_kits_own(
        self, database: str, db: Database, folder: Path
    ) -> None:
        applied = await migrate(database, folder)
        assert applied[-2:] == ["counter/0001_first.sql", "counter/0002_second.sql"]
        assert all(name.startswith("kit/") for name in applied[:-2])
        assert await migrate(database, folder) == []
        (folder / "0003_third.sql").write_text("INSERT INTO first VALUES (3)")
        assert await migrate(database, folder) == ["counter/0003_third.sql"]
        assert await value(db, "SELECT array_agg(n ORDER BY n) FROM first") == [2, 3]

    async def test_processes_that_start_together_take_turns(self, database: str, folder: Path) -> None:
        applied = await asyncio.gather(*(migrate(database, folder) for _ in range(4)))
        assert sorted(map(bool, applied)) == [False, False, False, True]

    async def test_one_that_fails_leaves_nothing_of_itself(
        self, database: str, db: Database, folder: Path
    ) -> None:
        (folder / "0003_third.sql").write_text("INSERT INTO first VALUES (3); SELECT 1 / 0")
        for _ in range(2):
            with pytest.raises(asyncpg.DivisionByZeroError):
                await migrate(database, folder)
        assert await value(db, "SELECT array_agg(n) FROM first") == [2]

    async def test_a_program_goes_on_beside_a_later_one(
        self, database: str, db: Database, folder: Path
    ) -> None:
        """Until something is taken away that it may read: then it says what it does not know, and stays out."""
        later = folder / "0003_add_third.sql"
        later.write_text("ALTER TABLE first ADD COLUMN third integer")
        await migrate(database, folder)
        later.unlink()
        assert await migrate(database, folder) == []
        last = folder / "0004_drop_n.sql"
        last.write_text("ALTER TABLE first DROP COLUMN n")
        await migrate(database, folder)
        last.unlink()
        (folder / "0005_fifth.sql").write_text("CREATE TABLE fifth ()")
        with pytest.raises(SchemaNewer, match=r"does not know counter/0004_drop_n\.sql"):
            await migrate(database, folder)
        assert await value(db, "SELECT to_regclass('fifth') IS NULL"), "nor does it change anything"

    async def test_an_applied_file_must_not_change(self, database: str, folder: Path) -> None:
        await migrate(database, folder)
        (folder / "0001_first.sql").write_text("CREATE TABLE first (n bigint)")
        with pytest.raises(MigrationChanged, match=r"counter/0001_first\.sql"):
            await migrate(database, folder)

    async def test_without_postgres_they_wait(self, folder: Path) -> None:
        with pytest.raises(Unavailable):
            await migrate("postgresql://nobody@127.0.0.1:1/none", folder)


class TestQueries:
    def test_each_has_its_name(self) -> None:
        sql = queries("shared", "event_store.sql")
        assert sql.load.startswith("SELECT stream_id")
        assert "-- name" not in sql.load
        with pytest.raises(AttributeError, match="find_nobody"):
            _ = sql.find_nobody
