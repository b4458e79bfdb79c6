"""What the operator of one district may see of the machinery that all districts share, and mend of it (decision 34).

Counts and states are everybody's; a dead letter is its district's. What is of no district (starting rebuilds, giving up
an event of ours) stays with those who serve every one: operations.py.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from shared import dead_letter, rebuild
from shared.auth import Scope
from shared.database import Row
from shared.errors import Rejected
from shared.messages import ingress_topic, is_ingress
from shared.operations import (
    OPERATOR,
    SETTLED,
    UNSETTLED,
    DeadLetter,
    DeadLetters,
    Discard,
    Lags,
    LetterState,
    find_lags,
    find_letter,
    letters,
    settle,
)
from shared.web import Body, Call, Reply, Route

if TYPE_CHECKING:
    from shared.service import Kit

DISTRICT = "/v1/districts/{district}"


class OwnLetterQuery(Body, frozen=True):
    """Open ones when no `state` is named. `after`: the id to go on from."""

    state: LetterState | None = None
    after: Annotated[int, msgspec.Meta(ge=0, le=2**62)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 100


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A rebuild without what it says of persons, or of who began it. `different` of `compared` rows, once known."""

    projection: str
    purpose: str
    state: Literal["building", "following", "switched", "dropped", "failed"]
    done: int
    total: int
    rate: int | None
    left_s: int | None
    compared: int | None
    different: int | None
    started_at: datetime
    changed_at: datetime
    finished_at: datetime | None


class RebuildProgress(msgspec.Struct, frozen=True):
    rebuilds: list[Progress]


def routes(kit: "Kit") -> list[Route]:
    found = [*_watch_routes(kit), *_letter_routes(kit)]
    return [*found, *_discard_routes(kit)] if kit.spec.has_intakes else found


def _route(method: Any, path: str, handler: Any, summary: str, caller: Any = OPERATOR, **more: Any) -> Route:
    return Route(method, DISTRICT + path, handler, summary, caller, despite_divergence=True, **more)


# ------------------------------------------------------------------ lag and rebuilds


def _watch_routes(kit: "Kit") -> list[Route]:
    async def lag(call: Call[None]) -> Reply:
        found, own = await find_lags(kit, call.now), _ingress(kit, call)
        prefix = kit.settings.topic_prefix
        theirs = [each for each in found.consumers if each.topic == own or not is_ingress(prefix, each.topic)]
        return Reply(200, Lags(found.relay, theirs))

    async def rebuilds(call: Call[None]) -> Reply:
        async with kit.db.connection() as conn:
            rows = await rebuild.all_of(conn, None)
        return Reply(200, RebuildProgress([_progress(row, call.now) for row in rows]))

    return [
        _route("GET", "/lag", lag, "How far the relay and every projection and consumer are behind, but for what other"
               " districts publish.", success={200: Lags}),
        _route("GET", "/rebuilds", rebuilds, "Rebuilds of the read models that serve every district, newest first.",
               success={200: RebuildProgress}),
    ]  # fmt: skip


def _progress(row: Row, now: datetime) -> Progress:
    told = rebuild.public(row, now)
    report = told["report"]
    told |= {"compared": report.get("compared"), "different": report.get("different")}
    return Progress(**{name: told[name] for name in Progress.__struct_fields__})


# ------------------------------------------------------------------ dead letters


def _ingress(kit: "Kit", call: Call[Any]) -> str:
    return ingress_topic(kit.settings.topic_prefix, call.district)


def _letter_routes(kit: "Kit") -> list[Route]:
    async def list_own(call: Call[None]) -> Reply:
        query = call.query
        topic = None if _operates(call) else _ingress(kit, call)
        async with kit.db.connection() as conn:
            rows = await dead_letter.letters(
                conn, district=call.district, topic=topic, state=query.state, after=query.after,
                limit=query.limit + 1,
            )  # fmt: skip
        return Reply(200, letters(rows, query.limit))

    async def show_own(call: Call[None]) -> Reply:
        return Reply(200, DeadLetter(**dead_letter.public(await _find_own(kit, call))))

    async def retry(call: Call[Any]) -> Reply:
        return await settle(kit, call, await _find_own(kit, call), "retry", None)

    reader = Scope("roster:write", "operator") if kit.spec.has_intakes else OPERATOR
    path = "/dead-letters"
    return [
        _route("GET", path, list_own, "What concerns the district and could not be taken, oldest first; with"
               " `roster:write` alone, what it published.", reader, query=OwnLetterQuery, success={200: DeadLetters}),
        _route("GET", f"{path}/{{letter_id}}", show_own, "One of them with its record.", reader,
               success={200: DeadLetter}),
        _route("POST", f"{path}/{{letter_id}}/retry", retry, "Takes it again; what queued behind it follows in order.",
               success=SETTLED, refusals=UNSETTLED),
    ]  # fmt: skip


def _discard_routes(kit: "Kit") -> list[Route]:
    async def discard(call: Call[Discard]) -> Reply:
        letter = await _find_own(kit, call)
        if letter["topic"] != _ingress(kit, call):
            raise Rejected("dead_letter_of_ours")
        return await settle(kit, call, letter, "discard", call.body.reason)

    return [
        _route("POST", "/dead-letters/{letter_id}/discard", discard, "Gives up for ever what the district published;"
               " what queued behind it follows in order.", body=Discard, success=SETTLED,
               refusals=UNSETTLED | {"dead_letter_of_ours": 403}),
    ]  # fmt: skip


def _operates(call: Call[Any]) -> bool:
    return call.caller is not None and "operator" in call.caller.scopes


async def _find_own(kit: "Kit", call: Call[Any]) -> Row:
    """The letter of the path. Rejected `not_found`, also for one that the caller may not see."""
    letter = await find_letter(kit, call, call.district)
    if not _operates(call) and letter["topic"] != _ingress(kit, call):
        raise Rejected("not_found")
    return letter
