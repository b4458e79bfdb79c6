"""What operators do with every service: watch the lag, mend dead letters, rebuild read models. What a district's own
operator may see and mend of that is in district_operations."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import msgspec

from shared import dead_letter, rebuild
from shared.auth import Scope
from shared.database import Connection, Row
from shared.errors import Rejected
from shared.lag import Lag, lags
from shared.once import once
from shared.relay import backlog
from shared.web import Body, Call, Reply, Route

if TYPE_CHECKING:
    from shared.service import Kit

OPERATIONS = "/v1/operations"
OPERATOR = Scope("operator")
WAIT_S = 5.0  # for what a consumer or the rebuilder does; then the answer is 202
POLL_S = 0.1

LetterState = Literal["parked", "queued", "applied", "discarded"]


class RelayLag(msgspec.Struct, frozen=True):
    """Events that Kafka has not acknowledged yet, and the age of the oldest."""

    pending: int
    oldest_s: float


class Lags(msgspec.Struct, frozen=True):
    relay: RelayLag
    consumers: list[Lag]


class LetterQuery(Body, frozen=True):
    """Open ones when no `state` is named. `after`: the id to go on from."""

    state: LetterState | None = None
    consumer: str | None = None
    district: str | None = None
    after: Annotated[int, msgspec.Meta(ge=0, le=2**62)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 100


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record that was not taken. `parked`: first of its key; `queued`: waits behind it. `version`: of our own events.

    `wish` is what was asked for and is not done yet. Headers and value only of one that is asked for by its id.
    """

    id: int
    consumer: str
    district: str
    key: str | None
    version: int | None
    event_id: str | None
    topic: str
    part: int
    record_offset: int
    appended_at: datetime
    reason: str
    detail: str
    state: LetterState
    attempts: int
    first_at: datetime
    changed_at: datetime
    wish: Literal["retry", "discard"] | None
    changed_by: str | None
    note: str | None
    record_key: str | None = None
    headers: dict[str, str] | None = None
    value: str | None = None


class DeadLetters(msgspec.Struct, frozen=True):
    """`next_after` goes on where a long list was cut."""

    dead_letters: list[DeadLetter]
    next_after: int | None


class Discard(Body, frozen=True):
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


SETTLED = {200: DeadLetter, 202: DeadLetter}
UNSETTLED = {"dead_letter_settled": 409, "dead_letter_not_first": 409, "history_missing": 409}


class RebuildQuery(Body, frozen=True):
    projection: str | None = None


class RebuildStart(Body, frozen=True):
    """A `replay` is compared and dropped by itself."""

    projection: str
    purpose: Literal["rebuild", "replay"] = "rebuild"


class Rebuild(msgspec.Struct, frozen=True, kw_only=True):
    """`done` of `total` records while it is building, at `rate` a second, with `left_s` to go.

    `report` once it was compared: `compared` persons at equal versions, `different` among them (`examples`: whose and
    which columns), `not_compared` (on their way), `dead_letters` of the new table. `error`: why the last wish was not
    granted, or why it failed.
    """

    id: UUID
    projection: str
    purpose: str
    state: Literal["building", "following", "switched", "dropped", "failed"]
    wish: str | None
    done: int
    total: int
    rate: int | None
    left_s: int | None
    report: dict[str, Any]
    error: str | None
    started_by: str
    started_at: datetime
    changed_at: datetime
    finished_at: datetime | None


class Rebuilds(msgspec.Struct, frozen=True):
    rebuilds: list[Rebuild]


def routes(kit: "Kit") -> list[Route]:
    """The kit's own routes for operators of all districts."""
    return [*_lag_routes(kit), *_letter_routes(kit), *_rebuild_routes(kit)]


def _route(method: Any, path: str, handler: Any, summary: str, **more: Any) -> Route:
    return Route(method, OPERATIONS + path, handler, summary, OPERATOR, despite_divergence=True, **more)


def _by(call: Call[Any]) -> str:
    """A client's name, or the id of the person whose session acts: their name could not be erased here."""
    assert call.caller is not None
    return call.caller.subject if "sid" in call.caller.claims else call.caller.name


async def _until(found: Callable[[], Awaitable[Any]]) -> Any:
    """The first answer that is not None; None when it takes too long."""
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while (answer := await found()) is None and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(POLL_S)
    return answer


# ------------------------------------------------------------------ lag


async def find_lags(kit: "Kit", now: datetime) -> Lags:
    async with kit.db.connection() as conn:
        waiting = await backlog(conn)
        found = await lags(conn, kit.settings, kit.runners.states if kit.runners else {}, now)
    return Lags(RelayLag(waiting.pending, waiting.oldest_age_s(now)), found)


def _lag_routes(kit: "Kit") -> list[Route]:
    async def lag(call: Call[None]) -> Reply:
        return Reply(200, await find_lags(kit, call.now))

    summary = "How far the relay and every projection and consumer are behind."
    return [_route("GET", "/lag", lag, summary, success={200: Lags})]


# ------------------------------------------------------------------ dead letters


def letters(rows: list[Row], limit: int) -> DeadLetters:
    """Rows of one more than `limit`, to see whether there are more."""
    told = [DeadLetter(**dead_letter.public(row)) for row in rows[:limit]]
    return DeadLetters(told, told[-1].id if len(rows) > limit else None)


async def find_letter(kit: "Kit", call: Call[Any], district: str | None = None) -> Row:
    """The letter of the path. Rejected `not_found`, also for one of another district."""
    number = call.path["letter_id"]
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        raise Rejected("not_found")
    async with kit.db.connection() as conn:
        row = await dead_letter.find(conn, int(number))
    if row is None or district not in (None, row["district"]):
        raise Rejected("not_found")
    return row


def _letter_routes(kit: "Kit") -> list[Route]:
    async def list_letters(call: Call[None]) -> Reply:
        query = call.query
        async with kit.db.connection() as conn:
            rows = await dead_letter.letters(
                conn, district=query.district, consumer=query.consumer, state=query.state, after=query.after,
                limit=query.limit + 1,
            )  # fmt: skip
        return Reply(200, letters(rows, query.limit))

    async def show(call: Call[None]) -> Reply:
        return Reply(200, DeadLetter(**dead_letter.public(await find_letter(kit, call))))

    async def retry(call: Call[Any]) -> Reply:
        return await settle(kit, call, await find_letter(kit, call), "retry", None)

    async def discard(call: Call[Discard]) -> Reply:
        return await settle(kit, call, await find_letter(kit, call), "discard", call.body.reason)

    one = "/dead-letters/{letter_id}"
    return [
        _route("GET", "/dead-letters", list_letters, "What could not be taken, oldest first.", query=LetterQuery,
               success={200: DeadLetters}),
        _route("GET", one, show, "One dead letter with its record.", success={200: DeadLetter}),
        _route("POST", f"{one}/retry", retry, "Takes it again; what queued behind it follows in order.",
               success=SETTLED, refusals=UNSETTLED),
        _route("POST", f"{one}/discard", discard, "Gives it up for ever; what queued behind it follows in order.",
               body=Discard, success=SETTLED, refusals=UNSETTLED),
    ]  # fmt: skip


async def settle(kit: "Kit", call: Call[Any], letter: Row, what: str, note: str | None) -> Reply:
    """Leave a wish and wait a little for its consumer. 200: it was tried (see `state`); 202: not yet."""

    async def ask(conn: Connection) -> Reply:
        if letter["state"] in ("applied", "discarded"):
            raise Rejected("dead_letter_settled", state=letter["state"])
        if what == "discard" and letter["reason"] == "version_gap":
            raise Rejected("history_missing")
        asked = await dead_letter.wish(conn, letter["id"], what, by=_by(call), note=note, now=call.now)
        if asked is None:
            raise Rejected("dead_letter_not_first")
        return Reply(202, DeadLetter(**dead_letter.public(asked)))

    async def tried() -> Row | None:
        row = await find_letter(kit, call)
        return row if row["wish"] is None else None

    reply = await once(call, kit.db, ask)
    row = await _until(tried)
    return reply if row is None else Reply(200, DeadLetter(**dead_letter.public(row)), reply.headers)


# ------------------------------------------------------------------ rebuilds


def _rebuild_routes(kit: "Kit") -> list[Route]:
    names = {projection.name for projection in (*kit.spec.inline, *kit.spec.projections)}

    def check(projection: str | None) -> None:
        if projection is not None and projection not in names:
            raise Rejected("projection_unknown", known=sorted(names))

    async def start(call: Call[RebuildStart]) -> Reply:
        async def begin(conn: Connection) -> Reply:
            check(call.body.projection)
            row = await rebuild.start(
                conn, call.body.projection, call.body.purpose, by=_by(call), now=call.now
            )
            if row is None:
                raise Rejected("rebuild_open")
            return Reply(202, _told(row, call.now), {"Location": f"{OPERATIONS}/rebuilds/{row['id']}"})

        return await once(call, kit.db, begin)

    async def status(call: Call[None]) -> Reply:
        check(call.query.projection)
        async with kit.db.connection() as conn:
            rows = await rebuild.all_of(conn, call.query.projection)
        return Reply(200, Rebuilds([_told(row, call.now) for row in rows]))

    async def show(call: Call[None]) -> Reply:
        return Reply(200, _told(await _find_rebuild(kit, call), call.now))

    def wishing(what: str) -> Callable[[Call[Any]], Awaitable[Reply]]:
        async def wish(call: Call[Any]) -> Reply:
            return await _wish(kit, call, what)

        return wish

    done, refusals = {200: Rebuild, 202: Rebuild}, {"rebuild_finished": 409, "rebuild_not_ready": 409}
    unknown = {"projection_unknown": 422}
    one = "/rebuilds/{rebuild_id}"
    return [
        _route("POST", "/rebuilds", start, "Makes a read model anew beside the running one.", body=RebuildStart,
               success={202: Rebuild}, refusals=unknown | {"rebuild_open": 409}),
        _route("GET", "/rebuilds", status, "Rebuilds, newest first.", query=RebuildQuery, success={200: Rebuilds},
               refusals=unknown),
        _route("GET", one, show, "One rebuild.", success={200: Rebuild}),
        _route("POST", f"{one}/compare", wishing("compare"), "Compares the new table with the running one.",
               success=done, refusals=refusals),
        _route("POST", f"{one}/switch", wishing("switch"), "Serves from the new table; the old one is kept.",
               success=done, refusals=refusals),
        _route("POST", f"{one}/drop", wishing("drop"), "Drops the table that is not served.", success=done,
               refusals=refusals),
    ]  # fmt: skip


def _told(row: Row, now: datetime) -> Rebuild:
    return Rebuild(**rebuild.public(row, now))


async def _find_rebuild(kit: "Kit", call: Call[Any]) -> Row:
    async with kit.db.connection() as conn:
        row = await rebuild.find(conn, call.uuid("rebuild_id"))
    if row is None:
        raise Rejected("not_found")
    return row


async def _wish(kit: "Kit", call: Call[Any], what: str) -> Reply:
    """Leave a wish and wait a little for the rebuilder. 202: it is still at it."""
    found = await _find_rebuild(kit, call)
    dropped, compared = found["finished_at"] is not None, "compared" in found["report"]
    if dropped and (what == "drop" or (what == "compare" and compared)):
        return Reply(200, _told(found, call.now))  # as it is already: a replay does both by itself

    async def ask(conn: Connection) -> Reply:
        if what != "drop" and found["state"] != "following":
            reason = "rebuild_not_ready" if found["state"] == "building" else "rebuild_finished"
            raise Rejected(reason, state=found["state"])
        asked = await rebuild.wish(conn, found["id"], what, call.now)
        if asked is None:
            raise Rejected("rebuild_finished", state=found["state"])
        return Reply(202, _told(asked, call.now))

    async def granted() -> Row | None:
        row = await _find_rebuild(kit, call)
        return row if row["wish"] is None else None

    reply = await once(call, kit.db, ask)
    row = await _until(granted)
    if row is None:
        return reply
    if row["error"] is not None:
        raise Rejected("rebuild_not_ready", state=row["state"], problem=row["error"])
    return Reply(200, _told(row, call.now), reply.headers)
