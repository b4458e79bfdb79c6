"""A pupil at a browser: the calls that a portal makes in a pupil's name.

The demonstration, the sample and the journeys walk with it.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import uuid4

import msgspec

from services.cli.client import Answer, Homeroom, Json

# Names as a district has them: what the SIS says counts to the letter.
LAST_NAMES = (
    "O'Neill",
    "De La Cruz",
    "Núñez-Soto",
    "Washington",
    "Nguyễn",
    "St. John",
    "Smith-Jones",
    "Ó Briain",
)
FIRST_NAMES = ("Mary Ann", "José", "D'Andre", "Zoë", "Latoya", "Jean-Luc", "A", "Maximiliano")


class Ask(Protocol):
    """One request to a service, as `client.Homeroom.ask` makes it."""

    def __call__(
        self,
        method: str,
        service: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Awaitable[Answer]: ...


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def enrollment(entered_ago: timedelta, *, now: datetime, **changes: Any) -> Json:
    """A `StudentEnrolled` as an SIS says it, of a pupil nobody has seen before; `changes` replace fields."""
    return {
        "source_id": str(uuid4()),
        "number": f"0{secrets.randbelow(10**6):06}",
        "last_name": secrets.choice(LAST_NAMES),
        "first_name": secrets.choice(FIRST_NAMES),
        "school": "Mundy's Mill Middle",
        "grade": "07",
        "entered_at": (now - entered_ago).astimezone(UTC).isoformat(timespec="milliseconds"),
        **changes,
    }


def employment(*, now: datetime, **changes: Any) -> Json:
    """A `StaffEmployed` as an SIS says it, of somebody nobody has seen before; `changes` replace fields."""
    return {
        "source_id": str(uuid4()),
        "number": f"e{secrets.randbelow(10**5):05}",
        "last_name": secrets.choice(LAST_NAMES),
        "first_name": secrets.choice(FIRST_NAMES),
        "school": "Mundy's Mill Middle",
        "role": "teacher",
        "entered_at": now.astimezone(UTC).isoformat(timespec="milliseconds"),
        **changes,
    }


async def stranger(homeroom: Homeroom, made: Callable[[], Json]) -> Json:
    """An enrollment, or an employment, of somebody whose number nobody has yet."""
    while True:
        data = made()
        if not (await homeroom.get("roster", "/persons", number=data["number"]))["persons"]:
            return data


def cloud_event(kind: str, data: Json, *, source: str, now: datetime, event_id: str | None = None) -> Json:
    """The fact as a structured CloudEvent 1.0."""
    return {
        "specversion": "1.0",
        "id": event_id or str(uuid4()),
        "type": kind,
        "source": source,
        "subject": data["source_id"],
        "time": now.astimezone(UTC).isoformat(timespec="milliseconds"),
        "datacontenttype": "application/json",
        "data": data,
    }


def kafka_record(event: Json, *, structured: bool) -> dict[str, Any]:
    """The CloudEvent as `send` of Kafka's producer takes it: key, value, headers; in structured or binary mode."""
    key = event["data"]["source_id"].encode()
    if structured:
        headers = [("content-type", b"application/cloudevents+json; charset=utf-8")]
        return {"key": key, "value": msgspec.json.encode(event), "headers": headers}
    attributes = {name: value for name, value in event.items() if name not in ("data", "datacontenttype")}
    headers = [(f"ce_{name}", value.encode()) for name, value in attributes.items()]
    headers.append(("content-type", event["datacontenttype"].encode()))
    return {"key": key, "value": msgspec.json.encode(event["data"]), "headers": headers}


def answers_for(policy: Json, asked: Sequence[str] | None = None) -> list[Json]:
    """Good answers to the questions that are asked, else to the first of the catalogue, as many as a claim needs."""
    catalogue = {question["id"]: question["answer"] for question in policy["questions"]}
    chosen = asked or list(catalogue)[: policy["questions_required"]]
    return [{"question": question, "answer": _good_answer(catalogue[question])} for question in chosen]


def _good_answer(answer: Json) -> str:
    match answer["kind"]:
        case "month":
            return "May"
        case "year":
            return str(datetime.now(UTC).year - 12)
        case "choice":
            first = answer["choices"][0]
            return str(first["id"] if isinstance(first, dict) else first)
        case _:
            return "witty mouse"


class Pupil:
    """One pupil, or member of the staff, and one browser; every method is one click, and gives what the service
    answered."""

    def __init__(self, ask: Ask, enrolled: Json, policy: Json) -> None:
        self.ask, self.enrolled, self.policy = ask, enrolled, policy
        self.answers = answers_for(policy)
        self.claim: Json = {}
        self.etag = ""
        self.session = ""
        self.recovery: Json = {}

    @property
    def username(self) -> str:
        number = str(self.enrolled["number"])
        return number if number.startswith(self.policy["employee_number"]["prefix"]) else f"S{number}"

    async def open_claim(self, **typed: str) -> Answer:
        """The first step: names and number, as typed."""
        form = {name: self.enrolled[name] for name in ("last_name", "first_name", "number")} | typed
        answer = await self.ask("POST", "claims", "/claims", form)
        if answer.status == 201:
            self.claim = answer.body
        return answer

    async def set_password(self, password: str, **code: str) -> Answer:
        """The second step; keeps the ETag that the third must show. Staff may have to show a `code`."""
        path, body = f"/claims/{self.claim['claim_id']}/password", {"password": password, **code}
        answer = await self.ask("PUT", "auth", path, body, headers=bearer(self.claim["ticket"]))
        self.etag = answer.headers.get("ETag", self.etag)
        return answer

    async def save_answers(self, answers: list[Json] | None = None) -> Answer:
        """The third and last step: only this makes the claim."""
        path = f"/claims/{self.claim['claim_id']}/answers"
        headers = {**bearer(self.claim["ticket"]), "If-Match": self.etag}
        return await self.ask("PUT", "auth", path, {"answers": answers or self.answers}, headers=headers)

    async def claim_state(self, service: str = "auth") -> Answer:
        headers = bearer(self.claim["ticket"])
        return await self.ask("GET", service, f"/claims/{self.claim['claim_id']}", headers=headers)

    async def claim_settled(self, within_s: float = 30) -> str:
        """What became of the claim after a 202: `completed`, `rejected` or `expired`; `open` when time ran out."""
        for _ in range(int(within_s / 0.25)):
            answer = await self.claim_state()
            if answer.status == 200 and answer.body["state"] != "open":
                return str(answer.body["state"])
            await asyncio.sleep(0.25)
        return "open"

    async def sign_in(self, password: str) -> Answer:
        answer = await self.ask(
            "POST", "auth", "/sessions", {"username": self.username, "password": password}
        )
        if answer.status == 201:
            self.session = answer.body["session"]
        return answer

    async def who_am_i(self) -> Answer:
        return await self.ask("GET", "auth", "/sessions/current", headers=bearer(self.session))

    async def sign_out(self) -> Answer:
        return await self.ask("DELETE", "auth", "/sessions/current", headers=bearer(self.session))

    async def change_password(self, current: str, new: str) -> Answer:
        body = {"current": current, "new": new}
        return await self.ask("PUT", "auth", "/password", body, headers=bearer(self.session))

    async def forgot_password(self) -> Answer:
        answer = await self.ask("POST", "auth", "/recoveries", {"username": self.username})
        if answer.status == 201:
            self.recovery = answer.body
        return answer

    async def answer_questions(self, answers: list[Json] | None = None) -> Answer:
        path = f"/recoveries/{self.recovery['recovery_id']}/answers"
        body = {"answers": answers or self.answers}
        return await self.ask("POST", "auth", path, body, headers=bearer(self.recovery["ticket"]))

    async def show_code(self, code: str) -> Answer:
        """The help desk's one-time code, where the answers would go."""
        path = f"/recoveries/{self.recovery['recovery_id']}/answers"
        return await self.ask("POST", "auth", path, {"code": code}, headers=bearer(self.recovery["ticket"]))

    async def recover_with(self, password: str) -> Answer:
        path = f"/recoveries/{self.recovery['recovery_id']}/password"
        return await self.ask(
            "PUT", "auth", path, {"password": password}, headers=bearer(self.recovery["ticket"])
        )
