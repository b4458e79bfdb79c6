"""After the faults: what the stores, the topics, the vault and the read models hold, against what the outside was told.

Every check adds sentences to `problems`; none means that each acknowledged command took effect once in every store and
none twice, that every stream is gapless in its topic and equal to the store, and that every account is either wholly
claimed (and its password signs in) or wholly unclaimed.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib import import_module
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from services.cli.client import SERVICES
from services.cli.pupil import bearer
from shared.database import prepare_connection
from shared.messages import Cause, Event, EventCodec, Recorded, partition_of
from shared.service import ServiceSpec
from tests.faults.bulk import Bulk
from tests.faults.lives import Crowd, Life
from tests.journeys.fleet import PARTITIONS, Fleet

SETTLED_WITHIN_S = 60
DOORS_AT_ONCE = 6  # each sign-in is a password hash


class Store(msgspec.Struct):
    """One service's database, as far as the checks need it."""

    service: str
    streams: dict[UUID, int]
    events: dict[UUID, list[asyncpg.Record]]
    records: list[ConsumerRecord]

    def of(self, person: UUID, kind: str) -> list[dict[str, Any]]:
        """The data of one person's events of one type, in order."""
        return [
            msgspec.json.decode(row["data"]) for row in self.events.get(person, []) if row["type"] == kind
        ]


class Checker:
    """Reads everything, then lets each check speak."""

    def __init__(
        self, fleet: Fleet, crowd: Crowd, intended_dead_letters: int = 0, bulk: Bulk | None = None
    ) -> None:
        self.fleet, self.crowd, self.intended, self.bulk = fleet, crowd, intended_dead_letters, bulk
        self.lives = [*crowd.lives, *(bulk.lives if bulk else ())]
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        self.stores: dict[str, Store] = {}
        self.specs: dict[str, ServiceSpec] = {
            name: import_module(f"services.{name}.app").SPEC for name in SERVICES
        }

    def say(self, problem: str) -> None:
        self.problems.append(problem)

    async def check(self) -> list[str]:
        """All that is wrong; the fleet runs, and has been left in peace."""
        await self.settle()
        connections = {name: await asyncpg.connect(self.fleet.dsn(name)) for name in SERVICES}
        try:
            for name, connection in connections.items():
                await prepare_connection(connection)
                self.stores[name] = await self._read(name, connection)
            for name, connection in connections.items():
                self._check_streams(self.stores[name])
                self._check_topic(self.stores[name])
                await self._check_publication(name, connection)
                await self._check_consumers(name, connection)
                await self._check_read_models(name, connection)
            await self._check_audit(connections["auth"])
            await self._check_dead_letters(connections)
            persons = await self._persons(connections["roster"])
            for life in self.lives:
                await self._check_life(life, persons.get(life.enrolled["source_id"]), connections)
            if self.bulk is not None:
                await self.bulk.check(self, persons, connections["claims"])
            await self._check_vault(connections["auth"])
        finally:
            for connection in connections.values():
                await connection.close()
        at_once = asyncio.Semaphore(DOORS_AT_ONCE)
        await asyncio.gather(*(self._check_doors(life, at_once) for life in self.lives))
        return self.problems

    # ------------------------------------------------------------------ reading

    async def settle(self) -> None:
        """Wait until nothing moves: outboxes empty, every consumer at the end of its topic."""
        last = ""
        for _ in range(SETTLED_WITHIN_S * 2):
            try:
                last = await self._unsettled()
            except (OSError, asyncpg.PostgresError) as error:
                last = repr(error)
            if not last:
                return
            await asyncio.sleep(0.5)
        self.say(f"not settled {SETTLED_WITHIN_S} s after the last fault: {last}")

    async def _unsettled(self) -> str:
        ends = await end_offsets(self.fleet)
        for name in SERVICES:
            connection = await asyncpg.connect(self.fleet.dsn(name))
            try:
                if waiting := await connection.fetchval("SELECT count(*) FROM outbox"):
                    return f"{name}: {waiting} events in the outbox"
                for row in await connection.fetch(
                    "SELECT consumer, topic, part, next_offset FROM checkpoint"
                ):
                    if row["next_offset"] != ends.get((row["topic"], row["part"])):
                        end = ends.get((row["topic"], row["part"]))
                        return f"{name}: {row['consumer']} is at {row['next_offset']} of {end}"
            finally:
                await connection.close()
        return ""

    async def _read(self, name: str, connection: "asyncpg.Connection[Any]") -> Store:
        streams = {row["stream_id"]: row["version"] for row in await connection.fetch("SELECT * FROM stream")}
        events = defaultdict(list)
        for row in await connection.fetch("SELECT * FROM event ORDER BY stream_id, version"):
            events[row["stream_id"]].append(row)
        records = await read_topic(self.fleet.kafka, f"{self.fleet.prefix}.{name}.v1")
        self.counts[f"{name} events"] = sum(map(len, events.values()))
        self.counts[f"{name} repeats in the topic"] = len(records) - self.counts[f"{name} events"]
        return Store(name, streams, dict(events), records)

    # ------------------------------------------------------------------ store and topic

    def _check_streams(self, store: Store) -> None:
        """Versions count from 1 without a gap, up to the stream's."""
        for stream, version in store.streams.items():
            found = [row["version"] for row in store.events.get(stream, [])]
            if found != list(range(1, version + 1)):
                self.say(f"{store.service} {stream}: the stream is at {version}, its events are {found}")
        ids = Counter(row["event_id"] for rows in store.events.values() for row in rows)
        for event_id, count in ids.items():
            if count > 1:
                self.say(f"{store.service}: event id {event_id} was given {count} times")

    def _check_topic(self, store: Store) -> None:
        """Each person's events stand in order in their partition; repeats are the same to the byte."""
        seen: dict[UUID, dict[int, tuple[str, bytes]]] = defaultdict(dict)
        for record in store.records:
            headers = dict(record.headers)
            stream, version = UUID(headers["ce_subject"].decode()), int(headers["ce_sequence"])
            event = headers["ce_id"].decode(), record.value
            if record.partition != partition_of(stream, PARTITIONS):
                self.say(f"{store.service} {stream}: version {version} is in partition {record.partition}")
            if version in seen[stream]:
                if seen[stream][version] != event:
                    self.say(
                        f"{store.service} {stream}: version {version} is two different events in the topic"
                    )
            elif version != len(seen[stream]) + 1:
                self.say(f"{store.service} {stream}: {version} follows {len(seen[stream])} in the topic")
            seen[stream].setdefault(version, event)
        for stream in store.events.keys() | seen.keys():
            kept = [(str(row["event_id"]), row["data"]) for row in store.events.get(stream, [])]
            sent = [seen[stream][version] for version in sorted(seen[stream])]
            if kept != sent:
                self.say(
                    f"{store.service} {stream}: the store has {len(kept)} events, the topic {len(sent)}, or others"
                )

    async def _check_publication(self, name: str, connection: "asyncpg.Connection[Any]") -> None:
        """Nothing waits, and what was noted as published last stands there."""
        if waiting := await connection.fetchval("SELECT count(*) FROM outbox"):
            self.say(f"{name}: {waiting} events were never published")
        at = {
            (record.partition, record.offset): dict(record.headers)["ce_id"].decode()
            for record in self.stores[name].records
        }
        for row in await connection.fetch("SELECT * FROM publication"):
            if at.get((row["part"], row["last_offset"])) != str(row["last_event_id"]):
                self.say(
                    f"{name}: partition {row['part']} at {row['last_offset']} does not hold what was noted"
                )

    async def _check_audit(self, connection: "asyncpg.Connection[Any]") -> None:
        """Every line of the table is in its topic, and nothing else; repeats are the same to the byte."""
        written = await audit_ids(connection)
        for _ in range(SETTLED_WITHIN_S * 2):  # a process writes its last lines after it has answered
            if not await connection.fetchval("SELECT count(*) FROM audit_outbox"):
                break
            await asyncio.sleep(0.5)
        records = await read_topic(self.fleet.kafka, f"{self.fleet.prefix}.auth.audit.v1")
        sent: dict[str, tuple[Any, ...]] = {}
        for record in records:
            line = record.key, record.value, tuple(record.headers)
            if sent.setdefault(dict(record.headers)["ce_id"].decode(), line) != line:
                self.say(f"audit: one id is two different lines in the topic: {line}")
        kept = Counter(await audit_ids(connection))
        self.counts["audit lines"] = len(kept)
        if twice := kept.total() - len(kept):
            self.say(f"audit: {twice} lines were written twice")
        if lost := set(written) - sent.keys():
            self.say(f"audit: of {len(kept)} lines {len(lost)} are not in the topic")
        if strange := sent.keys() - kept.keys():
            self.say(f"audit: {len(strange)} lines of the topic are not in the table")

    # ------------------------------------------------------------------ consumers and read models

    async def _check_consumers(self, name: str, connection: "asyncpg.Connection[Any]") -> None:
        """Every consumer has seen every stream of its source to the end, by the very event; no alarm."""
        sources: dict[str, str] = {}
        for row in await connection.fetch("SELECT * FROM checkpoint"):
            sources[row["consumer"]] = row["topic"].split(".")[1]
            if row["alarm"]:
                self.say(f"{name}: {row['consumer']} partition {row['part']}: {row['alarm']}")
        gates: dict[str, dict[UUID, tuple[int, UUID]]] = defaultdict(dict)
        for row in await connection.fetch("SELECT * FROM gate"):
            gates[row["consumer"]][row["stream_id"]] = row["version"], row["event_id"]
        for consumer, source in sources.items():
            if source not in SERVICES:
                continue  # the ingress has no versions
            wanted = {
                stream: (rows[-1]["version"], rows[-1]["event_id"])
                for stream, rows in self.stores[source].events.items()
            }
            for stream in wanted.keys() | gates[consumer].keys():
                if gates[consumer].get(stream) != wanted.get(stream):
                    self.say(
                        f"{name}: {consumer} has {stream} at {gates[consumer].get(stream)}, not {wanted.get(stream)}"
                    )

    async def _check_read_models(self, name: str, connection: "asyncpg.Connection[Any]") -> None:
        """Folding the source's history anew gives the same rows."""
        for projection in (*self.specs[name].inline, *self.specs[name].projections):
            rows = {
                record["person_id"]: projection.read(record)
                for record in await connection.fetch(
                    f"SELECT {', '.join(projection.columns)} FROM {projection.name}"
                )
            }
            folded = {
                stream: row
                for stream, events in self.stores[projection.source].events.items()
                if (
                    row := projection.fold(
                        None, recorded(projection.source, projection.codec, stream, events)
                    )
                )
                is not None
            }
            self.counts[f"{name} {projection.name} rows"] = len(rows)
            for stream in rows.keys() | folded.keys():
                if rows.get(stream) != folded.get(stream):
                    self.say(
                        f"{name} {projection.name} {stream}: {rows.get(stream)} is not {folded.get(stream)}"
                    )

    async def _check_dead_letters(self, connections: "dict[str, asyncpg.Connection[Any]]") -> None:
        found = [
            f"{name}: {row['consumer']} {row['reason']} {row['detail']}"
            for name, connection in connections.items()
            for row in await connection.fetch("SELECT * FROM dead_letter WHERE state IN ('parked', 'queued')")
        ]
        if len(found) != self.intended:
            self.say(f"{len(found)} dead letters instead of {self.intended}: {found[:5]}")

    # ------------------------------------------------------------------ what the outside was told

    async def _persons(self, connection: "asyncpg.Connection[Any]") -> dict[str, UUID]:
        return {
            row["source_id"]: row["person_id"]
            for row in await connection.fetch("SELECT source_id, person_id FROM identity")
        }

    async def _check_life(
        self, life: Life, person: UUID | None, connections: "dict[str, asyncpg.Connection[Any]]"
    ) -> None:
        if person is None:
            self.say(f"{life.name}: nobody knows the person, enrolled by {life.events}")
            return
        roster, claims, auth = (self.stores[name] for name in SERVICES)
        self._once(
            life,
            "enrollments",
            [event["enrollment_id"] for event in roster.of(person, "StudentEnrolled")],
            life.events,
        )
        claimed = claims.of(person, "AccountClaimed")
        self._once(life, "claims", [event["claim_id"] for event in claimed], life.claims)
        self._once(
            life,
            "activations",
            [event["claim_id"] for event in auth.of(person, "CredentialActivated")],
            life.claims,
        )
        self._once(
            life, "resets", [event["batch_id"] for event in claims.of(person, "AccountReset")], life.batches
        )
        for what, count in (("Suspended", life.suspensions), ("Restored", life.restorations)):
            found = len(claims.of(person, f"Account{what}")), len(auth.of(person, f"Credential{what}"))
            if found != (count, count):
                self.say(f"{life.name}: {what} {found} times in claims and auth instead of {count}")
        changes = len(auth.of(person, "PasswordChanged"))
        if changes != life.changes:
            self.say(f"{life.name}: {changes} password changes instead of {life.changes}")
        generations = [event["generation"] for event in claimed]
        if len(set(generations)) != len(generations):
            self.say(f"{life.name}: claimed twice in one generation: {generations}")
        revoked = [event["generation"] for event in auth.of(person, "CredentialRevoked")]
        for reset in claims.of(person, "AccountReset"):
            if revoked.count(reset["generation"]) != 1:
                self.say(
                    f"{life.name}: the reset to generation {reset['generation']} was confirmed {revoked} times"
                )
        await self._check_account(life, person, connections)
        for batch in life.batches:
            states = await connections["claims"].fetch(
                "SELECT state FROM reset_item WHERE batch_id = $1 AND person_id = $2", UUID(batch), person
            )
            if [row["state"] for row in states] != ["done"]:
                self.say(f"{life.name}: reset {batch} is {states}")

    def _once(self, life: Life, what: str, found: Sequence[str], acknowledged: Sequence[str]) -> None:
        if Counter(found) != Counter(acknowledged):
            self.say(f"{life.name}: {what} recorded {sorted(found)}, acknowledged {sorted(acknowledged)}")

    async def _check_account(
        self, life: Life, person: UUID, connections: "dict[str, asyncpg.Connection[Any]]"
    ) -> None:
        """Wholly claimed in claims, auth and the vault, or wholly unclaimed."""
        account = await connections["claims"].fetchrow("SELECT * FROM account WHERE person_id = $1", person)
        credential = await connections["auth"].fetchrow(
            "SELECT * FROM credential WHERE person_id = $1", person
        )
        claim_id = account["claim_id"] if account else None
        live = credential is not None and credential["status"] == ("suspended" if life.closed else "live")
        if (life.password is not None, claim_id is not None, live) not in ((True,) * 3, (False,) * 3):
            self.say(f"{life.name}: claimed by {life.password}, account {claim_id}, credential {credential}")
            return
        if account is None or credential is None or not live:
            return
        if credential["claim_id"] != claim_id or str(claim_id) != life.claims[-1]:
            self.say(f"{life.name}: {claim_id} claimed the account, {credential['claim_id']} the credential")
        if account["generation"] != credential["generation"]:
            self.say(f"{life.name}: generation {account['generation']}, in auth {credential['generation']}")
        held = "SELECT count(*) FROM vault WHERE credential_id = $1"
        if await connections["auth"].fetchval(held, credential["credential_id"]) != 1:
            self.say(f"{life.name}: the vault does not hold {credential['credential_id']}")

    async def _check_vault(self, connection: "asyncpg.Connection[Any]") -> None:
        """The vault holds nothing that history does not name."""
        named = {
            UUID(msgspec.json.decode(row["data"])["credential_id"])
            for rows in self.stores["auth"].events.values()
            for row in rows
            if row["type"] in ("CredentialsSet", "PasswordChanged")
        }
        held = {row["credential_id"] for row in await connection.fetch("SELECT credential_id FROM vault")}
        if stray := held - named:
            self.say(f"the vault holds {len(stray)} credentials that no event names")

    async def _check_doors(self, life: Life, at_once: asyncio.Semaphore) -> None:
        """The password opens, the one before does not, and neither does a session that was ended."""
        async with at_once:
            wanted = 403 if life.closed else 201
            if life.password is not None and (status := await self._sign_in(life, life.password)) != wanted:
                self.say(f"{life.name}: the acknowledged password answers {status}")
            for old in life.old_passwords[-1:]:
                if (status := await self._sign_in(life, old)) != 401:
                    self.say(f"{life.name}: an old password answers {status}")
            for session in life.dead_sessions:
                answer = await self.crowd.ask("GET", "auth", "/sessions/current", headers=bearer(session))
                if answer.status != 401:
                    self.say(f"{life.name}: an ended session answers {answer.status}")

    async def _sign_in(self, life: Life, password: str) -> int:
        body = {"username": life.username, "password": password}
        return (await self.crowd.ask("POST", "auth", "/sessions", body)).status


def recorded(
    service: str, codec: EventCodec, stream: UUID, rows: Sequence[asyncpg.Record]
) -> list[Recorded[Event]]:
    """Stored events as a projection reads them; types that it does not know are left out."""
    return [
        Recorded(
            row["event_id"], row["type"], row["schema"], service, row["district"], stream, row["version"],
            row["occurred_at"], codec.decode(row["type"], row["schema"], row["data"]),
            Cause(row["correlation_id"], row["causation_id"], row["traceparent"]),
        )
        for row in rows
        if row["type"] in codec.types
    ]  # fmt: skip


async def audit_ids(connection: "asyncpg.Connection[Any]") -> list[str]:
    return [str(row["event_id"]) for row in await connection.fetch("SELECT event_id FROM audit")]


async def end_offsets(fleet: Fleet) -> dict[tuple[str, int], int]:
    """Where each partition of the fleet's topics ends."""
    consumer = AIOKafkaConsumer(bootstrap_servers=fleet.kafka, group_id=None)
    await consumer.start()
    try:
        mine = [topic for topic in await consumer.topics() if topic.startswith(f"{fleet.prefix}.")]
        parts = [TopicPartition(topic, part) for topic in mine for part in range(PARTITIONS)]
        return {
            (part.topic, part.partition): offset
            for part, offset in (await consumer.end_offsets(parts)).items()
        }
    finally:
        await consumer.stop()


async def read_topic(kafka: str, topic: str) -> list[ConsumerRecord]:
    """The whole topic, partition by partition."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka, group_id=None, auto_offset_reset="earliest", max_partition_fetch_bytes=2**22
    )
    await consumer.start()
    try:
        parts = [TopicPartition(topic, part) for part in range(PARTITIONS)]
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        records: list[ConsumerRecord] = []
        for part in parts:
            await consumer.seek_to_beginning(part)
        while any([await consumer.position(part) < ends[part] for part in parts]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records += batch
        return sorted(records, key=lambda record: (record.partition, record.offset))
    finally:
        await consumer.stop()
