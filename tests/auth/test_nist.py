"""A district that takes the policy pack `nist`, long passwords and no questions: from the claim to the way back in."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.auth.breached import Breached
from shared.policies import load_policy, read_folder
from shared.settings import Settings, SettingsInvalid
from tests.auth.conftest import Pupil, World
from tests.auth.test_recovery import code_for, forgetful

PACKS = Settings(service="auth", postgres="", kafka="").policy_dir
OWN = 'code = "HILL1"\ntime_zone = "America/Chicago"\nnames = { en = "Hill", es = "Hill" }\n'
LONG, OTHER = "a horse that is correct", "another horse with a name"


def nist(folder: Path) -> Path:
    """A folder with a district that takes the pack."""
    for pack in ("ccps", "nist"):
        (folder / f"{pack}.toml").write_text((PACKS / f"{pack}.toml").read_text())
    (folder / "hill.toml").write_text(f'extends = "nist"\n{OWN}')
    return folder


@pytest.fixture
def world(world: World, tmp_path: Path) -> World:
    policies = tmp_path / "policies"
    policies.mkdir()
    hill = load_policy(nist(policies) / "hill.toml")
    world.kit.policies._policies["ccps"] = msgspec.structs.replace(hill, district="ccps")
    return world


async def claimed(world: World) -> Pupil:
    pupil = await world.enroll()
    world.open_claim(pupil)
    assert (await world.put_password(pupil, LONG)).status == 200
    async with world.answering(pupil):
        answer = await world.put_answers(pupil, ())
    assert (answer.status, answer.body["state"]) == (200, "completed")
    return pupil


class TestADistrictOfThePack:
    async def test_a_claim_has_a_long_password_and_no_answers(self, world: World) -> None:
        pupil = await world.enroll()
        world.open_claim(pupil)
        short = await world.put_password(pupil, "correct horse")
        assert (short.reason, short.body["min_length"]) == ((422, "password_short"), 15)
        assert (await world.put_password(pupil, "1qaz2wsx3edc4rfv")).reason == (422, "password_common")
        assert (await world.put_password(pupil, LONG)).status == 200
        answered = await world.put_answers(pupil)
        assert (answered.reason, answered.body["required"]) == ((422, "answers_wrong_count"), 0)
        async with world.answering(pupil):
            for _ in range(2):
                assert (await world.put_answers(pupil, ())).status == 200, "sent again it is done already"
        assert (await world.sign_in(pupil.username, LONG)).status == 201
        assert await world.fetch("SELECT answers, questions FROM vault") == [
            {"answers": None, "questions": []}
        ]

    async def test_a_recovery_takes_a_code_and_nothing_else(self, world: World) -> None:
        pupil = await claimed(world)
        session = await world.session(pupil, LONG)
        browser = await forgetful(world, pupil.username)
        assert browser.asked == []
        for answers in ([], [{"question": "birth_month", "answer": "May"}]):
            refused = await browser.prove(answers=answers)
            assert refused.reason == (403, "recovery_refused")
            assert (await world.truth(refused))["detail"]["cause"] == "code_only"
        assert (await browser.prove(code=await code_for(world, pupil))).status == 200
        assert (await browser.set_password(LONG)).reason == (422, "password_used_before")
        assert (await browser.set_password(OTHER)).status == 204
        assert not await world.alive(session)
        assert (await world.sign_in(pupil.username, OTHER)).status == 201

    async def test_who_has_no_account_is_answered_the_same(self, world: World) -> None:
        pupil = await claimed(world)
        answers = []
        for username in (pupil.username, "S7654321", "nobody"):
            browser = await forgetful(world, username)
            tries: list[Any] = [await browser.prove(answers=[]), await browser.prove(code="AAAAA-AAAAA")]
            answers.append([(a.status, {**a.body, "reference": ""}) for a in tries] + [len(browser.asked)])
        assert answers[0] == answers[1] == answers[2]

    async def test_the_present_password_is_the_only_one_that_is_refused(self, world: World) -> None:
        pupil = await claimed(world)
        session = await world.session(pupil, LONG)
        for current, new in ((LONG, OTHER), (OTHER, LONG)):
            body = {"current": current, "new": new}
            assert (await world.ask("PUT", "/password", body, bearer=session)).status == 204

    async def test_an_account_from_before_is_recovered_by_a_code_as_well(self, world: World) -> None:
        """The district took the pack later, and gave it up again: whoever has no questions still has the code."""
        pupil = await claimed(world)
        ccps = load_policy(PACKS / "ccps.toml")
        world.kit.policies._policies["ccps"] = ccps
        browser = await forgetful(world, pupil.username)
        assert len(browser.asked) == 3
        assert (await browser.prove(code=await code_for(world, pupil))).status == 200
        assert (await browser.set_password(OTHER)).status == 204


def test_a_pack_is_no_district(tmp_path: Path) -> None:
    good, bad = read_folder(nist(tmp_path))
    assert (sorted(good), bad) == (["ccps", "hill"], {})
    assert (good["hill"].password.min_length, good["hill"].questions_required) == (15, 0)


class TestBreachedPasswords:
    @given(st.sets(st.text(min_size=1), min_size=1, max_size=60), st.text(), st.booleans(), st.booleans())
    def test_it_knows_those_of_its_file_and_no_others(
        self, listed: set[str], other: str, counted: bool, windows: bool
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            breached = Breached(_file(Path(folder), listed, counted, "\r\n" if windows else "\n"))
            assert all(password in breached for password in listed)
            assert (other in breached) is (other in listed)

    @pytest.mark.parametrize(
        "text", ["", "password\n", "0" * 39, f"{'F' * 40}\n{'0' * 40}\n", f"{'0' * 40};1\n"]
    )
    def test_what_is_no_such_list_is_refused(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "list"
        file.write_text(text)
        with pytest.raises(SettingsInvalid):
            Breached(file)
        with pytest.raises(SettingsInvalid):
            Breached(tmp_path / "none")

    async def test_a_password_of_the_mounted_list_is_refused(self, world: World, tmp_path: Path) -> None:
        mounted = Breached(_file(tmp_path, {"a horse that was breached"}, True, "\n"))
        object.__setattr__(world.auth, "breached", mounted)
        pupil = await world.enroll()
        world.open_claim(pupil)
        for typed in ("a horse that was breached", " A Horse that was breached"):
            assert (await world.put_password(pupil, typed)).reason == (422, "password_common")
        assert (await world.put_password(pupil, LONG)).status == 200


def _file(folder: Path, listed: set[str], counted: bool, end: str) -> Path:
    file = folder / "breached"
    hashes = sorted(hashlib.sha1(p.encode(), usedforsecurity=False).hexdigest().upper() for p in listed)
    file.write_bytes("".join(f"{h}{':7' if counted else ''}{end}" for h in hashes).encode())
    return file
