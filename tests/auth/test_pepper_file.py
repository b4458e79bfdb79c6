"""Peppers that are turned while auth runs."""

from pathlib import Path

import pytest

from services.auth.passwords import Hasher, HashPool, Peppers
from shared.errors import Unavailable
from tests.auth.conftest import LIGHT, write_peppers


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
