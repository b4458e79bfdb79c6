"""Who signed in, who was refused, what was given out and changed: one line for each, for the help desk, for 90 days.

A line is made when a request has been answered, and written with many others in one statement: a sign-in waits for
nothing. What a crash takes with it is half a second of lines; a process that is asked to stop writes them first. A line
holds no secret and nothing that was typed; a device and a network are keyed hashes.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import structlog
from prometheus_client import Counter

from services.auth.devices import Origin
from shared.database import Connection, Database, queries
from shared.errors import Rejected, Unavailable
from shared.web import Call, Reply

WRITTEN_EVERY_S = 0.5
AT_ONCE = 1_000
HELD = 50_000  # lines that wait for PostgreSQL; without it nobody signs in either
LAST_WRITE_S = 5.0
KEPT = timedelta(days=90)
SHOWN_LENGTH = 12  # of a device's or a network's hash
# Refusals that cost no hash, so that anybody may have as many as they like: a line a minute for each network.
SELDOM = frozenset({"sign_in_paused", "invalid_client"})
SELDOM_EVERY = timedelta(minutes=1)
SELDOM_KEPT = 10_000

_lost = Counter("homeroom_audit_lost", "Lines of the audit that were dropped because too many waited.")
_sql = queries(__package__)
log = structlog.get_logger(__name__)


class Line(NamedTuple):
    """What was asked for (`what`), and `done` or the reason of the refusal. `event_id`: its id on Kafka."""

    event_id: UUID
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
    desk_ticket: str | None
    correlation_id: UUID


class Trail:
    """The lines of this process that are not written yet."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque()
        self._in_doubt = False
        self._seldom: OrderedDict[tuple[str, str, str | None], datetime] = OrderedDict()

    def note(self, call: Call[Any], told: Reply | Rejected) -> None:
        """A line about a request that was answered; of its own refusals, not of those that any route may give."""
        outcome = "done" if isinstance(told, Reply) else told.reason
        if outcome != "done" and outcome not in call.route.refusals:
            return
        line = _line(call, told, outcome)
        if outcome in SELDOM and not self._is_due(line):
            return
        if len(self._lines) >= HELD:
            _lost.inc()
            return
        self._lines.append(line)

    def _is_due(self, line: Line) -> bool:
        key = line.what, line.outcome, line.network
        last = self._seldom.get(key)
        if last is not None and line.at - last < SELDOM_EVERY:
            return False
        self._seldom[key] = line.at
        self._seldom.move_to_end(key)
        if len(self._seldom) > SELDOM_KEPT:
            self._seldom.popitem(last=False)
        return True

    async def write(self, db: Database) -> None:
        """Raises Unavailable, and keeps what is not written. Of a write that may have been done all the same, the next
        one asks which lines are there."""
        while self._lines:
            some = [self._lines[n] for n in range(min(AT_ONCE, len(self._lines)))]
            async with db.connection() as conn:
                there = await _there(conn, some) if self._in_doubt else ()
                self._in_doubt = True
                if new := [line for line in some if line.event_id not in there]:
                    await conn.execute(_sql.write_audit, *map(list, zip(*new, strict=True)))
            self._in_doubt = False
            for _ in some:
                self._lines.popleft()

    async def keep_written(self, db: Database, pause_s: float = WRITTEN_EVERY_S) -> None:
        """Writes again and again, and a last time when the process ends."""
        try:
            while True:
                await asyncio.sleep(pause_s)
                await self.write(db)
        finally:
            try:
                async with asyncio.timeout(LAST_WRITE_S):
                    await self.write(db)
            except (TimeoutError, Unavailable):
                log.error("audit_not_written", lines=len(self._lines))


async def _there(conn: Connection, lines: Sequence[Line]) -> set[UUID]:
    """The ids of those lines that are written already."""
    rows = await conn.fetch(_sql.find_audit, [line.at for line in lines], [line.event_id for line in lines])
    return {row["event_id"] for row in rows}


def _line(call: Call[Any], told: Reply | Rejected, outcome: str) -> Line:
    come: Origin | None = call.noted.get("origin")
    caller = call.caller
    actor = caller.subject if caller and caller.kind == "client" else None
    return Line(
        event_id=uuid4(),
        district=call.district,
        at=call.now,
        what=call.route.audit,
        outcome=outcome,
        person_id=_person(call, told),
        actor=actor,
        client=call.noted.get("client") or call.path.get("client_id"),
        device=come.shown_device if come else None,
        device_kind=come.kind if come else None,
        network=come.network.hex()[:SHOWN_LENGTH] if come else None,
        reference=told.details.get("reference") if isinstance(told, Rejected) else None,
        desk_ticket=_ticket(call),
        correlation_id=UUID(call.cause.correlation_id),
    )


def _ticket(call: Call[Any]) -> str | None:
    """The help desk's ticket, wherever the route takes it."""
    return getattr(call.body, "desk_ticket", None) or getattr(call.query, "desk_ticket", None)


def _person(call: Call[Any], told: Reply | Rejected) -> UUID | None:
    """Whom a request was about: whose session it opened or was, whom the refusal means, or whom the path names."""
    if isinstance(told, Rejected):
        found = told.secret.get("person_id") or call.noted.get("person_id")
    else:
        found = getattr(told.body, "person_id", None) or call.noted.get("person_id")
    if found is None and "person_id" in call.path:
        found = call.uuid("person_id")
    if found is None and call.caller is not None and call.caller.kind == "session":
        found = UUID(call.caller.subject)
    return found


async def search(
    db: Database, district: str, *, before: int | None, limit: int, **wanted: Any
) -> list[dict[str, Any]]:
    """Lines of a district, the newest first, those with an id below `before`. `wanted`: person_id, what, outcome,
    reference, since, until; None is any."""
    named = [wanted[name] for name in ("person_id", "what", "outcome", "reference", "since", "until")]
    async with db.connection() as conn:
        return [dict(row) for row in await conn.fetch(_sql.search_audit, district, before, limit, *named)]
