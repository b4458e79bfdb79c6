"""A district's days by export alone: uploaded, claimed, numbers swapped, one gone and back."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from services.cli.client import Json
from services.cli.pupil import Pupil
from tests.journeys.town import Town, claim, district_beside
from tests.roster import exports

pytestmark = [
    pytest.mark.stack,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("journeys"),
]

LAKE = """extends = "ccps"
code = "LAKESD"
time_zone = "America/Chicago"
names = { en = "Lake County", es = "Condado Lake" }
"""
SCOPES = {"sis": ["roster:write", "operator"], "desk": ["desk"]}


@pytest_asyncio.fixture(loop_scope="session")
async def lake(town: Town) -> AsyncIterator[Town]:
    """A district of its own: a whole export takes away whom others named."""
    async with district_beside(town, "lake", LAKE, SCOPES, {"desk"}) as lake:
        yield lake


async def _imported(lake: Town, folder: Path, students: Sequence[exports.Pupil], query: str = "") -> Json:
    """The counts of an import that is done, but for those that are 0."""
    homeroom = lake.homeroom
    export = exports.write_export(folder / "export.zip", students)
    url = f"{homeroom.site.services['roster']}/v1/districts/lake/imports{query}"
    headers = {"Authorization": f"Bearer {await homeroom.token('sis')}", "Content-Type": "application/zip"}
    async with homeroom.http.post(url, data=export.read_bytes(), headers=headers) as answer:
        report: Json = await answer.json()
        assert answer.status == 202, report

    async def ended() -> Json | None:
        found: Json = await homeroom.get("roster", f"/imports/{report['import_id']}", role="sis")
        return found if found["state"] not in ("received", "applying") else None

    found = await lake.until(ended, "the import")
    assert found["state"] == "done", found
    return {kind: n for kind, n in found["counts"].items() if n}


def _at_the_door(lake: Town, student: exports.Pupil) -> Pupil:
    fields = ("source_id", "number", "last_name", "first_name")
    return Pupil(lake.homeroom.ask, {name: getattr(student, name) for name in fields}, lake.policy)


async def test_days_of_a_district_that_exports(lake: Town, tmp_path: Path) -> None:
    """Who claimed keeps the account under the other number; who was not exported leaves, and comes back."""
    ada, bob, cyd, *others = exports.pupils(40)
    assert await _imported(lake, tmp_path, [ada, bob, cyd, *others], "?baseline=true") == {"added": 40}
    passwords = []
    for student in (ada, cyd):
        pupil = _at_the_door(lake, student)
        await lake.known(pupil)
        passwords.append(await claim(pupil))

    swapped = [msgspec.structs.replace(p, number=q.number) for p, q in ((ada, bob), (bob, ada))]
    counts = await _imported(lake, tmp_path, [*swapped, *others])
    assert counts == {"renumbered": 2, "withdrawn": 1, "unchanged": 37}
    pupil = _at_the_door(lake, swapped[0])

    async def signs_in() -> bool:
        return bool((await pupil.sign_in(passwords[0])).status == 201)

    await lake.until(signs_in, "the claimed account to have the other username")
    assert (await lake.person(_at_the_door(lake, cyd)))["status"] == "withdrawn"

    counts = await _imported(lake, tmp_path, [*swapped, cyd, *others])
    assert counts == {"returned": 1, "unchanged": 39}
    back = _at_the_door(lake, cyd)
    assert (await lake.person(back))["baseline"] is True
    assert (await back.sign_in(passwords[1])).status == 201, "no new claim"
    assert await _imported(lake, tmp_path, [*swapped, cyd, *others]) == {"unchanged": 40}
