"""The real PostgreSQL and Kafka behind the tests: one of each for a run, a database and topics of its own for a test.

HOMEROOM_TEST_BACKING names a JSON file {"postgres": superuser DSN, "kafka": "host:port"} of servers that run already;
without it they are started when the first test asks for them and ended with the run, however it ends.
"""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import hypothesis
import pytest
from aiokafka.admin import AIOKafkaAdminClient

# A machine that is busy is no failure; CI walks the same examples every time.
hypothesis.settings.register_profile(
    "homeroom", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)
hypothesis.settings.load_profile("homeroom")

PROJECT = Path(__file__).parents[1]
RUN_FOLDER = "HOMEROOM_TEST_RUN_FOLDER"  # handed from the run to its xdist workers
RUN_PID = "HOMEROOM_TEST_RUN_PID"
START_PATIENCE_S = 180  # the first run of all fetches Kafka


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and "HOMEROOM_TEST_BACKING" not in os.environ:
        os.environ[RUN_FOLDER] = tempfile.mkdtemp(prefix="homeroom-test-")
        os.environ[RUN_PID] = str(os.getpid())


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends what the run started. A run that is killed is noticed by the backing itself."""
    if hasattr(config, "workerinput") or RUN_FOLDER not in os.environ:
        return
    folder = Path(os.environ.pop(RUN_FOLDER))
    if (answer := folder / "backing.json").exists():
        pid = json.loads(answer.read_text())["pid"]
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 30
        while answer.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "backing" in getattr(item, "fixturenames", ()):
            item.add_marker("backing")


@pytest.fixture(scope="session")
def backing() -> dict[str, str]:
    """{"postgres": superuser DSN, "kafka": "host:port"} of the servers behind this run."""
    if named := os.environ.get("HOMEROOM_TEST_BACKING"):
        found: dict[str, str] = json.loads(Path(named).read_text())
        return found
    folder = Path(os.environ[RUN_FOLDER])
    answer = folder / "backing.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of one run share one backing
        if not answer.exists():
            _start_backing(folder, answer)
    started: dict[str, str] = json.loads(answer.read_text())
    return started


def _start_backing(folder: Path, answer: Path) -> None:
    output = folder / "backing.out"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.backing", folder, answer, os.environ[RUN_PID]],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd=PROJECT,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_PATIENCE_S
    while not answer.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            pytest.fail(
                f"PostgreSQL and Kafka for the tests did not start:\n{output.read_text()}", pytrace=False
            )
        time.sleep(0.1)
    asyncio.run(_hasten(json.loads(answer.read_text())["postgres"]))


async def _hasten(postgres: str) -> None:
    """A database that outlives its test by nothing need not outlive the machine's power: what a killed process has
    written is there all the same."""
    connection = await asyncpg.connect(postgres)
    try:
        for setting in ("fsync", "full_page_writes"):
            await connection.execute(f"ALTER SYSTEM SET {setting} = off")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


@pytest.fixture
def postgres_dsn(backing: dict[str, str]) -> str:
    """The superuser's DSN, for tests that make databases and roles of their own."""
    return backing["postgres"]


@pytest.fixture
def kafka_bootstrap(backing: dict[str, str]) -> str:
    return backing["kafka"]


@pytest.fixture(scope="session")
def template() -> str:
    """The database that a test's own is a copy of: an empty one."""
    return "template1"


@pytest.fixture
async def database(postgres_dsn: str, template: str) -> AsyncIterator[str]:
    """The DSN of a database of this test's own."""
    name = f"test_{uuid4().hex[:12]}"
    admin = await asyncpg.connect(postgres_dsn)
    try:
        await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        yield urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))
    finally:
        await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await admin.close()


@pytest.fixture
async def topic_prefix(kafka_bootstrap: str) -> AsyncIterator[str]:
    """A prefix for this test's topics; what was made under it is deleted afterwards."""
    prefix = f"test{uuid4().hex[:10]}"
    yield prefix
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    try:
        made = [topic for topic in await admin.list_topics() if topic.startswith(f"{prefix}.")]
        if made:
            await admin.delete_topics(made)
    finally:
        await admin.close()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own HOMEROOM_* environment changes no test."""
    for name in os.environ:
        if name.startswith("HOMEROOM_") and not name.startswith("HOMEROOM_TEST_"):
            monkeypatch.delenv(name)
