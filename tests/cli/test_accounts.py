"""The help desk's commands: who is meant, what is asked before many are reset, what a report shows."""

import io
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.fake import FakeServices

PERSON = "2b6f0a52-0d0e-4b0a-9e0f-3f1d7a9c0001"
BATCH = "7d2a4c1e-5b7e-4f0e-8a34-5d3f2f6f0002"
ACCOUNT = {"person_id": PERSON, "username": "S0123456", "claimed": True}
LINE = {"line": 1, "text": "Mary Ann De La Cruz 0123456", "state": "matched", "person_id": PERSON}
WRONG = {"line": 2, "text": "Nobody 9999999", "state": "unmatched", "reason": "number_unknown"}
PREVIEW = {"total": 1, "approval_required": False, "lines": [LINE, WRONG]}
RUNNING = {"batch_id": BATCH, "state": "running", "total": 1, "done": 0, "lines": [LINE]}
DONE = {"batch_id": BATCH, "state": "done", "total": 1, "done": 1, "lines": [LINE | {"state": "done"}]}


@pytest.mark.parametrize("who", ["S0123456", "0123456", "s0123456"])
def test_a_pupil_is_named_by_username_or_number(services: FakeServices, run: Run, who: str) -> None:
    services.answers["GET /accounts"] = [(200, {"accounts": [ACCOUNT]})]
    assert run("account", "show", who) == 0


def test_two_pupils_under_one_number_are_never_guessed_between(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers["GET /accounts"] = [(200, {"accounts": [ACCOUNT, ACCOUNT]})]
    assert run("reset", "0123456") == 1
    assert "person_ambiguous" in capsys.readouterr().err
    assert [asked.method for asked in services.asked] == ["POST", "GET"], "only the token and the look-up"


def test_one_pupil_is_reset_until_auth_has_confirmed(services: FakeServices, run: Run) -> None:
    services.answers["GET /accounts"] = [(200, {"accounts": [ACCOUNT]})]
    services.answers[f"POST /accounts/{PERSON}/resets"] = [(202, RUNNING)]
    services.answers[f"GET /reset-batches/{BATCH}"] = [(200, RUNNING), (200, DONE)]
    assert run("reset", "0123456", "--ticket", "T-1") == 0
    assert json.loads(services.requests(f"POST /accounts/{PERSON}/resets")[0].body) == {"desk_ticket": "T-1"}
    assert len(services.requests(f"GET /reset-batches/{BATCH}")) == 2


@pytest.fixture
def ticket(tmp_path: Path) -> str:
    file = tmp_path / "ticket.txt"
    file.write_text("\ufeffMary Ann De La Cruz 0123456\r\n\r\nNobody 9999999\n", encoding="utf-8")
    return str(file)


def test_a_dry_run_reports_each_line_and_does_nothing(
    services: FakeServices, run: Run, ticket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers["POST /reset-batches"] = [(200, PREVIEW)]
    assert run("reset", "--lines", ticket, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "matched" in shown
    assert "number_unknown" in shown
    [asked] = services.requests("POST /reset-batches")
    assert json.loads(asked.body) == {"lines": ["Mary Ann De La Cruz 0123456", "Nobody 9999999"]}


def test_many_are_not_reset_without_a_yes(
    services: FakeServices, run: Run, ticket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal to ask on, nothing happens; --yes says it beforehand."""
    services.answers["POST /reset-batches"] = [(200, PREVIEW), (202, RUNNING)]
    services.answers[f"GET /reset-batches/{BATCH}"] = [(200, DONE)]
    assert run("reset", "--lines", ticket) == 1
    assert "--yes" in capsys.readouterr().err
    assert len(services.requests("POST /reset-batches")) == 1
    services.answers["POST /reset-batches"] = [(200, PREVIEW), (202, RUNNING)]
    assert run("reset", "--lines", ticket, "--yes") == 0
    assert len(services.requests("POST /reset-batches")) == 3


def test_a_long_list_waits_for_a_second_person(
    services: FakeServices, run: Run, ticket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers["POST /reset-batches"] = [
        (200, PREVIEW),
        (202, RUNNING | {"state": "awaiting_approval"}),
    ]
    assert run("reset", "--lines", ticket, "--yes") == 0
    assert f"homeroom reset approve {BATCH}" in capsys.readouterr().out


def test_lines_that_name_nobody_reset_nobody(services: FakeServices, run: Run, ticket: str) -> None:
    services.answers["POST /reset-batches"] = [(200, PREVIEW | {"total": 0, "lines": [WRONG]})]
    assert run("reset", "--lines", ticket, "--yes") == 1
    assert len(services.requests("POST /reset-batches")) == 1


def test_ticket_lines_can_be_piped_and_stand_beside_what_became_of_them(
    services: FakeServices, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\nMary Ann De La Cruz 0123456\nNobody 9999999\n"))
    services.answers["POST /reset-batches"] = [(200, PREVIEW)]
    assert run("reset", "--lines", "-", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "Mary Ann De La Cruz 0123456" in shown
    assert "Nobody 9999999" in shown


def test_a_file_that_is_not_there(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("reset", "--lines", "/nowhere/ticket.txt") == 1
    assert "file_unreadable" in capsys.readouterr().err


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


def test_an_account_is_closed_and_opened_again(services: FakeServices, run: Run) -> None:
    services.answers[f"GET /accounts/{PERSON}"] = [(200, ACCOUNT)]
    services.answers[f"PUT /accounts/{PERSON}/suspension"] = [(204, None)]
    services.answers[f"DELETE /accounts/{PERSON}/suspension"] = [(204, None)]
    assert run("account", "suspend", PERSON, "--ticket", "T-1") == 0
    [given] = services.requests(f"PUT /accounts/{PERSON}/suspension")
    assert json.loads(given.body) == {"desk_ticket": "T-1"}
    assert run("account", "restore", PERSON, "--ticket", "T-2") == 0
    assert len(services.requests(f"DELETE /accounts/{PERSON}/suspension")) == 1
