"""What a district does in bulk while parts are killed: one export after the other is imported, and schools are reset.

Each export differs from the one before in ways that are counted, so that afterwards it is known of every person which
events there must be: each export took effect once, whatever was killed while it was on its way.
"""

import asyncio
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import msgspec

from services.cli.client import Failed, Json
from services.cli.imports import _Upload
from services.roster.decider import EXPORT
from tests.faults.lives import PATIENCE_S, Crowd, Impatient, Life, Walker, must
from tests.roster.exports import Pupil, pupils, school_name, write_export

if TYPE_CHECKING:
    from tests.faults.checker import Checker

RESET_SCHOOLS = 3  # the first ones; the others' pupils come, go and are called otherwise
CHANGED = 3  # pupils, of each kind of change, from one export to the next
OF_A_NEW_PUPIL = 20
AGAIN = ("unreachable", "unavailable", "import_unwatched", "request_in_progress", "temporarily_unavailable")


class Bulk:
    """`size` pupils who are in exports alone; of each of the schools that are reset `claimed` have claimed."""

    def __init__(self, crowd: Crowd, rng: Random, *, size: int, claimed: int) -> None:
        self.crowd, self.rng, self.claimed = crowd, rng, claimed
        self.lives: list[Life] = []
        self.imports = 0
        self._others: dict[str, Pupil] = {}  # as the last export has them
        self._wanted: defaultdict[str, Counter[str]] = defaultdict(Counter)  # events, by source_id
        self._away: list[Pupil] = []
        self._walkers: dict[int, list[Walker]] = {}
        self._unborn: list[Pupil] = []
        everybody = [
            msgspec.structs.replace(pupil, number=f"7{n:06}") for n, pupil in enumerate(pupils(2 * size))
        ]
        self._settled = {
            school: [self._at(everybody.pop(), school) for _ in range(claimed)]
            for school in range(1, RESET_SCHOOLS + 1)
        }
        for pupil in everybody[:size]:
            self._enter(pupil)
        self._unborn = everybody[size:]

    def _at(self, pupil: Pupil, school: int) -> Pupil:
        return msgspec.structs.replace(pupil, school=school)

    def _enter(self, pupil: Pupil) -> None:
        pupil = self._at(pupil, RESET_SCHOOLS + 1 + pupil.school % 20)
        self._others[pupil.source_id] = pupil
        self._wanted[pupil.source_id]["StudentEnrolled"] += 1

    # ------------------------------------------------------------------ the SIS

    async def begin(self) -> None:
        """The first export, and whoever claims after it."""
        await self._import(baseline="true")
        for school, settled in self._settled.items():
            self._walkers[school] = [self._walker(pupil) for pupil in settled]
        await asyncio.gather(*(walker.signs_in() for each in self._walkers.values() for walker in each))

    def _walker(self, pupil: Pupil) -> Walker:
        enrolled = {
            "source_id": pupil.source_id, "number": pupil.number, "last_name": pupil.last_name,
            "first_name": pupil.first_name,
        }  # fmt: skip
        life = Life(name=f"export-{pupil.number}", enrolled=enrolled, events=[EXPORT])
        self.lives.append(life)
        return Walker(self.crowd, life, Random(self.rng.random()))

    async def exports(self, until: asyncio.Event) -> None:
        """Night after night, as quick as they go."""
        while not until.is_set():
            self._a_day_passes()
            await self._import()

    def _a_day_passes(self) -> None:
        # Who is back stays as they are for a day: what else is new of them would be in their enrollment.
        back = {pupil.source_id for pupil in self._away}
        for pupil in self._away:
            self._enter(pupil)
        there = sorted(self._others.keys() - back)
        self.rng.shuffle(there)
        self._away = [self._others.pop(source_id) for source_id in there[:CHANGED]]
        for pupil in self._away:
            self._wanted[pupil.source_id]["StudentWithdrawn"] += 1
        for kind, source_id in zip(("name", "school") * CHANGED, there[CHANGED:], strict=False):
            pupil = self._others[source_id]
            if kind == "name":
                pupil = msgspec.structs.replace(pupil, first_name=f"{pupil.first_name} {self.imports}")
                self._wanted[source_id]["NameCorrected"] += 1
            else:
                pupil = self._at(pupil, pupil.school + 1)
                self._wanted[source_id]["PlacementChanged"] += 1
            self._others[source_id] = pupil
        new, self._unborn = self._unborn[:OF_A_NEW_PUPIL], self._unborn[OF_A_NEW_PUPIL:]
        for pupil in new:
            self._enter(pupil)

    async def _import(self, **query: str) -> None:
        """As the command line does it, given again as long as Homeroom is away."""
        role = "operator" if query else "sis"
        students = [*self._others.values(), *(p for settled in self._settled.values() for p in settled)]
        with tempfile.TemporaryDirectory(prefix="homeroom-bulk-") as folder:
            file = write_export(Path(folder) / "export.zip", students)
            deadline = time.monotonic() + PATIENCE_S
            while True:
                try:
                    upload = _Upload(self.crowd.homeroom, role, file, quiet=True)
                    report = await upload.run({"file_name": f"night-{self.imports}.zip"} | query)
                    break
                except Failed as failure:
                    if failure.reason not in AGAIN or time.monotonic() > deadline:
                        raise
                await asyncio.sleep(0.5)
        if report["state"] != "done" or report["counts"]["refused"]:
            raise Impatient(f"import {self.imports} ended as {report}")
        self.imports += 1

    # ------------------------------------------------------------------ the desk

    async def reset(self, school: int) -> None:
        """Everybody of a school, and what that means for each."""
        body = {"school": school_name(school)}
        answer = await self.crowd.as_client("desk", "POST", "claims", "/reset-batches", body)
        must(answer, 202)
        path = f"/reset-batches/{answer.body['batch_id']}"
        if answer.body["state"] == "awaiting_approval":
            must(await self.crowd.as_client("desk2", "POST", "claims", f"{path}/approval"), 202)
        deadline = time.monotonic() + PATIENCE_S
        while (found := await self.crowd.as_client("desk", "GET", "claims", path)).body["state"] != "done":
            if time.monotonic() > deadline:
                raise Impatient(f"the reset of a school is never done: {found.body}")
            await asyncio.sleep(0.25)
        if found.body["counts"] != {"done": self.claimed}:
            raise Impatient(f"the reset of a school of {self.claimed} ended as {found.body['counts']}")
        for walker in self._walkers[school]:
            walker.life.batches.append(answer.body["batch_id"])
            walker.life.old_passwords.append(str(walker.life.password))
            walker.life.dead_sessions.append(walker.pupil.session)
            walker.life.password = None

    # ------------------------------------------------------------------ afterwards

    async def check(
        self, checker: "Checker", persons: Mapping[str, UUID], claims: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        """Every person of the exports once, as the last one says; each export's news recorded once."""
        checker.counts["imports"] = self.imports
        rows = {row["person_id"]: row for row in await claims.fetch("SELECT * FROM admission")}
        for source_id, wanted in self._wanted.items():
            person = persons.get(source_id)
            if person is None:
                checker.say(f"{source_id} of an export is not known")
                continue
            found = Counter(row["type"] for row in checker.stores["roster"].events.get(person, ()))
            if found != wanted:
                checker.say(f"{source_id} of the exports: {dict(found)} recorded instead of {dict(wanted)}")
            self._check_row(checker, source_id, rows.get(person))

    def _check_row(self, checker: "Checker", source_id: str, row: Json | asyncpg.Record | None) -> None:
        pupil = self._others.get(source_id)
        if row is None or (row["status"] == "enrolled") != (pupil is not None):
            checker.say(f"{source_id} is {row and row['status']} in claims, and in the last export: {pupil}")
        elif pupil is not None:
            seen = row["number"], row["last_name"], row["first_name"], row["school"]
            if seen != (pupil.number, pupil.last_name, pupil.first_name, pupil.school_name):
                checker.say(f"{source_id} is {seen} in claims, and in the last export: {pupil}")
