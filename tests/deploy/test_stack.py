"""The one-command stack as a person uses it: the real command line, the real PostgreSQL, Kafka and services.

The tests of this file are one story and run in its order, on one stack in a folder of its own.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import psutil
import pytest

from deploy.local import sample
from tests.support import java

PROJECT = Path(__file__).parents[2]
HOMEROOM = Path(sys.executable).parent / "homeroom"
WARM_SECONDS = 60  # 5 to 6 on an idle machine; these tests share two cores with others
PEOPLE = len({event["subject"] for event in sample.events(datetime(2026, 8, 3, tzinfo=UTC))})
PAGES = (
    "README.md",
    "docs/how-to/publish-enrollments.md",
    "docs/how-to/build-a-portal.md",
    "docs/how-to/sign-people-in.md",
    "docs/how-to/help-desk.md",
    "docs/how-to/operate.md",
    "docs/how-to/import-oneroster.md",
    "docs/how-to/rotate-keys.md",
)

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300), pytest.mark.xdist_group("stack")]


class Local:
    """`homeroom`, with a state folder that is this test's alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policies = folder.with_name("policies")
        self.env = {
            **os.environ, "HOMEROOM_STATE_DIR": str(folder), "HOMEROOM_POLICY_DIR": str(self.policies),
        }  # fmt: skip

    def __call__(self, *words: str, status: int = 0) -> str:
        ran = subprocess.run(
            [HOMEROOM, *words], env=self.env, capture_output=True, text=True, check=False, cwd=PROJECT
        )
        assert ran.returncode == status, (
            f"homeroom {' '.join(words)}:\n{ran.stdout}\n{ran.stderr}\n{self.last_words()}"
        )
        return ran.stdout

    def paste(self, language: str, block: str) -> subprocess.CompletedProcess[str]:
        """Run a block of the docs as a reader would, in a folder of their own, after what they all begin with."""
        if language == "java":
            env = {**self.env, "KAFKA": self.status()["kafka"]}
            return java.run_program(block, "Publish", self.folder.parent, env)
        if language == "python":
            block = f"python - <<'END'\n{block}\nEND\n"
        env = {**self.env, "PATH": f"{HOMEROOM.parent}:{os.environ['PATH']}"}
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{self.shell()}\n{block}"],
            env=env, capture_output=True, text=True, check=False, cwd=self.folder.parent, timeout=120,
        )  # fmt: skip

    @cache  # noqa: B019 - one stack, whose addresses stay
    def shell(self) -> str:
        """What `eval "$(homeroom status --shell)"` evaluates."""
        return self("status", "--shell")

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("status", "--json"))
        return found

    def pid(self, part: str) -> int:
        (found,) = [each["pid"] for each in self.status()["parts"] if each["name"] == part]
        return int(found)

    def until(self, state: str, patience_s: float = 30) -> dict[str, Any]:
        deadline = time.monotonic() + patience_s
        while (found := self.status())["state"] != state:
            assert time.monotonic() < deadline, f"still {found}"
            time.sleep(0.2)
        return found

    def last_words(self) -> str:
        return "\n".join(
            f"== {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            for log in sorted(self.folder.glob("logs/*.log"))
        )


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    # Not pytest's own folder: that one is closed to the account which root hands PostgreSQL to.
    folder = Path(tempfile.mkdtemp(prefix="homeroom-stack-"))
    folder.chmod(0o755)
    homeroom = Local(folder / "state")
    shutil.copytree(PROJECT / "policies", homeroom.policies)
    try:
        homeroom("up")
        yield homeroom
    finally:
        homeroom("clean", "--yes")
        shutil.rmtree(folder)


def test_up_shows_where_everything_is(local: Local) -> None:
    found = local.status()
    assert found["state"] == "running"
    assert found["district"] == "ccps"
    assert set(found["services"]) >= {"roster", "claims", "auth", "portal"}
    assert set(found["clients"]) >= {"sis", "portal", "desk", "operator"}
    assert {part["name"]: part["state"] for part in found["parts"]} == dict.fromkeys(
        ("postgres", "kafka", "roster", "claims", "auth", "portal"), "running"
    )
    assert all(Path(part["log"]).exists() for part in found["parts"])
    assert found["state_dir"] == str(local.folder)


def test_a_second_up_says_that_it_runs(local: Local) -> None:
    before = local.status()
    assert "runs already" in local("up")
    assert local.status() == before


async def test_the_sample_district_is_in_the_read_models(local: Local) -> None:
    databases = local.status()["postgres"]["databases"]
    for service, table in (("roster", "person"), ("claims", "admission"), ("auth", "person")):
        connection = await asyncpg.connect(databases[service])
        try:
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == PEOPLE, service
        finally:
            await connection.close()


async def test_every_client_gets_a_token(local: Local) -> None:
    found = local.status()
    async with aiohttp.ClientSession() as http:
        for client in found["clients"].values():
            async with http.post(
                f"{found['services']['auth']}/v1/districts/ccps/token",
                data={"grant_type": "client_credentials"},
                headers={"Authorization": aiohttp.encode_basic_auth(client["id"], client["secret"])},
            ) as response:
                assert response.status == 200, await response.text()


async def test_the_portal_shows_the_district_and_auth_sends_people_there(local: Local) -> None:
    portal, auth = (local.status()["services"][name] for name in ("portal", "auth"))
    back = "http://127.0.0.1/back"
    words = "application", "add", "Library", "--type", "native", "--redirect-uri", back, "--json"
    asked = {
        "response_type": "code", "client_id": json.loads(local(*words))["id"], "redirect_uri": back,
        "scope": "openid", "code_challenge": "c" * 43, "code_challenge_method": "S256", "state": "s",
    }  # fmt: skip
    async with aiohttp.ClientSession() as http:
        async with http.get(portal) as page:
            assert page.url.path.startswith("/ccps/")
            assert "Clayton County Public Schools" in await page.text()
        async with http.get(
            f"{auth}/v1/districts/ccps/authorize", params=asked, allow_redirects=False
        ) as sent:
            assert sent.headers["Location"].startswith(f"{portal}/ccps/sign-on?authorization=")


async def test_a_district_that_is_added_meanwhile_has_its_portal(local: Local) -> None:
    local("district", "add", "hill", "--name", "Hill", "--code", "HILL1", "--folder", str(local.policies))
    client, deadline = local.folder / "portal/clients/hill.json", time.monotonic() + 20
    while not client.exists():
        assert time.monotonic() < deadline, local.last_words()
        await asyncio.sleep(0.2)
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{local.status()['services']['portal']}/hill/") as page,
    ):
        assert page.status == 200
        assert "Hill" in await page.text()


def test_the_doctor_finds_nothing_wrong(local: Local) -> None:
    assert all(
        finding["ok"] for finding in json.loads(local("doctor", "--json")) if finding["check"] != "python"
    )


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_the_docs_work_when_pasted(local: Local, page: str) -> None:
    """Page after page: what one publishes, the next asks for."""
    secrets = [client["secret"] for client in local.status()["clients"].values()]
    for language, block in re.findall(
        r"```(sh|python|java)\n(.*?)```", (PROJECT / page).read_text(), re.DOTALL
    ):
        if "make " in block:  # the two commands themselves: what runs this test
            continue
        ran = local.paste(language, block)
        assert ran.returncode == 0, f"{page}:\n{block}\n{ran.stdout}\n{ran.stderr}"
        if block.startswith("homeroom demo"):
            assert "staff is spared" in ran.stdout
            assert "The story ended as it should" in ran.stdout
            assert not [secret for secret in secrets if secret in ran.stdout]


def test_logs_are_structured_and_shown(local: Local) -> None:
    for line in local("logs", "roster", "--no-follow", "--json").splitlines():
        assert json.loads(line)["service"] == "roster"
    assert "kafka" in local("logs", "--no-follow", "--lines", "3")
    local("logs", "nobody", "--no-follow", status=1)


def test_a_part_that_is_killed_comes_back(local: Local) -> None:
    for part in ("claims", "portal", "postgres"):
        killed = local.pid(part)
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while (found := local.status())["state"] != "running" or local.pid(part) == killed:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        (shown,) = [each for each in found["parts"] if each["name"] == part]
        assert shown["restarts"] == 1


def test_a_killed_supervisor_leaves_nothing_that_cannot_be_stopped(local: Local) -> None:
    before = local.status()
    os.kill(before["supervisor"], signal.SIGKILL)
    assert local.until("orphaned")["services"] == {}
    local("up")
    after = local.status()
    assert after["state"] == "running"
    assert not {part["pid"] for part in before["parts"]} & {part["pid"] for part in after["parts"]}
    assert not any(psutil.pid_exists(part["pid"]) for part in before["parts"])
    assert after["clients"] == before["clients"]


def test_down_stops_everything_and_a_warm_start_is_quick(local: Local) -> None:
    before = local.status()
    local("down")
    assert local.until("stopped")["services"] == {}
    assert not any(psutil.pid_exists(part["pid"]) for part in before["parts"])
    assert "was not running" in local("down")
    began = time.monotonic()
    local("up")
    assert time.monotonic() - began < WARM_SECONDS
    assert local.status()["services"] == before["services"]
