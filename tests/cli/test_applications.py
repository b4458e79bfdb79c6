"""Applications at the command line."""

import json
from pathlib import Path
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
SAML_APPLICATIONS = "/v1/operations/saml-applications"
SHELF: dict[str, Any] = {
    "id": "s-1", "name": "Shelf", "districts": ["ccps"], "entity_id": "https://shelf.example.org",
    "acs": [{"url": "https://shelf.example.org/acs", "index": 0}], "certificates": [], "name_id": "persistent",
    "email_domain": None, "attributes": {}, "unsolicited": False, "sector": "https://shelf.example.org",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_others(services: FakeServices) -> None:
    for path in (APPLICATIONS, SAML_APPLICATIONS):
        services.answers[f"GET {path}"] = [(200, {"applications": []})]


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


def test_one_that_speaks_saml_is_registered(
    services: FakeServices, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers[f"POST {SAML_APPLICATIONS}"] = [(201, {"id": "s-1"})]
    certificate = tmp_path / "shelf.pem"
    certificate.write_text("-----BEGIN")
    words = [
        *("--entity-id", "https://shelf.example.org", "--acs", "https://shelf.example.org/acs"),
        *("--acs", "https://shelf.example.org/b", "--name-id", "email", "--email-domain", "ccps.example.org"),
        *("--attribute", "mail=email", "--attribute", "a=b=kind", "--unsolicited"),
    ]
    assert (
        run("application", "add", "Shelf", "--saml", *words, "--certificate", str(certificate), "--json") == 0
    )
    [asked] = services.requests(f"POST {SAML_APPLICATIONS}")
    assert json.loads(asked.body) == {
        "name": "Shelf", "districts": ["ccps"], "entity_id": "https://shelf.example.org",
        "acs": [
            {"url": "https://shelf.example.org/acs", "index": 0}, {"url": "https://shelf.example.org/b", "index": 1},
        ],
        "name_id": "email", "email_domain": "ccps.example.org", "attributes": {"mail": "email", "a=b": "kind"},
        "unsolicited": True, "certificates": ["-----BEGIN"],
    }  # fmt: skip
    shown = json.loads(capsys.readouterr().out)
    assert shown["metadata"].endswith("/v1/districts/ccps/saml/metadata")
    assert shown["sso"].endswith("/v1/districts/ccps/saml/sso")
    assert run("application", "add", "Shelf", *words) == 2
    assert run("application", "add", "Shelf", "--saml", "--attribute", "mail") == 1
    assert run("application", "add", "Shelf", "--saml", "--metadata", str(tmp_path / "none.xml")) == 1


def test_it_is_shown_changed_and_removed_as_the_others(
    services: FakeServices, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers[f"GET {APPLICATIONS}"] = [(200, {"applications": [LIBRARY]})]
    services.answers[f"GET {SAML_APPLICATIONS}"] = [(200, {"applications": [SHELF]})]
    services.answers[f"PUT {SAML_APPLICATIONS}/s-1"] = [(204, None)]
    services.answers["DELETE /v1/operations/clients/s-1"] = [(204, None)]
    assert run("application", "list") == 0
    listed = capsys.readouterr().out
    assert "Library" in listed
    assert "https://shelf.example.org" in listed
    assert run("application", "list", "--json") == 0
    assert [each["id"] for each in json.loads(capsys.readouterr().out)] == ["a-1", "s-1"]
    assert run("application", "change", "s-1", "--name-id", "username") == 0
    metadata = tmp_path / "shelf.xml"
    metadata.write_text("<x/>")
    assert run("application", "change", "s-1", "--metadata", str(metadata), "--name", "Shelves") == 0
    first, second = (json.loads(asked.body) for asked in services.requests(f"PUT {SAML_APPLICATIONS}/s-1"))
    stays = {key: SHELF[key] for key in SHELF.keys() - {"id", "sector"}}
    assert first == stays | {"name_id": "username"}
    for key in ("entity_id", "acs", "certificates"):
        stays.pop(key)
    assert second == stays | {"name": "Shelves", "metadata": "<x/>"}
    assert run("application", "rotate", "s-1") == 1
    assert run("application", "remove", "s-1", "--yes") == 0
