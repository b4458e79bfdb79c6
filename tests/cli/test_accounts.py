"""The help desk's commands: who is meant, and what is shown of them."""

import json

import pytest

from tests.cli.conftest import Run
from tests.cli.fake import FakeServices

PERSON = "2b6f0a52-0d0e-4b0a-9e0f-3f1d7a9c0001"
ACCOUNT = {"person_id": PERSON, "username": "S0123456", "claimed": True}


@pytest.mark.parametrize("who", ["S0123456", "0123456", "s0123456"])
def test_a_pupil_is_named_by_username_or_number(services: FakeServices, run: Run, who: str) -> None:
    services.answers["GET /accounts"] = [(200, {"accounts": [ACCOUNT]})]
    assert run("account", "show", who) == 0


@pytest.mark.parametrize(
    ("code", "service"), [("C-7K3M-9QX", "claims"), ("a-7k3m-9qx", "auth"), ("R-7K3M-9QX", "roster")]
)
def test_a_reference_names_its_service(services: FakeServices, run: Run, code: str, service: str) -> None:
    services.answers[f"GET /refusals/{code.upper()}"] = [
        (200, {"reference": code, "reason": "claim_refused"})
    ]
    assert run("refusal", code) == 0


def test_a_reference_of_no_service(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("refusal", "X-1") == 1
    assert "begins with R, C or A" in capsys.readouterr().err


def test_a_code_that_nobody_was_given(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers["GET /refusals/C-ZZZZ-ZZZ"] = [(404, {"reason": "not_found"})]
    assert run("refusal", "c-zzzz-zzz") == 1
    assert "reference_unknown" in capsys.readouterr().err


def test_a_timeline_is_one_of_all_services_in_order(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers[f"GET /accounts/{PERSON}"] = [(200, ACCOUNT)]
    events = [
        [{"version": 1, "type": "StudentEnrolled", "time": "2026-08-03T09:00:00Z", "data": {}}],
        [{"version": 1, "type": "ClaimOpened", "time": "2026-08-04T09:00:00Z", "data": {}}],
        [{"version": 1, "type": "CredentialsSet", "time": "2026-08-04T09:01:00Z", "data": {}}],
    ]
    services.answers[f"GET /persons/{PERSON}/timeline"] = [
        (200, {"events": each, "next_after": None}) for each in events
    ]
    assert run("timeline", PERSON, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert sorted(event["type"] for event in shown) == ["ClaimOpened", "CredentialsSet", "StudentEnrolled"]
    assert [event["time"] for event in shown] == sorted(event["time"] for event in shown)


def test_a_lockout_is_lifted_and_a_code_is_shown(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers[f"GET /accounts/{PERSON}"] = [(200, ACCOUNT)]
    services.answers[f"DELETE /accounts/{PERSON}/lockout"] = [(200, None)]
    services.answers[f"POST /accounts/{PERSON}/recovery-codes"] = [(201, {"code": "7K3M9QX0AB"})]
    assert run("account", "unlock", PERSON) == 0
    assert run("account", "code", PERSON, "--ticket", "T-1") == 0
    assert "7K3M9QX0AB" in capsys.readouterr().out


def test_a_waiver_is_given_and_taken_back(services: FakeServices, run: Run) -> None:
    services.answers[f"GET /accounts/{PERSON}"] = [(200, ACCOUNT)]
    services.answers[f"PUT /accounts/{PERSON}/waiver"] = [(200, None)]
    services.answers[f"DELETE /accounts/{PERSON}/waiver"] = [(200, None)]
    assert run("account", "waive", PERSON, "--ticket", "T-1", "--reason", "starts today") == 0
    [given] = services.requests(f"PUT /accounts/{PERSON}/waiver")
    assert json.loads(given.body) == {"desk_ticket": "T-1", "reason": "starts today"}
    assert run("account", "waive", PERSON, "--revoke") == 0
    assert len(services.requests(f"DELETE /accounts/{PERSON}/waiver")) == 1


def test_a_role_is_given_and_taken_back(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    held = {"role": "desk", "since": "2026-08-03T09:00:00Z"}
    services.answers["GET /accounts"] = [(200, {"accounts": [ACCOUNT]})]
    services.answers[f"GET /accounts/{PERSON}"] = [(200, {"roles": [held]}), (200, {"roles": []})]
    services.answers[f"PUT /accounts/{PERSON}/roles/desk"] = [(204, None)]
    services.answers[f"DELETE /accounts/{PERSON}/roles/desk"] = [(204, None)]
    assert run("account", "grant", "e12345", "desk", "--ticket", "T-1") == 0
    assert "desk" in capsys.readouterr().out
    [given] = services.requests(f"PUT /accounts/{PERSON}/roles/desk")
    assert json.loads(given.body) == {"desk_ticket": "T-1"}
    assert run("account", "revoke", "e12345", "desk", "--ticket", "T-2") == 0
    assert "no role" in capsys.readouterr().out
    [taken] = services.requests(f"DELETE /accounts/{PERSON}/roles/desk")
    assert taken.query == {"desk_ticket": "T-2"}
    assert run("account", "grant", "e12345", "principal") == 2


def test_who_has_a_role_is_listed(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = {
        "person_id": PERSON, "username": "e12345", "last_name": "Okafor", "first_name": "Grace",
        "roles": [{"role": "desk", "since": "2026-08-03T09:00:00Z"}],
    }  # fmt: skip
    services.answers["GET /roles"] = [(200, {"holders": [holder]})]
    assert run("account", "roles") == 0
    assert "role desk" in capsys.readouterr().out


def test_an_account_is_closed_and_opened_again(services: FakeServices, run: Run) -> None:
    services.answers[f"GET /accounts/{PERSON}"] = [(200, ACCOUNT)]
    services.answers[f"PUT /accounts/{PERSON}/suspension"] = [(204, None)]
    services.answers[f"DELETE /accounts/{PERSON}/suspension"] = [(204, None)]
    assert run("account", "suspend", PERSON, "--ticket", "T-1") == 0
    [given] = services.requests(f"PUT /accounts/{PERSON}/suspension")
    assert json.loads(given.body) == {"desk_ticket": "T-1"}
    assert run("account", "restore", PERSON, "--ticket", "T-2") == 0
    assert len(services.requests(f"DELETE /accounts/{PERSON}/suspension")) == 1


def test_a_person_is_shown_with_school_and_classes(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    algebra = {
        "class_id": "c1",
        "role": "teacher",
        "title": "Algebra",
        "school": "North",
        "begins_on": "2026-08-03",
    }
    person = {
        "person_id": PERSON, "kind": "staff", "number": "e12345", "last_name": "Hopper", "first_name": "Grace",
        "school": "North", "grade": None, "role": "teacher", "status": "enrolled", "enrollments": [],
        "classes": [algebra | {"ends_on": None, "exported": True}],
    }  # fmt: skip
    services.answers[f"GET /persons/{PERSON}"] = [(200, person)]
    assert run("person", "show", PERSON) == 0
    who, _, classes = capsys.readouterr().out.partition("\n\n")
    assert [line.split()[0] for line in who.splitlines()] == [
        "last_name", "first_name", "number", "kind", "role", "school", "status", "person_id",
    ]  # fmt: skip
    assert [line.split() for line in classes.splitlines()] == [
        ["class_id", "role", "title", "school", "begins_on", "ends_on"],
        ["c1", "teacher", "Algebra", "North", "2026-08-03", "-"],
    ]
