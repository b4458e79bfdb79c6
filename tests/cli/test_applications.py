"""Applications at the command line."""

import json
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.fake import FakeServices

APPLICATIONS = "/v1/operations/applications"
LIBRARY: dict[str, Any] = {
    "id": "a-1", "name": "Library", "districts": ["ccps"], "type": "web", "redirect_uris": ["https://app.example.org/cb"],
    "post_logout_redirect_uris": [], "scopes": ["openid"], "authentication": "secret", "pkce": "required",
    "id_token_algorithm": "RS256", "access_token_minutes": 10,
    "backchannel_logout_uri": None, "keys": [], "pushed": "optional", "sector": "app.example.org",
}  # fmt: skip


def test_an_application_is_registered_with_what_was_said(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers[f"POST {APPLICATIONS}"] = [(201, {"id": "a-1", "secret": "hrc_x"})]
    words = (
        "--type",
        "web",
        "--redirect-uri",
        "https://app.example.org/cb",
        "--scope",
        "openid",
        "--scope",
        "profile",
    )
    assert run("application", "add", "Library", *words, "--json") == 0
    [asked] = services.requests(f"POST {APPLICATIONS}")
    assert json.loads(asked.body) == {
        "name": "Library", "type": "web", "districts": ["ccps"], "redirect_uris": ["https://app.example.org/cb"],
        "scopes": ["openid", "profile"],
    }  # fmt: skip
    shown = json.loads(capsys.readouterr().out)
    assert shown["secret"] == "hrc_x"
    assert shown["discovery"].endswith("/v1/districts/ccps/.well-known/openid-configuration")


def test_it_needs_an_address_and_a_type(services: FakeServices, run: Run) -> None:
    assert run("application", "add", "Library", "--type", "web") == 2
    assert run("application", "add", "Library", "--redirect-uri", "https://app.example.org/cb") == 2
    assert services.asked == []


def test_what_is_not_said_stays(services: FakeServices, run: Run) -> None:
    services.answers[f"GET {APPLICATIONS}"] = [(200, {"applications": [LIBRARY]})]
    services.answers[f"PUT {APPLICATIONS}/a-1"] = [(204, None)]
    assert run("application", "change", "a-1", "--redirect-uri", "https://app.example.org/new") == 0
    [asked] = services.requests(f"PUT {APPLICATIONS}/a-1")
    stays = {key: LIBRARY[key] for key in LIBRARY.keys() - {"id", "type", "authentication", "sector"}}
    assert json.loads(asked.body) == stays | {"redirect_uris": ["https://app.example.org/new"]}
    assert run("application", "change", "a-2", "--name", "x") == 1


def test_it_is_removed_after_a_yes_and_its_secret_rotated(services: FakeServices, run: Run) -> None:
    phone = LIBRARY | {"id": "a-2", "type": "native", "authentication": "none"}
    services.answers[f"GET {APPLICATIONS}"] = [(200, {"applications": [LIBRARY, phone]})]
    services.answers["DELETE /v1/operations/clients/a-1"] = [(204, None)]
    services.answers["POST /v1/operations/clients/a-1/rotate"] = [(200, {"id": "a-1", "secret": "hrc_y"})]
    assert run("application", "show", "a-1") == 0
    assert run("application", "rotate", "a-1") == 0
    assert run("application", "rotate", "a-2") == 1
    assert run("application", "remove", "a-1") == 1
    assert run("application", "remove", "a-1", "--yes") == 0
    assert len(services.requests("DELETE /v1/operations/clients/a-1")) == 1


def test_a_registration_token_is_made_shown_and_taken_back(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = "/v1/operations/registration-tokens"
    services.answers[f"POST {tokens}"] = [
        (201, {"id": "t-1", "token": "hrr_x", "expires_at": "2026-12-01T00:00:00Z"})
    ]
    words = ("--redirect-host", "app.example.org", "--scope", "openid", "--uses", "3", "--json")
    assert run("application", "registration-token", "add", "Library Ltd", *words) == 0
    [asked] = services.requests(f"POST {tokens}")
    assert json.loads(asked.body) == {
        "name": "Library Ltd", "district": "ccps", "redirect_hosts": ["app.example.org"], "scopes": ["openid"],
        "uses": 3, "days": 7,
    }  # fmt: skip
    shown = json.loads(capsys.readouterr().out)
    assert (shown["token"], shown["registration_endpoint"][-24:]) == ("hrr_x", "/districts/ccps/register")
    services.answers[f"DELETE {tokens}/t-1"] = [(204, None)]
    assert run("application", "registration-token", "remove", "t-1") == 0
