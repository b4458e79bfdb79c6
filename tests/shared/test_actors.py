"""What clients are called, as a service has heard it from their tokens."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.actors import REMEMBERED, Actors, names_of
from shared.auth import Caller
from shared.database import Database
from tests.shared.kit import migrated


@pytest.fixture
async def db(database: str, tmp_path: Path) -> AsyncIterator[Database]:
    await migrated(database, tmp_path)
    db = Database(database)
    yield db
    await db.close()


def caller(name: str, client_id: str = "c-1") -> Caller:
    return Caller(client_id, "client", "ccps", name=name)


async def names(db: Database, *client_ids: str) -> dict[str, str]:
    async with db.connection() as conn:
        return await names_of(conn, client_ids)


async def test_the_newest_name_counts_whichever_process_heard_it(db: Database) -> None:
    here, there = Actors(db), Actors(db)
    await here.note(caller("R. Alvarez"))
    await there.note(caller("R. Alvarez"))
    await here.note(caller("R. Alvarez-Ruiz"))
    assert await names(db, "c-1", "nobody") == {"c-1": "R. Alvarez-Ruiz"}


async def test_who_has_no_name_has_an_id_only(db: Database) -> None:
    await Actors(db).note(caller("c-1"))
    assert await names(db, "c-1") == {}


async def test_what_a_process_remembers_is_bounded(db: Database) -> None:
    actors = Actors(db)
    actors._noted = {str(n): "x" for n in range(REMEMBERED)}
    await actors.note(caller("R. Alvarez"))
    assert len(actors._noted) == 1
    assert await names(db, "c-1") == {"c-1": "R. Alvarez"}
