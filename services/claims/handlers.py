"""One function for each command: it chooses the stream, reads what else the decision needs, and passes the time on.

Each runs inside its caller's transaction (`conn`), so that what else must change changes with the events. Dying before
the commit leaves nothing behind; dying after it loses only the answer, and asking again is safe.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4, uuid5

import msgspec

from services.claims import decider
from services.claims.decider import Account, Claim, Pupil, Typed
from services.claims.projections import ACCOUNT
from shared.database import Connection, queries
from shared.errors import Rejected
from shared.event_store import EventStore
from shared.messages import Cause, Event
from shared.policy import Kind, Policy, rank
from shared.transact import Decider, transact

DECIDER = Decider(decider.initial, decider.evolve)
sql = queries("services.claims")


class Opened(msgspec.Struct, frozen=True):
    """An open claim, and whose it is."""

    pupil: Pupil
    claim: Claim


class Asked(msgspec.Struct, frozen=True):
    """Who asks for something, for which of the help desk's tickets, when, and as part of which journey. `human`: by a
    client or session that is one person's; `who`: that person, where it is known, else the `actor`; `rank`: among the
    roles of the staff."""

    actor: str
    who: str
    rank: int
    human: bool
    desk_ticket: str | None
    now: datetime
    cause: Cause


async def open_claim(
    store: EventStore,
    conn: Connection,
    typed: Typed,
    policy: Policy,
    *,
    key: str | None,
    now: datetime,
    cause: Cause,
) -> Opened:
    """Opens a claim, or raises Rejected. Under the same `key`, a claim that is still open is found again.

    Everybody who is refused costs the same: one look at the persons, one at their accounts.
    """
    found = await pupils_under(conn, policy.district, [typed.number])
    accounts = await ACCOUNT.load(conn, [pupil.person_id for pupil in found])
    pupil = decider.identify(typed, found, policy)
    known = accounts.get(pupil.person_id, decider.initial)
    claim_id = _claim_id(known, pupil, key, now)
    # Whoever is refused is refused here; below we are sure.
    decider.open_claim(known, pupil, policy, now, claim_id)

    def decide(account: Account, _: Any) -> Sequence[Event]:
        return decider.open_claim(account, pupil, policy, now, claim_id)

    outcome = await transact(
        store, DECIDER, policy.district, pupil.person_id, decide, now=now, cause=cause, conn=conn
    )
    claim = outcome.state.claim(claim_id)
    assert claim is not None
    return Opened(pupil, claim)


def _claim_id(account: Account, pupil: Pupil, key: str | None, now: datetime) -> UUID:
    """Named by the key for as long as that claim is open; a key that outlives its claim names nothing any more."""
    if key is None:
        return uuid4()
    named = uuid5(pupil.person_id, key)
    claim = account.claim(named)
    return named if claim is None or decider.claim_state(account, claim, now)[0] == "open" else uuid4()


async def complete_claim(
    store: EventStore,
    conn: Connection,
    person_id: UUID,
    policy: Policy,
    *,
    claim_id: UUID,
    credential_id: UUID,
    generation: int,
    sealed_at: datetime,
    now: datetime,
    cause: Cause,
) -> None:
    """Decides whether a sealed credential claims the account, with the person's admission held meanwhile."""

    def decide(account: Account, pupil: Pupil | None) -> Sequence[Event]:
        return decider.decide_claim(
            account, pupil, policy,
            claim_id=claim_id, credential_id=credential_id, generation=generation, sealed_at=sealed_at,
        )  # fmt: skip

    await transact(
        store, DECIDER, policy.district, person_id, decide,
        now=now, cause=cause, conn=conn, load=hold_pupil(person_id, policy.district),
    )  # fmt: skip


def hold_pupil(person_id: UUID, district: str) -> Callable[[Connection], Awaitable[Pupil | None]]:
    """Reads a person's admission, held against the projector until the decision is committed."""

    async def hold(conn: Connection) -> Pupil | None:
        row = await conn.fetchrow(sql.pupil_locked, person_id, district)
        return None if row is None else Pupil(**dict(row))

    return hold


async def waive(
    store: EventStore, person_id: UUID, district: str, asked: Asked, *, reason: str | None
) -> None:
    """Lets one person claim without waiting. Raises Rejected `person_unknown`."""

    def decide(account: Account, _: Any) -> Sequence[Event]:
        return decider.waive(account, actor=asked.actor, desk_ticket=asked.desk_ticket, reason=reason)

    await _for_known(store, person_id, district, asked, decide)


async def revoke_waiver(store: EventStore, person_id: UUID, district: str, asked: Asked) -> None:
    """Lets the waiting period of one person count again. Raises Rejected `person_unknown`."""

    def decide(account: Account, _: Any) -> Sequence[Event]:
        return decider.revoke_waiver(account, actor=asked.actor, desk_ticket=asked.desk_ticket)

    await _for_known(store, person_id, district, asked, decide)


async def suspend(store: EventStore, person_id: UUID, district: str, asked: Asked) -> None:
    """Closes an account for the help desk. Raises Rejected `person_unknown`, `role_not_below`."""

    def decide(account: Account, held: int) -> Sequence[Event]:
        decider.refuse_not_below(held, asked.rank)
        return decider.suspend(account, actor=asked.actor, desk_ticket=asked.desk_ticket)

    await _for_known(store, person_id, district, asked, decide)


async def restore(store: EventStore, person_id: UUID, district: str, asked: Asked) -> None:
    """Takes the help desk's suspension back. Raises Rejected `person_unknown`, `role_not_below`."""

    def decide(account: Account, held: int) -> Sequence[Event]:
        decider.refuse_not_below(held, asked.rank)
        return decider.restore(account, actor=asked.actor, desk_ticket=asked.desk_ticket)

    await _for_known(store, person_id, district, asked, decide)


async def _for_known(
    store: EventStore,
    person_id: UUID,
    district: str,
    asked: Asked,
    decide: Callable[[Account, Any], Sequence[Event]],
) -> None:
    async def known(conn: Connection) -> int:
        await require_person(conn, person_id, district)
        return (await ranks_of(conn, [person_id])).get(person_id, 0)

    await transact(store, DECIDER, district, person_id, decide, now=asked.now, cause=asked.cause, load=known)


async def pupils_under(conn: Connection, district: str, numbers: Sequence[str]) -> list[Pupil]:
    """Everybody whom the roster has under these numbers, enrolled or not."""
    return [Pupil(**dict(row)) for row in await conn.fetch(sql.pupils_under, district, numbers)]


async def ranks_of(conn: Connection, persons: Sequence[UUID]) -> dict[UUID, int]:
    """How high the roles of some persons stand, of those that have any."""
    return {row["person_id"]: rank(row["roles"]) for row in await conn.fetch(sql.roles_of, persons)}


async def require_person(conn: Connection, person_id: UUID, district: str) -> Kind:
    """What the person is. Raises Rejected `person_unknown` unless the person is of this district."""
    row = await conn.fetchrow(sql.person_of, person_id, district)
    if row is None:
        raise Rejected("person_unknown")
    kind: Kind = row["kind"]
    return kind
