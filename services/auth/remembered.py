"""What a process remembers of sessions and clients, so that it need not ask the database about each request.

Whatever ends or changes a session, or a client, says so in the table `revoked`, in the same transaction. Every process
asks twice a second what was said by transactions that had not ended when it asked before: by xid and snapshot, never by
a sequence, so that none is passed over however late it commits. What it remembers counts until BELIEVED_S after the
last good answer was asked for; then the database is asked about each request again. So no process believes an ended
session for longer than that, whatever hangs or is away; and nothing is believed that is older than AGED_S.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from shared.auth import SESSIONS_END_WITHIN
from shared.database import close, connect, queries, unavailable_when_lost
from shared.errors import Unavailable

if TYPE_CHECKING:
    from services.auth.session_checks import Checked
    from services.auth.tokens import Client

ASKED_EVERY_S = 0.5
BELIEVED_S = 1.5
AGED_S = 30.0  # far below what `revoked` is kept for; also how late a changed username is seen
SESSIONS, CLIENTS = 20_000, 1_000  # most that are remembered; some 600 bytes each
ROUNDS_KEPT = 50  # of forgetting; what a look that took longer found is not remembered

assert SESSIONS_END_WITHIN.total_seconds() > BELIEVED_S

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_sql = queries(__package__)


class Memory(Generic[K, V]):
    """Bounded: the oldest goes first. `about`: the person, or the client, with whom it is forgotten."""

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit, self._clock = limit, clock
        self._kept: dict[K, tuple[Hashable, float, V]] = {}
        self._keys: dict[Hashable, tuple[K, ...]] = {}
        self._forgotten: dict[Hashable, int] = {}  # in which round; the newest last
        self._round = 0
        self._believed_until = float("-inf")

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: K) -> V | None:
        """What is remembered and can still be believed."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        now = self._clock()
        return kept[2] if now < self._believed_until and now < kept[1] else None

    def look(self) -> int:
        """Call before the database is asked: `keep` wants to know what was forgotten meanwhile."""
        return self._round

    def keep(self, key: K, about: Hashable, value: V, looked: int) -> None:
        """Remembers what was found, unless it may have changed since the look."""
        if self._forgotten.get(about, -1) > looked or self._round - looked >= ROUNDS_KEPT:
            return
        self._drop(key)
        if len(self._kept) >= self._limit:
            self._drop(next(iter(self._kept)))
        self._kept[key] = (about, self._clock() + AGED_S, value)
        self._keys[about] = (*self._keys.get(about, ()), key)

    def forget(self, abouts: Collection[Hashable]) -> None:
        """What was found of these counts no more."""
        self._round += 1
        for about in abouts:
            for key in self._keys.get(about, ()):
                self._drop(key)
            self._forgotten.pop(about, None)
            self._forgotten[about] = self._round
        while self._forgotten and self._round - self._forgotten[next(iter(self._forgotten))] >= ROUNDS_KEPT:
            del self._forgotten[next(iter(self._forgotten))]

    def forget_all(self) -> None:
        """Nothing counts, also of what is being looked at now."""
        self._round += ROUNDS_KEPT
        for each in (self._kept, self._keys, self._forgotten):
            each.clear()
        self._believed_until = float("-inf")

    def believe(self, until: float) -> None:
        """By the clock; what is remembered counts until then."""
        self._believed_until = until

    def _drop(self, key: K) -> None:
        if (kept := self._kept.pop(key, None)) is None:
            return
        about = kept[0]
        if left := tuple(other for other in self._keys[about] if other != key):
            self._keys[about] = left
        else:
            del self._keys[about]


class Remembered:
    """The memories of one process. Until `follow` runs, nothing is believed and everything asked for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.sessions: Memory[bytes, Checked] = Memory(SESSIONS, clock)
        self.clients: Memory[str, Client] = Memory(CLIENTS, clock)
        # By the hash of an Authorization header that was right: counts while `clients` still has that very object.
        self.shown: dict[bytes, Client] = {}

    async def follow(self, dsn: str) -> None:
        """Hears what is revoked, for ever. On one connection: when that is lost, so may be the server that knew it.
        Raises Unavailable."""
        connection = await connect(dsn, application_name="homeroom-auth-revoked")
        try:
            with unavailable_when_lost(connection):
                upto = await connection.fetchval(_sql.snapshot)
                self._begin()
                while True:
                    asked = self._clock()
                    told = await connection.fetchrow(_sql.revoked_since, upto)
                    assert told is not None
                    if told["upto"] < upto:  # another server's history
                        raise Unavailable("postgres")
                    self._hear(told["persons"], told["clients"], asked)
                    upto = told["upto"]
                    await asyncio.sleep(ASKED_EVERY_S)
        finally:
            self._begin()
            await close(connection)

    def _begin(self) -> None:
        self.sessions.forget_all()
        self.clients.forget_all()

    def _hear(self, persons: Collection[Any], clients: Collection[Any], asked: float) -> None:
        self.sessions.forget(frozenset(persons))
        self.sessions.believe(asked + BELIEVED_S)
        self.clients.forget(frozenset(clients))
        self.clients.believe(asked + BELIEVED_S)
