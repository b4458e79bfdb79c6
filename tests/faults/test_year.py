"""A district's year over Kafka: nobody is lost, locked out or let in who should not be, and every store is in order."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from services.cli.client import Json
from services.cli.pupil import Pupil, kafka_record
from shared import clock
from tests.faults import checker
from tests.faults.checker import Checker
from tests.faults.havoc import no_grace, policy_of
from tests.faults.lives import Crowd, Life, Walker
from tests.journeys.fleet import Fleet
from tests.support.year import OnFile, Year

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("journeys")]

SEED = 20260803
CLAIMED = 24
PUPILS = int(os.environ.get("HOMEROOM_TEST_PUPILS", "50000"))
GRADUATED = "graduated"
LEAVING = "SELECT count(*) FROM departure WHERE NOT graduated"


@pytest.fixture
async def fleet(backing: dict[str, str]) -> AsyncIterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="homeroom-year-") as folder:
        fleet = Fleet(backing, Path(folder))
        try:
            yield await fleet.start()
        except Exception as error:
            error.add_note(fleet.logs())
            raise
        finally:
            await fleet.stop()


def test_the_same_seed_is_the_same_year() -> None:
    begins = clock.now()
    one, other, third = (Year(seed, 200, begins) for seed in (1, 1, 2))
    told = [[*year.first_day(), *year.facts()] for year in (one, other, third)]
    assert told[0] == told[1] != told[2]
    assert one.people == other.people
    adventures = {name for name in one.counts if not name.startswith("staff: ")}
    assert len(adventures) == 10
    assert adventures - {"graduated"} == {
        name.removeprefix("staff: ") for name in one.counts.keys() - adventures
    }


async def test_a_year_of_a_small_district(fleet: Fleet) -> None:
    await live_through(fleet, 400)


@pytest.mark.deep
@pytest.mark.timeout(3600)
async def test_a_year_of_a_district(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker, "SETTLED_WITHIN_S", 1800)
    print(await live_through(fleet, PUPILS))


async def live_through(fleet: Fleet, size: int) -> Json:
    """Publishes a year, lets it settle, and looks at everybody; what was seen."""
    year = Year(SEED, size, clock.now() - timedelta(hours=1))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
        no_grace(fleet)
        async with Crowd(fleet, http, await policy_of(fleet, http), SEED, 0) as crowd:
            check, began = Checker(fleet, crowd), time.monotonic()
            await publish(crowd.producer, fleet, year.first_day())
            await check.settle()
            first_day_s = round(time.monotonic() - began, 1)
            claimed = [await claim(crowd, person) for person in chosen(year, size)]

            began = time.monotonic()
            await publish(crowd.producer, fleet, year.facts())
            await check.settle()
            await none_left(fleet)
            year_s = round(time.monotonic() - began, 1)
            problems = [
                *await everybody(fleet, year),
                *[p for each in claimed for p in await at_the_door(*each)],
            ]
            problems += await check.check()
    assert not problems, "\n".join([f"{len(problems)} problems:", *problems[:40]])
    people = {"pupils": size, "staff": len(year.staff)}
    return people | {"first day s": first_day_s, "year s": year_s} | year.counts | dict(check.counts)


async def publish(producer: AIOKafkaProducer, fleet: Fleet, facts: Iterable[Json]) -> None:
    sent = [
        await producer.send(fleet.ingress, **kafka_record(fact, structured=bool(n % 2)))
        for n, fact in enumerate(facts)
    ]
    for each in sent:
        await each


def chosen(year: Year, size: int) -> list[OnFile]:
    """One for each fate: the year is made up once more, to look into the future."""
    future = Year(SEED, size, year.entered_at + timedelta(hours=48))
    list(future.first_day())
    list(future.facts())
    fates: dict[Any, OnFile] = {}
    for source_id, now in year.people.items():
        then = future.people[source_id]
        moved, named = then.school != now.school, then.last_name != now.last_name
        fates.setdefault((then.kind, then.left, then.number != now.number, moved, named), now)
    return list(fates.values())[:CLAIMED]


async def claim(crowd: Crowd, on_file: OnFile) -> tuple[OnFile, Pupil, str]:
    life = Life(name=on_file.source_id, enrolled=on_file.enrollment())
    walker = Walker(crowd, life, crowd.rng)
    await walker.signs_in()
    return on_file, walker.pupil, str(life.password)


async def at_the_door(on_file: OnFile, pupil: Pupil, password: str) -> list[str]:
    """Whoever is there, or has just graduated, gets in under the number of today; whoever left is told."""
    session = (await pupil.who_am_i()).status
    pupil.enrolled["number"] = on_file.number
    status = (await pupil.sign_in(password)).status
    if on_file.left in (None, GRADUATED):
        return [] if status == 201 else [f"{on_file}: locked out, {status}"]
    wrong = [f"{on_file}: the old session answers {session}"] if session != 401 else []
    # Whose number somebody else has now is nobody there any more.
    return wrong if status in (401, 403) else [*wrong, f"{on_file}: sign-in answers {status}"]


async def none_left(fleet: Fleet) -> None:
    """The worker has suspended everybody who left."""
    connection = await asyncpg.connect(fleet.dsn("claims"))
    try:
        deadline = time.monotonic() + checker.SETTLED_WITHIN_S
        while (left := await connection.fetchval(LEAVING)) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        assert not left, f"{left} who left are not suspended"
    finally:
        await connection.close()


async def everybody(fleet: Fleet, year: Year) -> list[str]:
    """Everybody on file as the district said last, in roster, claims and auth; suspended who left, and nobody else."""
    problems: list[str] = []
    people, persons = year.people, dict[str, asyncpg.Record]()
    read = {
        "roster": "SELECT * FROM person",
        "claims": "SELECT a.*, c.suspensions FROM admission a LEFT JOIN account c USING (person_id)",
        "auth": "SELECT * FROM person",
    }
    known = {
        "roster": ("source_id", "number", "last_name", "first_name", "school", "grade", "role"),
        "claims": ("number", "last_name", "first_name", "school", "grade"),
        "auth": ("number", "last_name", "first_name"),
    }
    for service, statement in read.items():
        connection = await asyncpg.connect(fleet.dsn(service))
        rows = {row["person_id"]: row for row in await connection.fetch(statement)}
        await connection.close()
        if service == "roster":
            persons = {row["source_id"]: row["person_id"] for row in rows.values()}
        if len(rows) != len(people):
            problems.append(f"{service}: {len(rows)} persons instead of {len(people)}")
        for person in people.values():
            row = rows[persons[person.source_id]]
            wanted = person.enrollment()
            # Merges come by another partition, and may overtake what was said of the merged record's year before.
            overtaken = ("grade",) if person.left == "merged" else ()
            differs = [
                name for name in known[service] if name not in overtaken and row[name] != wanted.get(name)
            ]
            if (
                differs
                or row["kind"] != person.kind
                or (row["status"] == "enrolled") != (person.left is None)
            ):
                problems.append(f"{service}: {person} is {dict(row)}")
            if service == "roster" and person.left != "merged":
                problems += in_class(person, row["classes"])
            if service == "claims":
                closed = row["suspensions"] not in (None, "[]")
                if closed != (person.left not in (None, GRADUATED)):
                    problems.append(f"{person} has suspensions {row['suspensions']}")
    return problems


def in_class(person: OnFile, classes: str) -> list[str]:
    """In the class that was said last; whoever stands for two may be in two."""
    rooms = {(each["class_id"], each["role"]) for each in msgspec.json.decode(classes)}
    wanted = {(person.room, "student" if person.kind == "student" else "teacher")} if person.room else set()
    return [] if wanted <= rooms and len(rooms) <= 2 else [f"{person} is in {rooms}"]
