"""The checker is only worth something if it sees what is wrong: everything it looks for is broken here on purpose."""

import random
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from services.cli.client import SERVICES
from tests.faults import checker
from tests.faults.checker import Checker
from tests.faults.havoc import no_grace, policy_of
from tests.faults.lives import Crowd, Walker
from tests.journeys.fleet import Fleet

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("journeys")]

ONE_LIVE = "(SELECT person_id FROM credential WHERE status = 'live' LIMIT 1)"
ONE_EVENT = "(SELECT stream_id, version FROM stream LIMIT 1)"
COLUMNS = "type, schema, district, data, occurred_at, recorded_at, correlation_id, causation_id, traceparent"
SABOTAGE = {
    "claims": {
        f"DELETE FROM event WHERE (stream_id, version) IN {ONE_EVENT}": "the stream is at",
        "UPDATE account SET claim_id = gen_random_uuid() WHERE claim_id IS NOT NULL": "is not",
        "UPDATE reset_item SET state = 'reset'": "reset",
        "UPDATE gate SET version = version + 1 WHERE consumer = 'credentials'": "credentials has",
    },
    "auth": {
        "DELETE FROM vault": "the vault does not hold",
        f"UPDATE credential SET status = 'pending', state = '{{}}' WHERE person_id = {ONE_LIVE}": "credential",
        "UPDATE publication SET last_event_id = gen_random_uuid()": "does not hold what was noted",
    },
    "roster": {
        "DELETE FROM person": "None is not Person",
        f"INSERT INTO event SELECT stream_id, 2, gen_random_uuid(), {COLUMNS} FROM event LIMIT 1": "the topic 1",
    },
}


@pytest.fixture
async def fleet(backing: dict[str, str]) -> AsyncIterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="homeroom-checker-") as folder:
        fleet = Fleet(backing, Path(folder))
        try:
            yield await fleet.start()
        finally:
            await fleet.stop()


async def test_the_checker_is_content_with_what_is_right_and_sees_what_is_wrong(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
        no_grace(fleet)
        crowd = Crowd(fleet, http, await policy_of(fleet, http), seed=1, size=10)
        for number, life in enumerate(crowd.lives):
            walker = Walker(crowd, life, random.Random(number))
            await walker.enroll_http()
            plots = walker.is_reset, walker.changes, walker.recovers, walker.two_browsers
            await (*plots, *plots, walker.is_closed, walker.leaves)[number]()
        assert await Checker(fleet, crowd).check() == []

        for service in SERVICES:
            connection = await asyncpg.connect(fleet.dsn(service))
            for statement in SABOTAGE[service]:
                await connection.execute(statement)
            await connection.close()
        crowd.lives[1].claims.append("00000000-0000-0000-0000-000000000000")
        crowd.lives[2].password = "not the one"
        crowd.lives[3].changes += 1
        crowd.lives[9].suspensions += 1
        monkeypatch.setattr(checker, "SETTLED_WITHIN_S", 1)
        said = await Checker(fleet, crowd, intended_dead_letters=1).check()

    expected = [sentence for sabotage in SABOTAGE.values() for sentence in sabotage.values()]
    expected += [
        "claims recorded",
        "password answers 401",
        "password changes instead of",
        "in claims and auth instead of",
        "0 dead letters instead of 1",
    ]
    missed = [sentence for sentence in expected if not any(sentence in problem for problem in said)]
    assert missed == [], "\n".join(said)
