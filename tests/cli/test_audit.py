"""`homeroom audit`: who signed in, and what came of it."""

import json

import pytest

from tests.cli.conftest import Run
from tests.cli.fake import FakeServices

PERSON = "2b6f0a52-0d0e-4b0a-9e0f-3f1d7a9c0001"
LINE = {
    "audit_id": 7,
    "at": "2026-09-01T08:00:00Z",
    "what": "sign_in",
    "outcome": "done",
    "person_id": PERSON,
}


def test_of_one_person(services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    services.answers["GET /accounts"] = [(200, {"accounts": [{"person_id": PERSON}]})]
    services.answers["GET /audit"] = [(200, {"lines": [LINE], "next_before": None})]
    assert run("audit", "S0123456", "--what", "sign_in", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [LINE]


def test_of_the_district_for_people(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers["GET /audit"] = [(200, {"lines": [LINE], "next_before": None})]
    assert run("audit", "--since", "2026-09-01T08:00:00Z") == 0
    assert "sign_in" in capsys.readouterr().out
