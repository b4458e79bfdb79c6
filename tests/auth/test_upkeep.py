"""What has expired goes, and nothing else."""

from pathlib import Path

import msgspec

from services.auth import upkeep
from shared.life import clean_up
from tests.auth.conftest import DESK, World

TABLES = (
    "staging",
    "session",
    "recovery",
    "recovery_code",
    "wrong_password",
    "recovery_try",
    "previous_secret",
    "sign_in_minute",
    "known_device",
    "failure_budget",
)


async def rows(world: World) -> dict[str, int]:
    return {table: len(await world.fetch(f"SELECT FROM {table}")) for table in TABLES}


async def test_everything_that_expires_goes_in_time(world: World) -> None:
    pupil = await world.claimed()
    await world.session(pupil)
    await world.desk("POST", f"/accounts/{pupil.person_id}/recovery-codes", {})
    begun = (await world.ask("POST", "/recoveries", {"username": pupil.username})).body
    wrong = [{"question": q["id"], "answer": "May"} for q in begun["questions"] if q["id"] == "birth_month"]
    wrong += [{"question": "birth_year", "answer": "1999"}, {"question": "middle_name", "answer": "Nobody"}]
    await world.ask(
        "POST", f"/recoveries/{begun['recovery_id']}/answers", {"answers": wrong}, bearer=begun["ticket"]
    )
    await world.sign_in(pupil.username, "wrong")
    body = {"name": "sis", "scopes": ["roster:write"], "districts": ["ccps"]}
    operator = world.token("operator")
    sis = (await world.ask("POST", "/v1/operations/clients", body, bearer=operator)).body["id"]
    overlap = {"overlap_minutes": 90}
    await world.ask("POST", f"/v1/operations/clients/{sis}/rotate", overlap, bearer=operator)
    await world.auth.tally.flush(world.kit.db)
    everything = dict.fromkeys(TABLES, 1)
    assert await rows(world) == everything
    await clean_up(world.kit)
    assert await rows(world) == everything, "nothing has expired yet"
    world.later(hours=1)
    await clean_up(world.kit)
    assert await rows(world) == everything | {"recovery": 0, "recovery_code": 0}
    world.later(days=8)
    await clean_up(world.kit)
    assert await rows(world) == dict.fromkeys(TABLES, 0)
    assert (await world.sign_in(pupil.username)).status == 201


async def test_many_go_in_steps(world: World) -> None:
    await world.fetch(
        "INSERT INTO wrong_password SELECT sha256(n::text::bytea), 1, $1 FROM generate_series(1, 1200) n",
        world.now(),
    )
    world.later(days=2)
    await clean_up(world.kit)
    assert await world.fetch("SELECT FROM wrong_password") == []


async def test_a_bootstrap_file_that_cannot_be_read_stops_nothing(world: World, tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.json"
    world.kit.settings = msgspec.structs.replace(world.kit.settings, bootstrap_client_file=file)
    await upkeep.bootstrap(world.auth)
    file.write_text("{")
    await upkeep.bootstrap(world.auth)
    file.write_text('{"id": "operator", "secret": "s3cret"}')
    await upkeep.bootstrap(world.auth)
    await upkeep.bootstrap(world.auth)
    assert [row["client_id"] for row in await world.fetch("SELECT client_id FROM client ORDER BY 1")] == [
        DESK,
        "operator",
    ]
