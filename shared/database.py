"""PostgreSQL: a pool that starts without it and bounds every wait, migrations, SQL with a name and a file."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import msgspec
import structlog
from asyncpg.pool import PoolConnectionProxy

from shared.errors import HomeroomError, Unavailable, VersionConflict

log = structlog.get_logger(__name__)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Row: TypeAlias = asyncpg.Record

CONNECT_TIMEOUT_S = 5.0
ACQUIRE_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 10.0
MIGRATION_TIMEOUT_S = 300.0
TAKES_AWAY = "_drop_"  # in a migration's name: programs from before it cannot go on (docs/how-to/operate.md, "Upgrade")

# Given when a connection is made, never afterwards: a pooled connection is not reset between its users. The server
# gives up before we do; and a process that hangs in a transaction must not hold a person's stream for long.
SESSION = {
    "statement_timeout": f"{COMMAND_TIMEOUT_S - 1:.0f}s",
    "lock_timeout": f"{COMMAND_TIMEOUT_S - 2:.0f}s",
    "idle_in_transaction_session_timeout": "30s",
    "jit": "off",
}

# The server refuses, or goes away, for reasons that pass: connection lost, shutting down, out of disk or
# memory, not the primary any more, a lock not had in time.
PASSING = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,  # the server ended an idle session; the client stumbles over its farewell
    OSError,  # TimeoutError among them
)
# Somebody else was faster: the whole again, from what is there now.
LOST_RACE = (VersionConflict, asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
# While connecting, a missing database or role is one more dependency that is not there yet.
_CONNECTING = (*PASSING, asyncpg.PostgresError, asyncpg.InterfaceError)

_encode = msgspec.json.Encoder().encode
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_decode_jsonb = msgspec.json.Decoder().decode


class Database:
    """The database of one service. Making it connects to nothing; connections are made when they are needed.

    Every failure that trying again may cure comes out as Unavailable("postgres"). After a lost COMMIT the
    outcome is unknown: who asks for a transaction must be able to find out or to repeat it (see transact).
    """

    def __init__(
        self,
        dsn: str,
        *,
        max_size: int = 10,
        application_name: str = "homeroom",
        command_timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> None:
        self.dsn = dsn
        self._options: dict[str, Any] = {
            "min_size": 0,
            "max_size": max_size,
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": command_timeout_s,
            "server_settings": SESSION | {"application_name": application_name},
            "init": prepare_connection,
            # The default reset costs each release a round trip; our transactions always end by themselves.
            "reset": _no_reset,
        }
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for single statements. Raises Unavailable, also when it is lost in use."""
        pool = await self._open()
        try:
            connection = await pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
        except _CONNECTING as error:
            log.warning("postgres_unavailable", error=repr(error))
            raise Unavailable("postgres") from error
        try:
            with unavailable_when_lost(connection):
                yield connection
        finally:
            await _release(pool, connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside a READ COMMITTED transaction, committed when the block ends well."""
        async with self.connection() as connection, connection.transaction():
            # Inside as well: a connection that hangs must be cut before the ROLLBACK waits on it once more.
            with unavailable_when_lost(connection):
                yield connection

    async def close(self) -> None:
        """Give connections in use a moment to come back, then cut them."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await pool.close()
        except (*PASSING, asyncpg.InterfaceError):
            pool.terminate()

    async def _open(self) -> asyncpg.Pool[asyncpg.Record]:
        async with self._opening:
            if self._pool is None:
                try:
                    self._pool = await asyncpg.create_pool(self.dsn, **self._options)
                except _CONNECTING as error:
                    raise Unavailable("postgres") from error
            return self._pool


async def connect(dsn: str, *, application_name: str, **session: str) -> asyncpg.Connection[asyncpg.Record]:
    """A connection outside any pool, for who holds session locks, with more settings. Raises Unavailable."""
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings=SESSION | {"application_name": application_name} | session,
        )
    except _CONNECTING as error:
        raise Unavailable("postgres") from error
    await prepare_connection(connection)
    return connection


@contextmanager
def unavailable_when_lost(connection: Connection) -> Iterator[None]:
    """Turn what trying again may cure into Unavailable("postgres"), and cut a connection that hangs."""
    try:
        yield
    except PASSING as error:
        # A statement that ran into its timeout may hang on the wire: closing politely would hang with it.
        with suppress(asyncpg.InterfaceError):  # the pool has taken it back already, because it broke
            connection.terminate()
        log.warning("postgres_lost", error=repr(error))
        raise Unavailable("postgres") from error
    except asyncpg.InterfaceError as error:
        if not _is_gone(connection):
            raise
        raise Unavailable("postgres") from error


def _is_gone(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool takes a connection back as soon as it is closed
        return True


def _encode_jsonb(value: Any) -> bytes:
    """JSON as PostgreSQL takes it: without NUL, which names in archives and answers of strangers may hold."""
    encoded = _encode(value)
    return _NUL.sub(rb"\1\\ufffd", encoded) if b"\\u0000" in encoded else encoded


async def prepare_connection(connection: Connection) -> None:
    """Teach a connection our two ways with JSON: `json` is bytes as they are, `jsonb` is Python values."""
    await connection.set_type_codec(
        "json", schema="pg_catalog", format="binary", encoder=_as_is, decoder=_as_is
    )
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + _encode_jsonb(value),  # 1 is the version of jsonb's wire format
        decoder=lambda data: _decode_jsonb(data[1:]),
    )


def _as_is(data: bytes) -> bytes:
    return data


async def _no_reset(connection: Connection) -> None:
    assert not connection.is_in_transaction(), "a connection was given back inside a transaction"


async def _release(
    pool: asyncpg.Pool[asyncpg.Record], connection: PoolConnectionProxy[asyncpg.Record]
) -> None:
    """Give a connection back within a bound; one whose running statement cannot be cancelled is cut."""
    try:
        await pool.release(connection, timeout=CONNECT_TIMEOUT_S)
    except (*PASSING, asyncpg.InterfaceError) as error:
        log.warning("postgres_release_failed", error=repr(error))
        with suppress(asyncpg.InterfaceError):
            connection.terminate()


class MigrationChanged(HomeroomError):
    """A migration that has been applied reads differently now. Write a new one; applied files are history."""


class SchemaNewer(HomeroomError):
    """The database knows a migration that this program does not, and that took away what it may read."""


async def migrate(dsn: str, service_sql_dir: Path) -> list[str]:
    """Bring a database to the present shape; answers what was applied. Raises Unavailable, MigrationChanged,
    SchemaNewer.

    The kit's files (shared/sql) come first, then the service's, `[0-9]*.sql` in order, each in its own
    transaction. An advisory lock makes processes that start together take turns. Migrations of a later program are
    passed over, but for those that take something away.
    """
    found = [("kit", path) for path in sorted(Path(__file__).parent.glob("sql/[0-9]*.sql"))]
    found += [(service_sql_dir.parent.name, path) for path in sorted(service_sql_dir.glob("[0-9]*.sql"))]
    limit = f"{MIGRATION_TIMEOUT_S:.0f}s"
    connection = await connect(
        dsn, application_name="homeroom-migrate", statement_timeout=limit, lock_timeout=limit
    )
    try:
        with unavailable_when_lost(connection):
            return await _apply(
                connection, {f"{owner}/{path.name}": path.read_text() for owner, path in found}
            )
    finally:
        await close(connection)


async def close(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Close politely if the server answers within a second; cut it otherwise."""
    try:
        await connection.close(timeout=1.0)
    except (*PASSING, asyncpg.InterfaceError):
        connection.terminate()


async def _apply(connection: Connection, migrations: dict[str, str]) -> list[str]:
    applied = []
    await connection.execute(
        "SELECT pg_advisory_lock(hashtext('homeroom-migrate'))", timeout=MIGRATION_TIMEOUT_S
    )
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS migration (name text PRIMARY KEY, sha256 text NOT NULL,"
        " at timestamptz NOT NULL DEFAULT now())"
    )
    done = {
        row["name"]: row["sha256"] for row in await connection.fetch("SELECT name, sha256 FROM migration")
    }
    if taken_away := sorted(name for name in done.keys() - migrations if TAKES_AWAY in name):
        raise SchemaNewer(f"the database is newer than this program, which does not know {taken_away[-1]}")
    for name, sql in migrations.items():
        digest = hashlib.sha256(sql.encode()).hexdigest()
        if done.get(name, digest) != digest:
            raise MigrationChanged(f"{name} was applied with other content")
        if name in done:
            continue
        async with connection.transaction():
            await connection.execute(sql, timeout=MIGRATION_TIMEOUT_S)
            await connection.execute("INSERT INTO migration (name, sha256) VALUES ($1, $2)", name, digest)
        log.info("migration_applied", migration=name)
        applied.append(name)
    return applied


class Queries:
    """SQL texts by name: `sql.find_person`. A name that the file does not have is an AttributeError."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.__dict__.update(texts)

    def __getattr__(self, name: str) -> str:
        raise AttributeError(f"no query is named {name}")


def queries(package: str, file: str = "queries.sql") -> Queries:
    """The named statements of a package's `sql/` folder; a line `-- name: find_person` begins each."""
    text = files(package).joinpath("sql", file).read_text(encoding="utf-8")
    sections = re.split(r"^-- name: *(\w+) *$", text, flags=re.MULTILINE)[1:]
    names, texts = sections[::2], sections[1::2]
    assert len(set(names)) == len(names), f"{package}/sql/{file}: a name twice"
    return Queries({name: sql.strip() for name, sql in zip(names, texts, strict=True)})
