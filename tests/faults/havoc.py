"""One run: 200 lives from a seed, imports and resets of schools, parts killed in the middle of it all and started
again, then the checker.

What is killed when comes from the seed. Times on a machine differ from run to run, so a seed repeats the choice of
names, plots, kills and their order, not the microsecond.
"""

import asyncio
import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec

from services.cli.client import SERVICES
from tests.faults.backing import Backing
from tests.faults.bulk import RESET_SCHOOLS, Bulk
from tests.faults.checker import Checker
from tests.faults.lives import Crowd
from tests.faults.proxy import Gap, KafkaProxy, PostgresProxy, Snare
from tests.journeys.fleet import Fleet

LIVES = 200
CAUGHT_WITHIN_S = 20
MALFORMED = (b"", b"not json", b'{"specversion": "1.0"}')

SERVICE_KILLS = tuple(SERVICES)
RELAY_KILLS = tuple(f"{service} relay {gap.name.lower()}" for service in SERVICES for gap in Gap)
BACKING_KILLS = ("kafka", "postgres")
# One of every part, and every gap of a relay.
EVERY_KIND = (
    *SERVICE_KILLS, *BACKING_KILLS, "roster relay before_send", "claims relay before_acknowledgement",
    "auth relay before_mark", "claims relay after_mark",
)  # fmt: skip


class Outcome(msgspec.Struct, kw_only=True):
    """What one run showed."""

    seed: int
    kills: list[str]
    caught: list[str]
    problems: list[str]
    counts: dict[str, int]
    answers: dict[int, int]
    seconds: float


class Detour:
    """One relay's proxies to Kafka and PostgreSQL, and the snare in them."""

    def __init__(self, backing: Backing) -> None:
        self.snare = Snare()
        postgres = urlsplit(backing.addresses["postgres"])
        self.kafka = KafkaProxy(backing.addresses["kafka"], self.snare)
        self.postgres = PostgresProxy(f"{postgres.hostname}:{postgres.port}", self.snare)

    async def start(self) -> "Detour":
        await self.kafka.start()
        await self.postgres.start()
        return self

    def environment(self, dsn: str) -> dict[str, str]:
        parts = urlsplit(dsn)
        through = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{self.postgres.port}")
        return {"HOMEROOM_KAFKA": f"127.0.0.1:{self.kafka.port}", "HOMEROOM_POSTGRES": through.geturl()}

    def spring(self) -> None:
        self.snare.spring()
        self.kafka.cut()
        self.postgres.cut()

    async def stop(self) -> None:
        await asyncio.gather(self.kafka.stop(), self.postgres.stop())


class Havoc:
    """Kills one part after the other; each is down for a moment, then started again."""

    def __init__(
        self, backing: Backing, fleet: Fleet, detours: dict[str, Detour], rng: random.Random
    ) -> None:
        self.backing, self.fleet, self.detours, self.rng = backing, fleet, detours, rng
        self.caught: list[str] = []

    async def strike(self, kill: str) -> None:
        service, _, gap = kill.partition(" relay ")
        if kill in BACKING_KILLS:
            await self.backing.kill(kill)
            await self._pause()
            await self.backing.launch(kill)
        elif gap:
            await self._strike_relay(service, Gap[gap.upper()], kill)
        else:
            part = self.fleet.part(service, "api")
            await part.kill()
            await self._pause()
            await part.start()

    async def _strike_relay(self, service: str, gap: Gap, kill: str) -> None:
        """Let it walk into the gap, and kill it there."""
        detour, part = self.detours[service], self.fleet.part(service, "relay")
        detour.snare.set(gap)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(detour.snare.caught.wait(), CAUGHT_WITHIN_S)
            self.caught.append(kill)
            await asyncio.sleep(0.2)  # what is on the other side of the gap gets done there
        await part.kill()
        detour.spring()
        await self._pause()
        await part.start()

    async def _pause(self) -> None:
        await asyncio.sleep(self.rng.uniform(0.2, 1.5))


def no_grace(fleet: Fleet) -> None:
    """Whoever leaves is suspended at once: the worker that does it has to be at work while things are killed."""
    file = fleet.folder / "policies" / "ccps.toml"
    stated = file.read_text()
    file.write_text(stated.replace("suspension_grace_hours = 72", "suspension_grace_hours = 0"))


@asynccontextmanager
async def running(backing: Backing) -> AsyncIterator[tuple[Fleet, dict[str, Detour]]]:
    """A fleet whose relays are processes of their own, each behind a detour; with its logs in what fails."""
    folder = Path(tempfile.mkdtemp(prefix="homeroom-havoc-"))
    detours = {service: await Detour(backing).start() for service in SERVICES}
    fleet = Fleet(backing.addresses, folder, relays_apart=True)
    fleet.detours = {service: detour.environment(fleet.dsn(service)) for service, detour in detours.items()}
    try:
        await fleet.start()
        no_grace(fleet)
        yield fleet, detours
    except Exception as error:
        error.add_note(fleet.logs())
        raise
    finally:
        await fleet.stop()
        await asyncio.gather(*(detour.stop() for detour in detours.values()))
        shutil.rmtree(folder, ignore_errors=True)


async def run(
    backing: Backing,
    seed: int,
    kills: Sequence[str],
    *,
    lives: int = LIVES,
    pace_s: float = 3,
    in_exports: int = 200,
    in_school: int = 4,
) -> Outcome:
    """One run; the order of the kills is the seed's. `in_exports`: pupils who are only in exports, to begin with;
    `in_school`: accounts of each school that is reset."""
    began, rng = time.monotonic(), random.Random(seed)
    order = rng.sample(list(kills), len(kills))
    async with (
        running(backing) as (fleet, detours),
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as http,
        AsyncExitStack() as held,
    ):
        policy = await policy_of(fleet, http)
        crowd = await held.enter_async_context(Crowd(fleet, http, policy, seed, lives, dawdle_s=2 * pace_s))
        havoc = Havoc(backing, fleet, detours, rng)
        bulk = Bulk(crowd, rng, size=in_exports, claimed=in_school)
        await bulk.begin()
        enough = asyncio.Event()
        for number, value in enumerate(MALFORMED):
            await crowd.publish({"key": f"malformed-{number}".encode(), "value": value})
        # A share of the lives begins before each strike, so that each falls into the middle of some.
        walking = [asyncio.create_task(bulk.exports(until=enough))]
        resets = {len(order) * n // RESET_SCHOOLS: n + 1 for n in range(RESET_SCHOOLS)}
        for number, kill in enumerate(order):
            walking += [
                asyncio.create_task(crowd.walk(life, random.Random(rng.random()), rng.uniform(0, 2 * pace_s)))
                for life in crowd.lives[number :: len(order)]
            ]
            await asyncio.sleep(rng.uniform(0.3, pace_s))
            if number in resets:
                walking.append(asyncio.create_task(bulk.reset(resets[number])))
                await asyncio.sleep(rng.uniform(0.05, 0.5))
            await havoc.strike(kill)
        enough.set()
        ended = await asyncio.gather(*walking, return_exceptions=True)
        await asyncio.gather(*(fleet.ready(service) for service in SERVICES))
        checker = Checker(fleet, crowd, intended_dead_letters=len(MALFORMED), bulk=bulk)
        checker.problems += [repr(end) for end in ended if isinstance(end, BaseException)]
        problems = await checker.check()
        return Outcome(
            seed=seed, kills=order, caught=havoc.caught, problems=problems, counts=dict(checker.counts),
            answers=dict(sorted(crowd.answers.items())), seconds=time.monotonic() - began,
        )  # fmt: skip


async def policy_of(fleet: Fleet, http: aiohttp.ClientSession) -> dict[str, object]:
    async with http.get(f"{fleet.urls['claims']}/v1/districts/ccps/policy") as response:
        return dict(await response.json())
