"""What has had its time goes, in steps that hold no lock for long. When does not matter: readers look at the time."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared import metrics
from shared.database import Database

ROWS_AT_ONCE = 1000
PAUSE_S = 0.1


@dataclass(frozen=True)
class Expiring:
    """Rows of a table that go once the moment in `column` is `kept` ago; with `only`, those of which it holds."""

    table: str
    column: str
    kept: timedelta = timedelta(0)
    only: str = "true"

    async def delete(self, db: Database, now: datetime) -> int:
        """Answers how many went."""
        # Said twice: a row that was renewed since it was found stays.
        over = f"{self.column} < $1 AND ({self.only})"
        found = f"SELECT ctid FROM {self.table} WHERE {over} LIMIT $2"
        statement = f"DELETE FROM {self.table} WHERE ctid = ANY(ARRAY({found})) AND {over}"
        return await delete_in_steps(db, self.table, statement, now - self.kept)


async def delete_in_steps(db: Database, table: str, statement: str, *args: Any) -> int:
    """Run a DELETE until nothing is left for it; its last parameter is how many rows it takes at once."""
    total = 0
    while True:
        async with db.connection() as conn:
            tag: str = await conn.execute(statement, *args, ROWS_AT_ONCE)
        deleted = int(tag.rpartition(" ")[2])
        metrics.expired.labels(table).inc(deleted)
        total += deleted
        if deleted < ROWS_AT_ONCE:
            return total
        await asyncio.sleep(PAUSE_S)
