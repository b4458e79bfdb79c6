"""A toy service over the kit, without PostgreSQL or Kafka unless a test asks for them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared import clock, rebuilder, shares
from shared.keys import Signer, make_key
from shared.service import Kit, build_kit
from shared.settings import Settings, from_environment
from tests.shared.toy import SPEC

ISSUER = "https://auth.example.org"
DISTRICT = "ccps"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks again now and then looks sooner: how often it does is no promise."""
    monkeypatch.setattr(shares, "TICK_S", 0.1)
    monkeypatch.setattr(shares, "DIVERGED_PAUSE_S", 0.5)
    monkeypatch.setattr(rebuilder, "TICK_S", 0.1)
    monkeypatch.setattr(rebuilder, "RETRY_S", 0.1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose PostgreSQL and Kafka are not there; keys of auth and claims in folders of the test's own."""
    for number, service in enumerate(("auth", "claims")):
        make_key(service, tmp_path / "public", tmp_path / service, datetime(2026, 1, 1 + number, tzinfo=UTC))
    return from_environment(
        {},
        service="claims",
        postgres="postgresql://nobody@127.0.0.1:9/none",
        kafka="127.0.0.1:9",
        issuer=ISSUER,
        key_dir=str(tmp_path / "public"),
        signing_key_dir=str(tmp_path / "claims"),
        http_port=0,
    )


@pytest.fixture
def kit(settings: Settings) -> Kit:
    kit = build_kit(SPEC, settings)
    kit.policies.refresh()
    kit.keys.refresh()
    return kit


@pytest.fixture
def token(tmp_path: Path) -> Callable[..., str]:
    """Signs tokens as auth and claims do; every part of one can be said otherwise."""

    def sign(typ: str = "at+jwt", signer: str = "auth", **claims: Any) -> str:
        now = clock.now()
        usual = {
            "iss": "homeroom-claims" if typ == "claim-ticket+jwt" else f"{ISSUER}/v1/districts/{DISTRICT}",
            "aud": "homeroom" if typ == "at+jwt" else ["claims", "auth"],
            "sub": "client-1",
            "iat": int(now.timestamp()),
            "exp": int((now + timedelta(minutes=10)).timestamp()),
            "district": DISTRICT,
            "districts": ["*"],
            "scope": "desk",
        }
        keys = Signer(tmp_path / signer, signer)
        keys.refresh()
        return keys.sign(typ, {k: v for k, v in (usual | claims).items() if v is not None})

    return sign
