"""A district's days by export alone: uploaded, claimed, numbers swapped, one gone and back; and whole districts."""

import os
import random
from collections import Counter
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
PUPILS = int(os.environ.get("HOMEROOM_TEST_PUPILS", "50000"))
IMPORTED_WITHIN_S = 600


@pytest_asyncio.fixture(loop_scope="session")
async def lake(town: Town) -> AsyncIterator[Town]:
    """A district of its own: a whole export takes away whom others named."""
    async with district_beside(town, "lake", LAKE, SCOPES, {"desk"}) as lake:
        yield lake


async def _imported(
    lake: Town,
    folder: Path,
    students: Sequence[exports.Pupil],
    query: str = "",
    origin: exports.Origin = "power",
) -> Json:
    """The counts of an import that is done, but for those that are 0."""
    homeroom = lake.homeroom
    export = exports.write_export(folder / "export.zip", students, origin)
    url = f"{homeroom.site.services['roster']}/v1/districts/{homeroom.site.district}/imports{query}"
    headers = {"Authorization": f"Bearer {await homeroom.token('sis')}", "Content-Type": "application/zip"}
    async with homeroom.http.post(url, data=export.read_bytes(), headers=headers) as answer:
        report: Json = await answer.json()
        assert answer.status == 202, report

    async def ended() -> Json | None:
        found: Json = await homeroom.get("roster", f"/imports/{report['import_id']}", role="sis")
        return found if found["state"] not in ("received", "applying") else None

    found = await lake.until(ended, "the import", IMPORTED_WITHIN_S)
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


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("origin", exports.ORIGINS)
async def test_a_whole_district_of_each_origin(town: Town, tmp_path: Path, origin: exports.Origin) -> None:
    """Everybody is on file where the export says; the same again is no news; a day's changes are just those; and
    whoever has an awkward name claims and signs in."""
    async with district_beside(
        town, origin, LAKE.replace("LAKESD", f"{origin.upper()}SD"), SCOPES, {"desk"}
    ) as place:
        students = exports.pupils(PUPILS, seed=sum(origin.encode()))
        assert await _imported(place, tmp_path, students, "?baseline=true", origin) == {"added": PUPILS}
        await _all_on_file(place, students)
        assert await _imported(place, tmp_path, students, origin=origin) == {"unchanged": PUPILS}

        students, said = _a_day_later(students)
        assert await _imported(place, tmp_path, students, "?baseline=true", origin) == said
        await _all_on_file(place, students)
        awkward = {(each.last_name, each.first_name): each for each in students}
        for student in list(awkward.values())[:40]:
            pupil = _at_the_door(place, student)
            await place.known(pupil)
            assert (await pupil.sign_in(await claim(pupil))).status == 201


def _a_day_later(students: Sequence[exports.Pupil]) -> tuple[list[exports.Pupil], Json]:
    """The pupils of the next export, and what has to be told of it."""
    chance, count = random.Random(1), len(students)
    many, few = count * 6 // 100, max(2, count // 500)
    sizes = {"moved": many, "corrected": few, "renumbered": few // 2 * 2, "withdrawn": few}
    drawn = iter(chance.sample(students, sum(sizes.values())))
    groups = {kind: [next(drawn) for _ in range(size)] for kind, size in sizes.items()}
    changed = {p.source_id: msgspec.structs.replace(p, school=(p.school + 7) % 60) for p in groups["moved"]}
    changed |= {
        p.source_id: msgspec.structs.replace(p, last_name=f"{p.last_name}-Ó Briain")
        for p in groups["corrected"]
    }
    swapped = groups["renumbered"]
    changed |= {
        p.source_id: msgspec.structs.replace(p, number=swapped[n ^ 1].number) for n, p in enumerate(swapped)
    }
    gone = {p.source_id for p in groups["withdrawn"]}
    numbers = {p.number for p in students}
    new = [
        msgspec.structs.replace(p, source_id=f"new-{p.source_id}")
        for p in exports.pupils(few * 3, seed=99)
        if p.number not in numbers
    ][:few]
    stay = [changed.get(p.source_id, p) for p in students if p.source_id not in gone]
    return [*stay, *new], sizes | {"added": few, "unchanged": len(stay) - len(changed)}


async def _all_on_file(place: Town, students: Sequence[exports.Pupil]) -> None:
    wanted = dict(Counter(student.school_name for student in students))

    async def there() -> bool:
        figures = (await place.homeroom.get("claims", "/unclaimed", by="school"))["figures"]
        return {each["school"]: each["persons"] for each in figures if each["persons"]} == wanted

    await place.until(there, "claims to have everybody at their school", IMPORTED_WITHIN_S)
