"""Who of the staff may do what: roles are given and taken back by an operator. And how an account stands here, for the
help desk."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct, convert

from services.auth import decider, pauses
from services.auth.decider import Held, State
from services.auth.handlers import Auth, Occasion, find_person, record
from services.auth.pauses import Failures
from services.auth.projections import Person
from shared.database import Connection, queries
from shared.policy import Role
from shared.timeline import RefusalSeen

HOLDERS_MAX = 1000
RECENT = 20  # sessions and refusals that are shown, the newest first

_sql = queries(__package__)


class RoleHeld(Struct, frozen=True):
    """A role, and since when."""

    role: Role
    since: datetime


class Holder(Struct, frozen=True, kw_only=True):
    """A member of the staff who has roles."""

    person_id: UUID
    username: str
    last_name: str
    first_name: str
    roles: list[RoleHeld]


class SessionSeen(Struct, frozen=True, kw_only=True):
    """A browser or app in which the person is signed in; nothing that it could be used by."""

    session_id: UUID
    device_kind: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


class Standing(Struct, frozen=True, kw_only=True):
    """What auth knows of one account. `state`: none, pending, live, suspended or revoked. `password_since`: the present
    password. `resting_until`: the questions rest. `wrong_passwords`: in a row, the last at `wrong_password_at`.
    `paused_until`: no password is looked at on a device that the account does not know; its own go on. `code_until`: a
    one-time code is out that was not used. `below`: no role of the person's is as high as those of whoever asks, who
    may therefore change the account."""

    person_id: UUID
    username: str
    state: str
    generation: int
    password_since: datetime | None
    roles: list[RoleHeld]
    below: bool
    sessions: list[SessionSeen]
    wrong_passwords: int
    wrong_password_at: datetime | None
    paused_until: datetime | None
    wrong_answers: int
    resting_until: datetime | None
    code_until: datetime | None
    refusals: list[RefusalSeen]


async def grant(
    auth: Auth, on: Occasion, person_id: UUID, role: Role, *, actor: str, own: bool, desk_ticket: str | None
) -> None:
    """`own`: it is whoever asks. Raises Rejected person_unknown, not_staff, role_own, has_left, not_claimed,
    account_suspended."""

    def decide(state: State, person: Person) -> Sequence[Any]:
        return decider.grant_role(
            state, role, person.kind,
            employed=person.status == "enrolled", roster_version=person.version, own=own, actor=actor,
            desk_ticket=desk_ticket,
        )  # fmt: skip

    await record(auth, on, person_id, decide, load=_known(on, person_id))


async def revoke(
    auth: Auth, on: Occasion, person_id: UUID, role: Role, *, actor: str, desk_ticket: str | None
) -> None:
    """Raises Rejected person_unknown."""

    def decide(state: State, _: Person) -> Sequence[Any]:
        return decider.revoke_role(state, role, actor=actor, desk_ticket=desk_ticket)

    await record(auth, on, person_id, decide, load=_known(on, person_id))


def _held(roles: Mapping[Role, Held]) -> list[RoleHeld]:
    return [RoleHeld(role, held.since) for role, held in sorted(roles.items())]


async def holders(auth: Auth, on: Occasion) -> list[Holder]:
    """Everybody who has a role, in the order of their names."""
    async with auth.kit.db.connection() as conn:
        rows = await conn.fetch(_sql.role_holders, on.district, HOLDERS_MAX)
    return [
        Holder(
            person_id=row["person_id"],
            username=on.policy.username(row["kind"], row["number"]),
            last_name=row["last_name"],
            first_name=row["first_name"],
            roles=_held(convert(row["roles"], dict[Role, Held])),
        )
        for row in rows
    ]


def _known(on: Occasion, person_id: UUID) -> Any:
    async def load(conn: Connection) -> Person:
        return (await find_person(conn, on.district, person_id))[0]

    return load


async def show(auth: Auth, on: Occasion, person_id: UUID, *, by: int) -> Standing:
    """How an account stands here. `by`: the rank of whoever asks. Raises Rejected person_unknown."""
    async with auth.kit.db.connection() as conn:
        person, state = await find_person(conn, on.district, person_id)
        username = on.policy.username(person.kind, person.number)
        day, _ = decider.day_of(on.policy, on.now)
        row = await conn.fetchrow(_sql.standing, person_id, auth.account(on.policy, username), day, on.now)
        sessions = await conn.fetch(
            _sql.sessions_of, person_id, on.now, on.now - on.policy.session.idle, RECENT
        )
        refusals = await conn.fetch(_sql.recent_refusals, person_id, on.district, RECENT)
    assert row is not None
    wrong = Failures(row["wrong_passwords"], row["wrong_password_at"]) if row["wrong_passwords"] else None
    paused = pauses.pause_left(wrong, on.policy, on.now)
    resting = state.rested_until if state.rested_until and state.rested_until > on.now else None
    return Standing(
        person_id=person_id,
        username=username,
        state=row["status"] or "none",
        generation=row["generation"] or 0,
        password_since=state.live.since if state.live else None,
        roles=_held(state.roles),
        below=decider.is_below(state, by),
        sessions=[SessionSeen(**dict(each)) for each in sessions],
        wrong_passwords=row["wrong_passwords"] or 0,
        wrong_password_at=row["wrong_password_at"],
        paused_until=on.now + paused if paused else None,
        wrong_answers=row["wrong_answers"] or 0,
        resting_until=resting or row["resting_until"],
        code_until=row["code_until"],
        refusals=[RefusalSeen(**dict(each)) for each in refusals],
    )
