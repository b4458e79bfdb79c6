"""A file of keys that changes while a service runs."""

from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from shared.key_file import KeyFile
from shared.keys import KeyRing, Signer, make_key
from shared.settings import SettingsInvalid
from tests.shared.test_keys import FIRST


def read(file: Path) -> str:
    try:
        text = file.read_text()
    except OSError as error:
        raise SettingsInvalid(f"{file}: {type(error).__name__}") from None
    if not text.endswith("\n"):
        raise SettingsInvalid(f"{file}: half written")
    return text


def refused(kind: str) -> float | None:
    return REGISTRY.get_sample_value("homeroom_refused_keys", {"kind": kind})


def test_it_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("one\n")
    keys = KeyFile("test", file, read)
    assert (keys.value, keys.refresh()) == ("one\n", False)
    file.write_text("two two\n")
    assert (keys.refresh(), keys.value, keys.refresh()) == (True, "two two\n", False)


def test_what_is_wrong_or_gone_leaves_what_held_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    file.write_text("one\n")
    keys = KeyFile("test", file, read)
    file.write_text("a secret, half wri")
    assert (keys.refresh(), keys.refresh(), keys.value) == (False, False, "one\n")
    assert refused("test") == 1
    told = capsys.readouterr().out
    assert told.count("key_file_refused") == 1
    assert "secret" not in told
    file.unlink()
    assert (keys.refresh(), keys.value) == (False, "one\n")
    file.write_text("two two\n")
    assert (keys.refresh(), keys.value, refused("test")) == (True, "two two\n", 0)


def test_at_the_start_it_has_to_hold(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid):
        KeyFile("test", tmp_path / "none", read)


def test_a_key_of_a_folder_that_turns_bad_is_kept_as_it_was(tmp_path: Path) -> None:
    kid = make_key("auth", tmp_path / "public", tmp_path / "private", FIRST)
    ring, signer = KeyRing(tmp_path / "public"), Signer(tmp_path / "private", "auth")
    ring.refresh()
    signer.refresh()
    for folder in ("public", "private"):
        [file] = (tmp_path / folder).iterdir()
        whole = file.read_text()
        file.write_text(whole[:20])
        assert (signer if folder == "private" else ring).refresh()
        assert ring.get("auth", kid) is not None
        assert signer.ready
        assert refused(folder) == 1
        file.write_text(whole)
        assert (signer if folder == "private" else ring).refresh()
        assert refused(folder) == 0
    for folder in ("public", "private"):
        [file] = (tmp_path / folder).iterdir()
        file.unlink()
    ring.refresh()
    signer.refresh()
    assert ring.get("auth", kid) is None, "what is taken away is gone"
    assert not signer.ready
