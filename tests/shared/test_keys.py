"""Keys as files: who may read them, how they are exchanged, and what is refused."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from joserfc import jws, jwt
from joserfc.jwk import RSAKey

from shared import clock
from shared.errors import Unavailable
from shared.keys import SIGNS_AFTER, Algorithm, KeyRing, Signer, ensure_key, make_key

FIRST, SECOND = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)


def test_a_private_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    make_key("auth", tmp_path / "public", tmp_path / "private", FIRST)
    (private,) = (tmp_path / "private").iterdir()
    (public,) = (tmp_path / "public").iterdir()
    assert private.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "private").stat().st_mode & 0o077 == 0
    assert "d" not in json.loads(public.read_text())


def test_a_private_key_that_others_may_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_key("auth", tmp_path / "public", tmp_path / "private", FIRST)
    (private,) = (tmp_path / "private").iterdir()
    private.chmod(0o640)
    signer = Signer(tmp_path / "private", "auth")
    signer.refresh()
    assert not signer.ready
    assert "chmod 600" in capsys.readouterr().out
    with pytest.raises(Unavailable):
        signer.sign("at+jwt", {})
    private.chmod(0o600)
    signer.refresh()
    assert signer.ready


def test_the_newest_key_signs_and_all_verify(tmp_path: Path) -> None:
    kids = [make_key("auth", tmp_path / "public", tmp_path / "private", at) for at in (SECOND, FIRST)]
    ring, signer = KeyRing(tmp_path / "public"), Signer(tmp_path / "private", "auth")
    ring.refresh()
    signer.refresh()
    signed = signer.sign("at+jwt", {"sub": "x"})
    key = ring.get("auth", kids[0])
    assert key is not None
    opened = jwt.decode(signed, key, algorithms=["Ed25519"])
    assert opened.header == {"alg": "Ed25519", "typ": "at+jwt", "kid": kids[0]}
    assert ring.get("auth", kids[1]) is not None
    assert [k["kid"] for k in ring.jwks("auth")["keys"]] == sorted(kids)
    assert ring.jwks("claims") == {"keys": []}


def test_a_key_signs_once_everybody_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: now)
    signer = Signer(tmp_path / "private", "auth")
    first = make_key("auth", tmp_path / "public", tmp_path / "private", now)
    signer.refresh()
    assert kid_of(signer.sign("at+jwt", {})) == first, "there is no other"
    second = make_key("auth", tmp_path / "public", tmp_path / "private", now + timedelta(seconds=1))
    signer.refresh()
    for later, kid in ((SIGNS_AFTER, first), (SIGNS_AFTER + timedelta(seconds=1), second)):
        monkeypatch.setattr(clock, "now", lambda later=later: now + later)
        assert kid_of(signer.sign("at+jwt", {})) == kid


@pytest.mark.parametrize("algorithm", ["Ed25519", "RS256", "ES256"])
def test_each_algorithm_has_keys_of_its_own(tmp_path: Path, algorithm: Algorithm) -> None:
    for each in ("Ed25519", "RS256", "ES256"):
        make_key("auth", tmp_path / "public", tmp_path / "private", FIRST, each)  # type: ignore[arg-type]
    ring, signer = KeyRing(tmp_path / "public"), Signer(tmp_path / "private", "auth")
    signer.refresh()
    assert signer.algorithms() == ["Ed25519", "RS256", "ES256"]
    signed = signer.sign("JWT", {"sub": "x"}, algorithm)
    key = ring.get("auth", kid_of(signed))
    assert key is not None
    assert jwt.decode(signed, key, algorithms=[algorithm]).claims == {"sub": "x"}


def test_a_key_is_made_unless_there_is_one(tmp_path: Path) -> None:
    for _ in range(2):
        ensure_key("auth", tmp_path / "public", tmp_path / "private", FIRST, "ES256")
    signer = Signer(tmp_path / "private", "auth")
    signer.refresh()
    assert (signer.algorithms(), signer.ready) == (["ES256"], False), "nothing that signs our own tokens"
    assert len(list((tmp_path / "public").iterdir())) == 1


@pytest.mark.filterwarnings("ignore:Key size")
def test_a_short_rsa_key_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = RSAKey.generate_key(1024, {"kid": "k", "alg": "RS256"}).as_dict(private=False)
    (tmp_path / "auth-k.public.json").write_text(json.dumps(key))
    assert KeyRing(tmp_path).get("auth", "k") is None
    assert "less than 2048 bits" in capsys.readouterr().out


def kid_of(token: str) -> str:
    return str(jws.extract_compact(token.encode()).headers()["kid"])


def test_a_new_key_is_found_by_looking_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = KeyRing(tmp_path)
    kid = make_key("auth", tmp_path, tmp_path / "private", FIRST)
    assert ring.get("auth", kid) is not None
    assert ring.get("claims", kid) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda key: key | {"d": "AAAA"}, "private key in the folder of public ones"),
        (lambda key: key | {"kid": "another"}, "kid"),
        (lambda key: key | {"crv": "Ed448"}, "Ed25519"),
        (lambda key: key | {"kty": "RSA"}, "Ed25519"),
        (lambda key: key | {"x": "!"}, ""),
        (lambda key: [], ""),
    ],
)
def test_a_file_that_is_no_public_key_is_reported_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: object, why: str
) -> None:
    kid = make_key("auth", tmp_path, tmp_path / "private", FIRST)
    good = make_key("auth", tmp_path, tmp_path / "private", SECOND)
    file = tmp_path / f"auth-{kid}.public.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))  # type: ignore[operator]
    ring = KeyRing(tmp_path)
    ring.refresh()
    assert ring.get("auth", kid) is None
    assert ring.get("auth", good) is not None
    out = capsys.readouterr().out
    assert "key_refused" in out
    assert why in out


def test_no_signing_folder_is_no_signer(tmp_path: Path) -> None:
    signer = Signer(None, "roster")
    assert not signer.refresh()
    assert not signer.ready
    assert os.listdir(tmp_path) == []
