"""The audit on Kafka, for whoever collects and watches it elsewhere: every line of the table, at least once.

Lines wait in `audit_outbox` since the statement that wrote them, until Kafka has acknowledged them. One process at a
time sends, whoever holds the lock; a crash anywhere, or two processes for a moment, make duplicates under the same id
and the same to the byte, never a gap. A sign-in waits for none of it.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from aiokafka import AIOKafkaProducer
from prometheus_client import Gauge

from services.auth.audit import KEPT
from shared.database import Connection, Database, Row, close, connect, queries, unavailable_when_lost
from shared.kafka import Topic, producing, side_topic
from shared.kafka import unavailable_when_lost as kafka_unavailable_when_lost
from shared.messages import JSON_CONTENT_TYPE, rfc3339
from shared.settings import Settings

AT_ONCE = 1_000
LOOK_EVERY_S = 0.5
LOOK_AT_ALL_EVERY_S = 10.0  # a lower number may be committed later than a higher one
LOCK_EVERY_S = 1.0
ACKNOWLEDGE_PATIENCE_S = 120.0
# Who hangs loses the lock after this, and another takes over. Longer than any wait here.
SILENCE_ALLOWED = "180s"
COUNT_EVERY_S = 5.0
COUNTED = 100_000

_unsent = Gauge("homeroom_audit_unsent", "Lines of the audit that Kafka has not acknowledged yet.")
_sql = queries(__package__)


class RequestAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the audit, whole: many who collect keep the value and drop the headers."""

    SCHEMA = 1

    district: str
    at: datetime
    what: str
    outcome: str
    person_id: UUID | None
    actor: str | None
    client: str | None
    device: str | None
    device_kind: str | None
    network: str | None
    reference: str | None
    desk_ticket: str | None = None


def topic(settings: Settings) -> Topic:
    """Kept as long as the table keeps its lines."""
    return side_topic(settings, "auth", "audit", KEPT)


def record_of(row: Row) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers of a line. What is known to be of one person keeps its order, as far as it has one.

    Nothing here depends on the moment of sending.
    """
    line = RequestAnswered(**{name: row[name] for name in RequestAnswered.__struct_fields__})
    headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", str(row["event_id"])),
        ("ce_type", RequestAnswered.__name__),
        ("ce_source", "/homeroom/auth" + (f"/{line.district}" if line.district else "")),
        ("ce_time", rfc3339(line.at)),
        ("ce_dataschema", f"/schemas/audit/{RequestAnswered.__name__}/{RequestAnswered.SCHEMA}"),
        ("ce_correlationid", str(row["correlation_id"])),
    ]
    if line.person_id is not None:
        headers.append(("ce_subject", str(line.person_id)))
    headers.append(("content-type", JSON_CONTENT_TYPE))
    key = str(line.person_id or row["correlation_id"])
    return key.encode(), msgspec.json.encode(line), [(name, value.encode()) for name, value in headers]


async def run(settings: Settings) -> None:
    """Sends until something fails: the producer is discarded and the lock let go. Raises Unavailable.

    All SQL runs on the connection that holds the lock, so who has lost it takes nothing out of the outbox.
    """
    async with producing(settings) as producer:  # first: who cannot reach Kafka must not hold the lock
        conn = await connect(
            settings.postgres, application_name="homeroom-auth-audit", idle_session_timeout=SILENCE_ALLOWED
        )
        try:
            with unavailable_when_lost(conn):
                await _forward(conn, producer, topic(settings).name)
        finally:
            await close(conn)


async def _forward(conn: Connection, producer: AIOKafkaProducer, name: str) -> None:
    while not await conn.fetchval(_sql.lock_audit):
        await asyncio.sleep(LOCK_EVERY_S)
    loop = asyncio.get_running_loop()
    above, look_at_all_at = 0, loop.time()
    while True:
        if loop.time() >= look_at_all_at:
            above, look_at_all_at = 0, loop.time() + LOOK_AT_ALL_EVERY_S
        rows = await conn.fetch(_sql.unsent_audit, above, AT_ONCE)
        if rows:
            await _send(producer, name, rows)
            await conn.execute(_sql.audit_sent, [row["audit_id"] for row in rows])
            above = rows[-1]["audit_id"]
        if len(rows) < AT_ONCE:
            await asyncio.sleep(LOOK_EVERY_S)


async def _send(producer: AIOKafkaProducer, name: str, rows: Sequence[Row]) -> None:
    """Returns when Kafka has all of them."""
    with kafka_unavailable_when_lost():
        async with asyncio.timeout(ACKNOWLEDGE_PATIENCE_S):
            sent = []
            for row in rows:
                key, value, headers = record_of(row)
                sent.append(await producer.send(name, value, key, headers=headers))
            await asyncio.gather(*sent)


async def count(db: Database) -> None:
    """For operators: whether lines wait, and how many."""
    async with db.connection() as conn:
        _unsent.set(await conn.fetchval(_sql.count_unsent_audit, COUNTED))
