"""Composition: what a service states about itself (`ServiceSpec`), what it is given (`Kit`), and how it lives.

A service never exits because something is missing. Migrations, topics and the comparison of store and topic
are tried until they succeed; meanwhile /health/ready says what is awaited and the API answers 503 with
Retry-After.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import asyncpg
import structlog
import uvloop
from aiohttp import web

from shared import clock, health, history, metrics, timeline
from shared.auth import Authenticator, Tokens
from shared.consumer import Intake, Reaction, runner_of
from shared.database import Connection, Database, migrate, queries
from shared.errors import Diverged, HomeroomError, Unavailable
from shared.event_store import EventStore
from shared.kafka import (
    administering,
    consuming,
    create_topics,
    enrollments_topic,
    service_topic,
    unavailable_when_lost,
)
from shared.keys import KeyRing, Signer
from shared.log import configure_logging, flush
from shared.messages import EventCodec, topic_of
from shared.policy import Policies
from shared.projection import Projection
from shared.projector import LiveProjection
from shared.relay import Relay, backlog
from shared.runner import Runner, Runners
from shared.server import listening
from shared.settings import Settings, SettingsInvalid, from_environment, unknown_variables
from shared.supervisor import Readiness, Worker, supervise
from shared.web import KIT, Route, add_routes, boundary

log = structlog.get_logger(__name__)

SERVICES = ("roster", "claims", "auth")
REFRESH_S = 1.0  # how soon a changed policy or key is seen
RECOMPARE_S = 10.0
HEARTBEAT_S = 1.0
CLEANUP_S = 60.0
CLEANUP_ROWS = 1000
COMMANDS_KEPT = timedelta(hours=48)
CLEANUP_PAUSE_S = 0.1
RETRY_S = 1.0
RELAY_PATIENCE_S = 2.0
KAFKA_HEARTBEAT_S = 2.0
KAFKA_PATIENCE_S = 6.0
LARGEST_BODY_BYTES = 8 * 1024 * 1024
# Python's own thresholds cost a projector a third of its time: it keeps thousands of young objects alive.
GC_THRESHOLDS = (50_000, 20, 50)

_sql = queries("shared", "web.sql")


@dataclass(frozen=True)
class ServiceSpec:
    """A service, as it describes itself.

    The functions are called once, when the process starts; `intakes` again and again, since districts are added.
    """

    name: str
    package: str
    codec: EventCodec
    routes: Callable[["Kit"], Sequence[Route]]
    inline: Sequence[Projection[Any]] = ()
    projections: Sequence[Projection[Any]] = ()
    reactions: Callable[["Kit"], Sequence[Reaction]] = lambda kit: ()
    intakes: Callable[["Kit"], Sequence[Intake]] = lambda kit: ()
    workers: Callable[["Kit"], Sequence[Worker]] = lambda kit: ()


@dataclass
class Kit:
    """What a service works with. `authenticators` may be added to in `routes` (auth adds "session")."""

    spec: ServiceSpec
    settings: Settings
    db: Database
    relay: Relay
    store: EventStore
    policies: Policies
    keys: KeyRing
    signer: Signer
    tokens: Tokens
    readiness: Readiness
    authenticators: dict[str, Authenticator]
    diverged: Mapping[int, history.Disagreement] = field(default_factory=dict)
    own: Any = None  # what the service's own routes, reactions and workers share

    def admit(self, route: Route) -> None:
        """Whether the service can answer at all. Raises Unavailable, Diverged."""
        if not route.needs_store:
            return
        if missing := self.readiness.lacks("migrations"):
            raise Unavailable(missing)
        if route.despite_divergence:
            return
        if self.diverged:
            raise Diverged("the topic knows events that the store lacks")
        if missing := self.readiness.lacks("history"):
            raise Unavailable(missing)


def build_kit(spec: ServiceSpec, settings: Settings) -> Kit:
    """Everything that a service is made of. Nothing is connected to yet."""
    db = Database(
        settings.postgres, max_size=settings.postgres_connections, application_name=f"homeroom-{spec.name}"
    )
    relay = Relay(settings)
    keys = KeyRing(settings.key_dir)
    tokens = Tokens(keys, issuer=settings.issuer, service=spec.name)
    on_append = relay.wake if "relay" in settings.roles else _nothing
    return Kit(
        spec=spec,
        settings=settings,
        db=db,
        relay=relay,
        store=EventStore(db, spec.codec, settings.partitions, spec.inline, on_append),
        policies=Policies(settings.policy_dir),
        keys=keys,
        signer=Signer(settings.signing_key_dir, spec.name),
        tokens=tokens,
        readiness=Readiness("migrations", "topics", "history", "policies", "postgres", "kafka"),
        authenticators={"client": tokens.client, "ticket": tokens.ticket, "recovery": tokens.recovery},
    )


def create_app(spec: ServiceSpec, settings: Settings) -> web.Application:
    """The application of one process: its routes, and (in its cleanup context) everything that its roles do."""
    app = build_app(build_kit(spec, settings))
    app.cleanup_ctx.append(_run)
    return app


def build_app(kit: Kit) -> web.Application:
    """The routes of a service over its kit, with nothing running beside them."""
    app = web.Application(middlewares=[boundary], client_max_size=LARGEST_BODY_BYTES)
    app[KIT] = kit
    routes = all_routes(kit) if "api" in kit.settings.roles else kit_routes(kit)
    add_routes(app, routes)
    health.add_routes(app, kit, routes)
    return app


def all_routes(kit: Kit) -> list[Route]:
    """A service's own table of routes and the kit's."""
    return [*kit.spec.routes(kit), *kit_routes(kit)]


def kit_routes(kit: Kit) -> list[Route]:
    """What every service answers the help desk and operators, whatever the roles of this process."""
    return [*timeline.routes(kit)]


async def _run(app: web.Application) -> AsyncIterator[None]:
    """The life of a process beside its requests."""
    kit = app[KIT]
    _refresh(kit)
    tasks = [asyncio.create_task(supervise(w), name=w.name) for w in _background(kit)]
    yield
    kit.relay.stop()
    with contextlib.suppress(
        TimeoutError
    ):  # cut off in the middle it sends again: duplicates, which readers drop
        async with asyncio.timeout(RELAY_PATIENCE_S):
            while kit.relay.parts:
                await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await kit.db.close()


def _background(kit: Kit) -> list[Worker]:
    async def prepared(run: Callable[[], Any]) -> None:
        await kit.readiness.wait("migrations", "topics", "history")
        await run()

    role_workers = [
        *kit.spec.workers(kit),
        Worker("cleanup", "projector", lambda: _clean_up_for_ever(kit)),
        Worker("consumers", "projector", _runners(kit).run),
        Worker("relay", "relay", kit.relay.run),
    ]
    return [
        Worker("refresh", "api", lambda: _refresh_for_ever(kit)),
        Worker("postgres", "api", lambda: _watch_postgres(kit)),
        Worker("kafka", "api", lambda: _watch_kafka(kit)),
        Worker("prepare", "api", lambda: _prepare(kit)),
        *(
            Worker(w.name, w.role, lambda run=w.run: prepared(run))  # type: ignore[misc]
            for w in role_workers
            if w.role in kit.settings.roles
        ),
    ]


def _runners(kit: Kit) -> Runners:
    """Whatever reads topics in this process: projections, reactions and intakes."""
    fixed: list[Runner] = [LiveProjection(p, kit.settings, kit.db) for p in kit.spec.projections]
    fixed += [runner_of(r, kit.settings, kit.db, kit.store.wake) for r in kit.spec.reactions(kit)]

    def now() -> list[Runner]:
        return [*fixed, *(runner_of(i, kit.settings, kit.db, kit.store.wake) for i in kit.spec.intakes(kit))]

    return Runners(kit.settings, now)


async def _prepare(kit: Kit) -> None:
    """Brings about what the service stands on, each in its turn. Never gives up, and is done when all is there."""
    folder = Path(str(files(kit.spec.package))) / "sql"
    await _until_done(kit, "migrations", lambda: migrate(kit.settings.postgres, folder))
    await _until_done(kit, "topics", lambda: _create_topics(kit))
    await _until_done(kit, "history", lambda: _compare(kit))
    log.info("prepared")
    while True:
        districts = kit.policies.districts
        await asyncio.sleep(RETRY_S)
        if kit.policies.districts != districts:
            await _until_done(kit, "topics", lambda: _create_topics(kit))


async def _until_done(kit: Kit, what: str, attempt: Callable[[], Awaitable[Any]]) -> None:
    while True:
        try:
            await attempt()
        except (HomeroomError, asyncpg.PostgresError) as error:
            kit.readiness.waits_for(what, str(error))
            await asyncio.sleep(RECOMPARE_S if isinstance(error, Diverged) else RETRY_S)
        else:
            kit.readiness.has(what)
            return


async def _create_topics(kit: Kit) -> None:
    topics = [service_topic(kit.settings, service) for service in sorted({*SERVICES, kit.spec.name})]
    topics += [enrollments_topic(kit.settings, district) for district in kit.policies.districts]
    await create_topics(kit.settings, topics)


async def _compare(kit: Kit) -> None:
    """Holds the store against the topic (architecture: store and log must agree). Raises Diverged, Unavailable."""
    topic = topic_of(kit.settings.topic_prefix, kit.spec.name)
    async with kit.db.connection() as conn, consuming(kit.settings) as consumer:
        found = await history.compare(conn, consumer, topic, range(kit.settings.partitions))
    kit.diverged = {part: problem for part, problem in found.items() if problem.ahead == "topic"}
    for part, problem in found.items():
        log.error("history_disagrees", part=part, ahead=problem.ahead, detail=problem.detail)
    if kit.diverged:
        raise Diverged("; ".join(f"part {part}: {p.detail}" for part, p in kit.diverged.items()))


async def _refresh_for_ever(kit: Kit) -> None:
    while True:
        _refresh(kit)
        flush()
        await asyncio.sleep(REFRESH_S)


def _refresh(kit: Kit) -> None:
    """Reads policies and keys again if their files changed, and says what is wrong with them."""
    if kit.policies.refresh():
        metrics.invalid_policies.set(len(kit.policies.problems))
        for district, problems in kit.policies.problems.items():
            log.error("policy_invalid", district=district, problems=problems)
        log.info("policies_read", districts=kit.policies.districts)
        if kit.policies.districts:
            kit.readiness.has("policies")
        else:
            kit.readiness.waits_for("policies", f"no policy that holds in {kit.settings.policy_dir}")
    kit.keys.refresh()
    if kit.settings.signing_key_dir is not None:
        kit.signer.refresh()
        if kit.signer.ready:
            kit.readiness.has("signing_key")
        else:
            kit.readiness.waits_for("signing_key", f"no private key in {kit.settings.signing_key_dir}")


async def _watch_postgres(kit: Kit) -> None:
    """Asks PostgreSQL whether it is there; counts what waits in it."""
    while True:
        try:
            async with kit.db.connection() as conn:
                await conn.fetchval("SELECT 1")
                if not kit.readiness.lacks("migrations"):
                    await _measure(kit, conn)
            kit.readiness.has("postgres")
        except Unavailable as error:
            kit.readiness.waits_for("postgres", str(error))
        heed_relay(kit)
        await asyncio.sleep(HEARTBEAT_S)


def heed_relay(kit: Kit) -> None:
    """The relay compares store and topic whenever it begins anew: so also when a backup was restored, or a topic lost,
    under a service that runs.
    """
    if kit.readiness.lacks("history"):
        return
    halted = kit.relay.halted
    kit.diverged = {part: problem for part, problem in halted.items() if problem.ahead == "topic"}
    if halted:
        details = "; ".join(f"part {part}: {problem.detail}" for part, problem in sorted(halted.items()))
        kit.readiness.waits_for("relay", details)
    else:
        kit.readiness.has("relay")


async def _measure(kit: Kit, conn: Connection) -> None:
    waiting = await backlog(conn)
    metrics.published.set(kit.relay.published)
    metrics.outbox_rows.set(waiting.pending)
    metrics.outbox_oldest_seconds.set(waiting.oldest_age_s(clock.now()))
    metrics.dead_letters.clear()
    for row in await conn.fetch(_sql.count_dead_letters):
        metrics.dead_letters.labels(row["consumer"], row["state"]).set(row["count"])


async def _watch_kafka(kit: Kit) -> None:
    """Asks Kafka whether it is there, on one connection as long as that lasts."""
    while True:
        try:
            async with administering(kit.settings) as admin:
                while True:
                    with unavailable_when_lost():
                        async with asyncio.timeout(KAFKA_PATIENCE_S):
                            await admin.list_topics()
                    kit.readiness.has("kafka")
                    await asyncio.sleep(KAFKA_HEARTBEAT_S)
        except Unavailable as error:
            kit.readiness.waits_for("kafka", str(error))
            await asyncio.sleep(HEARTBEAT_S)


async def _clean_up_for_ever(kit: Kit) -> None:
    while True:
        await _clean_up(kit)
        await asyncio.sleep(CLEANUP_S)


async def _clean_up(kit: Kit) -> None:
    """Deletes commands and refusals whose time is over, in steps that hold no lock for long."""
    now = clock.now()
    await _delete_in_steps(kit, "command", _sql.expire_commands, now - COMMANDS_KEPT)
    for district in kit.policies.districts:
        kept = timedelta(days=kit.policies.get(district).refusal_days)
        await _delete_in_steps(kit, "refusal", _sql.expire_refusals, district, now - kept)


async def _delete_in_steps(kit: Kit, table: str, statement: str, *args: Any) -> None:
    while True:
        async with kit.db.connection() as conn:
            deleted = int((await conn.execute(statement, *args, CLEANUP_ROWS)).rpartition(" ")[2])
        metrics.expired.labels(table).inc(deleted)
        if deleted < CLEANUP_ROWS:
            return
        await asyncio.sleep(CLEANUP_PAUSE_S)


def _nothing() -> None:
    """Without a relay in this process there is nobody to wake: the others poll."""


def main(spec: ServiceSpec) -> None:
    """A service's process: `python -m services.claims`. Ends with status 2 when the environment does not hold."""
    try:
        settings = from_environment(service=spec.name)
        configure_logging(spec.name, level=settings.log_level, form=settings.log_format)
        if misspelt := unknown_variables(os.environ):
            log.warning("settings_unknown", variables=misspelt)
        gc.set_threshold(*GC_THRESHOLDS)
        uvloop.run(_serve(spec, settings))
    except SettingsInvalid as error:
        print(f"homeroom {spec.name}: {error}", file=sys.stderr)
        sys.exit(2)


async def _serve(spec: ServiceSpec, settings: Settings) -> None:
    """Answers requests until SIGTERM or SIGINT; then no new ones, and the running ones may finish."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    app = create_app(spec, settings)
    async with listening(app, settings.http_host, settings.http_port, drain_s=settings.drain_seconds) as port:
        log.info("listening", host=settings.http_host, port=port, roles=list(settings.roles))
        gc.freeze()
        await stop.wait()
        log.info("draining", seconds=settings.drain_seconds)
    log.info("stopped")
