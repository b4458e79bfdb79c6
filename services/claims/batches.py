"""Resets. Each is a batch, a single one too: a frozen list, perhaps an approval, a worker, and auth's confirmation.

The rows of a batch are the help desk's work in progress; the facts are the `AccountReset` events that carry its id. An
account's event and its item's state change in one transaction, so a batch goes on after a crash where it stood.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import structlog

from services.claims import decider
from services.claims.decider import Account
from services.claims.handlers import DECIDER, Asked, pupils_under, require_person, sql
from services.claims.projections import ACCOUNT
from services.claims.reset_lines import Finding, match, numbers, read_lines
from shared import clock
from shared.database import Connection, Row
from shared.errors import HomeroomError, Rejected, Unavailable, VersionConflict
from shared.event_store import EventStore
from shared.messages import Cause, Event
from shared.policy import Kind, Policy
from shared.transact import transact

# A bulk reset is throttled, so that claims and their reactions find the database and the topics free.
PAUSE_BETWEEN_S = 0.02
POLL_S = 0.5

log = structlog.get_logger(__name__)


class Plan(msgspec.Struct, frozen=True):
    """What pasted lines come to, and the generation of each account that would be reset."""

    findings: list[Finding]
    generations: dict[UUID, int]

    @property
    def matched(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.state == "matched"]

    @property
    def kinds(self) -> list[Kind]:
        """What each of them is whose account would be reset."""
        return [finding.kind for finding in self.matched]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as the help desk sees it; `author_name` and `approved_by_name` are what these clients are called.
    `done`: accounts of which auth has confirmed that their sessions have ended."""

    batch_id: UUID
    state: str  # awaiting_approval, running, done, cancelled
    cause: str
    author: str
    author_name: str | None
    approved_by: str | None
    approved_by_name: str | None
    desk_ticket: str | None
    as_of: datetime
    total: int
    done: int
    counts: dict[str, int]
    lines: list[Finding]


async def plan(conn: Connection, pasted: str | Sequence[str], policy: Policy) -> Plan:
    """Whom the lines mean, as things stand. Changes nothing. Raises Rejected `lines_missing`, `lines_too_many`."""
    lines = read_lines(pasted)
    found: dict[str, list[decider.Pupil]] = {}
    for pupil in await pupils_under(conn, policy.district, numbers(lines, policy)):
        found.setdefault(pupil.number, []).append(pupil)
    accounts = await ACCOUNT.load(conn, [pupil.person_id for under in found.values() for pupil in under])
    findings = match(lines, found, accounts, policy)
    generations = {
        f.person_id: accounts[f.person_id].generation
        for f in findings
        if f.person_id and f.state == "matched"
    }
    return Plan(findings, generations)


async def start(conn: Connection, plan: Plan, policy: Policy, asked: Asked) -> UUID:
    """Freezes the list as of now. It waits for a second person if it is long or has staff; otherwise the worker takes
    it up. Raises Rejected `person_required`."""
    waits = decider.list_waits(plan.kinds, policy, human=asked.human)
    batch_id = await _insert(conn, policy.district, plan, asked, waits=waits)
    await _list(conn, batch_id, plan, "listed" if waits else "planned", asked.now)
    return batch_id


async def reset_one(
    store: EventStore, conn: Connection, person_id: UUID, policy: Policy, asked: Asked
) -> UUID:
    """Resets one account at once, claimed or not; what is left is auth's confirmation. Raises Rejected
    `person_unknown`, `approval_required` where even one account needs a second person."""
    kind = await require_person(conn, person_id, policy.district)
    if decider.needs_second_person([kind], policy):
        raise Rejected("approval_required")
    batch_id = uuid4()

    def decide(account: Account, _: Any) -> Sequence[Event]:
        return decider.reset(account, batch_id=batch_id, actor=asked.actor, desk_ticket=asked.desk_ticket)

    outcome = await transact(
        store, DECIDER, policy.district, person_id, decide, now=asked.now, cause=asked.cause, conn=conn
    )
    plan = _plan_of_one(person_id, outcome.state)
    await _insert(conn, policy.district, plan, asked, batch_id=batch_id)
    await _list(conn, batch_id, plan, "reset", asked.now)
    return batch_id


async def reset_lost(
    store: EventStore,
    conn: Connection,
    person_id: UUID,
    district: str,
    *,
    claim_id: UUID | None,
    generation: int,
    now: datetime,
    cause: Cause,
) -> None:
    """auth has lost the credential of an account: it is reset, and the help desk sees a batch for that as well."""
    batch_id = uuid4()

    def decide(account: Account, _: Any) -> Sequence[Event]:
        return decider.reset_lost(account, claim_id=claim_id, generation=generation, batch_id=batch_id)

    outcome = await transact(store, DECIDER, district, person_id, decide, now=now, cause=cause, conn=conn)
    if outcome.events:
        plan = _plan_of_one(person_id, outcome.state)
        asked = Asked("auth", False, None, now, cause)
        await _insert(conn, district, plan, asked, batch_id=batch_id, of="credential_lost")
        await _list(conn, batch_id, plan, "reset", now)


def _plan_of_one(person_id: UUID, after: Account) -> Plan:
    finding = Finding(line=1, state="matched", person_id=person_id)
    return Plan([finding], {person_id: after.generation - 1})


async def confirm(
    conn: Connection, person_id: UUID, *, generation: int, sessions_ended: int, now: datetime
) -> None:
    """auth has revoked everything of this person below `generation`: resets into it, or before, are done."""
    await conn.execute(sql.confirm_items, person_id, generation, sessions_ended, now)


async def approve(conn: Connection, batch_id: UUID, policy: Policy, asked: Asked) -> None:
    """A second person lets a long list begin. Said twice, it is done once. Raises Rejected `batch_unknown`,
    `person_required`, `approver_is_author`, `batch_cancelled`."""
    row = await _found(conn, sql.find_batch_locked, batch_id, policy.district)
    if row["state"] == "cancelled":
        raise Rejected("batch_cancelled")
    if row["state"] == "awaiting_approval":
        decider.approve_list(row["author"], asked.actor, policy, human=asked.human)
        await conn.execute(sql.approve_batch, batch_id, asked.actor, asked.now)
        await conn.execute(sql.plan_items, batch_id, asked.now)


async def cancel(conn: Connection, district: str, batch_id: UUID, *, now: datetime) -> None:
    """Takes back what has not begun; what was reset stays reset. Raises Rejected `batch_unknown`."""
    await _found(conn, sql.find_batch_locked, batch_id, district)
    if (await conn.execute(sql.cancel_items, batch_id, now)) != "UPDATE 0":
        await conn.execute(sql.cancel_batch, batch_id, now)


async def show(conn: Connection, policy: Policy, batch_id: UUID) -> Batch:
    """How far a batch is, line by line, under the usernames of today. Raises Rejected `batch_unknown`."""
    row = await _found(conn, sql.find_batch, batch_id, policy.district)
    items = {item["line"]: item for item in await conn.fetch(sql.items_of, batch_id)}
    report = msgspec.convert(row["report"], list[Finding])
    persons = [finding.person_id for finding in report if finding.person_id]
    found = await conn.fetch(sql.numbers_of, persons, policy.district)
    usernames = {person["person_id"]: policy.username(person["kind"], person["number"]) for person in found}
    lines = [_line(finding, items, usernames) for finding in report]
    states = Counter(item["state"] for item in items.values())
    under_way = states["planned"] + states["reset"]
    state: str = row["state"] if row["state"] != "approved" else "running" if under_way else "done"
    return Batch(
        batch_id=batch_id,
        state=state,
        cause=row["cause"],
        author=row["author"],
        author_name=row["author_name"],
        approved_by=row["approved_by"],
        approved_by_name=row["approved_by_name"],
        desk_ticket=row["desk_ticket"],
        as_of=row["as_of"],
        total=len(items),
        done=states["done"],
        counts=dict(Counter(line.state for line in lines)),
        lines=lines,
    )


def _line(finding: Finding, items: dict[int, Row], usernames: dict[UUID, str]) -> Finding:
    username = usernames.get(finding.person_id) if finding.person_id else None
    finding, item = msgspec.structs.replace(finding, username=username), items.get(finding.line)
    if item is None:
        return finding
    state = "matched" if item["state"] in ("listed", "planned") else item["state"]
    return msgspec.structs.replace(
        finding, state=state, reason=item["reason"], sessions_ended=item["sessions_ended"]
    )


async def _found(conn: Connection, query: str, batch_id: UUID, district: str) -> Row:
    row = await conn.fetchrow(query, batch_id, district)
    if row is None:
        raise Rejected("batch_unknown")
    return row


async def _insert(
    conn: Connection,
    district: str,
    plan: Plan,
    asked: Asked,
    *,
    batch_id: UUID | None = None,
    of: str = "desk",
    waits: bool = False,
) -> UUID:
    batch_id = batch_id or uuid4()
    state = "awaiting_approval" if waits else "approved"
    # Names and numbers stay in the roster's table: the report is kept without, and shown with those of then.
    report = [msgspec.structs.replace(finding, on_file=None, username=None) for finding in plan.findings]
    correlation_id = asked.cause.correlation_id
    await conn.execute(
        sql.insert_batch,
        batch_id,
        district,
        of,
        state,
        asked.actor,
        asked.desk_ticket,
        asked.now,
        report,
        correlation_id,
    )
    return batch_id


async def _list(conn: Connection, batch_id: UUID, plan: Plan, state: str, now: datetime) -> None:
    listed = [(f.person_id, f.line, plan.generations[f.person_id]) for f in plan.matched if f.person_id]
    persons, lines, generations = zip(*listed, strict=True) if listed else ((), (), ())
    await conn.execute(sql.insert_items, batch_id, persons, lines, generations, state, now)


class ResetWorker:
    """Takes planned accounts one after the other, each in a transaction of its own; several may run at once."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def run(self) -> None:
        """For ever. Whatever trying again may cure is tried again."""
        while True:
            try:
                took = await self.reset_next(clock.now())
            except VersionConflict:
                continue  # a claim of that very account was faster
            await asyncio.sleep(PAUSE_BETWEEN_S if took else POLL_S)

    async def reset_next(self, now: datetime) -> bool:
        """Resets the next planned account; False when there is none."""
        async with self._store.db.transaction() as conn:
            item = await conn.fetchrow(sql.take_item)
            if item is None:
                return False
            state, reason = await self._reset(conn, item, now)
            await conn.execute(sql.mark_item, item["batch_id"], item["person_id"], state, reason, now)
        self._store.wake()
        return True

    async def _reset(self, conn: Connection, item: Row, now: datetime) -> tuple[str, str | None]:
        def decide(account: Account, _: Any) -> Sequence[Event]:
            return decider.reset_listed(
                account, generation=item["generation"], as_of=item["as_of"],
                batch_id=item["batch_id"], actor=item["author"], desk_ticket=item["desk_ticket"],
            )  # fmt: skip

        try:
            async with conn.transaction():
                await transact(
                    self._store, DECIDER, item["district"], item["person_id"], decide,
                    now=now, cause=Cause(item["correlation_id"]), conn=conn,
                )  # fmt: skip
        except Rejected as rejected:
            return "skipped", rejected.reason
        except (Unavailable, VersionConflict):
            raise
        except HomeroomError as error:  # this person's history cannot be read or written: the others go on
            log.error(
                "reset_failed",
                batch_id=str(item["batch_id"]),
                person_id=str(item["person_id"]),
                error=str(error),
            )
            return "failed", type(error).__name__
        return "reset", None
