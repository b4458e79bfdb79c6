"""A child process ends by itself where it can, is killed where it must be, and is never left behind."""

import asyncio
from pathlib import Path

import pytest

from shared import child

LAST_WORDS = "import os, sys, time; os.write(1, b'all'); os.close(1); time.sleep({}); sys.exit(7)\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


async def test_one_that_has_said_all_is_left_to_end_as_it_means_to(folder: Path) -> None:
    (folder / "slow_to_end.py").write_text(LAST_WORDS.format(0.3))
    async with child.running("slow_to_end") as process:
        assert process.stdout is not None
        assert await process.stdout.read() == b"all"
    assert process.returncode == 7


async def test_one_that_does_not_end_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "END_TIMEOUT_S", 0.1)
    (folder / "never_ends.py").write_text(LAST_WORDS.format(600))
    async with child.running("never_ends") as process:
        assert process.stdout is not None
        assert await process.stdout.read() == b"all"
        assert await child.ended(process) is None
    assert process.returncode == -9


async def test_one_that_nobody_listens_to_any_more_is_killed_at_once(folder: Path) -> None:
    (folder / "never_done.py").write_text(LAST_WORDS.format(600))
    with pytest.raises(KeyError):
        async with asyncio.timeout(child.END_TIMEOUT_S / 2), child.running("never_done") as process:
            raise KeyError
    assert process.returncode == -9
