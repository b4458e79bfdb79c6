"""`homeroom demo`: the whole story against the running stack, told as it happens: what was sent, what came back.

It walks as any outsider does, over Kafka and HTTP, with pupils nobody has seen before: it can be run again and again.
"""

import asyncio
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import msgspec
from aiokafka import AIOKafkaProducer
from rich.markup import escape

from services.cli import app
from services.cli.accounts import find_account
from services.cli.client import Answer, Failed, Homeroom, Json, connect, out
from services.cli.operations import replay_projection
from services.cli.pupil import Pupil, cloud_event, enrollment, kafka_record
from shared import clock
from shared.kafka import producing, unavailable_when_lost
from shared.messages import ingress_topic

SOURCE = "/demo/sis"
SHOWN_LETTERS = 400
SEEN_WITHIN_S = 30
TOKENS = ("ticket", "session", "access_token", "client_secret", "secret")
REBUILT = (("roster", "person"), ("claims", "admission"), ("auth", "person"))


class Stage:
    """Homeroom with every request and answer said aloud; nothing is hidden but tokens, shortened."""

    def __init__(self, homeroom: Homeroom, producer: AIOKafkaProducer, topic: str) -> None:
        self.homeroom, self.producer, self.topic = homeroom, producer, topic

    def step(self, title: str) -> None:
        out.print(f"\n[bold cyan]{title}[/bold cyan]")

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

    async def publish(self, event: Json, *, structured: bool) -> None:
        """One CloudEvent to the district's ingress topic, in binary or structured mode."""
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
        hidden = {key: f"{str(value)[:12]}…" for key, value in body.items() if key in TOKENS}
        body = {
            key: value for key, value in (body | hidden).items() if key not in ("type", "title", "status")
        }
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


@app.command
async def demo() -> None:
    """The whole story of a pupil's account against the running stack, with all that is sent and comes back."""
    async with connect() as homeroom:
        policy = await homeroom.get("claims", "/policy")
        settings = homeroom.site.settings()
        async with producing(settings) as producer:
            stage = Stage(homeroom, producer, ingress_topic(settings.topic_prefix, homeroom.site.district))
            await newcomer(stage, policy)
            await almost_a_day(stage, policy)
            pupil, password = await claims_and_signs_in(stage, policy)
            password = await forgets_and_recovers(stage, pupil, password)
            await is_reset_and_claims_again(stage, pupil, password)
            await history(stage, pupil)
    out.print("\n[bold green]The story ended as it should.[/bold green] Look closer: "
              f"homeroom timeline {pupil.username}, homeroom account show {pupil.username}")  # fmt: skip


async def newcomer(stage: Stage, policy: Json) -> None:
    stage.step("1. A new pupil is enrolled, and has to wait")
    data = await stranger(stage, timedelta(0))
    event = cloud_event("StudentEnrolled", data, source=SOURCE, now=clock.now())
    await stage.publish(event, structured=True)
    await taken(stage, event)
    pupil = Pupil(stage.ask, event["data"], policy)
    refused = expect(await begin_claim(stage, pupil), 403, "waiting_period")
    stage.say(
        f"the account opens {local(refused.body['eligible_at'], policy)}: a moment, not “24 hours after”"
    )
    wrong = expect(await pupil.open_claim(first_name="Somebody"), 403, "claim_refused")
    stage.say("a wrong name learns nothing; the help desk looks the reference up:")
    await stage.desk("GET", "claims", f"/refusals/{wrong.body['reference']}")


async def almost_a_day(stage: Stage, policy: Json) -> None:
    stage.step("2. A pupil entered 23 hours, 59 minutes and 40 seconds ago becomes claimable before our eyes")
    data = await stranger(stage, timedelta(hours=24, seconds=-20))
    event = cloud_event("StudentEnrolled", data, source=SOURCE, now=clock.now())
    stage.sent("sis POST", "roster", "/enrollments", event)
    stage.came(await stage.homeroom.post("roster", "/enrollments", event, role="sis"))
    pupil = Pupil(stage.ask, data, policy)
    refused = expect(await begin_claim(stage, pupil), 403, "waiting_period")
    opens = datetime.fromisoformat(refused.body["eligible_at"])
    quiet = Pupil(stage.homeroom.ask, data, policy)
    with out.status("") as line:
        while (answer := await quiet.open_claim()).status == 403:
            line.update(f"refused; opens in {max(0.0, (opens - clock.now()).total_seconds()):.0f} s")
            await asyncio.sleep(0.2)
    stage.came(expect(answer, 201))
    stage.say(
        f"opened {(clock.now() - opens).total_seconds():.1f} s after {local(refused.body['eligible_at'], policy)}"
    )


async def claims_and_signs_in(stage: Stage, policy: Json) -> tuple[Pupil, str]:
    stage.step("3. A pupil entered 25 hours ago claims the account, and signs in")
    data = await stranger(stage, timedelta(hours=25))
    event = cloud_event("StudentEnrolled", data, source=SOURCE, now=clock.now())
    await stage.publish(event, structured=False)
    await taken(stage, event)
    pupil = Pupil(stage.ask, event["data"], policy)
    expect(await begin_claim(stage, pupil), 201)
    password = new_password()
    await claim_on(pupil, password)
    expect(await pupil.sign_in(password), 201)
    expect(await pupil.who_am_i(), 200)
    return pupil, password


async def claim_on(pupil: Pupil, password: str) -> None:
    """The second and third step of a claim that is open."""
    expect(await pupil.set_password(password), 200)
    answer = await pupil.save_answers()
    if answer.status != 202:
        expect(answer, 200)
    elif await pupil.claim_settled() != "completed":
        raise Failed("demo_failed", "the claim was taken but never completed")


async def forgets_and_recovers(stage: Stage, pupil: Pupil, old: str) -> str:
    stage.step("4. The password is forgotten: three questions, and a new one; not an old one")
    expect(await pupil.forgot_password(), 201)
    expect(await pupil.answer_questions(), 200)
    expect(await pupil.recover_with(old), 422, "password_used_before")
    new = new_password()
    expect(await pupil.recover_with(new), 204)
    stage.say("the session of before is dead, and so is the old password")
    expect(await pupil.who_am_i(), 401)
    expect(await pupil.sign_in(old), 401, "authentication_failed")
    expect(await pupil.sign_in(new), 201)
    return new


async def is_reset_and_claims_again(stage: Stage, pupil: Pupil, password: str) -> None:
    stage.step("5. The help desk resets the account from a ticket line")
    line = " ".join(pupil.enrolled[name] for name in ("first_name", "last_name", "number"))
    body = {"lines": [line], "desk_ticket": "DEMO-1"}
    await stage.desk("POST", "claims", "/reset-batches", body, dry_run="true")
    batch = (await stage.desk("POST", "claims", "/reset-batches", body)).body["batch_id"]
    while (await stage.homeroom.get("claims", f"/reset-batches/{batch}"))["state"] != "done":
        await asyncio.sleep(0.1)
    await stage.desk("GET", "claims", f"/reset-batches/{batch}")
    stage.say("done means: auth has confirmed it. The session is dead, and the password")
    expect(await pupil.who_am_i(), 401)
    expect(await pupil.sign_in(password), 401, "authentication_failed")
    stage.step("6. The pupil claims again, from the beginning; the old password is refused here too")
    expect(await pupil.open_claim(), 201)
    expect(await pupil.set_password(password), 422, "password_used_before")
    fresh = new_password()
    await claim_on(pupil, fresh)
    expect(await pupil.sign_in(fresh), 201)


async def history(stage: Stage, pupil: Pupil) -> None:
    stage.step("7. The history is replayed, and gives the same state")
    person_id = (await find_account(stage.homeroom, pupil.username))["person_id"]
    for service in ("roster", "claims", "auth"):
        events = (await stage.homeroom.get(service, f"/persons/{person_id}/timeline"))["events"]
        out.print(f"  {service}: " + ", ".join(f"{event['version']} {event['type']}" for event in events))
    for service, projection in REBUILT:
        compared = await replay_projection(stage.homeroom, service, projection, quiet=True)
        rows = f"{compared['compared']} rows compared, {compared['different']} different"
        out.print(f"  [green]replayed[/green] {service} {projection}: {rows}")
        if compared["different"]:
            raise Failed(
                "demo_failed", f"the replay of {service} {projection} differs from the running read model"
            )


async def taken(stage: Stage, event: Json) -> None:
    """Ask roster what became of the event until it has heard of it."""
    for _ in range(SEEN_WITHIN_S * 10):
        try:
            found = await stage.homeroom.get("roster", f"/enrollments/{event['id']}", role="sis")
        except Failed as failure:
            if failure.status != 404:
                raise
            await asyncio.sleep(0.1)
            continue
        stage.sent("sis GET", "roster", f"/enrollments/{event['id']}", None)
        out.print(f"  [green]←[/green] 200 {told(found)}")
        return
    raise Failed("demo_failed", f"roster has not taken the event within {SEEN_WITHIN_S} s: homeroom lag")


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


async def stranger(stage: Stage, entered_ago: timedelta) -> Json:
    """An enrollment of somebody whose number nobody has yet."""
    while True:
        data = enrollment(entered_ago, now=clock.now())
        if not (await stage.homeroom.get("roster", "/persons", number=data["number"]))["persons"]:
            return data


def new_password() -> str:
    return f"demo {secrets.token_urlsafe(8)}"


def local(moment: str, policy: Json) -> str:
    """The moment as the district's clocks show it."""
    return f"{datetime.fromisoformat(moment).astimezone(ZoneInfo(policy['time_zone'])):%A at %H:%M:%S}"
