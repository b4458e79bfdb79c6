"""Imports that cannot be worked on for reasons of ours: tried again, given up in the end, and nobody else waits."""

from pathlib import Path
from typing import Any

import pytest

from services.roster import import_plan, import_worker
from services.roster.import_plan import ReaderDied
from tests.roster.conftest import Roster
from tests.roster.exports import pupils
from tests.roster.given import POLICY_FOLDER
from tests.roster.importing import District, change, some


@pytest.fixture
def policy_dir(tmp_path: Path) -> Path:
    """Two districts."""
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "ccps.toml").write_text((POLICY_FOLDER / "ccps.toml").read_text())
    own = 'extends = "ccps"\ncode = "HILLSD"\ntime_zone = "America/New_York"\nnames = { en = "Hills", es = "Hills" }\n'
    (folder / "hills.toml").write_text(own)
    return folder


@pytest.fixture
async def hills(roster: Roster, tmp_path: Path, database: str) -> District:
    return District(roster, tmp_path, database, "hills")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short and few, so that all tries are seen."""
    monkeypatch.setattr(import_worker, "MAX_TRIES", 3)
    monkeypatch.setattr(import_worker, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(import_worker, "LONGEST_PAUSE_S", 0.05)


class Broken:
    """Something of ours that fails for one district, so many times."""

    def __init__(self, of: Any, district: str, error: Exception, times: int = 1000) -> None:
        self.of, self.district, self.error, self.left = of, district, error, times

    async def __call__(self, *args: Any) -> Any:
        if self.left and any(getattr(arg, "district", None) == self.district for arg in args):
            self.left -= 1
            raise self.error
        return await self.of(*args)


async def test_an_import_that_fails_holds_up_no_other_district(
    district: District, hills: District, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(import_plan._plan, "ccps", RuntimeError("ours"))
    monkeypatch.setattr(import_plan, "_plan", broken)
    status, body = await district.upload(district.export(pupils(2)))
    assert status == 202
    shown = await hills.take(pupils(3, seed=2))
    assert (shown["state"], some(shown["counts"])) == ("done", {"added": 3})
    assert (await district.shown(body["import_id"]))["state"] == "received"


async def test_what_fails_again_and_again_is_given_up_under_a_reference(
    district: District, monkeypatch: pytest.MonkeyPatch, pauses: None
) -> None:
    broken = Broken(import_plan._plan, "ccps", RuntimeError("ours"))
    monkeypatch.setattr(import_plan, "_plan", broken)
    shown = await district.take(pupils(2))
    assert (shown["state"], shown["reason"]) == ("failed", "import_failed")
    assert shown["details"]["tries"] == import_worker.MAX_TRIES == 1000 - broken.left
    assert shown["details"]["reference"].startswith("R-")
    assert await district.rows("SELECT FROM import_piece UNION ALL SELECT FROM import_row") == []
    for method, path in (("DELETE", ""), ("POST", "/approval")):
        status, body = await district.roster.ask(
            method, f"/imports/{shown['import_id']}{path}", sub="ms-lee", human=True
        )
        assert (status, body["reason"]) == (409, "import_ended")
    broken.left = 0
    assert (await district.take(pupils(2)))["state"] == "done"


async def test_a_reader_that_dies_again_and_again_ends_the_import(
    district: District, monkeypatch: pytest.MonkeyPatch, pauses: None
) -> None:
    monkeypatch.setattr(import_plan, "_plan", Broken(import_plan._plan, "ccps", ReaderDied("status -9")))
    shown = await district.take(pupils(2))
    assert (shown["state"], shown["reason"]) == ("failed", "export_unreadable")


async def test_an_error_that_passes_costs_nothing(
    district: District, monkeypatch: pytest.MonkeyPatch, pauses: None
) -> None:
    """While planning, and while applying."""
    few = import_worker.MAX_TRIES - 1
    monkeypatch.setattr(import_plan, "_plan", Broken(import_plan._plan, "ccps", RuntimeError("ours"), few))
    broken = Broken(import_worker.apply_chunk, "ccps", RuntimeError("ours"), few)
    monkeypatch.setattr(import_worker, "apply_chunk", broken)
    shown = await district.take(pupils(2))
    assert (shown["state"], some(shown["counts"]), shown["done"]) == ("done", {"added": 2}, 2)


async def test_an_import_that_fails_in_its_middle_says_how_far_it_came(
    district: District, monkeypatch: pytest.MonkeyPatch, pauses: None
) -> None:
    ada, *others = pupils(40)
    await district.take([ada, *others])
    monkeypatch.setattr(import_worker, "CHUNK_ROWS", 10)
    works, chunks = import_worker.apply_chunk, 0

    async def apply_chunk(*args: Any) -> None:
        nonlocal chunks
        chunks += 1
        if chunks > 2:
            raise RuntimeError("ours")
        await works(*args)

    monkeypatch.setattr(import_worker, "apply_chunk", apply_chunk)
    shown = await district.take([change(ada, first_name="Adelaide"), *others])
    assert (shown["state"], shown["total"], shown["done"]) == ("failed", 40, 20)
    assert await district.told(ada) == ["StudentEnrolled", "NameCorrected"]
    monkeypatch.setattr(import_worker, "apply_chunk", works)
    shown = await district.take([change(ada, first_name="Adelaide"), *others])
    assert (shown["state"], some(shown["counts"])) == ("done", {"unchanged": 40})


async def test_as_long_as_the_read_model_is_behind_an_import_waits_and_nobody_else(
    district: District, hills: District, monkeypatch: pytest.MonkeyPatch, pauses: None
) -> None:
    behind = Broken(import_plan.plan, "ccps", import_plan.ReadModelBehind(), import_worker.MAX_TRIES + 5)
    monkeypatch.setattr(import_worker, "plan", behind)
    status, body = await district.upload(district.export(pupils(2)))
    assert status == 202
    assert (await hills.take(pupils(3, seed=2)))["state"] == "done"
    assert (await district.ended(body["import_id"]))["state"] == "done"
