"""Peppers that are turned while auth runs."""

import asyncio
import threading
from pathlib import Path

import pytest

from services.auth.passwords import Hasher, HashPool, Peppers
from services.cli.key_folder import KeyFolder
from shared.errors import Unavailable
from shared.key_file import KeyFile
from tests.auth.conftest import LIGHT, World, write_peppers


def hasher(file: Path) -> Hasher:
    return Hasher(Peppers.read(file), HashPool(1), LIGHT, file)


async def test_a_new_one_is_used_and_the_older_still_opens(tmp_path: Path) -> None:
    file = write_peppers(tmp_path / "peppers", "p1")
    hashing = hasher(file)
    before = await hashing.make("password", "x")
    write_peppers(file, "p2", "p1")
    await hashing.refresh()
    assert await hashing.matches("password", "x", before)
    assert hashing.outdated(before)
    after = await hashing.make("password", "x")
    assert after.startswith("p2:")
    assert not hashing.outdated(after)
    assert await hashing.matches("password", "x", None) is False


async def test_another_process_may_be_first(tmp_path: Path) -> None:
    file = write_peppers(tmp_path / "peppers", "p1")
    first, second = hasher(file), hasher(file)
    write_peppers(file, "p2", "p1")
    await first.refresh()
    made = await first.make("password", "x")
    assert await second.matches("password", "x", made)


async def test_what_nobody_is_compared_with_survives_a_pepper_that_goes(tmp_path: Path) -> None:
    file = write_peppers(tmp_path / "peppers", "p2", "p1")
    hashing = hasher(file)
    write_peppers(file, "p3", "p2", "p1")
    await hashing.refresh()
    write_peppers(file, "p3", "p1")
    await hashing.refresh()
    assert await hashing.matches("password", "x", None) is False


@pytest.mark.parametrize("names", [("p2",), ("p1", "p2"), ()])
async def test_a_file_that_takes_away_what_must_last_is_not_believed(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    file = write_peppers(tmp_path / "peppers", "p1")
    hashing = hasher(file)
    before, lasting = await hashing.make("password", "x"), hashing.peppers.keyed("x")
    write_peppers(file, *names)
    await hashing.refresh()
    assert await hashing.matches("password", "x", before)
    assert hashing.peppers.keyed("x") == lasting


async def test_one_that_is_nowhere_is_still_the_operators_mistake(tmp_path: Path) -> None:
    hashing = hasher(write_peppers(tmp_path / "peppers", "p1"))
    made = await hashing.make("password", "x")
    with pytest.raises(Unavailable):
        await hashing.matches("password", "x", "gone" + made.removeprefix("p1"))


async def test_of_two_threads_that_meet_a_new_one_both_know_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_peppers(tmp_path / "peppers", "p1")
    hashing = hasher(file)
    write_peppers(file, "p2", "p1")
    made = await hasher(file).make("password", "x")
    read, compared, look = threading.Event(), threading.Event(), KeyFile.refresh

    def slow(self: KeyFile[Peppers]) -> bool:
        """The first has read the file, and is held up before it says so."""
        if changed := look(self):
            read.set()
            assert compared.wait(10)
        return changed

    monkeypatch.setattr(KeyFile, "refresh", slow)
    first = asyncio.create_task(asyncio.to_thread(hashing._look))
    await asyncio.to_thread(read.wait, 10)
    try:
        assert await hashing.matches("password", "x", made)
    finally:
        compared.set()
        await first


async def test_nobody_is_kept_from_signing_in_while_peppers_are_turned(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for part in ("keys", "secrets"):
        (folder / part).mkdir(parents=True)
    file = write_peppers(folder / "secrets/pepper", "p1", "lasting")
    object.__setattr__(world.auth, "hasher", hasher(file))
    pupils = [await world.claimed(f"012345{n}") for n in range(4)]
    keys, statuses, stop = KeyFolder(folder, world.now()), [], asyncio.Event()

    async def again_and_again(username: str) -> None:
        while not stop.is_set():
            statuses.append((await world.sign_in(username)).status)

    async def some_more() -> None:
        enough = len(statuses) + 3 * len(pupils)
        while len(statuses) < enough:
            await asyncio.sleep(0.01)

    async with asyncio.timeout(30), asyncio.TaskGroup() as going_on:
        for pupil in pupils:
            going_on.create_task(again_and_again(pupil.username))
        await some_more()
        new = keys.rotate("pepper").id
        await world.auth.hasher.refresh()
        while await world.fetch("SELECT FROM vault WHERE starts_with(password, 'p1:')"):
            await asyncio.sleep(0.01)
        keys.retire("pepper", "p1")
        await world.auth.hasher.refresh()
        await some_more()
        stop.set()
    assert set(statuses) == {201}
    assert world.auth.hasher.peppers.current == new
    assert "p1" not in world.auth.hasher.peppers
