"""A projection's rows: columns from annotations, folds that do not mind how they are cut, rows that come back."""

from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.database import Database
from shared.messages import Event, Recorded
from shared.projection import Projection
from shared.testing import NOON, history
from tests.shared.kit import CODEC, COUNTS, SERVICE, Cleared, Count, Counted, Removed, Step, migrated

EVENTS = st.lists(
    st.builds(Counted, by=st.integers(-3, 3), note=st.sampled_from(["", "é", '"', "[]"]))
    | st.builds(Cleared)
    | st.builds(Removed),
    max_size=12,
)


def folded(events: list[Recorded[Any]], row: Count | None = None) -> Count | None:
    return COUNTS.fold(row, events)


@given(EVENTS, st.integers(0, 12))
def test_a_fold_may_be_cut_anywhere(facts: list[Event], at: int) -> None:
    events = history(*facts)
    assert folded(events[at:], folded(events[:at])) == folded(events)


@given(EVENTS)
def test_a_row_has_the_version_of_its_last_event(facts: list[Event]) -> None:
    row = folded(history(*facts))
    assert row is None or row.version == len(facts)


def test_no_events_change_nothing() -> None:
    row = folded(history(Counted(by=1)))
    assert folded([], row) is row
    assert folded([]) is None


async def test_rows_come_back_as_they_were_written(database: str, tmp_path: Path) -> None:
    await migrated(database, tmp_path)
    db = Database(database)
    rows = {
        person: Count(
            person, "ccps", n, [Step(n, NOON + timedelta(seconds=i)) for i in range(n)], n % 2 == 0,
            NOON if n else None, "é\"'\\" if n else None, n + 1,
        )
        for n in range(5)
        if (person := uuid4())
    }  # fmt: skip
    (gone, second, *_), never = rows, uuid4()
    async with db.connection() as conn:
        await COUNTS.write(conn, rows)
        assert await COUNTS.load(conn, [*rows, never]) == rows
        changed = {second: msgspec.structs.replace(rows[second], total=99, steps=[])}
        await COUNTS.write(conn, {**changed, gone: None, never: None})
        assert await COUNTS.load(conn, list(rows)) == {
            person: row for person, row in {**rows, **changed}.items() if person != gone
        }
        await conn.execute("CREATE TABLE beside (LIKE count INCLUDING ALL)")
        await COUNTS.write(conn, rows, table="beside")
        assert await COUNTS.load(conn, list(rows), table="beside") == rows
    await db.close()


def test_columns_follow_from_annotations() -> None:
    class Kind(Enum):
        A = "a"

    class Row(msgspec.Struct, frozen=True):
        person_id: UUID
        text: str
        number: int
        flag: bool
        at: datetime | None
        name: Annotated[str, msgspec.Meta(max_length=5)]
        status: Literal["a", "b"] | None
        kind: Kind
        many: list[int]
        named: dict[str, str] | None
        one: Step | None
        version: int

    def evolve(row: Row | None, event: Recorded[Any]) -> Row | None:
        return row

    projection = Projection("some", SERVICE, CODEC, Row, evolve)
    assert projection.sql_types == (
        *("uuid", "text", "bigint", "boolean", "timestamptz", "text", "text"),
        *("jsonb", "jsonb", "jsonb", "jsonb", "bigint"),
    )


def test_what_cannot_be_a_projection_is_said_at_once() -> None:
    class NoVersion(msgspec.Struct, frozen=True):
        person_id: UUID

    class OtherKey(msgspec.Struct, frozen=True):
        district: str
        person_id: UUID
        version: int

    def evolve(row: Any, event: Recorded[Any]) -> Any:
        return row

    for row in (NoVersion, OtherKey):
        with pytest.raises(AssertionError):
            Projection("some", SERVICE, CODEC, row, evolve)
    with pytest.raises(AssertionError):
        Projection("some", "another", CODEC, Count, evolve)
