"""A read model made anew beside the running one, from the whole history; compared, switched to, or dropped.

`building`: child processes read the topic's partitions from the beginning, fold, and COPY rows and gates, one
partition in one transaction; begun again after a crash, they do what is not done. `following`: the projector keeps
the new table up like any other. Then an operator may `compare` (rows at equal versions), `switch` (the tables change
names, in one transaction with checkpoints and gates; the old one is kept) and `drop` (the table that is not served).
A *replay* is a rebuild that is compared and dropped. Only projections are run again, never consumers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from shared.database import Connection, Row, queries

_sql = queries("shared", "rebuild.sql")


async def start(conn: Connection, projection: str, purpose: str, *, by: str, now: datetime) -> Row | None:
    """Begin one; None when one is open already."""
    return await conn.fetchrow(_sql.start, uuid4(), projection, purpose, by, now)


async def find(conn: Connection, rebuild_id: UUID) -> Row | None:
    return await conn.fetchrow(_sql.find, rebuild_id)


async def all_of(conn: Connection, projection: str | None = None) -> list[Row]:
    """Newest first."""
    return list(await conn.fetch(_sql.list, projection))


async def wish(conn: Connection, rebuild_id: UUID, what: str, now: datetime) -> Row | None:
    """Ask for `compare`, `switch` or `drop`; None when the rebuild is finished. The rebuilder does it."""
    return await conn.fetchrow(_sql.wish, rebuild_id, what, now)


def public(row: Row, now: datetime) -> dict[str, Any]:
    """A rebuild as it is told over HTTP: `rate` in events a second, `left_s` what remains at that rate."""
    told = dict(row)
    seconds = (now - row["started_at"]).total_seconds()
    building = row["state"] == "building"
    told["rate"] = round(row["done"] / max(seconds, 0.001)) if building else row["report"].get("rate")
    told["left_s"] = (
        round((row["total"] - row["done"]) * seconds / row["done"]) if building and row["done"] else None
    )
    return told
