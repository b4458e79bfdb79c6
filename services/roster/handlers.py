"""What the roster does with what a district says: many statements in one transaction, each judged by itself.

A first load brings tens of thousands of pupils, so statements are taken in batches that cost a few round trips: the
histories are loaded together, and what was decided is appended together. The rows of `identity` are locked first, in
order, so nobody else decides about these persons meanwhile, whichever way their statements come.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import msgspec
import structlog

from services.roster import decider, merges
from services.roster.decider import Command, CorrectPerson, MissInExport, Said
from services.roster.ingress import Statement
from services.roster.merges import MergePersons, SplitPersons
from shared.database import Connection, Row, queries
from shared.errors import Rejected, VersionConflict
from shared.event_store import EventStore
from shared.expiry import Expiring
from shared.messages import Cause, Event, Recorded
from shared.policy import Policy
from shared.transact import Decider

log = structlog.get_logger(__name__)

_sql = queries(__package__)
_DECIDER = Decider(decider.initial, decider.evolve)

# A school year and its summer; Kafka keeps the events for 30 days. An event that comes again after that is decided
# anew, and the rules find nothing new in it.
OUTCOMES = Expiring("ingress", "decided_at", timedelta(days=400))

OutcomeState = Literal["accepted", "unchanged", "refused"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one statement; `details` go with the reason of a refusal."""

    event_id: str | None  # None: it could not be read
    state: OutcomeState
    person_id: UUID | None = None
    reason: str | None = None
    details: Mapping[str, Any] = {}


class _Person:
    """One person while a batch is decided."""

    def __init__(self, person_id: UUID, said: Said, *, born: bool) -> None:
        self.person_id, self.born = person_id, born
        self.said = self.said_before = said
        self.state = decider.initial
        self.version = 0

    def advance(self, event: Recorded[Event]) -> None:
        self.state, self.version = decider.evolve(self.state, event), event.version


async def take(
    store: EventStore,
    conn: Connection,
    district: str,
    policy: Policy,
    statements: Sequence[Statement],
    *,
    now: datetime,
) -> list[Outcome]:
    """Record what is new in some statements, in the caller's transaction, and remember what became of each.

    Answers an outcome for each, in order; a refused one leaves the others alone. Raises VersionConflict when the same
    event comes in under two persons at once: try the whole again.
    """
    if not statements:
        return []
    persons = await _lock_persons(conn, district, statements)
    rows = await conn.fetch(_sql.earlier_outcomes, district, [s.event_id for s in statements])
    earlier = {row["event_id"]: (bytes(row["digest"]), _outcome(row)) for row in rows}
    await _load(store, conn, persons, [s for s in statements if _settled(earlier.get(s.event_id), s) is None])
    fresh: dict[str, tuple[Statement, Outcome]] = {}
    outcomes = []
    recorded: list[Recorded[Event]] = []
    for statement in statements:
        before = earlier.get(statement.event_id)
        outcome = _settled(before, statement)
        if outcome is None:
            decision = _Decision(store, district, policy, statement.cause, now)
            outcome = _decide(decision, persons, statement)
            recorded += decision.recorded
            if before is None or before[1].state == "refused" or outcome.state == "accepted":
                fresh[statement.event_id] = statement, outcome
            earlier[statement.event_id] = statement.digest, outcome
        outcomes.append(outcome)
    await store.append_many(conn, recorded)
    await _remember(conn, district, persons, list(fresh.values()), now)
    log.info("statements_taken", district=district, outcomes=dict(Counter(o.state for o in outcomes)))
    return outcomes


async def confirm(conn: Connection, district: str, said: Sequence[tuple[Command, int]]) -> set[str]:
    """Remember statements that say what was recorded already at some version of their person, in the caller's
    transaction; the source_ids of those persons. Whoever has moved on since is left alone: `take` decides of them.

    Deciding would find nothing to record, and would have to load each history for that.
    """
    commands = {command.source_id: (command, version) for command, version in said}
    if not commands:
        return set()
    rows = await conn.fetch(_sql.lock_identities, district, list(commands))
    # Only now: whoever held one of these locks may have appended before letting go.
    found = await conn.fetch(_sql.versions, [row["person_id"] for row in rows])
    versions = {row["stream_id"]: row["version"] for row in found}
    heard: dict[str, Said] = {}
    for row in rows:
        command, version = commands[row["source_id"]]
        before = msgspec.convert(row["said"], Said)
        is_merged = before.merge is not None and before.merge.into is not None  # then the survivor hears it
        if versions.get(row["person_id"]) == version and not is_merged:
            heard[row["source_id"]] = decider.hear(before, command)
    await conn.execute(_sql.remember_said, district, list(heard), list(heard.values()))
    return set(heard)


async def _lock_persons(
    conn: Connection, district: str, statements: Sequence[Statement]
) -> dict[str, _Person]:
    """The persons spoken of, by source_id, locked. Whom nobody knew is given an id if a statement can begin them."""
    commands = [s.command for s in statements]
    born = {source_id: uuid4() for c in commands if _begins(c) for source_id in merges.spoken_of(c)}
    if born:
        await conn.execute(_sql.open_identities, district, list(born), list(born.values()))
    persons: dict[str, _Person] = {}
    wanted = {source_id for c in commands for source_id in merges.spoken_of(c)}
    # Nearly always one look: only who was merged leads on, out of the order of the keys. Batches that wait for each
    # other in a circle then are told so by PostgreSQL, and one of them is tried again.
    for _ in range(merges.MAX_CHAIN):
        for row in await conn.fetch(_sql.lock_identities, district, list(wanted)):
            # The id that was just drawn for somebody is theirs.
            newborn = born.get(row["source_id"]) == row["person_id"]
            said = msgspec.convert(row["said"], Said)
            persons[row["source_id"]] = _Person(row["person_id"], said, born=newborn)
        wanted = {m.into for p in persons.values() if (m := p.said.merge) and m.into} - persons.keys()
        if not wanted:
            break
    return persons


def _begins(command: Command) -> bool:
    """Whether a person can begin with this statement: a correction must say everything then, and who is missing in an
    export was there before, or is nobody of ours."""
    if isinstance(command, MissInExport):
        return False
    return type(command) is not CorrectPerson or None not in [getattr(command, n) for n in decider.IDENTITY]


def _settled(earlier: tuple[bytes, Outcome] | None, statement: Statement) -> Outcome | None:
    """The outcome of a statement whose event came before; None when it is still to be decided."""
    if earlier is None or earlier[1].state == "refused":
        return None
    digest, outcome = earlier
    if digest != statement.digest:
        return Outcome(event_id=statement.event_id, state="refused", reason="event_id_reused")
    if getattr(statement.command, "baseline", False):
        return None  # whether that is news, the rules know
    return msgspec.structs.replace(outcome, state="unchanged")


async def _load(
    store: EventStore, conn: Connection, persons: Mapping[str, _Person], statements: Sequence[Statement]
) -> None:
    """The histories of those who are decided about, and of whom they were merged into; the newborn have none."""
    reached = {source_id for s in statements for source_id in merges.spoken_of(s.command)}
    for _ in range(merges.MAX_CHAIN):
        reached |= {m.into for i in reached if i in persons and (m := persons[i].said.merge) and m.into}
    known = {p.person_id: p for i, p in persons.items() if i in reached and not p.born}
    for person_id, history in (await store.load_many(conn, list(known))).items():
        for event in history:
            known[person_id].advance(event)


class _Decision:
    """What one statement comes to: `recorded` is to be appended."""

    def __init__(self, store: EventStore, district: str, policy: Policy, cause: Cause, now: datetime) -> None:
        self._store, self._district, self._policy = store, district, policy
        self._cause, self._now = cause, now
        self.recorded: list[Recorded[Event]] = []

    def tell(self, person: _Person, command: Command) -> None:
        """Raises Rejected; then nothing has changed."""
        self.record(person, decider.decide(person.state, person.said, command, self._policy))
        person.said = decider.hear(person.said, command)

    def record(self, person: _Person, events: Sequence[Event]) -> None:
        recorded = self._store.record(
            self._district, person.person_id, person.version, events, now=self._now, cause=self._cause
        )
        for event in recorded:
            person.advance(event)
        self.recorded += recorded


def _decide(decision: _Decision, persons: Mapping[str, _Person], statement: Statement) -> Outcome:
    """What became of the statement. Whoever was merged into somebody else is spoken of as that person."""
    command = statement.command
    person = persons.get(command.source_id) or _Person(uuid4(), Said(), born=True)
    try:
        if isinstance(command, MergePersons):
            person = _merge(decision, persons, command)
        elif isinstance(command, SplitPersons):
            _split(decision, person, persons[command.merged_source_id], command)
        else:
            person = _tell(decision, persons, person, command)
    except Rejected as refusal:
        return refused(statement.event_id, refusal)
    state: OutcomeState = "accepted" if decision.recorded else "unchanged"
    return Outcome(event_id=statement.event_id, state=state, person_id=person.person_id)


def _tell(decision: _Decision, persons: Mapping[str, _Person], person: _Person, command: Command) -> _Person:
    """Tells a person, or whom they were merged into what it says of those; whose stream it went to."""
    told: Command | None = command
    while (merge := person.said.merge) and merge.into:
        told = told and merges.told_survivor(told, person.person_id, merge)
        person = persons[merge.into]
    if told:
        decision.tell(person, told)
    return person


def _merge(decision: _Decision, persons: Mapping[str, _Person], command: MergePersons) -> _Person:
    """In the streams of both; then the survivor is told what the other brings. Who survives, in the end."""
    above, merged = [persons[command.source_id]], persons[command.merged_source_id]
    while (further := above[-1].said.merge) and further.into:
        above.append(persons[further.into])
    survivor = above[-1]
    if survivor is merged:
        return survivor
    both = survivor.person_id, merged.person_id
    events = merges.merge(command, survivor.state, merged.state, merged.said, *both, above=len(above))
    merged.said = merges.heard(merged.said, command)
    if events:
        for n, person in enumerate(above, 1):
            person.said = merges.raised(person.said, merged.said.height + n)
        decision.record(survivor, events)
        decision.record(merged, events)
        for brought in merges.brings(merged.state, merged.said, command.mark):
            _tell(decision, persons, merged, brought)
    return survivor


def _split(decision: _Decision, survivor: _Person, merged: _Person, command: SplitPersons) -> None:
    """In the streams of both; what was brought is taken back, and the other is a person again."""
    both = survivor.person_id, merged.person_id
    events = merges.split(command, survivor.said, merged.said, *both)
    merged.said = merges.heard(merged.said, command)
    if events:
        decision.record(survivor, events)
        decision.record(merged, [*events, *merges.comes_back(merged.state, merged.said)])
        for voided in merges.takes_back(survivor.state, merged.person_id, command):
            decision.tell(survivor, voided)


async def _remember(
    conn: Connection,
    district: str,
    persons: Mapping[str, _Person],
    fresh: Sequence[tuple[Statement, Outcome]],
    now: datetime,
) -> None:
    heard = {source_id: p.said for source_id, p in persons.items() if p.said is not p.said_before}
    if heard:
        await conn.execute(_sql.remember_said, district, list(heard), list(heard.values()))
    rows = [
        (
            s.event_id,
            s.digest,
            s.type,
            s.command.source_id,
            o.person_id,
            o.state,
            o.reason,
            o.details,
            s.received_at,
        )
        for s, o in fresh
    ]
    if rows and await _keep(conn, district, rows, now) < len(rows):
        raise VersionConflict(next(iter(persons.values())).person_id, 0)


async def note_refused(
    conn: Connection, district: str, outcomes: Sequence[Outcome], *, now: datetime
) -> None:
    """Remember refusals of what could not even be understood, so that whoever asks is told. They bind nobody."""
    by_id = {o.event_id: o for o in outcomes if o.event_id is not None}
    rows = [(i, b"", "", "", None, o.state, o.reason, o.details, now) for i, o in by_id.items()]
    if rows:
        await _keep(conn, district, rows, now)


async def _keep(conn: Connection, district: str, rows: Sequence[tuple[Any, ...]], now: datetime) -> int:
    kept = await conn.fetch(_sql.remember_outcomes, district, now, *map(list, zip(*rows, strict=True)))
    return len(kept)


def refused(event_id: str | None, refusal: Rejected) -> Outcome:
    return Outcome(event_id=event_id, state="refused", reason=refusal.reason, details=refusal.details)


def _outcome(row: Row) -> Outcome:
    return Outcome(
        event_id=row["event_id"],
        state=row["state"],
        person_id=row["person_id"],
        reason=row["reason"],
        details=row["details"],
    )


# --- What publishers ask


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an event. `queued`: it waits behind an earlier event of the same pupil, named in `details`.

    `basis` and `baseline` are the person's, from all enrollments that count: from when the wait counts, or that there
    is none. `dead_letter` is the number under which an operator finds what Kafka brought and could not be taken.
    """

    event_id: str
    state: Literal["accepted", "unchanged", "refused", "queued", "discarded"]
    type: str | None = None
    reason: str | None = None
    details: dict[str, Any] = {}
    person_id: UUID | None = None
    enrolled: bool | None = None
    basis: datetime | None = None
    baseline: bool | None = None
    received_at: datetime
    decided_at: datetime | None = None
    dead_letter: int | None = None


async def became_of(store: EventStore, conn: Connection, district: str, event_id: str) -> Status | None:
    """What became of an event, from Kafka or over HTTP; None when it has not been heard of (yet)."""
    row = await conn.fetchrow(_sql.find_outcome, district, event_id)
    letter = await conn.fetchrow(_sql.find_letter, district, event_id)
    if letter is not None and (row is None or row["state"] == "refused"):
        return Status(
            event_id=event_id,
            state={"parked": "refused"}.get(letter["state"], letter["state"]),
            reason=letter["reason"],
            details=_details(letter),
            received_at=letter["appended_at"],
            decided_at=letter["changed_at"],
            dead_letter=letter["id"],
        )
    if row is None:
        return None
    status = Status(
        **(dict(row) | {"type": row["type"] or None}), dead_letter=None if letter is None else letter["id"]
    )
    if status.person_id is None:
        return status
    state = _DECIDER.state_after(await store.load(conn, status.person_id))
    return msgspec.structs.replace(
        status,
        enrolled=state.enrolled and state.basis is not None,
        basis=state.basis,
        baseline=state.baseline,
    )


def _details(letter: Row) -> dict[str, Any]:
    """What helps to mend it: of a refusal by our rules the details, of one that waits whom it waits for."""
    if letter["state"] == "queued":
        return {"behind": letter["head_event_id"], "reason": letter["head_reason"]}
    try:
        return msgspec.json.decode(letter["detail"], type=dict[str, Any])
    except msgspec.MsgspecError:
        return {"problem": letter["detail"]}
