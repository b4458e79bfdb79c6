"""Two districts on one Homeroom: rules of their own, people of their own, and a second person who approves."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.cli.client import Failed
from tests.journeys.town import Town, claim, district_beside

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("journeys"),
]

STRICT = """extends = "ccps"
code = "STRICT"
time_zone = "America/Chicago"
names = { en = "Strict County", es = "Condado Estricto" }
approval_above = 0
"""
SCOPES = {"sis": ["roster:write"], "desk": ["desk"], "colleague": ["desk"], "machine": ["desk"]}


@pytest_asyncio.fixture(loop_scope="session")
async def strict(town: Town) -> AsyncIterator[Town]:
    """A district in which every reset takes a second person, with an SIS, and at its desk two people and a machine."""
    people = ("desk", "colleague")
    async with district_beside(town, "strict", STRICT, SCOPES, people) as strict:
        yield strict


async def test_a_reset_waits_for_a_second_person(strict: Town) -> None:
    """Whoever asked cannot approve, nor a machine; a colleague can; before that nothing happens to the account."""
    pupil = await strict.pupil(way="http")
    password = await claim(pupil)
    line = " ".join(pupil.enrolled[name] for name in ("first_name", "last_name", "number"))
    asked = (await strict.homeroom.post("claims", "/reset-batches", {"lines": [line]})).body
    assert asked["state"] == "awaiting_approval"
    path = f"/reset-batches/{asked['batch_id']}"
    with pytest.raises(Failed, match="approver_is_author"):
        await strict.homeroom.post("claims", f"{path}/approval")
    with pytest.raises(Failed, match="person_required"):
        await strict.homeroom.post("claims", f"{path}/approval", role="machine")
    with pytest.raises(Failed, match="person_required"):
        await strict.homeroom.post("claims", "/reset-batches", {"lines": [line]}, role="machine")
    assert (await pupil.sign_in(password)).status == 201
    await strict.homeroom.post("claims", f"{path}/approval", role="colleague")

    async def done() -> bool:
        return bool((await strict.homeroom.get("claims", path))["state"] == "done")

    await strict.until(done, "the approved reset")
    assert (await pupil.who_am_i()).status == 401
    assert (await pupil.sign_in(password)).status == 401
    person = (await strict.person(pupil))["person_id"]
    with pytest.raises(Failed, match="approval_required"):
        await strict.homeroom.post("claims", f"/accounts/{person}/resets", {})


async def test_a_cancelled_reset_resets_nobody(strict: Town) -> None:
    pupil = await strict.pupil(way="http")
    password = await claim(pupil)
    line = " ".join(pupil.enrolled[name] for name in ("first_name", "last_name", "number"))
    asked = (await strict.homeroom.post("claims", "/reset-batches", {"lines": [line]})).body
    await strict.homeroom.call("desk", "DELETE", "claims", f"/reset-batches/{asked['batch_id']}")
    with pytest.raises(Failed, match="batch_cancelled"):
        await strict.homeroom.post("claims", f"/reset-batches/{asked['batch_id']}/approval", role="colleague")
    assert (await pupil.sign_in(password)).status == 201


async def test_districts_see_nothing_of_each_other(town: Town, strict: Town) -> None:
    """The same number in both is two pupils; a token, a session or a desk of one is nobody in the other."""
    here = await town.pupil(way="http")
    there = await strict.pupil(way="http", number=here.enrolled["number"])
    passwords = await claim(here), await claim(there)
    assert (await here.sign_in(passwords[1])).status == 401
    assert (await there.sign_in(passwords[1])).status == 201
    person = (await strict.person(there))["person_id"]
    with pytest.raises(Failed) as refused:
        await town.homeroom.get("claims", f"/accounts/{person}")
    assert refused.value.status == 404
    with pytest.raises(Failed) as refused:
        await town.homeroom.get("claims", f"/v1/districts/strict/accounts/{person}")
    assert refused.value.status == 403
    headers = {"Authorization": f"Bearer {there.session}"}
    assert (await town.homeroom.ask("GET", "auth", "/sessions/current", headers=headers)).status == 401
