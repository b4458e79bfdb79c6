"""What journeys have in common: a district with services, an SIS that publishes, a help desk, and pupils."""

import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Self
from uuid import UUID

import aiohttp
from aiokafka import AIOKafkaProducer

from services.cli.client import Answer, Client, Failed, Homeroom, Json, Site
from services.cli.pupil import Pupil, cloud_event, enrollment, kafka_record
from shared import clock
from shared.messages import ingress_topic
from tests.journeys.fleet import Fleet

HEARD_WITHIN_S = 30
SOURCE = "/tests/sis"
Way = Literal["binary", "structured", "http"]


class Town:
    """One district. Every helper that waits is bounded, and says what it waited for."""

    def __init__(self, fleet: Fleet, homeroom: Homeroom) -> None:
        self.fleet, self.homeroom = fleet, homeroom
        self.policy: Json = {}

    async def __aenter__(self) -> Self:
        self.policy = (await self.homeroom.ask("GET", "claims", "/policy")).body
        self.producer = AIOKafkaProducer(bootstrap_servers=self.fleet.kafka, acks="all")
        await self.producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.producer.stop()

    # ------------------------------------------------------------------ the SIS

    async def say(self, kind: str, data: Json, way: Way = "structured") -> Json:
        """Publish one fact in one of the three ways, and wait until roster has taken it; the event."""
        event = cloud_event(kind, data, source=SOURCE, now=clock.now())
        if way == "http":
            await self.homeroom.post("roster", "/enrollments", event, role="sis")
        else:
            await self.publish(event, way)
        await self.taken(event["id"])
        return event

    async def publish(self, event: Json, way: Way) -> None:
        topic = ingress_topic(self.fleet.prefix, self.homeroom.site.district)
        await self.producer.send_and_wait(topic, **kafka_record(event, structured=way == "structured"))

    async def taken(self, event_id: str) -> Json:
        """What became of an event, as its publisher asks."""
        deadline = time.monotonic() + HEARD_WITHIN_S
        while True:
            try:
                return dict(await self.homeroom.get("roster", f"/enrollments/{event_id}", role="sis"))
            except Failed as failure:
                if failure.status != 404 or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)

    async def pupil(
        self, entered_ago: timedelta = timedelta(hours=25), way: Way = "structured", **changes: Any
    ) -> Pupil:
        """A pupil whom claims and auth have heard of."""
        data = enrollment(entered_ago, now=clock.now(), **changes)
        await self.say("StudentEnrolled", data, way)
        pupil = Pupil(self.homeroom.ask, data, self.policy)
        await self.known(pupil)
        return pupil

    async def known(self, pupil: Pupil) -> Json:
        """The account, as soon as claims has read of the person; auth needs the person only at sign-in."""
        person = (await self.person(pupil))["person_id"]
        return dict(await self.until(lambda: self.desk_sees(person), "claims to hear of the pupil"))

    async def person(self, pupil: Pupil) -> Json:
        async def ask() -> Json | None:
            found = await self.homeroom.get("roster", "/persons", number=pupil.enrolled["number"])
            mine = [each for each in found["persons"] if each["source_id"] == pupil.enrolled["source_id"]]
            return mine[0] if mine else None

        return dict(await self.until(ask, "roster to show the person"))

    async def until(self, ask: Any, what: str, within_s: float = HEARD_WITHIN_S) -> Any:
        deadline = time.monotonic() + within_s
        while not (found := await ask()):
            assert time.monotonic() < deadline, f"waited {within_s} s for {what}"
            await asyncio.sleep(0.05)
        return found

    # ------------------------------------------------------------------ the help desk

    async def desk_sees(self, person_id: str) -> Json | None:
        try:
            return dict(await self.homeroom.get("claims", f"/accounts/{UUID(person_id)}"))
        except Failed as failure:
            if failure.status == 404:
                return None
            raise

    async def truth(self, refused: Answer) -> Json:
        """What the desk reads under the reference that the pupil was shown."""
        return dict(await self.homeroom.get("claims", f"/refusals/{refused.body['reference']}"))

    async def reset(self, *pupils: Pupil) -> Json:
        """From ticket lines, until auth has confirmed it."""
        lines = [
            " ".join(pupil.enrolled[name] for name in ("first_name", "last_name", "number"))
            for pupil in pupils
        ]
        answer = await self.homeroom.post("claims", "/reset-batches", {"lines": lines, "desk_ticket": "T-1"})
        assert answer.status == 202

        async def done() -> Json | None:
            batch = dict(await self.homeroom.get("claims", f"/reset-batches/{answer.body['batch_id']}"))
            return batch if batch["state"] == "done" else None

        return dict(await self.until(done, "the reset to be confirmed"))

    async def events(self, pupil: Pupil, service: str) -> list[str]:
        """The types of what a service has recorded of this person."""
        person = (await self.person(pupil))["person_id"]
        return [
            event["type"]
            for event in (await self.homeroom.get(service, f"/persons/{person}/timeline"))["events"]
        ]


@asynccontextmanager
async def new_town(backing: Json) -> AsyncIterator[Town]:
    """On services of its own, which end with it."""
    with tempfile.TemporaryDirectory(prefix="homeroom-town-") as folder:
        fleet = Fleet(backing, Path(folder))
        try:
            await fleet.start()
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http,
                Town(fleet, Homeroom(fleet.site(), http)) as town,
            ):
                yield town
        except Exception as error:
            error.add_note(fleet.logs())
            raise
        finally:
            await fleet.stop()


@asynccontextmanager
async def district_beside(
    town: Town, slug: str, policy: str, scopes: Mapping[str, Sequence[str]], people: Collection[str]
) -> AsyncIterator[Town]:
    """Another district on the same services, with clients of its own; those of `people` are one human's."""
    (town.fleet.folder / f"policies/{slug}.toml").write_text(policy)

    async def served() -> bool:
        paths = {"roster": "/persons?number=1", "claims": "/policy", "auth": "/jwks"}
        answers = [
            await town.homeroom.ask("GET", service, f"/v1/districts/{slug}{path}")
            for service, path in paths.items()
        ]
        return all(answer.status != 404 for answer in answers)

    await town.until(served, "the district to be served")
    clients = {}
    for name, allowed in scopes.items():
        body = {"name": f"{slug} {name}", "scopes": allowed, "districts": [slug], "human": name in people}
        made = (await town.homeroom.post("auth", "/v1/operations/clients", body, role="operator")).body
        clients[name] = Client(made["id"], made["secret"])
    site = Site(slug, town.fleet.urls, clients, town.fleet.kafka)
    async with Town(town.fleet, Homeroom(site, town.homeroom.http)) as beside:
        yield beside


async def claim(pupil: Pupil, password: str | None = None) -> str:
    """From the first step to the last; the password."""
    password = password or new_password()
    assert (await pupil.open_claim()).status == 201
    assert (await pupil.set_password(password)).status == 200
    answer = await pupil.save_answers()
    assert answer.status in (200, 202), answer.body
    assert answer.status == 200 or await pupil.claim_settled() == "completed"
    return password


def new_password() -> str:
    return f"pass {secrets.token_urlsafe(9)}"
