"""Verifiers, peppers and the pool of threads that hashes."""

import asyncio
import base64
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from services.auth.passwords import Hasher, HashPool, PepperInvalid, Peppers, Strength, common_passwords
from shared.errors import Unavailable

OLD, NEW = b"o" * 32, b"n" * 32
LIGHT = Strength(memory_kib=64, passes=1)


def hasher(keys: dict[str, bytes] | None = None, strength: Strength = LIGHT) -> Hasher:
    return Hasher(Peppers(keys or {"p1": OLD}), HashPool(threads=2), strength)


async def test_a_password_opens_its_own_verifier_and_no_other() -> None:
    vault = hasher()
    verifier = await vault.make("password", "correct horse")
    assert await vault.matches("password", "correct horse", verifier)
    assert not await vault.matches("password", "correct horsE", verifier)
    assert not await vault.matches("answers", "correct horse", verifier)


async def test_nothing_opens_what_does_not_exist() -> None:
    assert not await hasher().matches("password", "anything", None)


async def test_the_usual_strength_is_owasps() -> None:
    verifier = await hasher(strength=Strength()).make("password", "correct horse")
    assert verifier.startswith("p1:$argon2id$v=19$m=19456,t=2,p=1$")


async def test_another_pepper_than_its_own_opens_nothing() -> None:
    verifier = await hasher({"p1": OLD}).make("password", "correct horse")
    assert not await hasher({"p1": NEW}).matches("password", "correct horse", verifier)


async def test_peppers_rotate_and_older_verifiers_are_known_as_outdated() -> None:
    verifier = await hasher({"p1": OLD}).make("password", "correct horse")
    rotated = hasher({"p2": NEW, "p1": OLD})
    assert await rotated.matches("password", "correct horse", verifier)
    assert rotated.outdated(verifier)
    assert not rotated.outdated(await rotated.make("password", "correct horse"))


async def test_a_pepper_that_is_missing_is_the_operators_mistake_not_the_pupils() -> None:
    verifier = await hasher({"p1": OLD}).make("password", "correct horse")
    with pytest.raises(Unavailable):
        await hasher({"p2": NEW}).matches("password", "correct horse", verifier)


async def test_a_verifier_of_another_strength_is_outdated() -> None:
    verifier = await hasher().make("password", "correct horse")
    assert hasher(strength=replace(LIGHT, passes=2)).outdated(verifier)


async def test_a_used_password_makes_no_new_verifier() -> None:
    vault = hasher()
    used = [await vault.make("password", p) for p in ("first one", "second one")]
    assert await vault.make_unused("second one", used) is None
    fresh = await vault.make_unused("third one", used)
    assert fresh is not None
    assert await vault.matches("password", "third one", fresh)


def test_keyed_hashes_outlast_a_rotation() -> None:
    before, after = Peppers({"p1": OLD}), Peppers({"p2": NEW, "p1": OLD})
    assert before.keyed("decoy", "ccps", "S1") == after.keyed("decoy", "ccps", "S1")
    assert before.keyed("decoy", "ccps", "S1") != before.keyed("attempt", "ccps", "S1")


async def test_too_much_work_is_shed_and_what_waits_is_done() -> None:
    pool, gate = HashPool(threads=1), threading.Event()

    async def wait() -> bool:
        with pool.reserve():
            return await pool.run(gate.wait)

    accepted = [asyncio.create_task(wait()) for _ in range(pool.limit)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as caught:
        await wait()
    assert caught.value.retry_after_s == 2
    gate.set()
    assert all(await asyncio.gather(*accepted))
    assert pool.pending == 0
    pool.close()


async def test_nothing_is_counted_of_what_finds_no_place() -> None:
    vault, counted = hasher(), []

    async def count() -> None:
        counted.append(1)

    assert not await vault.matches("answers", "x", None, first=count)
    assert await vault.make_unused("new one", [], first=count)
    with vault.pool.reserve(vault.pool.limit):
        for work in (
            vault.matches("answers", "x", None, first=count),
            vault.make_unused("x", [], first=count),
        ):
            with pytest.raises(Unavailable):
                await work
    assert len(counted) == 2


@pytest.mark.parametrize("content", ["", "# nothing\n", "p1", "p1:%%%", "p1:AAAA", ":" + "A" * 44])
def test_a_file_of_peppers_that_cannot_be_used_says_so(tmp_path: Path, content: str) -> None:
    file = tmp_path / "peppers"
    file.write_text(content)
    with pytest.raises(PepperInvalid):
        Peppers.read(file)


def test_the_first_line_is_the_present_pepper(tmp_path: Path) -> None:
    file = tmp_path / "peppers"
    lines = [f"{name}:{base64.b64encode(key).decode()}" for name, key in (("p2", NEW), ("p1", OLD))]
    file.write_text("# peppers\n" + "\n".join(lines) + "\n")
    assert Peppers.read(file).current == "p2"


def test_what_must_last_stays_the_same_at_each_step_of_a_rotation(tmp_path: Path) -> None:
    """Else decoys would change and real questions not, and wrong tries be forgotten."""
    kept = {"p1": OLD, "p2": NEW, "lasting": OLD}
    steps = (("p1", "lasting"), ("p1", "lasting", "p2"), ("p2", "p1", "lasting"), ("p2", "lasting"))
    keyed = {Peppers({name: kept[name] for name in step}).keyed("decoy", "x") for step in steps}
    assert len(keyed) == 1


def test_a_file_with_an_id_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "peppers"
    file.write_text(f"p1:{base64.b64encode(NEW).decode()}\n" * 2)
    with pytest.raises(PepperInvalid):
        Peppers.read(file)


def test_the_list_of_common_passwords_is_long_and_has_the_usual_ones() -> None:
    common = common_passwords()
    assert len([p for p in common if len(p) >= 8]) > 3000
    assert {"password", "password1", "12345678", "iloveyou", "qwertyuiop"} <= common
    assert not any(p.startswith("# ") for p in common)
