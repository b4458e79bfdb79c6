"""No secret is anywhere but where it belongs: planted in many journeys, then looked for in every log, every record of
every topic, every row of every table, the metrics and what was answered to those who may know none of it."""

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import aiohttp
import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from services.cli.client import SERVICES, Homeroom
from services.cli.pupil import cloud_event, enrollment
from shared import clock
from shared.keys import make_key
from tests.faults.checker import read_topic
from tests.journeys.fleet import Fleet
from tests.journeys.planted import PORTAL, STORIES, Child, Planting, operate, tracing
from tests.journeys.town import SOURCE
from tests.support.canaries import Canaries, Sighting, record_text, rows, shapes, summary

AT_ONCE = 6
KINDS = {
    "password", "abandoned password", "wrong password", "password in the username's box", "answer", "wrong answer",
    "name as typed", "ticket", "session", "device", "code", "wrong code", "verifier", "authorization code",
    "proof of signing in", "access_token", "refresh_token", "id_token", "client secret", "wrong client secret",
    "client token", "application's secret", "cookie __Host-homeroom-session-ccps",
    "word of an answer", "SAML response", "SAML signature",
}  # fmt: skip


class SignOnFleet(Fleet):
    """With what single sign-on needs."""

    def _write_secrets(self) -> None:
        super()._write_secrets()
        private = self.folder / "private" / "auth"
        make_key("auth", self.folder / "keys", private, datetime(2026, 1, 1, tzinfo=UTC), "RS256")

    def environment(self, service: str, roles: str) -> dict[str, str]:
        own = {"HOMEROOM_PORTAL_URL": PORTAL} if service == "auth" else {}
        return super().environment(service, roles) | own


@dataclass
class Search:
    """Looks everywhere, for the secrets and for a mark that has to be found. `places`: what was looked at."""

    canaries: Canaries
    mark: Canaries
    sightings: set[Sighting] = field(default_factory=set)
    marked: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)

    def look(self, where: str, text: str) -> None:
        self.places.add(where)
        self.sightings |= set(self.canaries.seen(where, text))
        if any(self.mark.seen(where, text)):
            self.marked.add(where)

    async def everywhere(self, fleet: Fleet, answers: Sequence[tuple[str, str]]) -> None:
        for part in fleet.parts.values():
            self.look(f"the log of {part.service}", part.log.read_text())
        for topic in await topics(fleet):
            for record in await read_topic(fleet.kafka, topic):
                self.look(f"the topic {topic.removeprefix(fleet.prefix)}", record_text(record))
        for service in SERVICES:
            async for table, row in rows(fleet.dsn(service)):
                self.look(f"the table {table} of {service}", row)
        async with aiohttp.ClientSession() as http:
            for service, url in fleet.urls.items():
                async with http.get(f"{url}/metrics") as response:
                    self.look(f"the metrics of {service}", await response.text())
        for where, text in answers:
            self.look(where, text)


async def topics(fleet: Fleet) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=fleet.kafka)
    await admin.start()
    try:
        return sorted(name for name in await admin.list_topics() if name.startswith(f"{fleet.prefix}."))
    finally:
        await admin.close()


async def desk_sees(planting: Planting, children: Sequence[Child]) -> None:
    """What the help desk and an operator are shown of all that has happened."""
    homeroom = planting.homeroom
    for child in children:
        person = await child.person()
        for service, path in (
            *((service, f"/persons/{person}/timeline") for service in SERVICES),
            ("claims", f"/accounts/{person}"),
            ("auth", f"/accounts/{person}"),
        ):
            planting.witness("the desk", 200, {}, await homeroom.get(service, path))
    lines = (await homeroom.get("auth", "/audit", limit=1000))["lines"]
    planting.witness("the desk", 200, {}, lines)
    for reference in {line["reference"] for line in lines if line["reference"]}:
        planting.witness("the desk", 200, {}, await homeroom.get("auth", f"/refusals/{reference}"))
    found = await homeroom.get("auth", "/v1/operations/audit", role="operator")
    planting.witness("an operator", 200, {}, found)


async def written_down(fleet: Fleet) -> None:
    """Returns when the audit is in its topic: it is written a moment after the answer."""
    await asyncio.sleep(2)
    conn = await asyncpg.connect(fleet.dsn("auth"))
    try:
        async with asyncio.timeout(30):
            while await conn.fetchval("SELECT count(*) FROM audit_outbox"):
                await asyncio.sleep(0.1)
    finally:
        await conn.close()


@pytest.fixture
async def fleet(backing: dict[str, str]) -> AsyncIterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="homeroom-canaries-") as folder:
        fleet = SignOnFleet(backing, Path(folder))
        try:
            yield await fleet.start()
        finally:
            await fleet.stop()


@pytest.mark.stack
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("journeys", [42, pytest.param(500, marks=pytest.mark.deep)])
async def test_no_secret_is_where_it_does_not_belong(fleet: Fleet, journeys: int) -> None:
    trace_id, mark = secrets.token_hex(16), Canaries()
    mark.plant("the mark", trace_id)
    mark.plant("the mark", str(UUID(trace_id)))
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout, trace_configs=[tracing(trace_id)]) as http:
        planting = Planting(Homeroom(fleet.site(), http), Canaries())
        await operate(planting)
        children = await enrolled(planting, journeys)
        at_once = asyncio.Semaphore(AT_ONCE)

        async def live(child: Child, story: int) -> None:
            async with at_once:
                await child.claim()
                await STORIES[story](child)

        async with asyncio.TaskGroup() as group:
            for n, child in enumerate(children):
                group.create_task(live(child, n % len(STORIES)))
        await desk_sees(planting, children)
    await written_down(fleet)
    search = Search(planting.canaries, mark)
    await search.everywhere(fleet, planting.answers)
    assert planting.canaries.kinds >= KINDS, KINDS - planting.canaries.kinds
    assert not search.sightings, "\n".join(summary(search.sightings))
    for somewhere in ("the log of claims", "the log of auth", "the topic .claims.v1", "the topic .auth.v1"):
        assert somewhere in search.marked, f"{somewhere} was not reached"
    for somewhere in (
        "the topic .auth.audit.v1",
        "the table public.event of auth",
        "the table public.audit of auth",
    ):
        assert somewhere in search.marked, f"{somewhere} was not reached"
    assert {f"the metrics of {service}" for service in SERVICES} <= search.places

    with fleet.part("auth").log.open("a") as log:
        secret = next(s for s, kind in planting.canaries.planted.items() if kind == "refresh_token")
        log.write(f'{{"event": "careless", "seen": "{secret}"}}\n')
    again = Search(planting.canaries, mark)
    await again.everywhere(fleet, [])
    assert again.sightings == {("refresh_token", "the log of auth")}


async def enrolled(planting: Planting, count: int) -> list[Child]:
    homeroom, now = planting.homeroom, clock.now()
    policy = (await homeroom.ask("GET", "claims", "/policy")).body
    pupils = [enrollment(timedelta(hours=48), now=now, number=f"{1_000_000 + n}") for n in range(count)]
    for start in range(0, count, 100):
        told = [
            cloud_event("StudentEnrolled", p, source=SOURCE, now=now) for p in pupils[start : start + 100]
        ]
        headers = {"Content-Type": "application/cloudevents-batch+json"}
        await homeroom.call("sis", "POST", "roster", "/enrollments", told, headers=headers)
    return [Child(planting, pupil, policy) for pupil in pupils]


class TestTheSearch:
    """It would find what it looks for."""

    @pytest.mark.parametrize(
        "text",
        [
            '{"event": "sign_in", "password": "0a1b2c a canary"}',
            "the user typed 0A1B2C A CANARY",
            "GET /sessions?password=0a1b2c%20a%20canary",
            "\\\\x30613162326320612063616e617279",
            "Authorization: Basic UzAxMjM0NTY6MGExYjJjIGEgY2FuYXJ5",
        ],
    )
    def test_what_a_person_made_up(self, text: str) -> None:
        canaries = Canaries()
        canaries.plant("password", "0a1b2c a canary")
        assert list(canaries.seen("here", text)) == [("password", "here")]

    def test_a_token_whole_as_its_bytes_and_by_its_beginning(self) -> None:
        canaries, token = Canaries(), f"hrs_{secrets.token_urlsafe(32)}"
        canaries.plant("session", token)
        for shape in shapes(token):
            assert list(canaries.seen("here", f"x{shape.upper()}x"))
        assert list(canaries.seen("here", f"session {token[:16]}…"))
        assert not list(canaries.seen("here", f"session {token[:12]}…"))

    def test_a_jwt_by_its_signature(self) -> None:
        canaries = Canaries()
        canaries.plant("ticket", "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl-c2ln")
        assert list(canaries.seen("here", "sig=c2lnbmF0dXJl-c2ln"))
        assert not list(canaries.seen("here", "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIyIn0.xxxxxxxx"))

    def test_a_summary_names_no_secret(self) -> None:
        assert summary([("password", "a log"), ("password", "a log")]) == ["password in a log"]
