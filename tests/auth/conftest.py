"""An auth service over a real PostgreSQL, without Kafka: tests tell it what roster and claims would have told."""

import asyncio
import base64
import contextlib
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from aiohttp import encode_basic_auth
from aiohttp.test_utils import TestClient

from services.auth import consumer, exchange
from services.auth.app import SPEC
from services.auth.consumer import (
    AccountClaimed,
    AccountReset,
    AccountRestored,
    AccountSuspended,
    ClaimRejected,
)
from services.auth.events import CredentialsSet, SuspensionCause
from services.auth.handlers import Auth
from services.auth.passwords import Hasher, HashPool, Peppers, Strength
from services.auth.projections import (
    PERSON,
    Identity,
    NumberChanged,
    StaffEmployed,
    StaffLeft,
    StudentEnrolled,
    StudentWithdrawn,
)
from services.auth.tokens import SCOPES
from shared import clock, testing
from shared.keys import Algorithm, Signer, make_key
from shared.messages import Event
from shared.service import Kit, build_app
from tests.support.service import ISSUER, migrated_database, quiet_kit

D = "/v1/districts/ccps"
PORTAL = "https://portal.example.org"
DESK = "desk-1"
LIGHT = Strength(memory_kib=64, passes=1)
PASSWORD = "correct horse"
ANSWERS = (("birth_month", "May"), ("birth_year", "2011"), ("favorite_season", "fall"))


@dataclass
class Answer:
    status: int
    body: Any
    headers: Any

    @property
    def reason(self) -> tuple[int, str]:
        return self.status, self.body["reason"]


@dataclass
class Pupil:
    """Somebody of the roster, and what their browser holds; staff has an employee number."""

    person_id: UUID
    number: str
    generation: int = 0
    claim_id: UUID = field(default_factory=uuid4)
    ticket: str = ""
    etag: str = ""

    @property
    def username(self) -> str:
        return self.number if self.number.startswith("e") else f"S{self.number}"


class World:
    """Auth, and everybody around it: the roster, claims, pupils at their browsers, the help desk."""

    def __init__(self, auth: Auth, http: TestClient[Any, Any], keys: Path) -> None:
        self.auth, self.kit, self.http = auth, auth.kit, http
        self._claims = Signer(keys / "claims", "claims")
        self._claims.refresh()
        self._versions: defaultdict[tuple[str, UUID], int] = defaultdict(int)
        self._reaction, self._departures = consumer.reactions(auth)
        self.late = timedelta(0)

    # Time

    def now(self) -> datetime:
        return datetime.now(UTC) + self.late

    def later(self, **by: float) -> None:
        """Lets time pass for everybody."""
        self.late += timedelta(**by)

    # The roster

    async def enroll(self, number: str = "0123456", last: str = "O'Neil", first: str = "Mary-Ann") -> Pupil:
        pupil = Pupil(uuid4(), number)
        enrolled = StaffEmployed if number.startswith("e") else StudentEnrolled
        await self.roster(pupil.person_id, enrolled(identity=Identity(number, last, first), current=True))
        return pupil

    async def leaves(self, employee: Pupil) -> None:
        await self.roster(employee.person_id, StaffLeft())

    async def returns(self, employee: Pupil) -> None:
        who = Identity(employee.number, "O'Neil", "Mary-Ann")
        await self.roster(employee.person_id, StaffEmployed(identity=who, current=True))

    async def withdraw(self, pupil: Pupil) -> None:
        await self.roster(pupil.person_id, StudentWithdrawn())

    async def renumber(self, pupil: Pupil, number: str) -> None:
        await self.roster(pupil.person_id, NumberChanged(identity=Identity(number, "O'Neil", "Mary-Ann")))
        pupil.number = number

    async def roster(self, person_id: UUID, fact: Event) -> None:
        await self.hears(self.told("roster", person_id, fact))

    async def hears(self, told: Any) -> None:
        """The roster's word reaches the read model, and the consumer."""
        async with self.kit.db.transaction() as conn:
            await PERSON.apply(conn, [told])
        await self.departs(told)

    async def departs(self, told: Any) -> None:
        if told.type in consumer.LEAVING.types:
            async with self.kit.db.transaction() as conn:
                await self._departures.react(conn, consumer_reads(told))

    # claims

    def open_claim(self, pupil: Pupil, minutes: float = 30, **differing: Any) -> str:
        """A new claim of a pupil, with its ticket."""
        pupil.claim_id, pupil.etag = uuid4(), ""
        now = self.now()
        claims = {
            "iss": "homeroom-claims", "aud": ["claims", "auth"], "sub": str(pupil.person_id),
            "jti": str(pupil.claim_id), "district": "ccps", "generation": pupil.generation,
            "username": pupil.username, "iat": int(now.timestamp()),
            "exp": int((now + timedelta(minutes=minutes)).timestamp()),
        }  # fmt: skip
        pupil.ticket = self._claims.sign("claim-ticket+jwt", claims | differing)
        return pupil.ticket

    async def decide(self, fact: Event, person_id: UUID) -> None:
        """claims has decided, and auth hears of it."""
        told = self.told("claims", person_id, fact)
        async with self.kit.db.transaction() as conn:
            await self._reaction.react(conn, told)
        assert self._reaction.after is not None
        self._reaction.after(told)

    async def reset(self, pupil: Pupil) -> None:
        pupil.generation += 1
        await self.decide(AccountReset(generation=pupil.generation), pupil.person_id)

    async def suspend(self, pupil: Pupil, cause: SuspensionCause = "withdrawn") -> None:
        await self.decide(AccountSuspended(cause=cause, generation=pupil.generation), pupil.person_id)

    async def restore(self, pupil: Pupil, cause: SuspensionCause = "withdrawn") -> None:
        await self.decide(AccountRestored(cause=cause, generation=pupil.generation), pupil.person_id)

    @contextlib.asynccontextmanager
    async def answering(self, pupil: Pupil, reject: str = "", after_s: float = 0) -> AsyncIterator[None]:
        """claims judges whatever is sealed for this pupil meanwhile."""

        async def judge() -> None:
            judged: set[UUID] = set()
            while True:
                for event in await self.events(pupil.person_id):
                    if not isinstance(event, CredentialsSet) or event.credential_id in judged:
                        continue
                    judged.add(event.credential_id)
                    await asyncio.sleep(after_s)
                    names = {"claim_id": event.claim_id, "credential_id": event.credential_id}
                    if reject:
                        await self.decide(ClaimRejected(**names, reason=reject), pupil.person_id)
                    else:
                        claimed = AccountClaimed(**names, generation=event.generation)
                        await self.decide(claimed, pupil.person_id)
                await asyncio.sleep(0.01)

        task = asyncio.create_task(judge())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def told(self, service: str, person_id: UUID, fact: Event) -> Any:
        self._versions[service, person_id] += 1
        version = self._versions[service, person_id]
        return testing.recorded(fact, version, at=self.now(), service=service, stream_id=person_id)

    # Pupils

    async def put_password(self, pupil: Pupil, password: str = PASSWORD, **code: str) -> Answer:
        body = {"password": password} | code
        answer = await self.ask("PUT", f"/claims/{pupil.claim_id}/password", body, bearer=pupil.ticket)
        pupil.etag = answer.headers.get("ETag", pupil.etag)
        return answer

    async def put_answers(
        self, pupil: Pupil, answers: Any = ANSWERS, etag: str | None = None, **more: Any
    ) -> Answer:
        return await self.ask(
            "PUT",
            f"/claims/{pupil.claim_id}/answers",
            {"answers": typed(answers)},
            bearer=pupil.ticket,
            headers={"If-Match": pupil.etag if etag is None else etag},
            **more,
        )

    async def standing(self, pupil: Pupil) -> Answer:
        return await self.ask("GET", f"/claims/{pupil.claim_id}", bearer=pupil.ticket)

    async def claim(self, pupil: Pupil, password: str = PASSWORD, answers: Any = ANSWERS) -> Pupil:
        """Walks through a whole claim."""
        self.open_claim(pupil)
        assert (await self.put_password(pupil, password)).status == 200
        async with self.answering(pupil):
            answer = await self.put_answers(pupil, answers)
        assert answer.status == 200, answer
        return pupil

    async def claimed(self, number: str = "0123456", password: str = PASSWORD, **who: Any) -> Pupil:
        """A pupil who has claimed."""
        return await self.claim(await self.enroll(number, **who), password)

    async def sign_in(
        self, username: str, password: str = PASSWORD, *, device: str = "", address: str = "", agent: str = ""
    ) -> Answer:
        """`address`: where the browser is, as its front end saw it."""
        headers = {"Homeroom-Device": device} if device else {}
        if address:
            headers |= {"Homeroom-Client": self.token("introspect"), "Forwarded": f'for="{address}"'}
        if agent:
            headers["User-Agent"] = agent
        body = {"username": username, "password": password}
        return await self.ask("POST", "/sessions", body, headers=headers)

    async def own_device(self, pupil: Pupil, password: str = PASSWORD) -> str:
        """A device on which the pupil has signed in."""
        answer = await self.sign_in(pupil.username, password)
        assert answer.status == 201, answer
        return str(answer.body["device"])

    async def session(self, pupil: Pupil, password: str = PASSWORD) -> str:
        answer = await self.sign_in(pupil.username, password)
        assert answer.status == 201, answer
        return str(answer.body["session"])

    async def alive(self, session: str) -> bool:
        return (await self.ask("GET", "/sessions/current", bearer=session)).status == 200

    def rotate_key(self, folder: Path, algorithm: Algorithm) -> str:
        """The operator makes another key of ID tokens."""
        kid = make_key("auth", folder / "public", folder / "auth", self.now(), algorithm)
        self.kit.keys.refresh()
        self.kit.signer.refresh()
        return kid

    # The help desk

    async def desk(
        self, method: str, path: str, body: Any = None, scope: str = "desk", **more: Any
    ) -> Answer:
        return await self.ask(method, path, body, bearer=self.token(scope), **more)

    async def employ(self, client_id: str) -> None:
        """A client that may do everything; `token` is what it may do at the moment."""
        async with self.kit.db.connection() as conn:
            await conn.execute(
                "INSERT INTO client (client_id, name, scopes, districts, human, secret_hash, created_at)"
                " VALUES ($1, $1, $2, '{*}', false, '', now())",
                client_id, list(SCOPES),
            )  # fmt: skip

    def token(self, scope: str, sub: str = DESK) -> str:
        now = int(self.now().timestamp())
        claims = {
            "iss": f"{ISSUER}{D}", "aud": "homeroom", "sub": sub, "client_id": sub, "iat": now, "exp": now + 600,
            "district": "ccps", "districts": ["*"], "scope": scope, "jti": "j", "name": f"{sub} by name",
        }  # fmt: skip
        return self.kit.signer.sign("at+jwt", claims)

    async def truth(self, answer: Answer) -> Any:
        """What the desk sees under the reference of a refusal."""
        found = await self.desk("GET", f"/refusals/{answer.body['reference']}")
        assert found.status == 200, found
        return found.body

    async def grant(self, employee: Pupil, role: str = "desk", **more: Any) -> Answer:
        path = f"/accounts/{employee.person_id}/roles/{role}"
        return await self.desk("PUT", path, {}, scope="operator", **more)

    async def holder(self, role: str = "desk", number: str = "e12345", **who: Any) -> Pupil:
        """A member of the staff who has claimed and was given a role."""
        employee = await self.claimed(number, **who)
        assert (await self.grant(employee, role)).status == 204
        return employee

    async def form(self, path: str, client: tuple[str, str] | None = None, **fields: str) -> Answer:
        """A form sent to an OAuth endpoint by a client."""
        headers = {"Authorization": encode_basic_auth(*client)} if client else {}
        async with self.http.post(f"{D}{path}", data=fields, headers=headers) as response:
            raw = await response.read()
            return Answer(response.status, msgspec.json.decode(raw) if raw else None, response.headers)

    async def exchange(self, session: str, client: tuple[str, str] | None, **more: str) -> Answer:
        """A session for an access token (RFC 8693)."""
        fields = {
            "grant_type": exchange.GRANT, "subject_token": session, "subject_token_type": exchange.ACCESS_TOKEN,
        }  # fmt: skip
        return await self.form("/token", client, **(fields | more))

    async def portal(self, *scopes: str) -> tuple[str, str]:
        """A client's id and secret; a portal's, that may exchange sessions, unless other scopes are named."""
        body = {"name": "the portal", "scopes": list(scopes or ("exchange",)), "districts": ["ccps"]}
        made = await self.ask("POST", "/v1/operations/clients", body, bearer=self.token("operator"))
        assert made.status == 201, made
        return made.body["id"], made.body["secret"]

    # What there is

    async def events(self, person_id: UUID) -> list[Any]:
        async with self.kit.db.connection() as conn:
            return [recorded.data for recorded in await self.kit.store.load(conn, person_id)]

    async def kinds(self, pupil: Pupil) -> list[str]:
        return [type(event).__name__ for event in await self.events(pupil.person_id)]

    async def fetch(self, statement: str, *args: Any) -> list[dict[str, Any]]:
        async with self.kit.db.connection() as conn:
            return [dict(row) for row in await conn.fetch(statement, *args)]

    async def ask(
        self, method: str, path: str, body: Any = None, *, bearer: str = "", headers: Any = None, **more: Any
    ) -> Answer:
        sent = dict(headers or {}) | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        url = path if path.startswith("/v1/") else D + path
        async with self.http.request(method, url, json=body, headers=sent, **more) as response:
            raw = await response.read()
            return Answer(response.status, msgspec.json.decode(raw) if raw else None, response.headers)


def consumer_reads(told: Any) -> Any:
    """A fact of the roster as the consumer decodes it."""
    fact = consumer.LEAVING.types[told.type]
    return msgspec.structs.replace(told, data=msgspec.convert(msgspec.to_builtins(told.data), fact))


def typed(answers: Any) -> list[dict[str, str]]:
    return [{"question": question, "answer": answer} for question, answer in answers]


def differing(kit: Kit, **rules: Any) -> None:
    """Other rules for the district, from now on."""
    kit.policies._policies["ccps"] = msgspec.structs.replace(kit.policies.get("ccps"), **rules)


def write_peppers(file: Path, *names: str) -> Path:
    file.write_text("".join(f"{n}:{base64.b64encode(n.encode() * 16).decode()}\n" for n in names))
    return file


@cache
def _rsa_keys() -> dict[str, bytes]:
    """Of ID tokens and of SAML. The same for all tests: an RSA key takes its time."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        for name in ("auth", "saml"):
            make_key(name, made / "public", made / "auth", datetime(2026, 1, 1, tzinfo=UTC), "RS256")
        return {str(file.relative_to(made)): file.read_bytes() for file in made.glob("*/*.json")}


def put_rsa_keys(folder: Path) -> None:
    for name, content in _rsa_keys().items():
        file = folder / name
        file.parent.mkdir(mode=0o700, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o600)


@pytest.fixture(scope="session")
def migrated(backing: dict[str, str]) -> Iterator[str]:
    with migrated_database(backing["postgres"], "auth") as dsn:
        yield dsn


@pytest.fixture
async def kit(migrated: str, tmp_path: Path) -> AsyncIterator[Kit]:
    peppers = write_peppers(tmp_path / "peppers", "p1")
    put_rsa_keys(tmp_path)
    async with quiet_kit(SPEC, migrated, tmp_path, pepper_file=str(peppers), portal_url=PORTAL) as kit:
        kit.own = Auth(kit, Hasher(Peppers.read(peppers), HashPool(2), LIGHT))
        yield kit
        kit.own.hasher.pool.close()


@pytest.fixture
async def world(
    kit: Kit,
    tmp_path: Path,
    aiohttp_client: Callable[..., Awaitable[TestClient[Any, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    world = World(kit.own, await aiohttp_client(build_app(kit)), tmp_path)
    await world.employ(DESK)
    monkeypatch.setattr(clock, "now", world.now)
    return world
