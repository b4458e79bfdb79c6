"""A claims service over a real PostgreSQL, without Kafka: tests tell it what roster and auth would have told."""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp.test_utils import TestClient

from services.claims import consumer
from services.claims.app import SPEC
from services.claims.departures import SuspensionWorker
from services.claims.projections import (
    ADMISSION,
    Identity,
    StaffEmployed,
    StaffLeft,
    StudentEnrolled,
    StudentWithdrawn,
)
from services.claims.reset_worker import ResetWorker
from shared import clock, testing
from shared.keys import Signer
from shared.messages import Event
from shared.policy import Role
from shared.service import Kit, build_app
from tests.support.service import ISSUER, migrated_database, quiet_kit

D = "/v1/districts/ccps"
GATE = (
    "INSERT INTO gate VALUES ('admission', $1, $2, $3) ON CONFLICT (consumer, stream_id)"
    " DO UPDATE SET version = $2, event_id = $3"
)
Answer = tuple[int, Any]


class World:
    """Claims, and everybody around it: the SIS, pupils at their browsers, auth, the help desk."""

    def __init__(self, kit: Kit, http: TestClient[Any, Any], keys: Path) -> None:
        self.kit, self.http = kit, http
        self._auth = Signer(keys / "auth", "auth")
        self._auth.refresh()
        self._versions: defaultdict[tuple[str, UUID], int] = defaultdict(int)
        self._reaction, self._departures = consumer.reactions(kit)

    # The SIS, through roster

    async def enroll(
        self,
        number: str = "0123456",
        last: str = "O'Neil",
        first: str = "Mary-Ann",
        *,
        hours_ago: float = 48,
        **differing: Any,
    ) -> UUID:
        person_id = uuid4()
        usual = _enrollment(Identity(f"sis-{number}", number, last, first), hours_ago)
        await self.roster(person_id, StudentEnrolled(**(usual | differing)))
        return person_id

    async def employ(
        self, number: str = "e12345", last: str = "Okafor", first: str = "Grace", **differing: Any
    ) -> UUID:
        """Somebody of the staff, entered a moment ago."""
        person_id = uuid4()
        usual = _enrollment(Identity(f"hr-{number}", number, last, first), 0)
        await self.roster(person_id, StaffEmployed(**(usual | differing)))
        return person_id

    async def leave(self, person_id: UUID) -> None:
        await self.roster(person_id, StaffLeft())

    async def withdraw(self, person_id: UUID, *, hours_ago: float = 0, reason: str | None = None) -> None:
        at = clock.now() - timedelta(hours=hours_ago)
        await self.roster(person_id, StudentWithdrawn(reason=reason), at)

    async def come_back(self, person_id: UUID, number: str = "0123456") -> None:
        now, identity = clock.now(), Identity(f"sis-{number}", number, "O'Neil", "Mary-Ann")
        fact = StudentEnrolled(
            enrollment_id="e2", identity=identity, received_at=now, basis=now, baseline=False, current=True
        )
        await self.roster(person_id, fact)

    async def roster(
        self, person_id: UUID, fact: Event, at: datetime | None = None, *, read: bool = True
    ) -> None:
        """The roster's word reaches the consumer, and (`read`) the read model."""
        told = self._told("roster", person_id, fact, at)
        async with self.kit.db.transaction() as conn:
            await self._departures.react(conn, told)
            if read:
                await ADMISSION.apply(conn, [told])
                await conn.execute(GATE, person_id, told.version, told.id)

    async def park(self, person_id: UUID) -> None:
        async with self.kit.db.connection() as conn:
            await conn.execute(
                "INSERT INTO gate (consumer, stream_id, version, parked_at) VALUES ('admission', $1, 0, $2)"
                " ON CONFLICT (consumer, stream_id) DO UPDATE SET parked_at = $2",
                person_id, clock.now(),
            )  # fmt: skip

    # auth

    async def auth(self, person_id: UUID, fact: Event, at: datetime | None = None) -> None:
        told = self._told("auth", person_id, fact, at)
        async with self.kit.db.transaction() as conn:
            await self._reaction.react(conn, told)

    async def grant(self, person_id: UUID, role: Role = "desk") -> None:
        """An operator gave a role, and auth tells of it."""
        await self.auth(person_id, consumer.RoleGranted(role=role))

    async def seal(
        self, person_id: UUID, claim: Any, credential_id: UUID | None = None, **differing: Any
    ) -> UUID:
        """auth seals a credential for an open claim (what POST /claims answered)."""
        credential_id = credential_id or uuid4()
        generation = differing.pop("generation", 0)
        fact = consumer.CredentialsSet(
            claim_id=UUID(claim["claim_id"]), credential_id=credential_id, generation=generation
        )
        await self.auth(person_id, fact, **differing)
        return credential_id

    def _told(self, service: str, person_id: UUID, fact: Event, at: datetime | None = None) -> Any:
        self._versions[service, person_id] += 1
        version = self._versions[service, person_id]
        return testing.recorded(fact, version, at=at or clock.now(), service=service, stream_id=person_id)

    # Pupils

    async def claim(
        self, number: str = "0123456", last: str = "O'Neil", first: str = "Mary-Ann", **headers: str
    ) -> Answer:
        body = {"last_name": last, "first_name": first, "number": number}
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self._ask("POST", "/claims", json=body, headers=sent)

    async def standing(self, claim: Any, **differing: str) -> Answer:
        path = f"/claims/{differing.get('claim_id', claim['claim_id'])}"
        return await self._ask("GET", path, headers={"Authorization": f"Bearer {claim['ticket']}"})

    async def claimed(
        self, number: str = "0123456", last: str = "O'Neil", first: str = "Mary-Ann", **differing: Any
    ) -> UUID:
        """A pupil, or by the number a member of the staff, who has claimed."""
        enter = self.employ if number.startswith("e") else self.enroll
        person_id = await enter(number, last, first, **differing)
        status, claim = await self.claim(number, last, first)
        assert status == 201
        await self.seal(person_id, claim)
        return person_id

    # The help desk

    async def desk(
        self,
        method: str,
        path: str,
        *,
        sub: str = "desk-1",
        scope: str = "desk",
        human: bool = True,
        person: UUID | None = None,
        **more: Any,
    ) -> Answer:
        """Asked by a person of the desk (whose id auth may know), or (not `human`) by a machine."""
        headers = {
            "Authorization": f"Bearer {self.token(sub, scope, human=human, person=person)}",
            **more.pop("headers", {}),
        }
        return await self._ask(method, path, headers=headers, **more)

    async def account(self, person_id: UUID) -> Any:
        status, account = await self.desk("GET", f"/accounts/{person_id}")
        assert status == 200
        return account

    def token(self, sub: str, scope: str, *, human: bool = True, person: UUID | None = None) -> str:
        now = int(clock.now().timestamp())
        claims = {
            "iss": f"{ISSUER}{D}", "aud": "homeroom", "sub": sub, "iat": now, "exp": now + 600,
            "district": "ccps", "scope": scope, "human": human, "name": f"{sub} by name",
        }  # fmt: skip
        return self._auth.sign("at+jwt", claims | ({"person": str(person)} if person else {}))

    async def pass_by(self, **time: float) -> int:
        """Lets the worker suspend whoever is due once so much time has passed; how many departures it settled."""
        worker, took = SuspensionWorker(self.kit.store, self.kit.policies), 0
        while await worker.suspend_next(clock.now() + timedelta(**time)):
            took += 1
        return took

    async def work(self, at_most: int = 1_000) -> int:
        """Lets the worker reset whatever is planned, or so many of it; how many it took."""
        worker, took = ResetWorker(self.kit.store), 0
        while items := await worker.reset_next(clock.now(), min(2, at_most - took)):
            took += len(items)
        return took

    # What there is

    async def events(self, person_id: UUID) -> list[Event]:
        async with self.kit.db.connection() as conn:
            return [recorded.data for recorded in await self.kit.store.load(conn, person_id)]

    async def fetch(self, statement: str, *args: Any) -> list[dict[str, Any]]:
        async with self.kit.db.connection() as conn:
            return [dict(row) for row in await conn.fetch(statement, *args)]

    async def _ask(self, method: str, path: str, **more: Any) -> Answer:
        async with self.http.request(method, D + path, **more) as response:
            text = await response.read()
            return response.status, (await response.json(content_type=None)) if text else None


def _enrollment(identity: Identity, hours_ago: float) -> dict[str, Any]:
    at = clock.now() - timedelta(hours=hours_ago)
    return {
        "enrollment_id": "e1",
        "identity": identity,
        "received_at": at,
        "basis": at,
        "baseline": False,
        "current": True,
    }


@pytest.fixture(scope="session")
def migrated(backing: dict[str, str]) -> Iterator[str]:
    with migrated_database(backing["postgres"], "claims") as dsn:
        yield dsn


@pytest.fixture
async def kit(migrated: str, tmp_path: Path) -> AsyncIterator[Kit]:
    async with quiet_kit(SPEC, migrated, tmp_path) as kit:
        yield kit


@pytest.fixture
async def world(
    kit: Kit, tmp_path: Path, aiohttp_client: Callable[..., Awaitable[TestClient[Any, Any]]]
) -> World:
    return World(kit, await aiohttp_client(build_app(kit)), tmp_path)
