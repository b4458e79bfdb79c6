"""How the command line asks: tokens, repeats, refusals and exit statuses."""

import json
import os
import subprocess
import sys
import time

import pytest
from rich.console import Console

from services.cli import client
from tests.cli.conftest import Run
from tests.cli.fake import FakeServices

PERSON = "2b6f0a52-0d0e-4b0a-9e0f-3f1d7a9c0001"
ACCOUNT = {"person_id": PERSON, "username": "S0123456", "status": "unclaimed"}


def test_a_thing_is_shown_for_people_and_as_json(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers[f"GET /accounts/{PERSON}"] = [(200, ACCOUNT)]
    assert run("account", "show", PERSON) == 0
    assert "unclaimed" in capsys.readouterr().out
    assert run("account", "show", PERSON, "--json") == 0
    assert json.loads(capsys.readouterr().out) == ACCOUNT | {"auth": {"status": "unclaimed"}}


def test_a_refusal_is_a_reason_on_stderr_and_exit_status_1(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what it says, its reference, and what to do next; nothing on stdout."""
    problem = {
        "reason": "scope_missing",
        "detail": "needs desk",
        "reference": "C-7K3M-9QX",
        "type": "/problems/scope_missing",
    }
    services.answers[f"GET /accounts/{PERSON}"] = [(403, problem)]
    assert run("account", "show", PERSON) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "scope_missing: needs desk" in shown.err
    assert "C-7K3M-9QX" in shown.err
    assert "This client may not do that" in shown.err
    assert "/problems/" not in shown.err


@pytest.mark.parametrize(
    "words", [("account", "show"), ("account", "show", PERSON, "--bogus"), ("nothing",), ("reset",)]
)
def test_wrong_usage_is_exit_status_2(services: FakeServices, run: Run, words: tuple[str, ...]) -> None:
    assert run(*words) == 2
    assert services.asked == []


def test_wrong_usage_names_the_help_that_is_meant(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("reset", "status", "garbage") == 2
    assert "homeroom reset status --help" in capsys.readouterr().err


def test_a_refusal_without_words_gets_those_of_the_service_that_refused(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers[f"GET /accounts/{PERSON}"] = [
        (404, {"reason": "person_unknown", "title": "Person unknown"})
    ]
    assert run("account", "show", PERSON) == 1
    assert "The district's roster has no such person." in capsys.readouterr().err


def test_what_is_nested_is_shown_without_what_is_unknown(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    refusals = [{"reason": "claim_refused", "detail": {"differs": ["last_name"]}, "actor": None}]
    services.answers[f"GET /accounts/{PERSON}"] = [(200, ACCOUNT | {"refusals": refusals})]
    assert run("account", "show", PERSON) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "refusals   reason claim_refused, detail (differs last_name)" in lines


def test_a_table_too_wide_for_the_terminal_becomes_sheets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that no id is ever cut in two."""
    rows = [{"id": PERSON, "other": PERSON, "name": "Mary Ann"}]
    monkeypatch.setattr(client, "out", Console(width=60))
    client.table(rows)
    shown = capsys.readouterr().out
    assert f"id     {PERSON}" in shown
    assert f"other  {PERSON}" in shown
    monkeypatch.setattr(client, "out", Console(width=100))
    client.table(rows)
    assert f"{PERSON}  {PERSON}  Mary Ann" in capsys.readouterr().out.splitlines()


def test_without_a_stack_or_configuration_it_says_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOMEROOM_STATE_DIR", str(tmp_path))
    assert run("lag") == 1
    assert "make up" in capsys.readouterr().err


def test_half_a_configuration_names_what_is_missing(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOMEROOM_AUTH_URL", "http://127.0.0.1:1")
    assert run("lag") == 1
    assert "HOMEROOM_ROSTER_URL" in capsys.readouterr().err


def test_a_secret_can_come_from_a_file(
    services: FakeServices, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    file = f"{tmp_path}/secret"
    with open(file, "w") as written:
        written.write("from-file\n")
    monkeypatch.setenv("HOMEROOM_CLIENT_SECRET_FILE", file)
    services.answers[f"GET /accounts/{PERSON}"] = [(200, ACCOUNT)]
    assert run("account", "show", PERSON) == 0
    assert services.requests("POST /token")[0].headers["Authorization"] == "Basic ZGVzazpmcm9tLWZpbGU="


def test_what_cannot_be_read_or_reached_is_said_without_a_trace(
    services: FakeServices, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A secret's file that is not there, an address that is none, a Kafka that is away."""
    monkeypatch.setattr("services.cli.client.TRIES", 1)
    monkeypatch.setenv("HOMEROOM_CLIENT_SECRET_FILE", "/nowhere/secret")
    assert run("account", "show", PERSON) == 1
    assert "HOMEROOM_CLIENT_SECRET_FILE" in capsys.readouterr().err
    monkeypatch.delenv("HOMEROOM_CLIENT_SECRET_FILE")
    monkeypatch.setenv("HOMEROOM_AUTH_URL", "nonsense")
    assert run("account", "show", PERSON) == 1
    assert "unreachable" in capsys.readouterr().err
    monkeypatch.setenv("HOMEROOM_KAFKA", "127.0.0.1:1")
    assert run("topics", "check") == 1
    assert "kafka is not available" in capsys.readouterr().err
    assert run("reset", "status", "no-batch") == 2


@pytest.mark.parametrize("words", [("up",), ("down",), ("status",), ("doctor",), ("clean", "--yes")])
def test_a_folder_that_cannot_be_used_is_said_without_a_trace(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HOMEROOM_STATE_DIR", "/dev/null/here")
    assert run(*words) in (0, 1)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert "never ran" in said.out or "nothing to forget" in said.out or "/dev/null" in said.out + said.err


@pytest.mark.parametrize("words", [("policy", "check"), ("policy", "check", "--json"), ("--help",)])
def test_who_stops_reading_is_shown_no_trace(words: tuple[str, ...]) -> None:
    """`homeroom logs | head` is an everyday thing."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "services.cli", *words], stdout=writing, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writing)
    assert (ran.stderr, ran.returncode) == ("", 1)


def test_a_service_that_is_not_ready_is_asked_again(services: FakeServices, run: Run) -> None:
    services.answers[f"GET /accounts/{PERSON}"] = [(503, {}), (503, {}), (200, ACCOUNT)]
    assert run("account", "show", PERSON) == 0
    assert len(services.requests(f"GET /accounts/{PERSON}")) == 4  # the last asks auth


def test_a_service_that_hangs_is_not_waited_for_again_and_again(
    services: FakeServices,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def hang() -> tuple[int, object]:
        time.sleep(0.6)
        return 200, ACCOUNT

    monkeypatch.setattr("services.cli.client.PATIENCE_S", 0.3)
    services.answers[f"GET /accounts/{PERSON}"] = [hang]
    assert run("account", "show", PERSON) == 1
    assert "nothing within 0.3 s" in capsys.readouterr().err
    assert len(services.requests(f"GET /accounts/{PERSON}")) == 1


def test_a_broken_post_is_repeated_under_the_same_key(services: FakeServices, run: Run) -> None:
    """So that what was done although the answer was lost is not done twice."""
    services.answers[f"GET /accounts/{PERSON}"] = [(200, ACCOUNT)]
    services.answers[f"POST /accounts/{PERSON}/resets"] = [
        (0, None),
        (202, {"batch_id": PERSON, "state": "running"}),
    ]
    services.answers[f"GET /reset-batches/{PERSON}"] = [
        (
            200,
            {
                "batch_id": PERSON,
                "state": "done",
                "counts": {},
                "extent": "account",
                "lines": [],
                "next_after": None,
            },
        ),
    ]
    assert run("reset", PERSON) == 0
    keys = [
        asked.headers["Idempotency-Key"] for asked in services.requests(f"POST /accounts/{PERSON}/resets")
    ]
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_an_expired_token_is_renewed_once(services: FakeServices, run: Run) -> None:
    services.answers[f"GET /accounts/{PERSON}"] = [(401, {"reason": "token_expired"}), (200, ACCOUNT)]
    assert run("account", "show", PERSON) == 0
    assert len(services.requests("POST /token")) == 2


def test_a_client_that_is_not_accepted_is_told_so(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """auth answers as OAuth does; the command line shows it as it shows every refusal."""
    services.answers["POST /token"] = [
        (401, {"error": "invalid_client", "error_description": "no such client"})
    ]
    assert run("account", "show", PERSON) == 1
    assert "invalid_client: no such client" in capsys.readouterr().err


def test_nobody_there(
    run: Run, services: FakeServices, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("services.cli.client.TRIES", 2)
    monkeypatch.setenv("HOMEROOM_CLAIMS_URL", "http://127.0.0.1:1")
    assert run("account", "show", PERSON) == 1
    assert "unreachable: claims" in capsys.readouterr().err


def test_what_a_service_says_is_never_markup(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers[f"GET /accounts/{PERSON}"] = [(200, ACCOUNT | {"last_name": "[red]O'Neill[/red]"})]
    assert run("account", "show", PERSON) == 0
    assert "[red]O'Neill[/red]" in capsys.readouterr().out
