"""One service over a real PostgreSQL, without Kafka: its database is migrated once, and emptied for each test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from shared.database import Database, migrate
from shared.keys import make_key
from shared.service import Kit, ServiceSpec, build_kit
from shared.settings import from_environment

ISSUER = "https://auth.example.org"
SERVICES = Path(__file__).parents[2] / "services"
EMPTY = """
DO $$ DECLARE t text; BEGIN
    SET LOCAL session_replication_role = replica;  -- in whatever order: foreign keys are not looked at
    FOR t IN SELECT relname FROM pg_stat_user_tables WHERE relname <> 'migration' LOOP
        EXECUTE format('DELETE FROM %I', t);
    END LOOP;
END $$
"""


@contextmanager
def migrated_database(postgres: str, service: str) -> Iterator[str]:
    """The DSN of a database with the service's tables. `postgres`: the superuser's DSN."""
    name = f"test_{service}_{uuid4().hex[:12]}"
    dsn = urlunsplit(urlsplit(postgres)._replace(path=f"/{name}"))

    async def administer(statement: str) -> None:
        admin = await asyncpg.connect(postgres)
        await admin.execute(statement)
        await admin.close()

    asyncio.run(administer(f'CREATE DATABASE "{name}"'))
    try:
        asyncio.run(migrate(dsn, SERVICES / service / "sql"))
        yield dsn
    finally:
        asyncio.run(administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


async def empty(db: Database) -> None:
    """As if it had just been migrated; takes no second."""
    async with db.transaction() as conn:
        await conn.execute(EMPTY)


@asynccontextmanager
async def quiet_kit(spec: ServiceSpec, dsn: str, folder: Path, **settings: str) -> AsyncIterator[Kit]:
    """The service's kit on its emptied database, ready to serve; keys of auth and claims lie in `folder`."""
    for signer in ("auth", "claims"):
        make_key(signer, folder / "public", folder / signer, datetime(2026, 1, 1, tzinfo=UTC))
    kit = build_kit(
        spec,
        from_environment(
            {},
            service=spec.name,
            postgres=dsn,
            kafka="127.0.0.1:9",
            issuer=ISSUER,
            key_dir=str(folder / "public"),
            signing_key_dir=str(folder / spec.name),
            **settings,
        ),
    )
    await empty(kit.db)
    kit.policies.refresh()
    kit.keys.refresh()
    kit.signer.refresh()
    for ready in ("migrations", "history"):
        kit.readiness.has(ready)
    try:
        yield kit
    finally:
        await kit.db.close()
