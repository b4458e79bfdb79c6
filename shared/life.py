"""What a process does beside answering requests: it brings about what it stands on, watches it, and cleans up.

A service never exits because something is missing. Migrations, topics and the comparison of store and topic are tried
until they succeed; meanwhile /health/ready says what is awaited and the API answers 503 with Retry-After.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog
from aiohttp import web

from shared import clock, dead_letter, history, metrics
from shared.consumer import runner_of
from shared.database import Connection, migrate, queries
from shared.errors import Diverged, HomeroomError, Unavailable
from shared.expiry import Expiring, delete_in_steps
from shared.kafka import (
    administering,
    consuming,
    create_topics,
    enrollments_topic,
    service_topic,
    unavailable_when_lost,
)
from shared.log import flush
from shared.messages import topic_of
from shared.projector import LiveProjection
from shared.rebuilder import Rebuilder
from shared.relay import backlog
from shared.runner import Runner
from shared.shares import Runners
from shared.supervisor import Worker, every, supervise
from shared.web import KIT

if TYPE_CHECKING:
    from shared.service import Kit

SERVICES = ("roster", "claims", "auth")
RETRY_S = 1.0
REFRESH_S = 1.0  # how soon a changed policy or key is seen
HEARTBEAT_S = 1.0
POLICY_WAITS_S = 5.0
KAFKA_HEARTBEAT_S = 2.0
KAFKA_PATIENCE_S = 6.0
RECOMPARE_S = 10.0
RELAY_PATIENCE_S = 2.0
CLEANUP_S = 60.0
# What districts send holds personal data. A discarded event of ours is kept: a rebuild has to pass over it as well.
_SETTLED = "state = 'applied' OR state = 'discarded' AND version IS NULL"
_EXPIRING = (
    Expiring("command", "at", timedelta(hours=48)),
    Expiring("dead_letter", "changed_at", timedelta(days=30), _SETTLED),
)

log = structlog.get_logger(__name__)
_sql = queries("shared", "web.sql")


async def live(app: web.Application) -> AsyncIterator[None]:
    """The life of a process beside its requests."""
    kit = app[KIT]
    _refresh(kit)
    tasks = [asyncio.create_task(supervise(w), name=w.name) for w in _background(kit)]
    yield
    kit.relay.stop()
    # Cut off in the middle it would send again: duplicates, which readers drop.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RELAY_PATIENCE_S):
            while kit.relay.parts:
                await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await kit.db.close()


def _background(kit: "Kit") -> list[Worker]:
    async def prepared(run: Callable[[], Any]) -> None:
        await kit.readiness.wait("migrations", "topics", "history")
        await run()

    projections = (*kit.spec.inline, *kit.spec.projections)
    rebuilder = Rebuilder(kit.settings, kit.db, kit.store, projections, f"{kit.spec.package}.app:SPEC")
    kit.runners = _runners(kit, rebuilder)
    role_workers = [
        *kit.spec.workers(kit),
        Worker("cleanup", "projector", every(CLEANUP_S, lambda: clean_up(kit))),
        Worker("consumers", "projector", kit.runners.run),
        Worker("policy-waits", "projector", every(POLICY_WAITS_S, lambda: _end_policy_waits(kit))),
        Worker("rebuilder", "projector", rebuilder.run),
        Worker("relay", "relay", kit.relay.run),
    ]
    return [
        Worker("refresh", "api", every(REFRESH_S, lambda: _refresh_and_flush(kit))),
        Worker("postgres", "api", every(HEARTBEAT_S, lambda: _watch_postgres(kit))),
        Worker("kafka", "api", lambda: _watch_kafka(kit)),
        Worker("prepare", "api", lambda: _prepare(kit)),
        *(
            Worker(w.name, w.role, lambda run=w.run: prepared(run))  # type: ignore[misc]
            for w in role_workers
            if w.role in kit.settings.roles
        ),
    ]


def _runners(kit: "Kit", rebuilder: Rebuilder) -> Runners:
    """Whatever reads topics in this process: projections, also those made anew, reactions and intakes."""
    fixed: list[Runner] = [LiveProjection(p, kit.settings, kit.db) for p in kit.spec.projections]
    fixed += [runner_of(r, kit.settings, kit.db, kit.store.wake) for r in kit.spec.reactions(kit)]

    def now() -> list[Runner]:
        intakes = (runner_of(i, kit.settings, kit.db, kit.store.wake) for i in kit.spec.intakes(kit))
        return [*fixed, *rebuilder.followers, *intakes]

    return Runners(kit.settings, now)


async def _end_policy_waits(kit: "Kit") -> None:
    """Asked again and again, not only when a file changes: another process may have set aside what this one mends."""
    async with kit.db.connection() as conn:
        await dead_letter.wish_where_policy_is_back(conn, kit.policies.districts)


async def _prepare(kit: "Kit") -> None:
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


async def _until_done(kit: "Kit", what: str, attempt: Callable[[], Awaitable[Any]]) -> None:
    while True:
        try:
            await attempt()
        except (HomeroomError, asyncpg.PostgresError) as error:
            kit.readiness.waits_for(what, str(error))
            await asyncio.sleep(RECOMPARE_S if isinstance(error, Diverged) else RETRY_S)
        else:
            kit.readiness.has(what)
            return


async def _create_topics(kit: "Kit") -> None:
    topics = [service_topic(kit.settings, service) for service in sorted({*SERVICES, kit.spec.name})]
    topics += kit.spec.topics(kit.settings)
    if kit.spec.has_intakes:  # nobody else need know of districts' topics, nor have a right to
        topics += [enrollments_topic(kit.settings, district) for district in kit.policies.districts]
    await create_topics(kit.settings, topics)


async def _compare(kit: "Kit") -> None:
    """Holds the store against the topic (architecture: store and log must agree). Raises Diverged, Unavailable."""
    topic = topic_of(kit.settings.topic_prefix, kit.spec.name)
    async with kit.db.connection() as conn, consuming(kit.settings) as consumer:
        found = await history.compare(conn, consumer, topic, range(kit.settings.partitions))
    kit.diverged = {part: problem for part, problem in found.items() if problem.ahead == "topic"}
    for part, problem in found.items():
        log.error("history_disagrees", part=part, ahead=problem.ahead, detail=problem.detail)
    if kit.diverged:
        raise Diverged("; ".join(f"part {part}: {p.detail}" for part, p in kit.diverged.items()))


async def _refresh_and_flush(kit: "Kit") -> None:
    _refresh(kit)
    flush()


def _refresh(kit: "Kit") -> None:
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


async def _watch_postgres(kit: "Kit") -> None:
    """Asks PostgreSQL whether it is there; counts what waits in it."""
    try:
        async with kit.db.connection() as conn:
            await conn.fetchval("SELECT 1")
            if not kit.readiness.lacks("migrations"):
                await _measure(kit, conn)
        kit.readiness.has("postgres")
    except Unavailable as error:
        kit.readiness.waits_for("postgres", str(error))
    heed_relay(kit)


def heed_relay(kit: "Kit") -> None:
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


async def _measure(kit: "Kit", conn: Connection) -> None:
    waiting = await backlog(conn)
    metrics.published.set(kit.relay.published)
    metrics.outbox_rows.set(waiting.pending)
    metrics.outbox_oldest_seconds.set(waiting.oldest_age_s(clock.now()))
    metrics.dead_letters.clear()
    for row in await dead_letter.count_open(conn):
        metrics.dead_letters.labels(row["consumer"], row["state"]).set(row["count"])


async def _watch_kafka(kit: "Kit") -> None:
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


async def clean_up(kit: "Kit") -> None:
    """Deletes what has expired: commands, refusals, settled dead letters, and what the service says of its own."""
    now = clock.now()
    for expiring in (*_EXPIRING, *kit.spec.expiring):
        await expiring.delete(kit.db, now)
    for district in kit.policies.districts:
        kept = timedelta(days=kit.policies.get(district).refusal_days)
        await delete_in_steps(kit.db, "refusal", _sql.expire_refusals, district, now - kept)
