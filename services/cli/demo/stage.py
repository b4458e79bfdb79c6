"""The stage of the demonstration: every request and answer said aloud, and the few things that all chapters do."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import msgspec
from aiokafka import AIOKafkaProducer
from rich.markup import escape

from services.cli.client import Answer, Failed, Homeroom, Json, out
from services.cli.pupil import Pupil, cloud_event, kafka_record
from shared import clock
from shared.kafka import unavailable_when_lost

SOURCE = "/demo/sis"
SHOWN_LETTERS = 400
SEEN_WITHIN_S = 30
TOKENS = ("ticket", "session", "access_token", "client_secret", "secret", "code")


class Stage:
    """Homeroom with every request and answer said aloud; nothing is hidden but tokens, shortened."""

    def __init__(self, homeroom: Homeroom, producer: AIOKafkaProducer, topic: str, policy: Json) -> None:
        self.homeroom, self.producer, self.topic, self.policy = homeroom, producer, topic, policy
        self.steps = 0

    def step(self, title: str) -> None:
        self.steps += 1
        out.print(f"\n[bold cyan]{self.steps}. {title}[/bold cyan]")

    def say(self, text: str) -> None:
        out.print(f"  [dim]{escape(text)}[/dim]")

    async def ask(
        self,
        method: str,
        service: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        self.sent(method, service, path, body)
        answer = await self.homeroom.ask(method, service, path, body, headers=headers)
        self.came(answer)
        return answer

    async def desk(
        self, method: str, service: str, path: str, body: object = None, **query: object
    ) -> Answer:
        """What the help desk sends; a refusal ends the demonstration."""
        self.sent(f"desk {method}", service, path, body)
        answer = await self.homeroom.call(
            "desk", method, service, path, body, query=query, headers={"Idempotency-Key": str(uuid4())}
        )
        self.came(answer)
        return answer

    async def account(self, person: str, *, until: Callable[[Json], object], shown: Sequence[str]) -> Json:
        """What the help desk sees of an account, asked for until it is so; of it some fields are shown."""
        path = f"/accounts/{person}"

        async def seen() -> Json | None:
            found = dict(await self.homeroom.get("claims", path))
            return found if until(found) else None

        found = await self.until(seen, "claims has not heard of it")
        self.sent("desk GET", "claims", path, None)
        self.came(Answer(200, {}, {name: found[name] for name in shown} | {"…": "…"}))
        return found

    async def tell(self, kind: str, data: Json, *, structured: bool = False) -> None:
        """One fact to the district's ingress topic; then what roster made of it."""
        event = cloud_event(kind, data, source=SOURCE, now=clock.now())
        await self.publish(event, structured=structured)

        async def taken() -> Json | None:
            try:
                return dict(await self.homeroom.get("roster", f"/enrollments/{event['id']}", role="sis"))
            except Failed as failure:
                if failure.status != 404:
                    raise
                return None

        found = await self.until(taken, "roster has not taken the event: homeroom lag")
        self.sent("sis GET", "roster", f"/enrollments/{event['id']}", None)
        self.came(Answer(200, {}, found))

    @staticmethod
    async def until(ask: Callable[[], Awaitable[Json | None]], otherwise: str) -> Json:
        for _ in range(SEEN_WITHIN_S * 10):
            if (found := await ask()) is not None:
                return found
            await asyncio.sleep(0.1)
        raise Failed("demo_failed", f"after {SEEN_WITHIN_S} s {otherwise}")

    async def publish(self, event: Json, *, structured: bool) -> None:
        """One CloudEvent, in binary or structured mode."""
        mode = "structured" if structured else "binary"
        self.sent("Kafka", self.topic, f"({mode} CloudEvent {event['type']})", event["data"])
        with unavailable_when_lost():
            record = kafka_record(event, structured=structured)
            taken = await self.producer.send_and_wait(self.topic, **record)
        out.print(f"  [green]←[/green] acknowledged: partition {taken.partition}, offset {taken.offset}")

    def sent(self, method: str, where: str, path: str, body: object) -> None:
        out.print(f"  [blue]→[/blue] {method} [bold]{where}[/bold] {escape(path)} {told(body)}".rstrip())

    def came(self, answer: Answer) -> None:
        colour = "green" if answer.status < 400 else "yellow"
        out.print(f"  [{colour}]←[/{colour}] {answer.status} {told(answer.body)}".rstrip())


def told(body: Any) -> str:
    """A body as one line, its tokens shortened, and cut where it goes on for long."""
    if not body:
        return ""
    if isinstance(body, dict):
        body = body | {key: f"{str(value)[:12]}…" for key, value in body.items() if key in TOKENS}
        if body.get("reason"):  # a problem: what it is called in English says nothing new
            body = {key: value for key, value in body.items() if key not in ("type", "title", "status")}
    text = msgspec.json.encode(body).decode()
    return escape(text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}…")


def expect(answer: Answer, status: int, reason: str | None = None) -> Answer:
    """The answer, if it is what the story says; otherwise the demonstration has failed and says at what."""
    got = answer.body.get("reason") if isinstance(answer.body, dict) else None
    if answer.status != status or (reason and got != reason):
        raise Failed(
            "demo_failed", f"expected {status} {reason or ''}, got {answer.status} {got or ''}".strip()
        )
    return answer


async def claim_on(pupil: Pupil, password: str, **code: str) -> None:
    """The second and third step of a claim that is open."""
    expect(await pupil.set_password(password, **code), 200)
    answer = await pupil.save_answers()
    if answer.status != 202:
        expect(answer, 200)
    elif await pupil.claim_settled() != "completed":
        raise Failed("demo_failed", "the claim was taken but never completed")


async def begin_claim(stage: Stage, pupil: Pupil) -> Answer:
    """The first step of a claim, once claims has heard of the pupil: until then everybody is refused alike."""
    quiet = Pupil(stage.homeroom.ask, pupil.enrolled, pupil.policy)
    for _ in range(SEEN_WITHIN_S * 10):
        answer = await quiet.open_claim()
        if answer.body.get("reason") != "claim_refused":
            break
        await asyncio.sleep(0.1)
    pupil.claim = quiet.claim
    typed = {name: pupil.enrolled[name] for name in ("last_name", "first_name", "number")}
    stage.sent("POST", "claims", "/claims", typed)
    stage.came(answer)
    return answer


async def reset(stage: Stage, body: Json) -> None:
    """Asked for as the help desk does; done when auth has confirmed it."""
    batch = (await stage.desk("POST", "claims", "/reset-batches", body)).body["batch_id"]

    async def done() -> Json | None:
        found = dict(await stage.homeroom.get("claims", f"/reset-batches/{batch}"))
        return found if found["state"] == "done" else None

    await stage.until(done, "auth has not confirmed the reset")
    await stage.desk("GET", "claims", f"/reset-batches/{batch}")


def new_password() -> str:
    return f"demo {secrets.token_urlsafe(8)}"
