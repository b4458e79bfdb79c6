"""Pupils who have claimed, written straight into the stores of claims and auth, as their history would have left them.

Walking 50,000 pupils through a claim takes ten minutes of hashing alone; this takes seconds. Events, folded rows,
gates and a session each are what the services themselves would have written; only Kafka never heard of these pupils.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from services.auth import events as auth_events
from services.auth.projections import CREDENTIAL
from services.claims import events as claims_events
from services.claims.projections import ACCOUNT, ADMISSION, Identity, StudentEnrolled
from shared import clock
from shared.database import prepare_connection
from shared.messages import Cause, Event, EventCodec, Recorded
from shared.projection import Projection
from tests.journeys.fleet import DISTRICT

SCHOOL = "Benchmark High"  # of these pupils, and of nobody else
CHUNK = 2_000
FIRST_NUMBER = 5_000_000
# What is written into each table; the other columns have their defaults.
COLUMNS = {
    "vault": "credential_id person_id password answers questions sealed_at",
    "session": "token_hash district person_id credential_id created_at last_seen_at expires_at",
    "gate": "consumer stream_id version event_id",
    "stream": "stream_id district version",
    "event": "stream_id version event_id type schema district data occurred_at correlation_id",
}
Story = list[Recorded[Event]]


async def write(dsn_of: Callable[[str], str], count: int) -> list[UUID]:
    """So many pupils in the databases of claims and auth; their ids."""
    persons = [uuid4() for _ in range(count)]
    claims, auth = [await asyncpg.connect(dsn_of(service)) for service in ("claims", "auth")]
    try:
        for conn in (claims, auth):
            await prepare_connection(conn)
        for start in range(0, count, CHUNK):
            await _write(claims, auth, persons[start : start + CHUNK], start)
        for conn in (claims, auth):
            await conn.execute("VACUUM ANALYZE")
    finally:
        await claims.close()
        await auth.close()
    return persons


async def _write(
    claims: asyncpg.Connection, auth: asyncpg.Connection, persons: Sequence[UUID], start: int
) -> None:
    told, claimed, sealed, vault, sessions = [], [], [], [], []
    now = clock.now() - timedelta(days=1)
    for n, person in enumerate(persons, start):
        claim, credential = uuid4(), uuid4()
        of_claim = {"claim_id": claim, "credential_id": credential, "generation": 0}
        told.append(_story("roster", person, [_enrolled(n)]))
        opened = claims_events.ClaimOpened(
            claim_id=claim, generation=0, expires_at=now + timedelta(minutes=30)
        )
        accepted = claims_events.AccountClaimed(**of_claim, sealed_at=now)
        claimed.append(_story("claims", person, [opened, accepted]))
        set_up = auth_events.CredentialsSet(**of_claim)
        sealed.append(_story("auth", person, [set_up, auth_events.CredentialActivated(**of_claim)]))
        vault.append((credential, person, "a verifier", "another", ["birth_month"], now))
        expires_at = now + timedelta(days=2)
        sessions.append((os.urandom(32), DISTRICT, person, credential, now, now, expires_at))
    await _write_rows(claims, ADMISSION, told)
    await _write_store(claims, claims_events.CODEC, ACCOUNT, claimed)
    await _write_store(auth, auth_events.CODEC, CREDENTIAL, sealed)
    await _copy(auth, "vault", vault)
    await _copy(auth, "session", sessions)
    for conn, consumer, read in ((claims, "credentials", sealed), (auth, "verdicts", claimed)):
        gates = [(consumer, story[-1].stream_id, story[-1].version, story[-1].id) for story in read]
        await _copy(conn, "gate", gates)


async def _copy(conn: asyncpg.Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    await conn.copy_records_to_table(table, records=rows, columns=COLUMNS[table].split())


def _enrolled(n: int) -> StudentEnrolled:
    now = clock.now() - timedelta(days=3)
    return StudentEnrolled(
        enrollment_id="1", identity=Identity(f"bulk-{n}", f"{FIRST_NUMBER + n:07}", "De La Cruz", "Mary Ann"),
        school=SCHOOL, grade="07", received_at=now, basis=now, baseline=False, current=True,
    )  # fmt: skip


def _story(service: str, person: UUID, facts: Iterable[Event]) -> Story:
    now = clock.now() - timedelta(days=1)
    return [
        Recorded(
            uuid4(),
            type(fact).__name__,
            fact.SCHEMA,
            service,
            DISTRICT,
            person,
            version,
            now,
            fact,
            Cause.new(),
        )
        for version, fact in enumerate(facts, start=1)
    ]


async def _write_rows(conn: asyncpg.Connection, projection: Projection, stories: Sequence[Story]) -> None:
    await projection.write(conn, {story[0].stream_id: projection.fold(None, story) for story in stories})


async def _write_store(
    conn: asyncpg.Connection, codec: EventCodec, projection: Projection, stories: Sequence[Story]
) -> None:
    streams = [(story[0].stream_id, DISTRICT, len(story)) for story in stories]
    await _copy(conn, "stream", streams)
    events = [
        (
            e.stream_id,
            e.version,
            e.id,
            e.type,
            e.schema,
            e.district,
            codec.encode(e.data),
            e.time,
            e.cause.correlation_id,
        )
        for story in stories
        for e in story
    ]
    await _copy(conn, "event", events)
    await _write_rows(conn, projection, stories)
