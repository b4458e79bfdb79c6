"""Auth as a whole, on a real PostgreSQL and Kafka: roster and claims are this test's own records on their topics."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
from aiohttp.test_utils import TestClient
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from services.auth.app import create_app
from shared import clock
from shared.keys import Signer, make_key
from shared.messages import Cause, Event, Recorded, partition_of, to_kafka, topic_of
from shared.settings import Settings
from shared.web import KIT
from tests.auth.conftest import ISSUER, Answer, D, write_peppers

PARTITIONS = 3
PATIENCE_S = 30
POLICY_FOLDER = Path(__file__).parents[2] / "policies"
# Whatever a pupil types or holds, right and wrong: none of it may be found anywhere afterwards.
RIGHT, CHANGED, WRONG, RECOVERED = (
    "quagga-Right-71",
    "quagga-Changed-72",
    "quagga-Wrong-73",
    "quagga-Recovered-74",
)
MIDDLE, MASCOT, TEACHER = "Xanthippe", "Quokkas", "Zyzzyva"
OTHER_MASCOT = "Axolotls"
ANSWERS = (("middle_name", MIDDLE), ("school_mascot", MASCOT), ("homeroom_teacher", TEACHER))


class Town:
    """The running service, and its neighbours."""

    def __init__(self, http: Any, settings: Settings, keys: Path, producer: AIOKafkaProducer) -> None:
        self.http, self.settings, self.producer = http, settings, producer
        self._claims, self._auth = Signer(keys / "claims", "claims"), Signer(keys / "auth", "auth")
        self._claims.refresh()
        self._auth.refresh()
        self._versions: dict[tuple[str, UUID], int] = {}
        self.bodies: list[str] = []

    async def ask(self, method: str, path: str, body: Any = None, bearer: str = "", **headers: str) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if bearer:
            sent["Authorization"] = f"Bearer {bearer}"
        async with self.http.request(method, D + path, json=body, headers=sent) as response:
            raw = await response.read()
            if response.status >= 400:
                self.bodies.append(raw.decode())
            return Answer(response.status, msgspec.json.decode(raw) if raw else None, response.headers)

    async def publish(
        self, service: str, kind: str, person_id: UUID, district: str = "ccps", **data: Any
    ) -> None:
        """A neighbour's event on its topic."""
        version = self._versions[service, person_id] = self._versions.get((service, person_id), 0) + 1
        recorded: Recorded[Event] = Recorded(
            uuid4(), kind, 1, service, district, person_id, version, clock.now(), Event(), Cause.new()
        )
        key, value, headers = to_kafka(recorded, msgspec.json.encode(data))
        part = partition_of(person_id, PARTITIONS)
        topic = topic_of(self.settings.topic_prefix, service)
        await self.producer.send_and_wait(topic, value, key=key, headers=headers, partition=part)

    async def enroll(self, number: str) -> UUID:
        person_id = uuid4()
        identity = {"source_id": number, "number": number, "last_name": "O'Neil", "first_name": "Ann"}
        moment = clock.now().isoformat()
        await self.publish(
            "roster", "StudentEnrolled", person_id, enrollment_id="e1", identity=identity, received_at=moment,
            basis=moment, baseline=False, current=True,
        )  # fmt: skip
        return person_id

    def ticket(self, person_id: UUID, claim_id: UUID, number: str, generation: int = 0) -> str:
        now = clock.now()
        claims = {
            "iss": "homeroom-claims", "aud": ["claims", "auth"], "sub": str(person_id), "jti": str(claim_id),
            "district": "ccps", "generation": generation, "username": f"S{number}",
            "iat": int(now.timestamp()), "exp": int((now + timedelta(minutes=30)).timestamp()),
        }  # fmt: skip
        return self._claims.sign("claim-ticket+jwt", claims)

    def desk(self) -> str:
        now = int(clock.now().timestamp())
        claims = {
            "iss": f"{ISSUER}{D}", "aud": "homeroom", "sub": "desk-1", "iat": now, "exp": now + 600,
            "district": "ccps", "scope": "desk",
        }  # fmt: skip
        return self._auth.sign("at+jwt", claims)

    async def records(self) -> list[Any]:
        """Everything in auth's topic."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.settings.kafka, group_id=None)
        await consumer.start()
        try:
            parts = [
                TopicPartition(topic_of(self.settings.topic_prefix, "auth"), n) for n in range(PARTITIONS)
            ]
            ends = await consumer.end_offsets(parts)
            consumer.assign(parts)
            await consumer.seek_to_beginning(*parts)
            found: list[Any] = []
            while len(found) < sum(ends.values()):
                for some in (await consumer.getmany(timeout_ms=500)).values():
                    found += some
            return found
        finally:
            await consumer.stop()

    @contextlib.asynccontextmanager
    async def claims_accepts(self) -> AsyncIterator[None]:
        """claims reads auth's topic and accepts every claim."""

        async def judge() -> None:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.settings.kafka, group_id=None, fetch_max_wait_ms=20
            )
            await consumer.start()
            try:
                parts = [
                    TopicPartition(topic_of(self.settings.topic_prefix, "auth"), n) for n in range(PARTITIONS)
                ]
                consumer.assign(parts)
                await consumer.seek_to_beginning(*parts)
                async for record in consumer:
                    if dict(record.headers)["ce_type"] == b"CredentialsSet":
                        sealed = msgspec.json.decode(record.value)
                        at = clock.now().isoformat()
                        await self.publish(
                            "claims", "AccountClaimed", UUID(record.key.decode()), sealed_at=at, **sealed
                        )
            finally:
                await consumer.stop()

        task = asyncio.create_task(judge())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def town(
    database: str,
    topic_prefix: str,
    kafka_bootstrap: str,
    tmp_path: Path,
    aiohttp_client: Callable[..., Awaitable[TestClient[Any, Any]]],
) -> AsyncIterator[Town]:
    for service in ("auth", "claims"):
        make_key(service, tmp_path / "public", tmp_path / service, clock.now())
    settings = Settings(
        service="auth",
        postgres=database,
        kafka=kafka_bootstrap,
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        issuer=ISSUER,
        key_dir=tmp_path / "public",
        signing_key_dir=tmp_path / "auth",
        pepper_file=write_peppers(tmp_path / "peppers", "p1"),
        policy_dir=tmp_path / "policies",
    )
    settings.policy_dir.mkdir()
    (settings.policy_dir / "ccps.toml").write_text((POLICY_FOLDER / "ccps.toml").read_text())
    (settings.policy_dir / "broken.toml").write_text("code = ")
    http = await aiohttp_client(create_app(settings))
    async with asyncio.timeout(PATIENCE_S):
        while (await http.get("/health/ready")).status != 200:
            await asyncio.sleep(0.05)
    producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, acks="all")
    await producer.start()
    await employ_desk(database)
    try:
        yield Town(http, settings, tmp_path, producer)
    finally:
        await producer.stop()


async def employ_desk(database: str) -> None:
    """The client of `Town.desk`: tokens of one that auth does not know count for nothing."""
    conn = await asyncpg.connect(database)
    try:
        await conn.execute(
            "INSERT INTO client (client_id, name, scopes, districts, human, secret_hash, created_at)"
            " VALUES ('desk-1', 'desk-1', '{desk}', '{ccps}', true, '', now())"
        )
    finally:
        await conn.close()


def typed(answers: Any) -> dict[str, Any]:
    return {"answers": [{"question": question, "answer": answer} for question, answer in answers]}


async def claim(town: Town, person_id: UUID, number: str, password: str, generation: int = 0) -> Answer:
    claim_id = uuid4()
    ticket = town.ticket(person_id, claim_id, number, generation)
    staged = await town.ask("PUT", f"/claims/{claim_id}/password", {"password": password}, ticket)
    assert staged.status == 200, staged
    return await town.ask(
        "PUT", f"/claims/{claim_id}/answers", typed(ANSWERS), ticket, If_Match=staged.headers["ETag"]
    )


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await check():
            await asyncio.sleep(0.05)


async def test_a_pupils_life_and_no_secret_of_it_anywhere(
    town: Town, capfd: pytest.CaptureFixture[str]
) -> None:
    """Claim, sign in, change, forget, recover, be reset, claim again; then everything that was written is searched."""
    secrets = [RIGHT, CHANGED, WRONG, RECOVERED, MIDDLE, MASCOT, TEACHER, OTHER_MASCOT]
    person_id = await town.enroll("0123456")
    async with town.claims_accepts():
        answer = await claim(town, person_id, "0123456", RIGHT)
        assert (answer.status, answer.body["state"]) == (200, "completed")
        opened = await town.ask("POST", "/sessions", {"username": "s0123456", "password": RIGHT})
        assert opened.status == 201, "200 for the answers means: sign in now"
        session = opened.body["session"]
        for username in ("S0123456", "S7654321", WRONG):
            refused = await town.ask("POST", "/sessions", {"username": username, "password": WRONG})
            assert refused.status == 401
        body = {"current": RIGHT, "new": CHANGED}
        assert (await town.ask("PUT", "/password", body, session)).status == 204
        begun = (await town.ask("POST", "/recoveries", {"username": "S0123456"})).body
        path = f"/recoveries/{begun['recovery_id']}"
        other = (*ANSWERS[:1], ("school_mascot", OTHER_MASCOT), ANSWERS[2])
        assert (await town.ask("POST", f"{path}/answers", typed(other), begun["ticket"])).status == 403
        codes = f"/accounts/{person_id}/recovery-codes"
        code = (await town.ask("POST", codes, {}, town.desk(), Idempotency_Key="k")).body["code"]
        assert (await town.ask("POST", f"{path}/answers", {"code": code}, begun["ticket"])).status == 200
        refused = await town.ask("PUT", f"{path}/password", {"password": RIGHT}, begun["ticket"])
        assert refused.body["reason"] == "password_used_before"
        assert (
            await town.ask("PUT", f"{path}/password", {"password": RECOVERED}, begun["ticket"])
        ).status == 204
        again = await town.ask("POST", "/sessions", {"username": "S0123456", "password": RECOVERED})
        secrets += [session, again.body["session"], code, code.replace("-", ""), begun["ticket"]]

        await town.publish(
            "claims",
            "AccountReset",
            person_id,
            generation=1,
            batch_id=str(uuid4()),
            cause="desk",
            actor="desk-1",
        )

        async def session_is_dead() -> bool:
            return (await town.ask("GET", "/sessions/current", bearer=again.body["session"])).status == 401

        await until(session_is_dead)
        assert (await claim(town, person_id, "0123456", f"{RIGHT} again", generation=1)).status == 200
        assert (
            await town.ask("POST", "/sessions", {"username": "S0123456", "password": f"{RIGHT} again"})
        ).status == 201

    records = await town.records()
    assert [dict(r.headers)["ce_type"].decode() for r in records] == [
        "CredentialsSet", "CredentialActivated", "PasswordChanged", "RecoveryCodeIssued", "PasswordChanged",
        "CredentialRevoked", "CredentialsSet", "CredentialActivated",
    ]  # fmt: skip
    written = await everything_in(town.settings.postgres)
    written |= {
        "topic": str([(r.key, r.value, r.headers) for r in records]),
        "problems": str(town.bodies),
        "metrics": await (await town.http.get("/metrics")).text(),
        "log": "".join(capfd.readouterr()),
    }
    for where, content in written.items():
        for secret in secrets:
            assert secret.casefold() not in content.casefold(), f"{secret!r} is in {where}"
    assert written.keys() >= {
        "event",
        "outbox",
        "vault",
        "staging",
        "session",
        "refusal",
        "command",
        "recovery",
    }
    assert "sessions" in written["log"]
    assert "argon2" not in "".join(content for where, content in written.items() if where != "vault")


async def everything_in(dsn: str) -> dict[str, str]:
    """Every row of every table, as text."""
    conn = await asyncpg.connect(dsn)
    try:
        tables = await conn.fetch("SELECT relname FROM pg_stat_user_tables")
        return {
            t["relname"]: "\n".join(
                str(row["row"]) for row in await conn.fetch(f'SELECT t::text AS row FROM "{t["relname"]}" t')
            )
            for t in tables
        }
    finally:
        await conn.close()


async def test_many_claims_at_once_each_hear_their_own_verdict(town: Town) -> None:
    numbers = [f"0{n:06}" for n in range(12)]
    persons = [await town.enroll(number) for number in numbers]
    async with town.claims_accepts():
        answers = await asyncio.gather(
            *(claim(town, p, n, f"{RIGHT} {n}") for p, n in zip(persons, numbers, strict=True))
        )
    assert [a.status for a in answers] == [200] * len(numbers)
    for number in numbers:
        answer = await town.ask(
            "POST", "/sessions", {"username": f"S{number}", "password": f"{RIGHT} {number}"}
        )
        assert answer.status == 201


async def test_what_was_sealed_while_claims_was_away_is_completed_when_it_returns(town: Town) -> None:
    person_id = await town.enroll("0123456")
    claim_id = uuid4()
    ticket = town.ticket(person_id, claim_id, "0123456")
    staged = await town.ask("PUT", f"/claims/{claim_id}/password", {"password": RIGHT}, ticket)
    path, etag = f"/claims/{claim_id}", staged.headers["ETag"]
    answer = await town.ask("PUT", f"{path}/answers", typed(ANSWERS), ticket, If_Match=etag)
    assert answer.status == 202
    async with town.claims_accepts():

        async def completed() -> bool:
            return (await town.ask("GET", path, bearer=ticket)).body["state"] == "completed"

        await until(completed)
    answer = await town.ask("PUT", f"{path}/answers", typed(ANSWERS), ticket, If_Match=etag)
    assert answer.status == 200


async def test_the_last_call_hears_the_verdict_and_does_not_poll_for_it(town: Town) -> None:
    """The verdict wakes the call: no look at the table in between has to find it."""
    auth = town.http.app[KIT].own
    person_id = await town.enroll("0123456")
    async with town.claims_accepts():
        assert (await claim(town, person_id, "0123456", RIGHT)).status == 200
    assert auth.arrivals._waiting == {}
    assert auth.turns._turns == {}


async def test_a_district_without_a_policy_waits_alone_and_goes_on_by_itself(town: Town) -> None:
    """Whose file is missing, or never held since the start: nobody else notices, and no operator has to do a thing."""
    districts = ("removed", "broken", "ccps")
    persons = {district: in_partition(0) for district in districts}
    reset = {"batch_id": str(uuid4()), "cause": "desk", "actor": "desk-1"}
    for generation in (1, 2):
        for district in districts:
            await town.publish(
                "claims", "AccountReset", persons[district], district, generation=generation, **reset
            )

    async def revoked() -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for record in await town.records():
            headers = dict(record.headers)
            assert headers["ce_type"] == b"CredentialRevoked"
            district = headers["ce_source"].decode().rpartition("/")[2]
            found.setdefault(district, []).append(msgspec.json.decode(record.value)["generation"])
        return found

    async def others_go_on() -> bool:
        return await revoked() == {"ccps": [1, 2]}

    await until(others_go_on)
    conn = await asyncpg.connect(town.settings.postgres)
    letters = await conn.fetch("SELECT district, reason, state FROM dead_letter ORDER BY district, id")
    await conn.close()
    assert [tuple(letter) for letter in letters] == [
        ("broken", "policy_missing", "parked"), ("broken", "behind", "queued"),
        ("removed", "policy_missing", "parked"), ("removed", "behind", "queued"),
    ]  # fmt: skip

    for n, district in enumerate(("removed", "broken")):
        own = f'extends = "ccps"\ncode = "ABCDE{n}"\ntime_zone = "UTC"\nnames = {{en = "B", es = "B"}}\n'
        (town.settings.policy_dir / f"{district}.toml").write_text(own)

    async def all_went_on() -> bool:
        return await revoked() == {district: [1, 2] for district in districts}

    await until(all_went_on)


def in_partition(part: int) -> UUID:
    while partition_of(person_id := uuid4(), PARTITIONS) != part:
        pass
    return person_id
