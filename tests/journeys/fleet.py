"""The three services as real processes, on databases and topics of their own, beside servers that stay.

Tests walk through it as outsiders do: HTTP and Kafka, nothing else. What it starts it ends by pid, and what it made
(databases, topics, folder) it removes.
"""

import asyncio
import base64
import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg
import msgspec
from aiokafka.admin import AIOKafkaAdminClient

from services.cli.client import SERVICES, Client, Homeroom, Json, Site
from shared import clock
from shared.keys import make_key

ROOT = Path(__file__).resolve().parents[2]
DISTRICT = "ccps"
PARTITIONS = 4  # fewer than in production: the tests' topics come and go on a small broker
READY_WITHIN_S = 60
PR_SET_PDEATHSIG = 1

CLIENTS = {
    "sis": ["roster:write"],
    "desk": ["desk"],
    "desk2": ["desk"],
    "teacher": ["teacher"],
    "portal": ["introspect", "exchange"],
    "operator": ["operator"],
    "everything": ["roster:write", "desk", "operator"],
}
PEOPLE = ("desk", "desk2", "teacher")


class Part:
    """One process: a service in some of its roles."""

    def __init__(self, service: str, roles: str, env: Mapping[str, str], log: Path) -> None:
        self.service, self.roles, self.env, self.log = service, roles, dict(env), log
        self.process: asyncio.subprocess.Process | None = None

    @property
    def name(self) -> str:
        return f"{self.service}:{self.roles}"

    async def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", f"services.{self.service}", cwd=ROOT, env=self.env,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                preexec_fn=die_with_parent,
            )  # fmt: skip

    async def stop(self, number: int = signal.SIGTERM, patience_s: float = 20) -> int:
        """End it with this signal and wait; the exit status."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            return await asyncio.wait_for(self.process.wait(), patience_s)
        except TimeoutError:
            self.process.kill()
            return await self.process.wait()

    async def kill(self) -> None:
        await self.stop(signal.SIGKILL)


class Fleet:
    """roster, claims and auth, each in one process (or in one for its relay and one for the rest)."""

    def __init__(self, backing: Json, folder: Path, *, relays_apart: bool = False) -> None:
        self.backing, self.folder = backing, folder
        self.prefix = f"t{secrets.token_hex(4)}"
        self.ports = dict(
            zip((*SERVICES, *(f"{name}-relay" for name in SERVICES), "portal"), free_ports(7), strict=True)
        )
        self.roles = ("api,projector", "relay") if relays_apart else ("api,projector,relay",)
        self.parts: dict[str, Part] = {}
        self.detours: dict[str, dict[str, str]] = {}  # what a service's relay is configured with instead
        self.bootstrap = Client("operator", secrets.token_urlsafe(24))

    @property
    def kafka(self) -> str:
        return str(self.backing["kafka"])

    @property
    def urls(self) -> dict[str, str]:
        return {name: f"http://127.0.0.1:{self.ports[name]}" for name in SERVICES}

    @property
    def portal_url(self) -> str:
        """Where auth sends people to sign in, if there is a portal."""
        return f"http://localhost:{self.ports['portal']}"

    def site(self) -> Site:
        return Site(DISTRICT, self.urls, dict(self.clients), self.kafka)

    @property
    def ingress(self) -> str:
        return f"{self.prefix}.enrollments.{DISTRICT}.v1"

    def dsn(self, service: str) -> str:
        return with_database(self.backing["postgres"], f"{self.prefix}_{service}")

    async def start(self) -> "Fleet":
        """Make databases, keys and secrets, start everything, wait until it is ready, make a client for each role."""
        admin = await asyncpg.connect(self.backing["postgres"])
        try:
            for service in SERVICES:
                await admin.execute(f'CREATE DATABASE "{self.prefix}_{service}"')
        finally:
            await admin.close()
        self._write_secrets()
        for service in SERVICES:
            for roles in self.roles:
                self.parts[f"{service}:{roles}"] = Part(
                    service, roles, self.environment(service, roles), self.folder / f"{service}-{roles}.log"
                )
        await asyncio.gather(*(part.start() for part in self.parts.values()))
        await asyncio.gather(*(self.ready(service) for service in SERVICES))
        self.clients = {"operator": self.bootstrap} | await self._make_clients()
        return self

    def _write_secrets(self) -> None:
        for service in ("claims", "auth"):
            make_key(service, self.folder / "keys", self.folder / "private" / service, clock.now())
        make_key("saml", self.folder / "keys", self.folder / "private" / "auth", clock.now(), "RS256")
        (self.folder / "pepper").write_text(f"1:{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
        (self.folder / "bootstrap.json").write_bytes(msgspec.json.encode(self.bootstrap))
        shutil.copytree(ROOT / "policies", self.folder / "policies")

    def environment(self, service: str, roles: str) -> dict[str, str]:
        """What a part is configured with; everything else of the machine's environment but HOMEROOM_* stays."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("HOMEROOM_")}
        port = self.ports[service if "api" in roles else f"{service}-relay"]
        return (
            own
            | {
                "HOMEROOM_POSTGRES": self.dsn(service),
                "HOMEROOM_KAFKA": self.kafka,
                "HOMEROOM_TOPIC_PREFIX": self.prefix,
                "HOMEROOM_PARTITIONS": str(PARTITIONS),
                "HOMEROOM_HTTP_PORT": str(port),
                "HOMEROOM_ISSUER": self.urls["auth"],
                "HOMEROOM_POLICY_DIR": str(self.folder / "policies"),
                "HOMEROOM_KEY_DIR": str(self.folder / "keys"),
                "HOMEROOM_PROVIDER_SECRET_DIR": str(self.folder / "providers"),
                "HOMEROOM_ROLES": roles,
                "HOMEROOM_LOG_FORMAT": "json",
            }
            | self._own_to(service)
            | (self.detours.get(service, {}) if roles == "relay" else {})
        )

    def _own_to(self, service: str) -> dict[str, str]:
        """Secrets that no other service is given."""
        given = {
            "roster": {},
            "claims": {"SIGNING_KEY_DIR": "private/claims"},
            "auth": {
                "SIGNING_KEY_DIR": "private/auth",
                "PEPPER_FILE": "pepper",
                "BOOTSTRAP_CLIENT_FILE": "bootstrap.json",
            },
        }
        files = {f"HOMEROOM_{name}": str(self.folder / path) for name, path in given[service].items()}
        return files | ({"HOMEROOM_PORTAL_URL": self.portal_url} if service == "auth" else {})

    async def ready(self, service: str, within_s: float = READY_WITHIN_S) -> None:
        """Wait until the service says that nothing is missing; TimeoutError with what it missed last."""
        missing: object = "it does not answer"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as http:
            for _ in range(int(within_s / 0.2)):
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with http.get(f"{self.urls[service]}/health/ready") as response:
                        if response.status == 200:
                            return
                        missing = await response.text()
                await asyncio.sleep(0.2)
        raise TimeoutError(f"{service} is not ready after {within_s} s: {missing}")

    async def _make_clients(self) -> dict[str, Client]:
        async with aiohttp.ClientSession() as http:
            homeroom = Homeroom(Site(DISTRICT, self.urls, {"operator": self.bootstrap}), http)
            made = {}
            for name, scopes in CLIENTS.items():
                if name != "operator":
                    # What is of no district is for operators of every district.
                    districts = ["*"] if "operator" in scopes else [DISTRICT]
                    body = {
                        "name": name, "scopes": scopes, "districts": districts, "human": name in PEOPLE,
                    }  # fmt: skip
                    answer = await homeroom.post("auth", "/v1/operations/clients", body, role="operator")
                    made[name] = Client(answer.body["id"], answer.body["secret"])
            return made

    def part(self, service: str, role: str = "api") -> Part:
        return next(
            part for part in self.parts.values() if part.service == service and role in part.roles.split(",")
        )

    async def stop(self) -> None:
        """End every process, then remove what was made."""
        await asyncio.gather(*(part.stop() for part in self.parts.values() if part.process))
        admin = await asyncpg.connect(self.backing["postgres"])
        try:
            for service in SERVICES:
                await admin.execute(f'DROP DATABASE IF EXISTS "{self.prefix}_{service}" WITH (FORCE)')
        finally:
            await admin.close()
        await self.delete_topics()

    async def delete_topics(self) -> None:
        await delete_topics(self.kafka, self.prefix)

    def logs(self) -> str:
        """The last lines of every part, for a test that failed."""
        return "\n".join(f"== {part.name}\n{part.log.read_text()[-4000:]}" for part in self.parts.values())


def die_with_parent() -> None:
    """Run in a new process: a test run that is killed takes with it what it started (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def with_database(dsn: str, name: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def free_ports(count: int) -> Sequence[int]:
    """Ports that nobody has just now; all held at once, so that they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


async def delete_topics(kafka: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        if mine := [name for name in await admin.list_topics() if name.startswith(f"{prefix}.")]:
            await admin.delete_topics(mine)
    finally:
        await admin.close()
