"""When sessions were used last, until it is written down."""

import asyncio
from collections.abc import Mapping
from datetime import datetime

from shared.database import Database, queries
from shared.errors import Unavailable

AT_ONCE = 1_000
HELD = 20_000
LAST_WRITE_S = 2.0

_sql = queries(__package__)


class Uses:
    """The last uses of sessions, written down many in one statement. What a crash takes with it is a minute of idle
    time."""

    def __init__(self) -> None:
        self._at: dict[bytes, datetime] = {}

    def note(self, hashed: bytes, now: datetime) -> None:
        if len(self._at) < HELD:
            self._at[hashed] = now

    def after(self, hashed: bytes, written: datetime) -> datetime:
        """The last use of a session of which the database says this."""
        return max(written, self._at.get(hashed, written))

    async def write(self, db: Database) -> None:
        """Raises Unavailable, and keeps what is not written."""
        while some := dict(list(self._at.items())[:AT_ONCE]):
            async with db.connection() as conn:
                await conn.execute(_sql.touch_sessions, list(some), list(some.values()))
            self._forget(some)

    def _forget(self, written: Mapping[bytes, datetime]) -> None:
        for hashed, at in written.items():
            if self._at.get(hashed) == at:
                del self._at[hashed]

    async def keep_written(self, db: Database, pause_s: float) -> None:
        """Writes again and again, and a last time when the process ends."""
        try:
            while True:
                await asyncio.sleep(pause_s)
                await self.write(db)
        finally:
            try:
                async with asyncio.timeout(LAST_WRITE_S):
                    await self.write(db)
            except (TimeoutError, Unavailable):
                pass
