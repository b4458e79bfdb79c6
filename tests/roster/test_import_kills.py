"""roster is killed in every state of an import, and started again: nothing is lost, doubled, or half interpreted."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from services.roster.imports import sql
from shared import clock
from shared.keys import Signer, make_key
from shared.messages import ingress_topic
from tests.journeys.fleet import Part, free_ports
from tests.roster import schedules
from tests.roster.conftest import Roster
from tests.roster.exports import Pupil, pupils
from tests.roster.given import DISTRICT, POLICY_FOLDER
from tests.roster.importing import ZIP, District, change, some
from tests.support.service import ISSUER

pytestmark = [pytest.mark.backing, pytest.mark.timeout(120)]

PATIENCE_S = 30


class Process(Roster):
    """roster as a process of its own."""

    def __init__(self, part: Part, port: int, client: aiohttp.ClientSession, signer: Signer) -> None:
        nobody = cast(AIOKafkaProducer, None)
        super().__init__(client, signer, nobody, ingress_topic("", DISTRICT), "")
        self.part, self.url = part, f"http://127.0.0.1:{port}"

    async def start(self) -> None:
        await self.part.start()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    async with self.client.get("/health/ready") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        await self.part.kill()


@pytest.fixture
async def process(
    database: str, topic_prefix: str, kafka_bootstrap: str, tmp_path: Path
) -> AsyncIterator[Process]:
    make_key("auth", tmp_path / "public", tmp_path / "auth", clock.now())
    signer = Signer(tmp_path / "auth", "auth")
    signer.refresh()
    (port,) = free_ports(1)
    env = {
        "POSTGRES": database, "KAFKA": kafka_bootstrap, "TOPIC_PREFIX": topic_prefix, "PARTITIONS": "3",
        "HTTP_PORT": str(port), "ISSUER": ISSUER, "POLICY_DIR": str(POLICY_FOLDER), "KEY_DIR": str(tmp_path / "public"),
        "LOG_FORMAT": "json",
    }  # fmt: skip
    part = Part("roster", "all", {f"HOMEROOM_{name}": value for name, value in env.items()}, tmp_path / "log")
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        process = Process(part, port, client, signer)
        await process.start()
        try:
            yield process
        finally:
            await process.kill()


class Year:
    """Who is in two exports of a district, of which the second waits for a second person: 5.5 % have left."""

    def __init__(self) -> None:
        everybody = pupils(900)
        self.before = everybody[:800]
        self.left, stayed = self.before[:44], self.before[44:]
        ada, bob, *others = stayed
        self.swapped = [change(ada, number=bob.number), change(bob, number=ada.number)]
        self.moved = [change(p, grade="12" if p.grade != "12" else "11") for p in others[:500]]
        self.unchanged, self.new = others[500:], everybody[800:]
        self.after = [*self.swapped, *self.moved, *self.unchanged, *self.new]
        self.in_classes = [*self.moved, *self.new]  # by the second export; by the first nobody was

    @property
    def told(self) -> dict[str, list[str]]:
        """What is recorded of each in the end."""
        ways: list[tuple[list[Pupil], list[str]]] = [
            (self.left, ["StudentEnrolled", "StudentWithdrawn"]),
            (self.swapped, ["StudentEnrolled", "NumberChanged"]),
            (self.moved, ["StudentEnrolled", "PlacementChanged", "ClassesChanged"]),
            (self.unchanged, ["StudentEnrolled"]),
            (self.new, ["StudentEnrolled", "ClassesChanged"]),
        ]
        return {pupil.source_id: types for group, types in ways for pupil in group}


class Scene:
    """A district whose roster gets killed."""

    def __init__(self, process: Process, district: District) -> None:
        self.process, self.district, self.year = process, district, Year()
        self.export = district.export(self.year.after, classes=self.year.in_classes)

    async def upload(self) -> str:
        status, body = await self.district.upload(self.export, sub="sis")
        assert status == 202, body
        return str(body["import_id"])

    async def approve(self, import_id: str) -> None:
        await self.district.ended(import_id, "awaiting_approval")
        path = f"/imports/{import_id}/approval"
        status, body = await self.district.ask("POST", path, sub="ms-lee", human=True)
        assert status == 202, body

    @asynccontextmanager
    async def blocked(self, statement: str, *args: Any) -> AsyncIterator[None]:
        """While a statement of ours holds its locks, until roster waits for one; then the block, and they go."""
        conn = await asyncpg.connect(self.district.dsn)
        try:
            async with conn.transaction():
                await conn.fetch(statement, *args)
                yield
        finally:
            await conn.close()

    async def waits(self) -> None:
        """Until roster waits for a lock."""
        waiting = (
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(PATIENCE_S):
            while not await self.district.rows(waiting):
                await asyncio.sleep(0.02)


async def while_receiving(scene: Scene) -> str:
    async def half() -> AsyncIterator[bytes]:
        yield scene.export[: len(scene.export) // 2]
        async with asyncio.timeout(PATIENCE_S):
            while not await scene.district.rows("SELECT FROM import WHERE state = 'receiving'"):
                await asyncio.sleep(0.02)
        await scene.process.kill()
        yield b""

    with pytest.raises(aiohttp.ClientError):
        await scene.process.ask("POST", "/imports", data=half(), headers=ZIP)
    await scene.process.start()
    _, listed = await scene.process.ask("GET", "/imports")
    assert len(listed["imports"]) == 1, "nobody sees what never came whole"
    return await scene.upload()


async def while_received(scene: Scene) -> str:
    await scene.process.kill()
    worker = await asyncpg.connect(scene.district.dsn)
    try:
        while not await worker.fetchval(sql.take_lock):
            await asyncio.sleep(0.02)
        await scene.process.start()
        import_id = await scene.upload()
        assert (await scene.district.shown(import_id))["state"] == "received"
        await scene.process.kill()
    finally:
        await worker.close()
    await scene.process.start()
    return import_id


async def while_planning(scene: Scene) -> str:
    async with scene.blocked("LOCK TABLE import_flaw IN ACCESS EXCLUSIVE MODE"):
        import_id = await scene.upload()
        await scene.waits()
        await scene.process.kill()
    assert await scene.district.rows("SELECT FROM import_row WHERE state = 'planned'") == []
    await scene.process.start()
    return import_id


async def while_planned(scene: Scene) -> str:
    import_id = await scene.upload()
    await scene.district.ended(import_id, "awaiting_approval")
    await scene.process.kill()
    await scene.process.start()
    return import_id


async def while_applying(scene: Scene) -> str:
    """Its first chunk is through; in the second somebody else decides about a pupil."""
    import_id = await scene.upload()
    await scene.district.ended(import_id, "awaiting_approval")
    lock = "SELECT FROM identity WHERE source_id = $1 FOR UPDATE"
    async with scene.blocked(lock, scene.year.moved[-1].source_id):
        await scene.approve(import_id)
        await scene.waits()
        assert (await scene.district.shown(import_id))["done"] == 400
        await scene.process.kill()
    await scene.process.start()
    return import_id


async def while_ending(scene: Scene) -> str:
    import_id = await scene.upload()
    await scene.district.ended(import_id, "awaiting_approval")
    async with scene.blocked("LOCK TABLE import_piece IN ACCESS EXCLUSIVE MODE"):
        await scene.approve(import_id)
        await scene.waits()
        shown = await scene.district.shown(import_id)
        assert (shown["state"], shown["done"]) == ("applying", shown["total"])
        await scene.process.kill()
    await scene.process.start()
    return import_id


@pytest.mark.parametrize(
    "killed",
    [while_receiving, while_received, while_planning, while_planned, while_applying, while_ending],
)
async def test_a_killed_roster_goes_on_where_it_was(
    killed: Callable[[Scene], Awaitable[str]], process: Process, tmp_path: Path, database: str
) -> None:
    scene = Scene(process, District(process, tmp_path, database))
    await scene.district.take(scene.year.before)
    import_id = await killed(scene)
    shown = await scene.district.ended(import_id, "done", "awaiting_approval")
    if shown["state"] == "awaiting_approval":
        await scene.approve(import_id)
        shown = await scene.district.ended(import_id, "done")
    await _came_out_right(scene, shown)
    again = await scene.district.take(scene.year.after, classes=scene.year.in_classes)
    assert some(again["counts"]) == {"unchanged": len(scene.year.after)}


async def _came_out_right(scene: Scene, shown: Any) -> None:
    year, district = scene.year, scene.district
    assert some(shown["counts"]) == {
        "added": 100, "moved": 500, "reassigned": 500, "renumbered": 2, "withdrawn": 44,
        "unchanged": len(year.unchanged),
    }  # fmt: skip
    assert shown["done"] == shown["total"] == len(year.after) + len(year.left)
    changes: Counter[str] = Counter()
    after = 0
    while page := await district.changes(shown, f"?after={after}"):
        changes.update(change["state"] for change in page)
        after = page[-1]["n"]
    assert changes == {"applied": 646}
    told: dict[str, list[str]] = {}
    versions: dict[str, list[int]] = {}
    for source_id, type, version in await district.rows(
        "SELECT source_id, type, version FROM event JOIN identity ON stream_id = person_id ORDER BY version"
    ):
        told.setdefault(source_id, []).append(type)
        versions.setdefault(source_id, []).append(version)
    assert told == year.told
    assert all(found == list(range(1, len(found) + 1)) for found in versions.values())
    left_over = "SELECT FROM import_piece WHERE import_id = $1"
    unheard = "SELECT FROM import_row WHERE kinds = '{}'"
    assert await district.rows(left_over, shown["import_id"]) == await district.rows(unheard) == []
    async with asyncio.timeout(PATIENCE_S):
        while await _persons(district) != _expected(year):
            await asyncio.sleep(0.1)


async def _persons(district: District) -> dict[str, tuple[Any, ...]]:
    """What the read model says, which has come through the outbox and Kafka."""
    rows = await district.rows(
        "SELECT source_id, number, last_name, first_name, grade, status, jsonb_array_length(classes) FROM person"
    )
    return {source_id: tuple(said) for source_id, *said in rows}


def _expected(year: Year) -> dict[str, tuple[Any, ...]]:
    stand = [(p, "enrolled") for p in year.after] + [(p, "withdrawn") for p in year.left]
    classes = {p.source_id: schedules.PERIODS for p in year.in_classes}
    return {
        p.source_id: (p.number, p.last_name, p.first_name, p.grade, how, classes.get(p.source_id, 0))
        for p, how in stand
    }
