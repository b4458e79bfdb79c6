"""Keys are turned in their folder: nothing is signed with what nobody knows, and nothing goes that is still needed."""

import asyncio
import json
import multiprocessing
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.prepare import prepare
from services.auth.passwords import Peppers
from services.cli.client import Failed
from services.cli.key_folder import KINDS, SIGNING, TURNED_BY_AGE, VERIFIES_FOR, Kept, KeyFolder, Kind
from services.portal.seals import Seals, read_keys
from shared import clock
from shared.keys import KeyRing, Signer
from tests.cli.conftest import Run
from tests.support.service import migrated_database

NOW = datetime(2026, 8, 3, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
Later = Callable[..., KeyFolder]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    prepare(tmp_path)
    return tmp_path


@pytest.fixture
def later(root: Path, monkeypatch: pytest.MonkeyPatch) -> Later:
    """The folder at another time, which is everybody's then."""

    def at(**after: float) -> KeyFolder:
        moment = NOW + timedelta(**after)
        monkeypatch.setattr(clock, "now", lambda: moment)
        return KeyFolder(root, moment)

    return at


def states(found: list[Kept]) -> list[str]:
    return [kept.state for kept in found]


def signing(root: Path, kind: Kind) -> str:
    """The kid that the service itself signs with now."""
    of = SIGNING[kind]
    signer = Signer(root / "signing" / of.owner, of.signer, of.signs_after)
    signer.refresh()
    return str(signer.keys(of.algorithm)[0].kid)


class TestKeysThatSign:
    @pytest.mark.parametrize("kind", [kind for kind in SIGNING if kind != "id-token-es256"])
    def test_a_new_one_is_known_before_it_signs(self, root: Path, later: Later, kind: Kind) -> None:
        first = signing(root, kind)
        new = later(days=1).rotate(kind)
        assert new.state == "waits"
        assert signing(root, kind) == first
        ring = KeyRing(root / "keys")
        ring.refresh()
        assert ring.get(SIGNING[kind].signer, new.id)
        wait = SIGNING[kind].signs_after
        before = later(days=1, seconds=wait.total_seconds() - 1)
        assert states(before.of(kind)) == ["signs", "waits"]
        assert signing(root, kind) == first
        after = later(days=1, seconds=wait.total_seconds())
        assert states(after.of(kind)) == ["verifies", "signs"]
        assert signing(root, kind) == new.id

    def test_one_that_is_replaced_goes_when_all_it_signed_is_over(self, root: Path, later: Later) -> None:
        old, wait = signing(root, "id-token"), SIGNING["id-token"].signs_after.total_seconds()
        later(days=1).rotate("id-token")
        for folder in (later(days=1), later(days=1, seconds=wait)):
            with pytest.raises(Failed, match="key_in_use"):
                folder.retire("id-token", old)
        too_early = later(days=1, seconds=wait + VERIFIES_FOR.total_seconds() - 1)
        assert too_early.over() == []
        with pytest.raises(Failed, match="key_in_use"):
            too_early.retire("id-token", old)
        over = later(days=1, seconds=wait + VERIFIES_FOR.total_seconds())
        assert [kept.id for kept in over.over()] == [old]
        over.retire("id-token", old)
        assert states(over.of("id-token")) == ["signs"]
        assert not list(root.rglob(f"*{old}*"))

    def test_of_one_that_leaked_the_one_that_waits_takes_the_place_at_once(
        self, root: Path, later: Later
    ) -> None:
        leaked = signing(root, "auth")
        with pytest.raises(Failed, match="key_in_use"):
            later().retire("auth", leaked, leaked=True)
        new = later(seconds=5).rotate("auth")
        later(seconds=6).retire("auth", leaked, leaked=True)
        assert signing(root, "auth") == new.id

    def test_a_public_key_alone_signs_nothing_and_can_be_taken_away(self, root: Path, later: Later) -> None:
        """Whoever made it was ended between the two files."""
        new = later(days=1).rotate("claims")
        next((root / "signing/claims").glob(f"*{new.id}*")).unlink()
        folder = later(days=2)
        assert states(folder.of("claims")) == ["signs", "verifies"]
        folder.retire("claims", new.id)
        assert states(folder.of("claims")) == ["signs"]

    def test_another_algorithm_is_another_kind(self, root: Path, later: Later) -> None:
        later(days=1).rotate("id-token-es256")
        assert states(later(days=2).of("id-token-es256")) == ["signs"]
        assert len(later(days=2).of("id-token")) == 1


class TestPeppers:
    def test_a_new_one_is_used_and_what_was_made_before_still_counts(self, root: Path, later: Later) -> None:
        file = root / "secrets/pepper"
        before = Peppers.read(file)
        new = later().rotate("pepper")
        after = Peppers.read(file).after(before)
        assert after.current == new.id
        assert after.apply("1", "password", "x") == before.apply("1", "password", "x")
        assert [(kept.id, kept.state) for kept in later().of("pepper")] == [
            (new.id, "used"), ("1", "known"), ("lasting", "lasting"),
        ]  # fmt: skip
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_where_each_machine_has_its_file_it_is_known_first(self, root: Path, later: Later) -> None:
        new = later().rotate("pepper", known_first=True)
        assert new.state == "known"
        peppers = Peppers.read(root / "secrets/pepper")
        assert peppers.current == "1"
        assert new.id in peppers
        assert later().use("pepper", new.id).state == "used"
        assert Peppers.read(root / "secrets/pepper").current == new.id

    def test_what_lasts_never_goes_and_makes_nothing(self, root: Path, later: Later) -> None:
        folder = later()
        for act in (folder.retire, folder.use):
            with pytest.raises(Failed, match="key_lasts"):
                act("pepper", "lasting")
        with pytest.raises(Failed, match="key_in_use"):
            folder.retire("pepper", "1", leaked=True)

    def test_without_a_lasting_line_the_last_one_is_it(self, root: Path, later: Later) -> None:
        file = root / "secrets/pepper"
        file.write_text(file.read_text().splitlines()[0] + "\n")
        before = Peppers.read(file)
        later().rotate("pepper")
        Peppers.read(file).after(before)
        with pytest.raises(Failed, match="key_lasts"):
            later().retire("pepper", "1")

    def test_two_of_one_day_have_two_names(self, root: Path, later: Later) -> None:
        assert later().rotate("pepper").id != later().rotate("pepper").id
        assert states(later().of("pepper")) == ["used", "known", "known", "lasting"]

    def test_of_one_line_it_stays_what_lasts_when_another_is_known(self, root: Path, later: Later) -> None:
        file = root / "secrets/pepper"
        file.write_text(file.read_text().splitlines()[0] + "\n")
        before = Peppers.read(file)
        new = later().rotate("pepper", known_first=True)
        after = Peppers.read(file).after(before)
        assert (after.current, new.state) == ("1", "known")
        assert Peppers.read(file).keyed("device", "x") == before.keyed("device", "x")
        later().use("pepper", new.id)
        later().retire("pepper", "1")
        assert Peppers.read(file).after(before).current == new.id

    @pytest.mark.parametrize("line", ["nonsense", "2:c2hvcnQ=", ":AAAA", "1:" + "A" * 44])
    def test_a_file_that_is_not_understood_is_left_as_it_is(
        self, root: Path, later: Later, line: str
    ) -> None:
        file = root / "secrets/pepper"
        file.write_text(said := f"{file.read_text()}{line}\n")
        with pytest.raises(Failed, match="keys_unreadable"):
            later().rotate("pepper")
        assert file.read_text() == said


def test_a_pepper_stays_while_passwords_were_hashed_with_it(
    root: Path,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    postgres_dsn: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def did(statement: str, *values: object) -> None:
        conn = await asyncpg.connect(dsn)
        await conn.execute(statement, *values)
        await conn.close()

    sealed = "INSERT INTO vault VALUES (gen_random_uuid(), gen_random_uuid(), $1, $2, NULL, now())"
    staged = """INSERT INTO staging (claim_id, district, person_id, generation, taken, password, expires_at)
        VALUES (gen_random_uuid(), 'd', gen_random_uuid(), 0, 1, $1, now())"""
    old, new = "1:$argon2id$x", "11:$argon2id$x"
    words = "keys", "retire", "pepper", "1", "--folder", str(root)
    with migrated_database(postgres_dsn, "auth") as dsn:
        monkeypatch.setenv("HOMEROOM_POSTGRES", dsn)
        assert run("keys", "rotate", "pepper", "--folder", str(root)) == 0
        asyncio.run(did(sealed, new, new))
        for statement, values, told in (
            (sealed, (old, None), "1 passwords, 0 people's answers and 0 claims under way"),
            (sealed, (new, old), "1 passwords, 1 people's answers and 0 claims under way"),
            (staged, (old,), "1 passwords, 1 people's answers and 1 claims under way"),
        ):
            asyncio.run(did(statement, *values))
            assert run(*words) == 1
            assert told in capsys.readouterr().err
        asyncio.run(did("DELETE FROM vault"))
        assert run(*words) == 1, "a password that is staged is sealed as it is"
        assert run(*words, "--leaked", "--yes") == 1, "without it that claim could never end"
        assert len(KeyFolder(root, NOW).of("pepper")) == 3
        asyncio.run(did("DELETE FROM staging"))
        assert run(*words) == 0
    assert states(KeyFolder(root, NOW).of("pepper")) == ["used", "lasting"]


class TestThePortalsKeys:
    def test_what_was_sealed_before_still_opens(self, root: Path, later: Later) -> None:
        file, until = root / "portal/key", NOW + timedelta(hours=1)
        sealed = Seals(read_keys(file)).seal("step", "names", until)
        old = later().of("portal")[0]
        new = later().rotate("portal")
        assert states(later().of("portal")) == ["used", "known"]
        assert Seals(read_keys(file)).open("step", sealed, str, NOW) == "names"
        later().retire("portal", old.id)
        assert [kept.id for kept in later().of("portal")] == [new.id]
        assert Seals(read_keys(file)).open("step", sealed, str, NOW) is None


class TestOnASchedule:
    def test_what_is_old_is_turned_once_and_what_is_over_goes(
        self, root: Path, later: Later, run: Run, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def turned(**after: float) -> str:
            later(**after)
            assert run("keys", "turn", "--folder", str(root)) == 0
            return capsys.readouterr().out

        assert turned(days=89) == "nothing to do\n"
        assert turned(days=90).count(": waits") == 3, "of auth, claims and ID tokens"
        assert turned(days=90, hours=1) == "nothing to do\n"
        assert turned(days=92).count("is gone") == 3
        assert turned(days=93) == "nothing to do\n"
        assert {kept.kind for kept in later(days=93).all() if kept.state == "signs"} == {
            *TURNED_BY_AGE, "saml",
        } - {"id-token-es256"}  # fmt: skip


def test_a_turn_that_was_broken_off_is_made_good_by_the_next(root: Path, later: Later, run: Run) -> None:
    """Whoever turned was ended between the public file and the private one."""
    old, wait = signing(root, "id-token"), SIGNING["id-token"].signs_after

    def broken(kid: str) -> None:
        next((root / "signing/auth").glob(f"*{kid}*")).unlink()

    def turned(after: timedelta) -> list[str]:
        folder = later(seconds=after.total_seconds())
        assert run("keys", "turn", "--folder", str(root)) == 0
        return [kept.id for kept in folder.of("id-token")]

    begun = timedelta(days=90)
    known = later(seconds=begun.total_seconds()).rotate("id-token").id
    broken(known)
    new = turned(begun + timedelta(hours=23))[-1]
    assert new not in (old, known)
    signs = begun + timedelta(hours=23) + wait
    later(seconds=(signs - SECOND).total_seconds())
    assert signing(root, "id-token") == old
    assert old in turned(signs + VERIFIES_FOR - SECOND), "what it signed a day ago is still believed"
    assert turned(signs + VERIFIES_FOR) == [new]


def test_what_is_shown_is_no_secret(root: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keys", "show", "--folder", str(root), "--json") == 0
    shown = capsys.readouterr().out
    rows: list[Any] = json.loads(shown)
    assert run("keys", "show", "--folder", str(root)) == 0
    shown += capsys.readouterr().out
    assert all(row["id"] in shown for row in rows)
    assert {row["kind"] for row in rows} == {*KINDS} - {"id-token-es256"}
    secrets = [line.partition(":")[2] for line in (root / "secrets/pepper").read_text().splitlines()]
    secrets += (root / "portal/key").read_text().split()
    secrets += [json.loads(file.read_bytes())["d"] for file in root.glob("signing/*/*")]
    assert len(secrets) == 7
    assert not [secret for secret in secrets if secret in shown]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("retire", "auth", "20200101T000000Z-0000"), "key_unknown"),
        (("use", "pepper", "7"), "key_unknown"),
        (("use", "auth", "7"), "wrong_usage"),
        (("turn", "--older-than-days", "0"), "wrong_usage"),
    ],
)
def test_a_mistake_is_told(
    root: Path, run: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], reason: str
) -> None:
    if words[:2] == ("use", "auth"):
        words = ("use", "auth", signing(root, "auth"))
    assert run("keys", *words, "--folder", str(root)) in (1, 2)
    assert capsys.readouterr().err.startswith(reason)


def test_a_folder_that_is_none_is_told(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("keys", "show", "--folder", str(tmp_path / "nowhere")) == 1
    assert capsys.readouterr().err.startswith("keys_missing")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another account")
def test_keys_of_another_account_are_not_turned(
    root: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    os.chown(root / "keys", 12345, 12345)
    assert run("keys", "rotate", "auth", "--folder", str(root)) == 1
    assert capsys.readouterr().err.startswith("keys_of_another")


def _rotate(root: Path) -> None:
    folder = KeyFolder(root, NOW)
    for _ in range(5):
        with folder.alone():
            folder.rotate("pepper")
            folder.rotate("portal")


def test_of_two_at_once_none_loses_the_others_key(root: Path) -> None:
    both = [multiprocessing.get_context("spawn").Process(target=_rotate, args=(root,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(30)
        assert process.exitcode == 0
    folder = KeyFolder(root, NOW)
    assert (len(folder.of("pepper")), len(folder.of("portal"))) == (12, 11)
