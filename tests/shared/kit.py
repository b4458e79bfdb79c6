"""A service of no meaning, for the kit's own tests: it counts."""

from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from shared.database import migrate
from shared.errors import Rejected
from shared.messages import Event, EventCodec, Recorded
from shared.projection import Projection
from shared.settings import Settings
from shared.transact import Decider

SERVICE = "counter"


class Counted(Event):
    """Somebody counted on."""

    by: int
    note: str = ""


class Cleared(Event):
    """The count began anew."""


class Removed(Event):
    """There is nothing to count any more."""


class Step(msgspec.Struct, frozen=True):
    """One item of a row's list."""

    by: int
    at: datetime


class Count(msgspec.Struct, frozen=True):
    """One row, with a column of each kind."""

    person_id: UUID
    district: str
    total: int
    steps: list[Step]
    cleared: bool = False
    cleared_at: datetime | None = None
    note: str | None = None
    version: int = 0


def count(row: Count | None, event: Recorded[Any]) -> Count | None:
    match event.data:
        case Counted(by=by, note=note):
            row = row or Count(event.stream_id, event.district, 0, [])
            steps = [*row.steps, Step(by, event.time)]
            return msgspec.structs.replace(row, total=row.total + by, steps=steps, note=note or None)
        case Cleared():
            return row and msgspec.structs.replace(
                row, total=0, steps=[], cleared=True, cleared_at=event.time
            )
        case _:
            return None


CODEC = EventCodec(SERVICE, [Counted, Cleared, Removed])
COUNTS = Projection("count", SERVICE, CODEC, Count, count, inline=True)
COUNTS_TABLE = """
    CREATE TABLE count (person_id uuid PRIMARY KEY, district text NOT NULL, total bigint NOT NULL, steps jsonb NOT NULL,
        cleared boolean NOT NULL, cleared_at timestamptz, note text, version bigint NOT NULL)
"""


def evolve(state: int, event: Recorded[Any]) -> int:
    return state + event.data.by if isinstance(event.data, Counted) else 0


DECIDER = Decider(0, evolve)


def count_on(state: int, facts: Any, by: int = 1) -> list[Event]:
    """Counts up to a hundred. Nothing to count is a repeat."""
    if state + by > 100:
        raise Rejected("too_many", secret={"total": state}, limit=100)
    return [Counted(by=by)] if by else []


def settings(**given: Any) -> Settings:
    unused = {"postgres": "postgresql://127.0.0.1:1/none", "kafka": "127.0.0.1:1"}
    return Settings(**({"service": SERVICE, "partitions": 3} | unused | given))


async def migrated(dsn: str, folder: Path) -> None:
    """Makes the counter's tables: its own migration comes from a folder `counter/sql`, as a service's does."""
    sql = folder / SERVICE / "sql"
    sql.mkdir(parents=True, exist_ok=True)
    (sql / "0001_count.sql").write_text(COUNTS_TABLE)
    await migrate(dsn, sql)
