"""What earlier versions have kept, brought to the present shape."""

import shutil
from pathlib import Path

import asyncpg

from services.claims import api
from shared.database import migrate, prepare_connection, queries

SQL = Path(api.__file__).parent / "sql"


async def test_copies_of_names_and_numbers_go(database: str, tmp_path: Path) -> None:
    earlier = tmp_path / "claims" / "sql"
    earlier.mkdir(parents=True)
    shutil.copy(SQL / "0001_claims.sql", earlier)
    await migrate(database, earlier)
    conn = await asyncpg.connect(database)
    await prepare_connection(conn)
    detail = {"reason": "names_differ", "differs": ["first_name"]}
    for reference, kept in (("C-1", detail | {"on_file": {"first_name": "Mary"}}), ("C-2", detail)):
        insert = "INSERT INTO refusal VALUES ($1, 'ccps', 'POST /claims', 'claim_refused', $2, NULL, now())"
        await conn.execute(insert, reference, kept)
    line = {"line": 1, "state": "not_claimed", "person_id": "7d2a4c1e-5b7e-4f0e-8a34-5d3f2f6f0002"}
    other = {"line": 2, "state": "unmatched"}
    await conn.execute(
        "INSERT INTO reset_batch VALUES (gen_random_uuid(), 'ccps', 'desk', 'approved', 'desk-1', NULL, NULL, now(),"
        " $1, 'c', now())",
        [line | {"username": "S0000001"}, other],
    )
    await migrate(database, SQL)
    assert [row["detail"] for row in await conn.fetch("SELECT detail FROM refusal")] == [detail, detail]
    assert await conn.fetchval("SELECT report FROM reset_batch") == [line, other]
    await conn.close()


async def test_lists_that_were_not_through_are_gone_on_with(database: str, tmp_path: Path) -> None:
    earlier = tmp_path / "claims" / "sql"
    earlier.mkdir(parents=True)
    for file in sorted(SQL.glob("000[1-4]_*.sql")):
        shutil.copy(file, earlier)
    await migrate(database, earlier)
    conn = await asyncpg.connect(database)
    await conn.execute(
        "INSERT INTO reset_batch VALUES (gen_random_uuid(), 'ccps', 'desk', 'approved', 'desk-1', NULL, NULL, now(),"
        " '[]', 'c', now())"
    )
    await conn.execute(
        "INSERT INTO reset_item SELECT batch_id, gen_random_uuid(), 1, 0, 'planned', NULL, NULL, now() FROM reset_batch"
    )
    await migrate(database, SQL)
    [item] = await conn.fetch(queries("services.claims", "resets.sql").take_items, 8)
    shown = await conn.fetchrow("SELECT extent, school, unclaimed FROM reset_batch")
    assert (item["author"], tuple(shown)) == ("desk-1", ("lines", None, 0))
    await conn.close()
