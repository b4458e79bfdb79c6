"""How many sign in, minute by minute, for the first-day wall.

Sign-ins are no events, and a row for each would cost more than it is worth. Each process counts what it saw and adds it
to the minute's row every few seconds: one that is killed loses that much of the figures, and nothing else.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from shared.activity import Activity, activity, first_minute, minute_of
from shared.database import Database, queries
from shared.errors import Unavailable

FLUSH_EVERY_S = 2.0
WAITING_MAX = (
    10_000  # counts that wait to be written while PostgreSQL is away; then new minutes are not counted
)

_sql = queries(__package__)


@dataclass
class Tally:
    """What this process has counted and not written yet, by district, minute, and whether it was refused."""

    counts: Counter[tuple[str, datetime, bool]] = field(default_factory=Counter)

    def add(self, district: str, now: datetime, *, refused: bool) -> None:
        key = district, minute_of(now), refused
        if key in self.counts or len(self.counts) < WAITING_MAX:
            self.counts[key] += 1

    async def flush(self, db: Database) -> None:
        """Writes what was counted; while that fails it is kept for the next time. Raises Unavailable."""
        counted, self.counts = self.counts, Counter()
        if not counted:
            return
        rows = sorted({(district, minute) for district, minute, _ in counted})
        districts, minutes = zip(*rows, strict=True)
        done, refused = ([counted[(*row, wrong)] for row in rows] for wrong in (False, True))
        try:
            async with db.connection() as conn:
                await conn.execute(_sql.add_sign_ins, districts, minutes, done, refused)
        except Unavailable:
            self.counts.update(counted)
            raise


async def sign_ins_a_minute(db: Database, district: str, minutes: int, now: datetime) -> Activity:
    """Sessions opened, and wrong credentials."""
    first = first_minute(now, minutes)
    async with db.connection() as conn:
        rows = await conn.fetch(_sql.sign_ins, district, first)
    return activity(
        first,
        minutes,
        {row["minute"]: row["done"] for row in rows},
        {row["minute"]: row["refused"] for row in rows},
    )
