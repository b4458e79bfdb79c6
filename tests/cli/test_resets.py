"""Resets at a command line: what is shown and asked before many are reset, and how they are followed."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest

from services.cli import client, resets
from services.cli.client import Failed
from tests.cli.conftest import Run
from tests.cli.fake import FakeServices
from tests.cli.test_accounts import ACCOUNT, PERSON

BATCH = "7d2a4c1e-5b7e-4f0e-8a34-5d3f2f6f0002"
LINE = {"line": 1, "text": "Mary Ann De La Cruz 0123456", "state": "matched", "person_id": PERSON}
WRONG = {"line": 2, "text": "Nobody 9999999", "state": "unmatched", "reason": "number_unknown"}
PREVIEW = {"total": 1, "approval_required": False, "unclaimed": 0, "lines": [LINE, WRONG], "schools": []}
RUNNING = {
    "batch_id": BATCH, "state": "running", "extent": "lines", "total": 1, "done": 0, "counts": {"reset": 1},
    "per_second": None, "seconds_left": None, "lines": [LINE], "next_after": None,
}  # fmt: skip
DONE = RUNNING | {"state": "done", "done": 1, "counts": {"done": 1}, "lines": [LINE | {"state": "done"}]}
SCHOOLS = [
    {"school": "Jonesboro High", "total": 700, "unclaimed": 12}, {"school": None, "total": 3, "unclaimed": 0},
]  # fmt: skip
MANY = {"total": 703, "approval_required": True, "unclaimed": 12, "lines": [], "schools": SCHOOLS}
WAITING = RUNNING | {
    "state": "awaiting_approval", "extent": "all_students", "total": 703, "counts": {"matched": 703}, "lines": [],
    "next_after": 0,
}  # fmt: skip


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
    assert len(services.requests(f"GET /reset-batches/{BATCH}")) == 4, "running, done, its figures, its lines"


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
    assert f"homeroom reset approve {BATCH}" in capsys.readouterr().err


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
    "words",
    [
        (),
        ("--school", "Jonesboro High", "--all-students"),
        ("0123456", "--all-students"),
        ("--lines", "-", "--school", "Jonesboro High"),
    ],
)
def test_whom_it_means_is_said_in_one_way(
    services: FakeServices, run: Run, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("reset", *words) == 2
    assert "wrong_usage" in capsys.readouterr().err
    assert services.asked == []


def test_figures_come_before_anything_happens(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers["POST /reset-batches"] = [(200, MANY)]
    assert run("reset", "--all-students", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "Jonesboro High" in shown
    assert "703 accounts to reset, 12 not claimed; a second person has to approve it" in shown
    [asked] = services.requests("POST /reset-batches")
    assert json.loads(asked.body) == {"all_students": True}


def test_all_students_are_not_reset_by_accident(
    services: FakeServices, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal nothing happens; on one, the district's code has to be typed."""
    services.answers["POST /reset-batches"] = [(200, MANY)]
    services.answers["GET /policy"] = [(200, {"code": "JPRQQH"})]
    assert run("reset", "--all-students") == 1
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", Terminal())
    for typed in ("y", "", "jprqqh"):
        with pytest.raises(Failed, match="nothing was done"):
            client.confirm_by_word("Sure?", "JPRQQH", False, ask=lambda _, typed=typed: typed)
    client.confirm_by_word("Sure?", "JPRQQH", False, ask=lambda _: " JPRQQH ")
    assert len(services.requests("POST /reset-batches")) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_school_waits_for_a_second_person_with_the_ticket_that_was_named(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers["POST /reset-batches"] = [(200, MANY), (202, WAITING | {"extent": "school"})]
    assert run("reset", "--school", "Jonesboro High", "--ticket", "T-3", "--yes", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["state"] == "awaiting_approval"
    assert f"homeroom reset approve {BATCH}" in printed.err
    for asked in services.requests("POST /reset-batches"):
        assert json.loads(asked.body) == {"school": "Jonesboro High", "desk_ticket": "T-3"}


def test_what_is_approved_is_followed_until_it_is_done(
    services: FakeServices, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resets, "ASK_ABOUT_MANY_EVERY_S", 0.01)
    running = WAITING | {"state": "running", "per_second": 130.0, "seconds_left": 65}
    done = WAITING | {"state": "done", "done": 703, "counts": {"done": 703}}
    services.answers[f"POST /reset-batches/{BATCH}/approval"] = [(202, running)]
    services.answers[f"GET /reset-batches/{BATCH}"] = [(200, running), (200, running), (200, done)]
    assert run("reset", "approve", BATCH, "--follow") == 0
    shown = capsys.readouterr().out
    assert "done 703" in shown
    assert "next_after" not in shown


def test_how_far_it_is_and_for_how_long_it_goes_on() -> None:
    running: Any = {
        "per_second": 130.4,
        "seconds_left": 65,
        "counts": {"matched": 5, "done": 2, "skipped": 1},
    }
    assert resets.progress_of(running) == "reset, 130/s, 1:05 left"
    assert resets.settled_of(running) == 3
    assert resets.progress_of({"per_second": None}) == "reset"


async def test_an_interruption_stops_only_the_waiting(
    services: FakeServices, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers[f"GET /reset-batches/{BATCH}"] = [(200, WAITING | {"state": "running"})]
    async with client.connect() as homeroom:
        waiting = asyncio.create_task(resets.watch(homeroom, BATCH, as_json=False))
        while not services.requests(f"GET /reset-batches/{BATCH}"):
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert f"homeroom reset status {BATCH}" in capsys.readouterr().err
    assert services.requests(f"DELETE /reset-batches/{BATCH}") == []


def test_what_failed_ends_with_a_status_that_says_so_and_is_tried_again(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = LINE | {"state": "failed", "reason": "reset_failed", "reference": "C-7K3M-9QX"}
    ended = {"state": "done", "done": 0, "counts": {"failed": 1}, "lines": [failed], "next_after": None}
    services.answers[f"POST /reset-batches/{BATCH}/retry"] = [(202, WAITING | {"state": "running"})] * 2
    services.answers[f"GET /reset-batches/{BATCH}"] = [(200, WAITING | {"extent": "lines"} | ended)]
    assert run("reset", "retry", BATCH) == 0
    assert run("reset", "retry", BATCH, "--follow") == 1
    told = capsys.readouterr()
    assert "C-7K3M-9QX" in told.out
    for words in ("reset_failed", BATCH, "homeroom reset retry"):
        assert words in told.err


def test_the_accounts_of_a_school_are_shown_on_request_page_by_page(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    second = LINE | {"line": 2, "state": "skipped", "reason": "claimed_since"}
    services.answers[f"GET /reset-batches/{BATCH}"] = [
        (200, WAITING), (200, WAITING | {"lines": [LINE], "next_after": 1}),
        (200, WAITING | {"lines": [second], "next_after": None}),
    ]  # fmt: skip
    assert run("reset", "status", BATCH, "--accounts", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [line["line"] for line in shown["lines"]] == [1, 2]
    assert shown["next_after"] is None


def test_what_waits_for_a_second_person_is_listed(
    services: FakeServices, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    services.answers["GET /reset-batches"] = [(200, {"batches": [WAITING], "next_after": None})]
    assert run("reset", "list", "--waiting") == 0
    assert BATCH in capsys.readouterr().out
    assert run("reset", "list", "--limit", "5", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [WAITING]
    first, second = services.requests("GET /reset-batches")
    assert (first.query, second.query) == ({"waiting": "true", "limit": "20"}, {"limit": "5"})
