"""The districts' ingress topics: whoever may write to one speaks for that district, and for no other."""

from collections.abc import Sequence
from datetime import UTC, datetime

from aiokafka import ConsumerRecord

from services.roster import handlers
from services.roster.ingress import Statement, understand
from services.roster.merges import SURVIVOR_UNKNOWN
from shared import clock
from shared.consumer import Intake, Unacceptable
from shared.database import Connection, queries
from shared.errors import MalformedRecord, Rejected
from shared.letter import reason_of
from shared.messages import CloudEvent, ingress_topic
from shared.policy import Policy
from shared.service import Kit
from shared.web import begin_journey

LOG_APPEND_TIME = 1
MERGE_WAITS_S = 2.0

_sql = queries(__package__)


def intakes(kit: Kit) -> list[Intake]:
    """One for each district that has a policy."""
    return [intake(kit, district) for district in kit.policies.districts]


def intake(kit: Kit, district: str) -> Intake:
    known = kit.policies.get(district)

    def policy() -> Policy:
        """The rules as they are now; those known last while the district is being taken away."""
        return kit.policies.get(district) if district in kit.policies.districts else known

    def check(record: ConsumerRecord) -> None:
        _statement(record, district, policy(), clock.now())

    async def handle(conn: Connection, record: ConsumerRecord) -> None:
        await handle_all(conn, [record])

    async def handle_all(conn: Connection, records: Sequence[ConsumerRecord]) -> None:
        now, rules = clock.now(), policy()
        statements = [_statement(record, district, rules, now) for record in records]
        for outcome in await handlers.take(kit.store, conn, district, rules, statements, now=now):
            if outcome.reason is not None:
                refusal = Rejected(outcome.reason, **outcome.details)
                if outcome.reason == SURVIVOR_UNKNOWN:  # else the survivor's enrollment would wait behind it
                    raise Unacceptable(*reason_of(refusal), alone=True)
                raise refusal

    topic = ingress_topic(kit.settings.topic_prefix, district)
    return Intake(f"ingress.{district}", topic, handle, _key, check, handle_all)


async def end_merge_waits(kit: Kit) -> None:
    """Has merges tried again whose survivor is known by now, whichever way they were enrolled. Asked again and again: a
    merge may be set aside while its survivor is being enrolled."""
    async with kit.db.connection() as conn:
        await conn.execute(_sql.wish_where_survivor_is_known, SURVIVOR_UNKNOWN)


def _key(record: ConsumerRecord) -> str | None:
    return None if record.key is None else record.key.decode(errors="backslashreplace")


def _statement(record: ConsumerRecord, district: str, policy: Policy, now: datetime) -> Statement:
    """What a record says. Raises Rejected with what its sender has to mend."""
    try:
        event = CloudEvent.parse(record)
    except MalformedRecord as flaw:
        raise Rejected("event_malformed", problem=str(flaw)) from None
    cause = begin_journey(event.extensions.get("traceparent"))
    statement = understand(event, district, policy, received_at=_received_at(record, now), cause=cause)
    if _key(record) != statement.command.source_id:
        raise Rejected("key_mismatch", expected="source_id")
    return statement


def _received_at(record: ConsumerRecord, now: datetime) -> datetime:
    """The broker's append time. A time that the sender wrote (another topic setting) proves nothing: then now."""
    if record.timestamp_type != LOG_APPEND_TIME:
        return now
    return min(datetime.fromtimestamp(record.timestamp / 1000, UTC), now)
