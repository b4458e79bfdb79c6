"""200 pupils' lives at once, from a seed; each is written down as the outside knows it: only what was acknowledged.

A front end that gets no answer, or a 503, asks again; what it then knows is certain. So a life never guesses: when it
ends, it says which password must sign in (or none), and how often each thing must have taken effect.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Self
from uuid import uuid4

import aiohttp
import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.cli.client import Answer, Failed, Homeroom, Json
from services.cli.pupil import Pupil, cloud_event, enrollment, kafka_record
from shared import clock
from tests.journeys.fleet import Fleet

PATIENCE_S = 300  # longer than any part is away; on a busy machine the hash pool sheds much of the load
SOURCE = "/tests/sis"


class Life(msgspec.Struct, kw_only=True):
    """What the outside knows about one pupil."""

    name: str
    enrolled: Json
    events: list[str] = []  # ids of acknowledged enrollments
    claims: list[str] = []  # ids of claims that were completed
    batches: list[str] = []  # ids of resets that were accepted
    changes: int = 0  # password changes and recoveries that were done
    password: str | None = None  # the one that must sign in; none: the account must be unclaimed
    suspensions: int = 0  # how often the account was closed, by the desk or by leaving
    restorations: int = 0
    old_passwords: list[str] = []
    dead_sessions: list[str] = []

    @property
    def username(self) -> str:
        return f"S{self.enrolled['number']}"

    @property
    def closed(self) -> bool:
        return self.suspensions > self.restorations


class Impatient(AssertionError):
    """A part did not come back in time, or an answer was none that a front end may ever see."""


class Walker:
    """Walks one life; `busy` is what every step asks through."""

    def __init__(self, crowd: "Crowd", life: Life, rng: random.Random) -> None:
        self.crowd, self.life, self.rng = crowd, life, rng
        self.pupil = Pupil(crowd.ask, life.enrolled, crowd.policy)

    async def walk(self) -> None:
        """Enrolled by one of three ways, then one of the plots."""
        await self.rng.choice([self.enroll_http, self.enroll_binary, self.enroll_structured])()
        plots = (
            self.signs_in, self.changes, self.recovers, self.is_reset, self.gives_up, self.two_browsers,
            self.is_closed, self.leaves,
        )  # fmt: skip
        await self.rng.choices(plots, weights=[3, 2, 2, 3, 1, 2, 1, 2])[0]()

    # -------------------------------------------------------------- plots

    async def signs_in(self) -> None:
        await self.claim()
        await self.sign_in()

    async def changes(self) -> None:
        await self.signs_in()
        new = self.new_password()
        await self.dawdle()
        answer = await self.pupil.change_password(str(self.life.password), new)
        # Asked again after a lost answer, the change is refused because it is done: signing in tells.
        if answer.status != 204 and (await self.pupil.sign_in(new)).status != 201:
            raise Impatient(f"{self.life.name}: change: {answer.status} {answer.body}")
        self.changed_to(new)
        await self.sign_in()

    async def recovers(self) -> None:
        await self.signs_in()
        new = self.new_password()
        await self.dawdle()
        must(await self.pupil.forgot_password(), 201)
        must(await self.pupil.answer_questions(), 200)
        must(await self.pupil.recover_with(new), 204)  # also when it is asked again after a lost answer
        self.life.dead_sessions.append(self.pupil.session)
        self.changed_to(new)
        await self.sign_in()

    async def is_reset(self) -> None:
        await self.signs_in()
        await self.reset()
        self.life.dead_sessions.append(self.pupil.session)
        if self.rng.random() < 0.7:
            await self.claim()
            await self.sign_in()

    async def gives_up(self) -> None:
        """Closes the browser after the password: the account stays unclaimed."""
        must(await self.open(), 201)
        must(await self.pupil.set_password(self.new_password()), 200)

    async def two_browsers(self) -> None:
        """Both walk to the end; one wins, the other is told."""
        other = Walker(self.crowd, self.life, self.rng)
        must(await self.open(), 201)
        must(await other.open(), 201)
        passwords = self.new_password(), self.new_password()
        must(await self.pupil.set_password(passwords[0]), 200)
        must(await other.pupil.set_password(passwords[1]), 200)
        states = await asyncio.gather(self.seal(passwords[0]), other.seal(passwords[1]))
        if sorted(states) != ["completed", "rejected"]:
            raise Impatient(f"{self.life.name}: two browsers ended as {states}")
        winner = (self, other)[states.index("completed")]
        self.life.claims.append(winner.pupil.claim["claim_id"])
        self.life.password = passwords[states.index("completed")]
        self.pupil = winner.pupil
        await self.sign_in()

    async def is_closed(self) -> None:
        """The desk closes the account, and perhaps opens it again."""
        await self.signs_in()
        person = (await self.pupil.who_am_i()).body["person_id"]
        path = f"/accounts/{person}/suspension"
        must(await self.crowd.as_client("desk", "PUT", "claims", path, {"desk_ticket": self.life.name}), 204)
        await self.is_shut_out()
        if self.rng.random() < 0.6:
            await self.dawdle()
            must(await self.crowd.as_client("desk", "DELETE", "claims", path), 204)
            await self.is_let_in()

    async def leaves(self) -> None:
        """Withdrawn, where there is no grace; and perhaps back."""
        await self.signs_in()
        data = {"source_id": self.life.enrolled["source_id"], "reason": "moved"}
        event = cloud_event("StudentWithdrawn", data, source=SOURCE, now=clock.now())
        must(await self.crowd.as_client("sis", "POST", "roster", "/enrollments", event), 202)
        await self.is_shut_out()
        if self.rng.random() < 0.6:
            await self.dawdle()
            await self.rng.choice([self.enroll_http, self.enroll_binary, self.enroll_structured])()
            await self.is_let_in()

    # -------------------------------------------------------------- steps

    async def is_shut_out(self) -> None:
        self.life.dead_sessions.append(self.pupil.session)
        await self.until_sign_in_answers(403)
        self.life.suspensions += 1

    async def is_let_in(self) -> None:
        await self.until_sign_in_answers(201)
        self.life.restorations += 1
        must(await self.pupil.who_am_i(), 200)

    async def until_sign_in_answers(self, status: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while (answer := await self.pupil.sign_in(str(self.life.password))).status != status:
            if answer.status == 201:  # once more before auth had heard of it
                self.life.dead_sessions.append(self.pupil.session)
            if answer.status not in (201, 403) or time.monotonic() > deadline:
                raise Impatient(f"{self.life.name}: instead of {status}: {answer.status} {answer.body}")
            await asyncio.sleep(0.5)

    def event(self) -> Json:
        return cloud_event("StudentEnrolled", self.life.enrolled, source=SOURCE, now=clock.now())

    async def enroll_http(self) -> None:
        event = self.event()
        answer = await self.crowd.as_client("sis", "POST", "roster", "/enrollments", event)
        must(answer, 202)
        self.life.events.append(event["id"])

    async def enroll_binary(self) -> None:
        await self._publish(structured=False)

    async def enroll_structured(self) -> None:
        await self._publish(structured=True)

    async def _publish(self, *, structured: bool) -> None:
        event = self.event()
        await self.crowd.publish(kafka_record(event, structured=structured))
        self.life.events.append(event["id"])

    async def dawdle(self) -> None:
        """What a pupil does between two clicks; so that many are in the middle of something at any moment."""
        await asyncio.sleep(self.rng.uniform(0, self.crowd.dawdle_s))

    async def open(self) -> Answer:
        """Begin a claim; until claims has heard of the pupil the refusal is the uniform one."""
        deadline = time.monotonic() + PATIENCE_S
        while (answer := await self.pupil.open_claim()).status == 403 and answer.body[
            "reason"
        ] == "claim_refused":
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        return answer

    async def claim(self) -> None:
        password = self.new_password()
        await self.dawdle()
        must(await self.open(), 201)
        await self.dawdle()
        must(await self.pupil.set_password(password), 200)
        await self.dawdle()
        state = await self.seal(password)
        if state != "completed":
            raise Impatient(f"{self.life.name}: the claim ended as {state}")
        self.life.claims.append(self.pupil.claim["claim_id"])
        self.life.password = password

    async def seal(self, password: str) -> str:
        """The last step; what became of the claim."""
        answer = await self.pupil.save_answers()
        # A first try at the password, given up for lost, arrived after the second.
        while answer.status == 412:
            must(await self.pupil.set_password(password), 200)
            answer = await self.pupil.save_answers()
        if answer.status == 200:
            return "completed"
        if answer.status not in (202, 409):
            raise Impatient(f"{self.life.name}: answers: {answer.status} {answer.body}")
        return await self.pupil.claim_settled(within_s=PATIENCE_S)

    async def sign_in(self) -> None:
        await self.dawdle()
        must(await self.pupil.sign_in(str(self.life.password)), 201)
        must(await self.pupil.who_am_i(), 200)

    async def reset(self) -> None:
        await self.dawdle()
        line = " ".join(self.life.enrolled[name] for name in ("first_name", "last_name", "number"))
        body = {"lines": [line], "desk_ticket": self.life.name}
        answer = await self.crowd.as_client("desk", "POST", "claims", "/reset-batches", body)
        must(answer, 202)
        batch = answer.body["batch_id"]
        deadline = time.monotonic() + PATIENCE_S
        while (found := await self.crowd.as_client("desk", "GET", "claims", f"/reset-batches/{batch}")).body[
            "state"
        ] != "done":
            if time.monotonic() > deadline:
                raise Impatient(f"{self.life.name}: reset is never done: {found.body}")
            await asyncio.sleep(0.25)
        self.life.batches.append(batch)
        self.life.old_passwords.append(str(self.life.password))
        self.life.password = None

    def changed_to(self, new: str) -> None:
        self.life.changes += 1
        self.life.old_passwords.append(str(self.life.password))
        self.life.password = new

    def new_password(self) -> str:
        return f"{self.life.name} {self.rng.getrandbits(40):x}"


class Crowd:
    """All lives of one run, and their patient way to the services."""

    def __init__(
        self,
        fleet: Fleet,
        http: aiohttp.ClientSession,
        policy: Json,
        seed: int,
        size: int,
        *,
        dawdle_s: float = 0,
    ) -> None:
        self.fleet, self.policy, self.dawdle_s = fleet, policy, dawdle_s
        self.homeroom = Homeroom(fleet.site(), http)
        self.rng = random.Random(seed)
        self.producer = AIOKafkaProducer(bootstrap_servers=fleet.kafka, acks="all", request_timeout_ms=5000)
        self.answers: dict[int, int] = {}
        self.lives = [self._born(number) for number in range(size)]

    async def __aenter__(self) -> Self:
        await self.producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.producer.stop()

    def _born(self, number: int) -> Life:
        data = enrollment(timedelta(hours=25 + self.rng.random()), now=clock.now())
        data |= {"number": f"{number:07}", "source_id": f"sis-{number}"}
        return Life(name=f"life-{number}", enrolled=data)

    async def walk(self, life: Life, rng: random.Random, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await Walker(self, life, rng).walk()

    async def ask(self, method: str, service: str, path: str, body: object = None, **more: object) -> Answer:
        """As a front end asks: a lost connection or a 503 is tried again, with the same words; anything else counts."""
        what = f"{method} {service} {path}"
        return await self._patiently(what, lambda: self.homeroom.ask(method, service, path, body, **more))  # type: ignore[arg-type]

    async def as_client(self, role: str, method: str, service: str, path: str, body: object = None) -> Answer:
        headers = {"Idempotency-Key": str(uuid4())} if method == "POST" else {}
        return await self._patiently(
            f"{method} {service} {path}",
            lambda: self.homeroom.call(role, method, service, path, body, headers=headers),
        )

    async def _patiently(self, what: str, send: Callable[[], Awaitable[Answer]]) -> Answer:
        began, heard = time.monotonic(), list[str]()
        while True:
            asked = time.monotonic()
            try:
                answer = await send()
            except Failed as failure:
                if failure.reason != "unreachable" and failure.status != 503:
                    raise Impatient(f"{what}: {failure} {failure.body}") from failure
                answer = Answer(503, {}, failure.body or {"reason": str(failure)})
            heard.append(f"after {asked - began:.0f} s for {time.monotonic() - asked:.0f} s: {answer.body}")
            self.answers[answer.status] = self.answers.get(answer.status, 0) + 1
            if answer.status >= 500 and answer.status != 503:
                raise Impatient(f"{what}: a front end saw {answer.status} {answer.body}")
            if answer.status != 503:
                return answer
            if time.monotonic() > began + PATIENCE_S:
                raise Impatient(f"{what}: nothing but 503 for {PATIENCE_S} s: {heard}")
            await asyncio.sleep(float(answer.headers.get("Retry-After", "0.5")))

    async def publish(self, record: Json) -> None:
        """Until the broker has acknowledged it; a repeat carries the same event id."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                await asyncio.wait_for(self.producer.send_and_wait(self.fleet.ingress, **record), 20)
                return
            except (KafkaError, TimeoutError, OSError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)


def must(answer: Answer, status: int) -> None:
    if answer.status != status:
        raise Impatient(f"expected {status}, got {answer.status} {answer.body}")
