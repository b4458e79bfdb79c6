"""What the services need before and after they start: databases, keys, clients, the sample district."""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import aiohttp
import asyncpg
import msgspec

from deploy.local import sample
from deploy.local.state import DISTRICT, Credentials, Files
from deploy.prepare import OPERATOR, prepare
from services.cli.client import SERVICES, Client, Failed, Homeroom, Site
from shared.errors import Unavailable
from shared.kafka import producing, unavailable_when_lost
from shared.messages import ingress_topic
from shared.private import write_private
from shared.settings import Settings

CLIENTS = {"sis": ["roster:write"], "portal": ["introspect", "exchange"], "desk": ["desk"], "desk2": ["desk"]}
PEOPLE = ("desk", "desk2")  # two, since a long reset takes a second person
CATCH_UP_POLL_S, CATCH_UP_PATIENCE_S = 0.2, 180.0
PUBLISH_TRIES = 3


def database_dsn(superuser_dsn: str, service: str, password: str) -> str:
    """The address of a service's own database, as its own role."""
    parts = urlsplit(superuser_dsn)
    name = f"homeroom_{service}"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{name}:{quote(password, safe='')}@{host}", path=f"/{name}"))


async def make_databases(superuser_dsn: str, credentials: Credentials, *, ours: bool) -> None:
    """A role for each service that owns its database and may enter no other. `ours`: the cluster is the stack's own."""
    connection = await asyncpg.connect(superuser_dsn, timeout=10)
    try:
        for service in SERVICES:
            name = f"homeroom_{service}"
            password = credentials.roles[service].replace("'", "''")
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name):
                await connection.execute(f'CREATE ROLE "{name}"')
            await connection.execute(f"ALTER ROLE \"{name}\" LOGIN PASSWORD '{password}'")
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}" OWNER "{name}"')
            await connection.execute(f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC')
        if ours:
            await connection.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
    finally:
        await connection.close()


def make_secrets(files: Files) -> Credentials:
    """Everything that is drawn once: keys, the pepper, the operator's client, the passwords of the databases."""
    prepare(files.root)
    credentials = files.credentials()
    if credentials is None:
        credentials = Credentials.new()
        credentials.clients[OPERATOR] = msgspec.json.decode(files.bootstrap_client.read_bytes())
        files.keep(credentials)
    return credentials


def describe_postgres(superuser_dsn: str, credentials: Credentials) -> dict[str, Any]:
    """What `homeroom status --json` tells of the databases: the server, and each service's own address."""
    server = urlsplit(superuser_dsn)
    return {
        "host": server.hostname,
        "port": server.port or 5432,
        "superuser": superuser_dsn,
        "databases": {name: database_dsn(superuser_dsn, name, credentials.roles[name]) for name in SERVICES},
    }


def connect(
    http: aiohttp.ClientSession, urls: dict[str, str], kafka: str, credentials: Credentials
) -> Homeroom:
    """The running services, as the clients that the stack knows so far."""
    clients = {name: Client(**client) for name, client in credentials.clients.items()}
    return Homeroom(Site(DISTRICT, urls, clients, kafka), http)


async def make_clients(homeroom: Homeroom, credentials: Credentials) -> None:
    """The clients that a script or the demonstration starts from; each is made once, and has what it is to have now."""
    route = "/v1/operations/clients"
    there = {found["id"]: found for found in (await homeroom.get("auth", route, role=OPERATOR))["clients"]}
    for name, scopes in CLIENTS.items():
        wanted = {"name": name, "scopes": scopes, "districts": [DISTRICT], "human": name in PEOPLE}
        if name not in credentials.clients:
            made = await homeroom.post("auth", route, wanted, role=OPERATOR)
            credentials.clients[name] = {"id": made.body["id"], "secret": made.body["secret"]}
            continue
        client_id = credentials.clients[name]["id"]
        if client_id in there and set(there[client_id]["scopes"]) != set(scopes):
            await homeroom.call(OPERATOR, "PUT", "auth", f"{route}/{client_id}", wanted)


def admit_portal(files: Files, credentials: Credentials) -> None:
    """Give the portal its own client of the district."""
    write_private(
        files.portal_clients / f"{DISTRICT}.json", msgspec.json.encode(credentials.clients["portal"])
    )


async def caught_up(homeroom: Homeroom, report: Callable[[str], None]) -> None:
    """Wait until what is in Kafka is in the read models: first roster's, whose events the others wait for.

    TimeoutError: it takes too long. Failed: a consumer stopped for good.
    """
    async with asyncio.timeout(CATCH_UP_PATIENCE_S):
        for service in SERVICES:
            while behind := await _behind(homeroom, service):
                report(f"{service}: {behind} to go")
                await asyncio.sleep(CATCH_UP_POLL_S)
    report("")


async def _behind(homeroom: Homeroom, service: str) -> int:
    """Records and events that are still on their way in this service; at least 1 while it cannot tell."""
    found = await homeroom.get(service, "/v1/operations/lag", role=OPERATOR)
    for consumer in found["consumers"]:
        if consumer["alarm"]:
            raise Failed("consumer_stopped", f"{service} {consumer['consumer']}: {consumer['alarm']}")
    lags = [1 if consumer["lag"] is None else int(consumer["lag"]) for consumer in found["consumers"]]
    return int(found["relay"]["pending"]) + (sum(lags) if lags else 1)


async def publish_sample(settings: Settings) -> None:
    """The sample district, as CloudEvents on the district's ingress topic; publishing it again is harmless."""
    topic = ingress_topic(settings.topic_prefix, DISTRICT)
    for attempt in range(1, PUBLISH_TRIES + 1):
        try:
            async with producing(settings) as producer:
                with unavailable_when_lost():
                    await sample.publish(producer, topic)
            return
        except Unavailable:
            if attempt == PUBLISH_TRIES:
                raise
            await asyncio.sleep(attempt)
