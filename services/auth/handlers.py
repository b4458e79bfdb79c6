"""What the commands of auth are made of, and those that claims' decisions lead to.

Read, decide, hash, write: hashes are made outside of transactions, and what was decided before one is decided
again within the transaction that records it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal
from uuid import UUID, uuid4

import msgspec

from services.auth import decider
from services.auth.activity import Tally
from services.auth.audit import Trail
from services.auth.breached import Breached
from services.auth.decider import State
from services.auth.events import SuspensionCause
from services.auth.passwords import First, Hasher, common_passwords
from services.auth.projections import PERSON, Person
from services.auth.remembered import Remembered
from services.auth.saml_keys import SamlKeys
from services.auth.uses import Uses
from shared import text
from shared.database import Connection, queries
from shared.errors import Rejected, Unavailable
from shared.messages import Cause, Event
from shared.policy import Policy
from shared.service import Kit
from shared.transact import Decider, Outcome, transact

RULES = Decider(decider.initial, decider.evolve)

_sql = queries(__package__)


class Arrivals:
    """Who waits in this process for claims' verdict on which claim."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, set[asyncio.Future[None]]] = {}

    @contextmanager
    def expect(self, claim_id: UUID) -> Iterator[asyncio.Future[None]]:
        """A future that is done once the verdict is in. Ask for it before the commit that brings the verdict
        about."""
        future = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(claim_id, set())
        waiting.add(future)
        try:
            yield future
        finally:
            waiting.discard(future)
            if not waiting:
                self._waiting.pop(claim_id, None)

    def tell(self, claim_id: UUID) -> None:
        for future in self._waiting.get(claim_id, ()):
            if not future.done():
                future.set_result(None)


class Turns:
    """One at a time for each key, in this process: a hundred guesses sent at once are judged one after
    another."""

    def __init__(self) -> None:
        self._turns: dict[bytes, tuple[asyncio.Lock, int]] = {}

    async def take(self, key: bytes, work: Callable[[], Awaitable[Any]]) -> Any:
        lock, users = self._turns.get(key, (asyncio.Lock(), 0))
        self._turns[key] = lock, users + 1
        try:
            async with lock:
                return await work()
        finally:
            lock, users = self._turns.pop(key)
            if users > 1:
                self._turns[key] = lock, users - 1


class Pace:
    """A bound on what is kept for whoever asks without having shown anything (a token bucket, in this process)."""

    def __init__(self, a_second: float = 200, at_once: float = 2000) -> None:
        self._a_second, self._at_once = a_second, at_once
        self._left, self._looked_at = at_once, time.monotonic()

    def take(self) -> None:
        """Raises Unavailable when there were too many lately."""
        now = time.monotonic()
        self._left = min(self._at_once, self._left + (now - self._looked_at) * self._a_second)
        self._looked_at = now
        if self._left < 1:
            raise Unavailable("authorization_requests", retry_after_s=1)
        self._left -= 1


@dataclass(frozen=True)
class Auth:
    """What the handlers of this service work with."""

    kit: Kit
    hasher: Hasher
    arrivals: Arrivals = field(default_factory=Arrivals)
    turns: Turns = field(default_factory=Turns)
    breached: Breached | None = None
    trail: Trail = field(default_factory=Trail)
    tally: Tally = field(default_factory=Tally)
    remembered: Remembered = field(default_factory=Remembered)
    uses: Uses = field(default_factory=Uses)
    requests: Pace = field(default_factory=Pace)

    @cached_property
    def saml_keys(self) -> SamlKeys:
        return SamlKeys(self.kit.settings)

    def account(self, policy: Policy, username: str) -> bytes:
        """Under what an account's wrong tries are counted, whether it exists or not. People type passwords
        into the wrong box, so what was typed is not kept."""
        return self.hasher.peppers.keyed("account", policy.district, canonical_username(policy, username))


def canonical_username(policy: Policy, username: str) -> str:
    """One form for all ways to type a username; also for what is none."""
    named = policy.read_username(username)
    return text.folded(username) if named is None else policy.username(*named)


@dataclass(frozen=True)
class Occasion:
    """When, under which rules and why something is asked."""

    policy: Policy
    now: datetime
    cause: Cause

    @property
    def district(self) -> str:
        return self.policy.district


async def record(
    auth: Auth, on: Occasion, person_id: UUID, decide: Callable[[State, Any], Sequence[Event]], **more: Any
) -> Outcome[State]:
    """Load, fold, decide, append, for one person; `more` (load, then, conn) as for the kit's `transact`."""
    rules = (auth.kit.store, RULES, on.district, person_id, decide)
    return await transact(*rules, now=on.now, cause=on.cause, **more)


def read_state(stored: Any) -> State:
    """A person's state from the column of that name."""
    return msgspec.convert(stored, State) if stored else decider.initial


async def count_try(auth: Auth, on: Occasion, account: bytes, person_id: UUID | None) -> datetime | None:
    """Counts a try at an account's questions before the answers are looked at. When none is left today: until
    when they rest."""
    day, until = decider.day_of(on.policy, on.now)
    one_try = (account, day, on.policy.recovery.tries_a_day, on.district, person_id, on.now, until)
    async with auth.kit.db.connection() as conn:
        return None if await conn.fetchval(_sql.count_try, *one_try) else until


# What claims says, within the consumer's transaction


async def activate(
    auth: Auth,
    conn: Connection,
    on: Occasion,
    person_id: UUID,
    claim_id: UUID,
    credential_id: UUID,
    generation: int,
) -> None:
    """claims accepted: the sealed credential is live, or it is reported lost."""

    async def kept(conn: Connection) -> Any:
        return await conn.fetchval(_sql.is_kept, credential_id)

    await record(
        auth,
        on,
        person_id,
        lambda state, kept: decider.activate(state, claim_id, credential_id, generation, kept=kept),
        conn=conn,
        load=kept,
        then=lambda conn, outcome: forget(conn, on, person_id, outcome),
    )


async def discard(
    auth: Auth,
    conn: Connection,
    on: Occasion,
    person_id: UUID,
    claim_id: UUID,
    credential_id: UUID,
    reason: str,
) -> None:
    """claims rejected: what was sealed is gone."""

    async def clear(conn: Connection, outcome: Outcome[State]) -> None:
        await conn.execute(_sql.drop_staging, claim_id)
        await forget(conn, on, person_id, outcome)

    await record(
        auth,
        on,
        person_id,
        lambda state, _: decider.discard(state, claim_id, credential_id, reason),
        conn=conn,
        then=clear,
    )


async def revoke(auth: Auth, conn: Connection, on: Occasion, person_id: UUID, generation: int) -> None:
    """claims reset the account: its sessions, recoveries, codes and unfinished claims end with its
    credential."""

    async def sessions(conn: Connection) -> Any:
        return await conn.fetchval(_sql.count_sessions, person_id, on.now)

    async def void(conn: Connection, outcome: Outcome[State]) -> None:
        if outcome.events:
            live = outcome.state.live
            await conn.execute(_sql.void, person_id, generation, live.credential_id if live else None)
            await forget(conn, on, person_id, outcome)

    await record(
        auth,
        on,
        person_id,
        lambda state, open_sessions: decider.revoke(state, generation, open_sessions),
        conn=conn,
        load=sessions,
        then=void,
    )


async def suspend(
    auth: Auth, conn: Connection, on: Occasion, person_id: UUID, cause: SuspensionCause, generation: int
) -> None:
    """claims suspended the account: its sessions, recoveries and codes end."""

    async def sessions(conn: Connection) -> Any:
        return await conn.fetchval(_sql.count_sessions, person_id, on.now)

    async def close(conn: Connection, outcome: Outcome[State]) -> None:
        if outcome.events:
            await conn.execute(_sql.close_account, person_id)

    await record(
        auth,
        on,
        person_id,
        lambda state, open_sessions: decider.suspend(state, cause, generation, open_sessions),
        conn=conn,
        load=sessions,
        then=close,
    )


async def restore(
    auth: Auth, conn: Connection, on: Occasion, person_id: UUID, cause: SuspensionCause, generation: int
) -> None:
    """claims says that a cause of the suspension is gone."""
    await record(auth, on, person_id, lambda state, _: decider.restore(state, cause, generation), conn=conn)


async def leave(auth: Auth, conn: Connection, on: Occasion, person_id: UUID, version: int) -> None:
    """The roster says in a version that somebody left: their roles end, before any suspension. Nearly nobody has one,
    so histories are not loaded for it."""
    if await conn.fetchval(_sql.holds_role, person_id):
        await record(auth, on, person_id, lambda state, _: decider.leave(state, version), conn=conn)


async def forget(conn: Connection, on: Occasion, person_id: UUID, outcome: Outcome[State]) -> None:
    """Leaves in the vault what is in use, the passwords that may not be used again, and nothing else of this
    person."""
    if outcome.events:
        state = outcome.state
        in_use = [c.credential_id for c in (state.live, *state.sealed) if c]
        remembered = [c for c in decider.remembered(state, on.policy, on.now) if c not in in_use]
        await conn.execute(_sql.keep_only, person_id, in_use, remembered)


# A new password for who has a live credential


async def replace_password(
    auth: Auth,
    on: Occasion,
    person_id: UUID,
    verified: UUID,
    typed: str,
    cause: Literal["change", "recovery"],
    actor: str,
    then: Callable[[Connection, UUID], Awaitable[None]],
    first: First | None = None,
) -> None:
    """Gives a person a new credential in place of the one that was `verified`. `first` runs before the history is
    asked, `then(conn, new credential)` within the transaction. Raises Rejected: the password's reasons;
    credential_replaced when somebody was faster."""
    credential_id = uuid4()

    def decide(state: State, _: Any) -> list[Event]:
        return decider.change_password(state, verified, credential_id, cause, actor)

    async with auth.kit.db.connection() as conn:
        person, state = await find_person(conn, on.district, person_id)
        decide(state, None)
        used = await find_verifiers(conn, decider.remembered(state, on.policy, on.now))
    username = on.policy.username(person.kind, person.number)
    common = await common_forms(auth, typed)
    password = decider.accept_password(typed, person.own_words(username), common, on.policy)
    verifier = await auth.hasher.make_unused(password, used, first=first)
    if verifier is None:
        raise used_before(on.policy)

    async def write(conn: Connection, outcome: Outcome[State]) -> None:
        await conn.execute(_sql.copy_credential, verified, credential_id, verifier, on.now)
        await forget(conn, on, person_id, outcome)
        await then(conn, credential_id)

    await record(auth, on, person_id, decide, then=write)


async def common_forms(auth: Auth, typed: str) -> frozenset[str]:
    """The password as typed, and in small letters without blanks around it, where everybody tries that first or it is
    known from a breach."""
    password = decider.composed(typed)
    forms, breached = {password, password.strip().lower()}, auth.breached

    def look() -> frozenset[str]:
        return frozenset(
            f for f in forms if f in common_passwords() or (breached is not None and f in breached)
        )

    return look() if breached is None else await asyncio.to_thread(look)  # its pages may lie on a slow disk


async def find_person(conn: Connection, district: str, person_id: UUID) -> tuple[Person, State]:
    """Raises Rejected `person_unknown` for a person of whom the roster's word has not come, or of another
    district."""
    row = await conn.fetchrow(_sql.find_person, person_id, district)
    if row is None:
        raise Rejected("person_unknown")
    return PERSON.read({name: row[name] for name in PERSON.columns}), read_state(row["state"])


async def find_verifiers(conn: Connection, credentials: Sequence[UUID]) -> list[str]:
    return [row["password"] for row in await conn.fetch(_sql.find_verifiers, credentials)]


def used_before(policy: Policy) -> Rejected:
    return Rejected("password_used_before", history_days=policy.password.history_days)
