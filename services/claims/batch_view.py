"""How far a reset is, as whoever asked for it sees it: figures, and the accounts page by page."""

import math
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from services.claims.batches import found, sql
from services.claims.decider import Extent
from services.claims.reset_lines import LINES_MAX, Finding
from shared.auth import SESSIONS_END_WITHIN
from shared.database import Connection, Row
from shared.policy import Policy

PAGE = LINES_MAX
LATELY = timedelta(seconds=30)  # over which the rate is taken
SETTLED = ("done", "skipped", "failed")


class BatchLine(msgspec.Struct, frozen=True, kw_only=True):
    """A batch in a list: what `Batch` says of it, without its lines and its rate."""

    batch_id: UUID
    state: str  # awaiting_approval, running, done, cancelled
    cause: str
    extent: Extent
    school: str | None
    author: str
    author_name: str | None
    approved_by: str | None
    approved_by_name: str | None
    desk_ticket: str | None
    as_of: datetime
    total: int
    done: int
    unclaimed: int


class Batch(BatchLine, frozen=True, kw_only=True):
    """A batch as the help desk sees it; `author_name` and `approved_by_name` are what these clients are called.

    `total` accounts are to be reset; `done`: those of which auth has confirmed that their sessions have ended, and none
    of its processes can still believe one; `unclaimed` had nothing to reset when the list was frozen. `per_second` is
    the rate of the last half minute, `seconds_left` what is left at that rate. `lines` are pasted lines, or the
    accounts of a school or of all students; `next_after` is where the next page of them begins."""

    counts: dict[str, int]
    per_second: float | None
    seconds_left: int | None
    lines: list[Finding]
    next_after: int | None


class Batches(msgspec.Struct, frozen=True):
    """The newest first; `next_after`: the batch behind which the next page begins."""

    batches: list[BatchLine]
    next_after: UUID | None


async def list_batches(
    conn: Connection, district: str, *, waiting: bool, after: UUID | None, limit: int
) -> Batches:
    """One page of a district's resets, or of those that wait for a second person."""
    rows = await conn.fetch(sql.list_batches, district, waiting, after, limit + 1)
    page = []
    for row in rows[:limit]:
        found = dict(row)
        found["state"] = _state(found["state"], found.pop("under_way"))
        page.append(BatchLine(**found))
    return Batches(page, page[-1].batch_id if len(rows) > limit else None)


def _state(stored: str, under_way: int) -> str:
    """What was approved is done once nothing of it is under way."""
    return stored if stored != "approved" else "running" if under_way else "done"


async def show(
    conn: Connection,
    policy: Policy,
    batch_id: UUID,
    now: datetime,
    *,
    after: int = 0,
    limit: int | None = None,
) -> Batch:
    """How far a batch is, with at most `limit` of its lines behind `after`, under the usernames of today; without a
    limit all that were pasted, of a school or of all students none. Raises Rejected `batch_unknown`."""
    row = await found(conn, sql.find_batch, batch_id, policy.district)
    bulk = row["extent"] in ("school", "all_students")
    limit = (0 if bulk else PAGE) if limit is None else limit
    states = {
        of["state"]: of
        for of in await conn.fetch(sql.item_states, batch_id, now - LATELY, now - SESSIONS_END_WITHIN)
    }
    accounts = {name: int(of["accounts"]) for name, of in states.items()}
    under_way = accounts.get("planned", 0) + accounts.get("reset", 0)
    state = _state(row["state"], under_way)
    if bulk:
        counts = Counter[str]()
        for name, count in accounts.items():
            counts[_shown(name)] += count
        lines = await _page(conn, policy, batch_id, after, limit + 1, now)
    else:
        report = await _report(conn, policy, batch_id, row, now)
        counts = Counter(line.state for line in report)
        lines = [line for line in report if line.line > after][: limit + 1]
    rate = _rate(states, row, now) if state == "running" else None
    return Batch(
        batch_id=batch_id,
        state=state,
        cause=row["cause"],
        extent=row["extent"],
        school=row["school"],
        author=row["author"],
        author_name=row["author_name"],
        approved_by=row["approved_by"],
        approved_by_name=row["approved_by_name"],
        desk_ticket=row["desk_ticket"],
        as_of=row["as_of"],
        total=sum(accounts.values()),
        done=accounts.get("done", 0),
        unclaimed=row["unclaimed"],
        counts=dict(counts),
        per_second=rate and round(rate, 1),
        seconds_left=math.ceil(under_way / rate) if rate else None,
        lines=lines[:limit],
        next_after=(lines[limit - 1].line if limit else after) if len(lines) > limit else None,
    )


async def _report(conn: Connection, policy: Policy, batch_id: UUID, row: Row, now: datetime) -> list[Finding]:
    """Pasted lines, and what became of each."""
    items = {
        item["line"]: item for item in await conn.fetch(sql.items_of, batch_id, now - SESSIONS_END_WITHIN)
    }
    report = msgspec.convert(row["report"], list[Finding])
    persons = [finding.person_id for finding in report if finding.person_id]
    numbers = await conn.fetch(sql.persons_of, persons, policy.district)
    known = {person["person_id"]: person for person in numbers}
    return [_line(finding, items, known, policy) for finding in report]


def _line(finding: Finding, items: Mapping[int, Row], known: Mapping[UUID, Row], policy: Policy) -> Finding:
    username = name = None
    if finding.person_id and (person := known.get(finding.person_id)):
        username = policy.username(person["kind"], person["number"])
        name = f"{person['first_name']} {person['last_name']}"
    finding, item = msgspec.structs.replace(finding, username=username, name=name), items.get(finding.line)
    if item is None:
        return finding
    return msgspec.structs.replace(
        finding,
        state=_shown(item["state"]),
        reason=item["reason"],
        reference=item["reference"],
        sessions_ended=item["sessions_ended"],
    )


async def _page(
    conn: Connection, policy: Policy, batch_id: UUID, after: int, limit: int, now: datetime
) -> list[Finding]:
    """Accounts of a long list, in the order in which they are reset."""
    return [
        Finding(
            line=item["line"],
            state=_shown(item["state"]),
            person_id=item["person_id"],
            username=policy.username("student", item["number"]) if item["number"] else None,
            name=f"{item['first_name']} {item['last_name']}" if item["number"] else None,
            reason=item["reason"],
            reference=item["reference"],
            sessions_ended=item["sessions_ended"],
        )
        for item in await conn.fetch(
            sql.item_page, batch_id, policy.district, after, limit, now - SESSIONS_END_WITHIN
        )
    ]


def _shown(state: str) -> str:
    """What has not begun is shown as what it was found to be."""
    return "matched" if state in ("listed", "planned") else state


def _rate(states: Mapping[str, Row], row: Row, now: datetime) -> float | None:
    """Accounts a second that were settled lately; None while there are none."""
    settled = sum(states[name]["lately"] for name in SETTLED if name in states)
    seconds = min(LATELY, now - row["changed_at"]).total_seconds()
    return settled / seconds if settled and seconds > 0 else None
