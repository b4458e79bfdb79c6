"""Resets. Each is a batch, a single one too: a frozen list, perhaps an approval, a worker, and auth's confirmation.

The rows of a batch are the help desk's work in progress; the facts are the `AccountReset` events that carry its id. An
account's event and its item's state change in one transaction, so a batch goes on after a crash where it stood.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from services.claims import decider
from services.claims.decider import Account, Extent, Wanted
from services.claims.handlers import DECIDER, Asked, pupils_under, ranks_of, require_person
from services.claims.projections import ACCOUNT
from services.claims.reset_lines import Finding, match, numbers, read_lines
from shared.database import Connection, Row, queries
from shared.errors import Rejected
from shared.event_store import EventStore
from shared.messages import Cause, Event
from shared.policy import Policy
from shared.transact import transact

sql = queries("services.claims", "resets.sql")


class Plan(msgspec.Struct, frozen=True):
    """What pasted lines come to, and the generation of each account that would be reset."""

    findings: list[Finding]
    generations: dict[UUID, int]

    @property
    def matched(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.state == "matched"]

    @property
    def unclaimed(self) -> int:
        """Lines whose account has nothing to reset."""
        return sum(finding.state == "not_claimed" for finding in self.findings)

    def wanted(self, *, alone: int) -> Wanted:
        """What the rules ask about it."""
        staff = any(finding.kind == "staff" for finding in self.matched)
        return Wanted(accounts=len(self.matched), extent="lines", staff=staff, alone=alone)


async def plan(conn: Connection, pasted: str | Sequence[str], policy: Policy, by: int) -> Plan:
    """Whom the lines mean, as things stand; `by`: the rank of whoever asks. Changes nothing. Raises Rejected
    `lines_missing`, `lines_too_many`."""
    lines = read_lines(pasted)
    found: dict[str, list[decider.Pupil]] = {}
    for pupil in await pupils_under(conn, policy.district, numbers(lines, policy)):
        found.setdefault(pupil.number, []).append(pupil)
    accounts = await ACCOUNT.load(conn, [pupil.person_id for under in found.values() for pupil in under])
    ranks = await ranks_of(conn, list(accounts))
    findings = [
        finding
        if finding.person_id is None or decider.may_reset(ranks.get(finding.person_id, 0), by, policy)
        else msgspec.structs.replace(finding, state="role_not_below")
        for finding in match(lines, found, accounts, policy)
    ]
    generations = {
        f.person_id: accounts[f.person_id].generation
        for f in findings
        if f.person_id and f.state == "matched"
    }
    return Plan(findings, generations)


async def start(conn: Connection, plan: Plan, policy: Policy, asked: Asked) -> UUID:
    """Freezes the list as of now. It waits for a second person if the rules say so; otherwise the worker takes it up.
    Raises Rejected `person_required`, `resets_exhausted`."""
    wanted = plan.wanted(alone=await reset_alone(conn, policy.district, asked))
    waits = decider.list_waits(wanted, policy, human=asked.human)
    batch_id = await insert(conn, policy.district, "lines", asked, plan=plan, waits=waits)
    await _list(conn, batch_id, plan, "listed" if waits else "planned", asked.now)
    return batch_id


async def reset_one(
    store: EventStore, conn: Connection, person_id: UUID, policy: Policy, asked: Asked
) -> UUID:
    """Resets one account at once, claimed or not; what is left is auth's confirmation. Raises Rejected
    `person_unknown`, `approval_required` where this one needs a second person, `resets_exhausted`."""
    kind = await require_person(conn, person_id, policy.district)
    alone = await reset_alone(conn, policy.district, asked)
    decider.allow_single(Wanted(accounts=1, extent="account", staff=kind == "staff", alone=alone), policy)
    batch_id = uuid4()

    def decide(account: Account, _: Any) -> Sequence[Event]:
        return decider.reset(account, batch_id=batch_id, actor=asked.actor, desk_ticket=asked.desk_ticket)

    outcome = await transact(
        store, DECIDER, policy.district, person_id, decide, now=asked.now, cause=asked.cause, conn=conn
    )
    plan = _plan_of_one(person_id, outcome.state)
    await insert(conn, policy.district, "account", asked, plan=plan, batch_id=batch_id)
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
        asked = Asked("auth", "auth", 0, False, None, now, cause)
        await insert(conn, district, "account", asked, plan=plan, batch_id=batch_id, of="credential_lost")
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
    `person_required`, `approver_is_author`, `role_not_below`, `batch_cancelled`."""
    row = await found(conn, sql.find_batch_locked, batch_id, policy.district)
    if row["state"] == "cancelled":
        raise Rejected("batch_cancelled")
    if row["state"] == "awaiting_approval":
        listed = [item["person_id"] for item in await conn.fetch(sql.staff_of, batch_id)]
        held = max((await ranks_of(conn, listed)).values(), default=0)
        decider.approve_list(
            row["author_who"], asked.who, policy, human=asked.human, by=asked.rank, held=held
        )
        await conn.execute(sql.approve_batch, batch_id, asked.actor, asked.now)
        await conn.execute(sql.plan_items, batch_id, asked.now)


async def cancel(conn: Connection, district: str, batch_id: UUID, *, now: datetime) -> None:
    """Takes back what has not begun; what was reset stays reset. Raises Rejected `batch_unknown`."""
    await found(conn, sql.find_batch_locked, batch_id, district)
    if (await conn.execute(sql.cancel_items, batch_id, now)) != "UPDATE 0":
        await conn.execute(sql.cancel_batch, batch_id, now)


async def retry(conn: Connection, district: str, batch_id: UUID, *, now: datetime) -> None:
    """What was set aside is tried again, as the list was frozen: whoever was reset or claimed since is left alone. Said
    twice, it is done once. Raises Rejected `batch_unknown`, `batch_cancelled`."""
    row = await found(conn, sql.find_batch_locked, batch_id, district)
    if row["state"] == "cancelled":
        raise Rejected("batch_cancelled")
    await conn.execute(sql.plan_failed_items, batch_id, now)


async def found(conn: Connection, query: str, batch_id: UUID, district: str) -> Row:
    """A batch's row. Raises Rejected `batch_unknown`."""
    row = await conn.fetchrow(query, batch_id, district)
    if row is None:
        raise Rejected("batch_unknown")
    return row


async def reset_alone(conn: Connection, district: str, asked: Asked) -> int:
    """How many accounts this person, or client, has reset in the last day without a second person. Their other requests
    wait until this transaction ends: of a hundred that are sent at once, each is counted by the next."""
    await conn.execute(sql.take_turn, f"client:{district}:{asked.who}")
    return int(await conn.fetchval(sql.count_reset_alone, district, asked.who, asked.now - decider.DAY))


async def insert(
    conn: Connection,
    district: str,
    extent: Extent,
    asked: Asked,
    *,
    plan: Plan | None = None,
    batch_id: UUID | None = None,
    of: str = "desk",
    school: str | None = None,
    unclaimed: int | None = None,
    waits: bool = False,
) -> UUID:
    """A batch without its items. Of pasted lines it keeps the report, without names and numbers: those stay in the
    roster's table, and are shown as they are then."""
    batch_id = batch_id or uuid4()
    plan = plan or Plan([], {})
    report = [msgspec.structs.replace(finding, on_file=None, username=None) for finding in plan.findings]
    await conn.execute(
        sql.insert_batch,
        batch_id,
        district,
        of,
        extent,
        school,
        "awaiting_approval" if waits else "approved",
        asked.actor,
        asked.desk_ticket,
        asked.now,
        report,
        plan.unclaimed if unclaimed is None else unclaimed,
        asked.cause.correlation_id,
        asked.who,
    )
    return batch_id


async def _list(conn: Connection, batch_id: UUID, plan: Plan, state: str, now: datetime) -> None:
    listed = [(f.person_id, f.line, plan.generations[f.person_id]) for f in plan.matched if f.person_id]
    persons, lines, generations = zip(*listed, strict=True) if listed else ((), (), ())
    await conn.execute(sql.insert_items, batch_id, persons, lines, generations, state, now)
