"""The reset of a school before the first day: a second person, everybody claims again, nobody else notices."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.cli.client import Failed, Json
from services.cli.pupil import Pupil
from tests.journeys.town import Town, claim, district_beside, new_password

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("journeys"),
]


CAREFUL = """extends = "ccps"
code = "CAREFUL"
time_zone = "America/Chicago"
names = { en = "Careful County", es = "Condado Cuidadoso" }
approval_above = 1
"""
SCOPES = {"sis": ["roster:write"], "desk": ["desk"], "colleague": ["desk"]}


@pytest_asyncio.fixture(loop_scope="session")
async def careful(town: Town) -> AsyncIterator[Town]:
    """A district in which more than one account takes a second person, and two people at its desk."""
    async with district_beside(town, "careful", CAREFUL, SCOPES, ("desk", "colleague")) as careful:
        yield careful


async def claimed(town: Town, school: str) -> tuple[Pupil, str]:
    """A pupil of that school who has claimed and is signed in, with the password."""
    pupil = await town.pupil(way="http", school=school)
    password = await claim(pupil)
    assert (await pupil.sign_in(password)).status == 201
    return pupil, password


async def teaching(town: Town, school: str) -> Pupil:
    """Somebody of that school's staff who has claimed."""
    data = {
        "source_id": "hr-1", "number": "e54321", "last_name": "Okafor", "first_name": "Grace", "school": school,
    }  # fmt: skip
    await town.say("StaffEmployed", data, "http")
    teacher = Pupil(town.homeroom.ask, data, town.policy)
    await town.known(teacher)
    await claim(teacher)
    return teacher


async def asked(town: Town, school: str) -> str:
    """Asks for the reset of a school that one person alone may not reset; the path of the batch."""
    batch = (
        await town.homeroom.post("claims", "/reset-batches", {"school": school, "desk_ticket": "T-1"})
    ).body
    return f"/reset-batches/{batch['batch_id']}"


async def done(town: Town, path: str) -> Json:
    async def through() -> Json | None:
        batch = dict(await town.homeroom.get("claims", path))
        return batch if batch["state"] == "done" else None

    return dict(await town.until(through, "the reset to be confirmed"))


async def test_a_school_claims_again_and_nobody_else_notices(careful: Town) -> None:
    school = "Reset High"
    pupils = [await claimed(careful, school) for _ in range(3)]
    new = await careful.pupil(way="http", school=school)
    assert (await new.open_claim()).status == 201
    teacher = await teaching(careful, school)
    other, other_password = await claimed(careful, "Other High")

    path = await asked(careful, school)
    assert (await careful.homeroom.get("claims", path))["state"] == "awaiting_approval"
    assert [(await pupil.who_am_i()).status for pupil, _ in pupils] == [200] * 3
    with pytest.raises(Failed, match="approver_is_author"):
        await careful.homeroom.post("claims", f"{path}/approval")
    with pytest.raises(Failed, match="bulk_reset_open"):
        await asked(careful, school)
    await careful.homeroom.post("claims", f"{path}/approval", role="colleague")
    batch = await done(careful, path)
    assert (batch["total"], batch["unclaimed"], batch["counts"]) == (3, 1, {"done": 3})
    assert [line["sessions_ended"] for line in batch["lines"]] == [1, 1, 1]

    for pupil, password in pupils:
        assert (await pupil.who_am_i()).status == 401
        assert (await pupil.sign_in(password)).status == 401
        assert (await pupil.open_claim()).status == 201
        assert (await pupil.set_password(password)).body["reason"] == "password_used_before"
        assert (await pupil.sign_in(await claim(pupil))).status == 201
    assert (await new.set_password(new_password())).status == 200
    assert (await new.save_answers()).status in (200, 202), "who was in the middle of a claim goes on"
    account = await careful.known(teacher)
    assert (account["claimed"], account["generation"]) == (True, 0), "staff are never part of it"
    assert (await other.who_am_i()).status == 200
    assert (await other.sign_in(other_password)).status == 201


async def test_killed_in_the_middle_it_goes_on_and_leaves_alone_who_has_claimed_since(town: Town) -> None:
    """claims and auth are killed while a school is being reset: all are reset once, and those who claim again at once
    stay claimed."""
    school = "Killed High"
    pupils = [await claimed(town, school) for _ in range(12)]
    await town.fleet.part("auth").kill()
    path = await asked(town, school)

    async def begun() -> bool:
        return bool((await town.homeroom.get("claims", path))["counts"].get("reset"))

    await town.until(begun, "the first accounts to be reset")
    await town.fleet.part("claims").kill()
    await asyncio.gather(*(town.fleet.part(service).start() for service in ("claims", "auth")))
    await asyncio.gather(*(town.fleet.ready(service) for service in ("claims", "auth")))
    first, old = pupils[0]

    async def reopened() -> bool:
        return (await first.open_claim()).status == 201

    await town.until(reopened, "the first account to be claimable")
    new = await claim(first)
    batch = await done(town, path)
    assert batch["counts"] == {"done": 12}
    assert (await first.sign_in(new)).status == 201
    for pupil, password in pupils:
        assert (await pupil.sign_in(password)).status == 401
        assert (await town.events(pupil, "claims")).count("AccountReset") == 1
        assert (await town.events(pupil, "auth")).count("CredentialRevoked") == 1
    assert old != new
