"""A service's life: what it waits for, what it answers meanwhile, and how it comes and goes."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest
from aiohttp.test_utils import TestClient

from shared import clock, expiry, life
from shared.messages import Cause
from shared.service import Kit, build_app, create_app
from shared.settings import Settings
from shared.supervisor import Readiness, Worker, supervise
from shared.testing import PERSON
from shared.web import KIT
from tests.shared.toy import SPEC, Noted

D = "/v1/districts/ccps"
Client = TestClient[Any, Any]
Sign = Callable[..., str]
Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
def real(settings: Settings, database: str, kafka_bootstrap: str, topic_prefix: str) -> Settings:
    return msgspec.structs.replace(
        settings, postgres=database, kafka=kafka_bootstrap, topic_prefix=topic_prefix, partitions=3
    )


@pytest.fixture
async def client(real: Settings, aiohttp_client: Serve) -> Client:
    client = await aiohttp_client(create_app(SPEC, real))
    async with asyncio.timeout(30):
        await client.app[KIT].readiness.wait()  # type: ignore[union-attr]
    return client


def desk(token: Sign, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token()}", **headers}


class TestAlone:
    """Without PostgreSQL and Kafka."""

    async def test_it_lives_says_what_is_missing_and_answers_what_it_can(
        self, settings: Settings, aiohttp_client: Serve, token: Sign
    ) -> None:
        client = await aiohttp_client(create_app(SPEC, settings))
        assert (await client.get("/health/live")).status == 200
        assert (await client.get("/v1/codes/x")).status == 200
        async with asyncio.timeout(15):
            while {"postgres", "kafka"} - (await (await client.get("/health/ready")).json())[
                "missing"
            ].keys():
                await asyncio.sleep(0.05)
        ready = await client.get("/health/ready")
        assert ready.status == 503
        assert (await client.get("/health/serving")).status == 503
        response = await client.post(f"{D}/notes", json={"text": "x"}, headers=desk(token))
        assert response.status == 503
        assert response.headers["Retry-After"]

    async def test_metrics_name_routes_by_their_template(self, kit: Kit, aiohttp_client: Serve) -> None:
        client = await aiohttp_client(build_app(kit))
        person = "12345678-1234-1234-1234-123456789abc"
        await client.get(f"{D}/persons/{person}")
        await client.request("BREW", "/teapot/secret")
        text = await (await client.get("/metrics")).text()
        assert 'route="/v1/districts/{district}/persons/{person_id}"' in text
        assert person not in text
        assert "teapot" not in text
        assert "BREW" not in text

    async def test_a_problems_type_leads_to_its_meaning(self, kit: Kit, aiohttp_client: Serve) -> None:
        client = await aiohttp_client(build_app(kit))
        explained = await (await client.get("/problems/toy_refused")).json()
        assert explained["meaning"] == "The toy would not."
        assert (await client.get("/problems/nonsense")).status == 404


@pytest.mark.usefixtures("backing")
class TestOnRealOnes:
    async def test_it_gets_ready_by_itself(self, client: Client) -> None:
        assert (await client.get("/health/ready")).status == 200
        assert (await client.get("/health/serving")).status == 200

    async def test_what_was_missing_at_the_start_is_used_when_it_comes(
        self, real: Settings, aiohttp_client: Serve, postgres_dsn: str
    ) -> None:
        name = f"late_{clock.now():%H%M%S%f}"
        late = msgspec.structs.replace(real, postgres=postgres_dsn.rpartition("/")[0] + f"/{name}")
        client = await aiohttp_client(create_app(SPEC, late))
        await asyncio.sleep(1)
        assert (await client.get("/health/ready")).status == 503
        admin = await asyncpg.connect(postgres_dsn)
        try:
            await admin.execute(f"CREATE DATABASE {name}")
            came = time.monotonic()
            await client.app[KIT].readiness.wait()  # type: ignore[union-attr]
            assert time.monotonic() - came < 10
        finally:
            await client.close()
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
            await admin.close()

    async def test_on_a_database_that_is_newer_it_says_so_and_serves_nothing(
        self, client: Client, real: Settings, aiohttp_client: Serve, token: Sign
    ) -> None:
        """One that was forgotten in an upgrade would else fail in the middle, on what is there no more."""
        await client.close()
        conn = await asyncpg.connect(real.postgres)
        await conn.execute("INSERT INTO migration (name, sha256) VALUES ('toy/0009_drop_note.sql', '')")
        await conn.close()
        older = await aiohttp_client(create_app(SPEC, real))
        async with asyncio.timeout(15):
            while True:
                missing = (await (await older.get("/health/ready")).json())["missing"]
                if "newer" in missing.get("migrations", ""):
                    break
                await asyncio.sleep(0.05)
        assert "toy/0009_drop_note.sql" in missing["migrations"]
        assert (await older.get("/health/serving")).status == 503
        response = await older.post(f"{D}/notes", json={"text": "x"}, headers=desk(token))
        assert (response.status, (await response.json(content_type=None))["reason"]) == (503, "unavailable")

    async def test_a_topic_that_knows_more_than_the_store_stops_the_service(
        self, client: Client, real: Settings, aiohttp_client: Serve, token: Sign
    ) -> None:
        """A restored store: its last events are in the topic, and nowhere else."""
        kit = client.app[KIT]  # type: ignore[union-attr]
        await note(kit)
        async with kit.db.connection() as conn:
            while await conn.fetchval("SELECT count(*) FROM outbox"):
                await asyncio.sleep(0.02)
        await client.close()
        conn = await asyncpg.connect(real.postgres)
        await conn.execute("TRUNCATE stream, event, outbox, publication")
        await conn.close()
        again = await aiohttp_client(create_app(SPEC, real))
        restored = again.app[KIT]  # type: ignore[union-attr]
        async with asyncio.timeout(30):
            while not restored.diverged:
                await asyncio.sleep(0.05)
        response = await again.post(f"{D}/notes", json={"text": "x"}, headers=desk(token))
        assert (await response.json(content_type=None))["reason"] == "history_diverged"
        assert "history" in (await (await again.get("/health/ready")).json())["missing"]

    async def test_a_store_restored_under_a_running_service_stops_it(
        self, client: Client, real: Settings, token: Sign
    ) -> None:
        """Restoring ends PostgreSQL's sessions, and the relay compares when it begins anew."""
        kit = client.app[KIT]  # type: ignore[union-attr]
        await note(kit)
        async with kit.db.connection() as conn, asyncio.timeout(20):
            while await conn.fetchval("SELECT count(*) FROM outbox"):
                await asyncio.sleep(0.02)
            await conn.execute("TRUNCATE stream, event, outbox, publication")
            await conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        async with asyncio.timeout(20):
            while not kit.diverged:
                await asyncio.sleep(0.05)
        response = await client.post(f"{D}/notes", json={"text": "x"}, headers=desk(token))
        assert (await response.json(content_type=None))["reason"] == "history_diverged"
        assert "relay" in (await (await client.get("/health/ready")).json())["missing"]

    async def test_what_expires_is_deleted_in_steps(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(expiry, "ROWS_AT_ONCE", 3)
        kit = client.app[KIT]  # type: ignore[union-attr]
        old, new = clock.now() - timedelta(days=31), clock.now()
        async with kit.db.connection() as conn:
            for number in range(10):
                row = (f"C-{number}", "ccps", "r", "x", {}, old if number < 7 else new)
                await conn.execute(
                    "INSERT INTO refusal (reference, district, route, reason, detail, at)"
                    " VALUES ($1, $2, $3, $4, $5, $6)",
                    *row,
                )
                command = ("me", "r", str(number), b"", 200, {}, b"", old if number < 7 else new)
                await conn.execute("INSERT INTO command VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", *command)
            await life.clean_up(kit)
            assert await conn.fetchval("SELECT count(*) FROM refusal") == 3
            assert await conn.fetchval("SELECT count(*) FROM command") == 3

    async def test_the_desk_sees_what_was_recorded(self, client: Client, token: Sign) -> None:
        kit = client.app[KIT]  # type: ignore[union-attr]
        await note(kit, "first")
        moment = clock.now()
        await note(kit, "second", version=1)
        path = f"{D}/persons/{PERSON}/timeline"
        timeline = await (await client.get(path, headers=desk(token))).json()
        assert [e["data"]["text"] for e in timeline["events"]] == ["first", "second"]
        assert [e["type"] for e in timeline["events"]] == ["Noted", "Noted"]
        then = await client.get(path, params={"at": moment.isoformat()}, headers=desk(token))
        assert [e["version"] for e in (await then.json())["events"]] == [1]
        # An unescaped plus sign.
        plus = await client.get(f"{path}?at={moment.isoformat()}", headers=desk(token))
        assert plus.status == 200
        assert (await client.get(f"{path}?at=2026-01-01T00:00:00", headers=desk(token))).status == 422
        for end_of_time in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
            beyond = await client.get(path, params={"at": end_of_time}, headers=desk(token))
            assert beyond.status == 422
        nobody = f"{D}/persons/12345678-1234-1234-1234-123456789abc/timeline"
        assert (await client.get(nobody, headers=desk(token))).status == 404
        assert (await client.get(path)).status == 401

    async def test_the_desk_finds_the_true_reason_under_the_reference(
        self, client: Client, token: Sign
    ) -> None:
        refused = await (await client.get(f"{D}/fail/uniform")).json(content_type=None)
        assert "truth" not in refused
        shown = await client.get(f"{D}/refusals/{refused['reference'].lower()}", headers=desk(token))
        found = await shown.json()
        assert found["detail"] == {"truth": "first_name"}
        assert found["reason"] == "toy_refused"
        assert found["person_id"] == "00000000-0000-0000-0000-000000000007"
        assert found["route"] == "GET /v1/districts/{district}/fail/{how}"
        assert (await client.get(f"{D}/refusals/C-0000-000", headers=desk(token))).status == 404


async def note(kit: Kit, text: str = "x", version: int = 0) -> None:
    async with kit.db.transaction() as conn:
        await kit.store.append(
            conn, "ccps", PERSON, version, [Noted(text=text)], now=clock.now(), cause=Cause.new()
        )
    kit.store.wake()


class TestProcess:
    """A process of its own, without PostgreSQL and Kafka."""

    @pytest.fixture
    async def process(self, settings: Settings, tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
        run = "from shared.service import main; from tests.shared.toy import SPEC; main(SPEC)"
        given = {
            "POSTGRES": settings.postgres,
            "KAFKA": settings.kafka,
            "HTTP_PORT": "0",
            "KEY_DIR": str(settings.key_dir),
            "DRAIN_SECONDS": "2",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            run,
            env=os.environ | {f"HOMEROOM_{name}": value for name, value in given.items()},
            stdout=asyncio.subprocess.PIPE,
        )
        yield process
        if process.returncode is None:
            process.kill()
        await process.communicate()

    async def line(self, process: asyncio.subprocess.Process, event: str) -> dict[str, Any]:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            while written := await process.stdout.readline():
                found: dict[str, Any] = json.loads(written)  # every line is JSON
                if found["event"] == event:
                    return found
        raise AssertionError(f"it ended without saying {event}")

    async def test_it_answers_at_once_and_ends_well_when_told(
        self, process: asyncio.subprocess.Process
    ) -> None:
        listening = await self.line(process, "listening")
        url = f"http://127.0.0.1:{listening['port']}"
        async with aiohttp.ClientSession() as session:
            assert (await session.get(f"{url}/health/live")).status == 200
            assert (await session.get(f"{url}/health/ready")).status == 503
            process.terminate()
            await self.line(process, "draining")
        await self.line(process, "stopped")
        async with asyncio.timeout(10):
            assert await process.wait() == 0

    async def test_what_is_missing_does_not_end_it(self, process: asyncio.subprocess.Process) -> None:
        await self.line(process, "listening")
        await asyncio.sleep(2)
        assert process.returncode is None


async def test_a_process_that_is_not_configured_says_so() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.claims", stderr=asyncio.subprocess.PIPE
    )
    _, told = await process.communicate()
    assert process.returncode == 2
    assert told.decode() == "homeroom claims: not set: HOMEROOM_POSTGRES, HOMEROOM_KAFKA\n"


class TestSupervision:
    async def test_a_worker_that_fails_runs_again(self) -> None:
        runs = 0
        third = asyncio.Event()

        async def run() -> None:
            nonlocal runs
            runs += 1
            if runs == 3:
                third.set()
                await asyncio.Event().wait()
            raise RuntimeError("again") if runs == 1 else asyncio.CancelledError  # that nobody sent

        task = asyncio.create_task(supervise(Worker("test", "api", run)))
        async with asyncio.timeout(5):
            await third.wait()
        task.cancel()

    async def test_readiness_is_waited_for_by_name(self) -> None:
        readiness = Readiness("a", "b")
        waiter = asyncio.create_task(readiness.wait("a"))
        await asyncio.sleep(0)
        assert not waiter.done()
        readiness.has("a")
        await asyncio.wait_for(waiter, 1)
        assert readiness.missing == {"b": "starting"}
        assert readiness.lacks("a", "b") == "b"
