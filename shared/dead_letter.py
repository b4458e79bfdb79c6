"""Records that could not be taken, with the reason, and what waits behind them.

Every key (a person's stream, a pupil's sourcedId) has a line. While something stands in it, whatever comes later for
that key joins at its end, and everybody else goes on. The first of a line is *parked*; those behind it are *queued*.
What may wait alone (`Unacceptable.alone`) stands beside its line.
A line moves when an operator asks for a retry or discards its head, and by itself when missing versions arrive or the
district's policy is back. Only the consumer that owns the partition moves it: whoever wants it to leaves a wish.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import structlog
from aiokafka import ConsumerRecord

from shared import metrics
from shared.database import Connection, Row, queries
from shared.errors import Diverged
from shared.letter import Letter, Unacceptable, clean, curable, event_id_of, reason_of, record_of, uuid_of

log = structlog.get_logger(__name__)

END_OF_TIME_MS = 253_402_300_799_000  # a sender may write any time where the topic lets it
LINE_LIMIT = 500  # letters of one line that are taken in one transaction
MAX_DETAIL_LENGTH = 2000
# Nobody has to mend the record: what is missing comes, and the line goes on.
CURED_BY_ITSELF = ("version_gap", "policy_missing")

_sql = queries("shared", "dead_letter.sql")
_gate_sql = queries("shared", "consumer.sql")


class Gate(NamedTuple):
    """The last version of a stream that a consumer applied, and the id of that event."""

    version: int = 0
    event_id: UUID | None = None

    def is_past(self, letter: Letter) -> bool:
        """Whether the version was applied before. Raises Diverged when that was another event."""
        assert letter.version is not None
        if letter.version == self.version:
            _must_be_same(letter, self.event_id)
        return letter.version <= self.version


class Trouble(NamedTuple):
    """Why a letter cannot be applied. `alone`: it holds up nothing of its key."""

    reason: str
    detail: str
    alone: bool = False


Attempt: TypeAlias = Callable[[Letter], Awaitable[None]]  # gives one letter its effect, or raises


async def settle(
    conn: Connection,
    consumer: str,
    key: str | None,
    arrivals: Sequence[Letter],
    *,
    attempt: Attempt,
    reread: Callable[[ConsumerRecord], Letter],
    now: datetime,
    gate: Gate | None = None,
    letter_id: int | None = None,
) -> Gate | None:
    """Take a line as far as it goes, with what has just arrived for it; answers the gate after that.

    `gate` None: the records have no versions, and the line's order is that of arrival. `attempt` applies one letter
    within a savepoint of its own. A record without a key is a line by itself, found again as `letter_id`. The
    caller's transaction moves gate and checkpoint. Raises Diverged, and whatever trying again may cure.
    """
    # Without versions, what arrives stands at the end of what is there.
    joins = gate is None and bool(arrivals)
    stored = await _stored(conn, consumer, key, letter_id, reread, 1 if joins else LINE_LIMIT)
    blocked = joins and bool(stored)
    for letter in arrivals if blocked else _in_order([*stored, *arrivals], gate):
        if blocked:
            await _keep(conn, consumer, key, letter, "queued", "behind", "waits for those before it", now)
        elif gate is not None and letter.version is not None and gate.is_past(letter):
            await _leave(conn, letter, "applied", now)
        elif letter.wish == "discard":
            gate = _after(gate, letter)
            await _leave(conn, letter, "discarded", now)
        elif letter.state == "parked" and letter.wish is None and letter.reason not in CURED_BY_ITSELF:
            blocked = True
        elif trouble := await _try(conn, letter, gate, attempt):
            alone = trouble.alone and gate is None
            await _keep(conn, consumer, None if alone else key, letter, "parked", *trouble[:2], now)
            blocked = not alone
        else:
            gate = _after(gate, letter)
            await _leave(conn, letter, "applied", now)
    if gate is not None and (blocked or stored) and (stream_id := uuid_of((key or "").encode())):
        await conn.execute(_gate_sql.park, consumer, stream_id, now if blocked else None)
    if len(stored) == LINE_LIMIT and not blocked:
        await conn.execute(_sql.go_on, consumer, key)
    return gate


async def _stored(
    conn: Connection,
    consumer: str,
    key: str | None,
    letter_id: int | None,
    reread: Callable[[ConsumerRecord], Letter],
    limit: int,
) -> list[Letter]:
    if key is not None:
        rows = await conn.fetch(_sql.line, consumer, key, limit)
    else:
        rows = await conn.fetch(_sql.single, letter_id) if letter_id is not None else []
    letters = []
    for row in rows:
        letter = reread(record_of(row))
        letter.id, letter.state = row["id"], row["state"]
        letter.reason, letter.wish = row["reason"], row["wish"]
        letters.append(letter)
    return letters


def _in_order(letters: list[Letter], gate: Gate | None) -> Iterator[Letter]:
    """By version, each once; what has none that can be read comes first and blocks. Raises Diverged."""
    if gate is None:
        yield from letters
        return
    seen: dict[int, Letter] = {}
    for letter in sorted(letters, key=lambda letter: letter.version or 0):
        if letter.version is not None and (first := seen.setdefault(letter.version, letter)) is not letter:
            _must_be_same(letter, first.event_id)
        else:
            yield letter


async def _try(conn: Connection, letter: Letter, gate: Gate | None, attempt: Attempt) -> Trouble | None:
    """Apply one letter; why it cannot be."""
    if gate is not None and letter.version is not None and letter.version != gate.version + 1:
        missing = f"this is version {letter.version}, version {gate.version + 1} has not come yet"
        return Trouble("version_gap", missing)
    if letter.flaw is not None:
        return Trouble(*reason_of(letter.flaw))
    try:
        async with conn.transaction():
            await attempt(letter)
    except Exception as error:
        if curable(error) or isinstance(error, Diverged):
            raise
        return Trouble(*reason_of(error), isinstance(error, Unacceptable) and error.alone)
    return None


def _after(gate: Gate | None, letter: Letter) -> Gate | None:
    return gate if gate is None or letter.version is None else Gate(letter.version, letter.event_id)


async def _keep(
    conn: Connection,
    consumer: str,
    key: str | None,
    letter: Letter,
    state: str,
    reason: str,
    detail: str,
    now: datetime,
) -> None:
    """Write down that a letter stays in the line."""
    detail = clean(detail)[:MAX_DETAIL_LENGTH]
    if letter.id is not None:
        if (letter.state, letter.reason, letter.wish) != (state, reason, None):
            parked = state == "parked"
            await conn.execute(_sql.change, letter.id, state, reason, detail, int(parked), now, key is None)
        return
    record = letter.record
    headers = [(clean(name), value) for name, value in record.headers]
    appended_at = datetime.fromtimestamp(min(max(record.timestamp, 0), END_OF_TIME_MS) / 1000, UTC)
    await conn.execute(
        _sql.insert, consumer, clean(letter.district), key, letter.version, event_id_of(record), record.topic,
        record.partition, record.offset, appended_at, record.timestamp_type, record.key, headers, record.value,
        reason, detail, state, now,
    )  # fmt: skip
    metrics.consumed.labels(consumer, state).inc()
    # Never the detail: it may quote what the record says of a person.
    log.warning(
        "dead_letter", consumer=consumer, state=state, reason=reason, topic=record.topic, partition=record.partition,
        offset=record.offset,
    )  # fmt: skip


async def _leave(conn: Connection, letter: Letter, state: str, now: datetime) -> None:
    """A letter is out of the line; one that never was in it leaves no trace."""
    if letter.id is not None:
        reason, detail = ("", "") if state == "applied" else (letter.reason, "")
        await conn.execute(_sql.change, letter.id, state, reason or letter.reason, detail, 0, now, False)


def _must_be_same(letter: Letter, event_id: UUID | None) -> None:
    if event_id is not None and letter.event_id is not None and letter.event_id != event_id:
        raise Diverged(f"stream {letter.stream_id} has two events of version {letter.version}")


# ------------------------------------------------------------------ what operators ask for


async def open_keys(conn: Connection, consumer: str, keys: Iterable[str]) -> set[str]:
    """Those keys that have a line."""
    return {row["key"] for row in await conn.fetch(_sql.open_keys, consumer, list(keys))}


async def wished(conn: Connection, consumer: str, parts: Iterable[int]) -> list[Row]:
    """Lines (part, key, and the id where there is no key) of which an operator wants something."""
    return list(await conn.fetch(_sql.wished, consumer, list(parts)))


async def find(conn: Connection, letter_id: int) -> Row | None:
    return await conn.fetchrow(_sql.find, letter_id)


async def letters(
    conn: Connection,
    *,
    district: str | None = None,
    consumer: str | None = None,
    state: str | None = None,
    topic: str | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[Row]:
    """Dead letters without their records, oldest first; the open ones when no state is named."""
    return list(await conn.fetch(_sql.list, district, consumer, state, after, limit, topic))


async def wish(
    conn: Connection, letter_id: int, what: str, *, by: str, note: str | None, now: datetime
) -> Row | None:
    """Ask its consumer to `retry` or `discard` the head of a line; None when it is none (any more)."""
    return await conn.fetchrow(_sql.wish, letter_id, what, by, note, now)


async def wish_where_policy_is_back(conn: Connection, districts: Iterable[str]) -> None:
    """Ask for a retry of what was parked only because a policy was missing, in districts that have one."""
    await conn.execute(_sql.wish_where_policy_is_back, list(districts))


async def count_open(conn: Connection) -> list[Row]:
    """Open letters by consumer and state."""
    return list(await conn.fetch(_sql.count_open))


def public(row: Any) -> dict[str, Any]:
    """A dead letter as it is told over HTTP; headers and value only of one that was found whole."""
    told = dict(row)
    told.pop("time_type", None)
    for name in ("record_key", "value"):
        if name in told:
            told[name] = None if told[name] is None else told[name].decode(errors="backslashreplace")
    if "headers" in told:
        told["headers"] = {
            name: None if value is None else base64.b64decode(value).decode(errors="backslashreplace")
            for name, value in told["headers"]
        }
    return told
