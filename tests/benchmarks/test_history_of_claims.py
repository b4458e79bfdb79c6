"""What the benchmarks write into the stores, past the services, is still what the services keep there."""

from collections.abc import Iterator
from contextlib import ExitStack

import asyncpg
import pytest

from benchmarks import history_of_claims
from tests.support.service import migrated_database

PUPILS = 3
GOOD_SESSIONS = """
SELECT count(*) FROM session s
JOIN credential c ON c.person_id = s.person_id AND c.credential_id = s.credential_id AND c.status = 'live'
JOIN vault v ON v.credential_id = c.credential_id
WHERE s.expires_at > now()
"""
CLAIMED = "SELECT count(*) FROM account JOIN admission USING (person_id) WHERE credential_id IS NOT NULL"


@pytest.fixture
def stores(postgres_dsn: str) -> Iterator[dict[str, str]]:
    """The DSNs of claims' and auth's databases, migrated and empty."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(migrated_database(postgres_dsn, name)) for name in ("claims", "auth")
        }


async def _count(dsn: str, sql: str) -> int:
    conn = await asyncpg.connect(dsn)
    try:
        return await conn.fetchval(sql)
    finally:
        await conn.close()


async def test_pupils_of_the_history_have_claimed_and_are_signed_in(stores: dict[str, str]) -> None:
    persons = await history_of_claims.write(stores.__getitem__, PUPILS)
    assert len(set(persons)) == PUPILS
    assert await _count(stores["claims"], CLAIMED) == PUPILS
    assert await _count(stores["auth"], GOOD_SESSIONS) == PUPILS
    for service in stores:
        assert await _count(stores[service], "SELECT count(*) FROM event") == 2 * PUPILS
        assert await _count(stores[service], "SELECT count(*) FROM gate") == PUPILS
